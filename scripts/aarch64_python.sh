#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Python for AArch64 with other runtimes' wheels, in a folder of its own, for bench/bench_aarch64.py:
#
#     scripts/aarch64_python.sh FOLDER
#
# Packages come from the apt sources of this machine (Debian 12) and from PyPI; nothing is installed, and no
# rights are needed. Run what is in FOLDER with qemu-aarch64 -L FOLDER/root.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/debs" "$folder/root" "$folder/site"
touch "$folder/apt/status"
apt() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$folder/apt" \
        -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root "$@"
}
apt update
(cd "$folder/debs" && apt download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 \
    zlib1g libexpat1 libgcc-s1 libstdc++6 libgomp1 libffi8 libbz2-1.0 liblzma5 libssl3 libuuid1 libcrypt1)
for package in "$folder"/debs/*.deb; do
    dpkg -x "$package" "$folder/root"
done
"${PYTHON:-python3}" -m pip install --no-deps --only-binary :all: --python-version 3.11 --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    --target "$folder/site" --upgrade ncnn==1.0.20261020 ai-edge-litert==2.3.0 flatbuffers "numpy<2.4"

# XNNPACK asks these files which core it is on; qemu-aarch64 -L takes them from here: a Cortex-A76.
mkdir -p "$folder/root/proc" "$folder/root/sys/devices/system/cpu"
printf '%s\n' 'processor : 0' 'Features : fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp' \
    'CPU implementer : 0x41' 'CPU architecture: 8' 'CPU variant : 0x3' 'CPU part : 0xd0b' 'CPU revision : 1' '' > "$folder/root/proc/cpuinfo"
for name in possible present; do
    echo 0 > "$folder/root/sys/devices/system/cpu/$name"
done
