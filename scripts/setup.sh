#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a checkout ready: a virtual environment in .venv, and the toolchains the targets need.
#
#   scripts/setup.sh                 what is missing and may be installed is installed; the rest is named
#   scripts/setup.sh --require-all   the same, but a toolchain that stays missing is an error
#
# Safe to run again: when nothing is missing it changes nothing and takes a fraction of a second.
# PYTHON=/path/to/python3.12 chooses the interpreter for .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

require_all=false
case "${1:-}" in
    "") ;;
    --require-all) require_all=true ;;
    *) echo "usage: scripts/setup.sh [--require-all]" >&2; exit 2 ;;
esac

log="$(mktemp)"
trap 'rm -f "$log"' EXIT

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Runs a command in silence; what it wrote is shown only when it fails.
quietly() {
    "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; return 1; }
}

# --- apt ---------------------------------------------------------------------------------------

as_root=()
may_install=false
why_not="this system has no apt-get"
if command -v apt-get >/dev/null; then
    why_not="it takes root, and sudo asks for a password here"
    if [ "$(id -u)" -eq 0 ]; then
        may_install=true
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        may_install=true
        as_root=(sudo -n)
    fi
fi

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null
}

# All at once; then with fresh package lists; then one by one, so that one unknown name stops no other.
apt_install() {
    $may_install || return 1
    apt install --no-install-recommends "$@" && return
    apt update || true
    apt install --no-install-recommends "$@" && return
    local package
    for package in "$@"; do
        apt install --no-install-recommends "$package" || true
    done
}

# --- toolchains --------------------------------------------------------------------------------

# Whether a compiler finds a file of its C library: it prints a path if so, the bare name if not.
finds() {
    command -v "$1" >/dev/null && [ -e "$("$1" -print-file-name="$2")" ]
}

# The same of clang for WebAssembly.
finds_for_wasm() {
    command -v clang >/dev/null && [ -e "$(clang --target=wasm32-wasi -print-file-name="lib/wasi/$1")" ]
}

# One line each: the Debian package, then how to see that what it brings is there.
missing_packages() {
    local package probe
    while read -r package probe; do
        $probe >/dev/null 2>&1 || echo "$package"
    done <<-'TABLE'
		make                          command -v make
		gcc                           command -v gcc
		g++                           command -v g++
		libc6-dev                     finds gcc crt1.o
		clang                         command -v clang
		cmake                         command -v cmake
		ninja-build                   command -v ninja
		cppcheck                      command -v cppcheck
		clang-tidy                    command -v clang-tidy
		gcc-arm-none-eabi             command -v arm-none-eabi-gcc
		libnewlib-arm-none-eabi       finds arm-none-eabi-gcc libc.a
		qemu-system-arm               command -v qemu-system-arm
		gcc-aarch64-linux-gnu         command -v aarch64-linux-gnu-gcc
		libc6-dev-arm64-cross         finds aarch64-linux-gnu-gcc crt1.o
		qemu-user                     command -v qemu-aarch64
		gcc-riscv64-unknown-elf       command -v riscv64-unknown-elf-gcc
		picolibc-riscv64-unknown-elf  finds riscv64-unknown-elf-gcc picolibc.specs
		qemu-system-misc              command -v qemu-system-riscv32
		clang-19                      command -v clang-19
		gcc-riscv64-linux-gnu         command -v riscv64-linux-gnu-gcc
		libc6-dev-riscv64-cross       finds riscv64-linux-gnu-gcc crt1.o
		lld                           command -v wasm-ld
		wabt                          command -v wasm-objdump
		wasi-libc                     test -e /usr/lib/wasm32-wasi/libc.a
		libclang-rt-dev-wasm32        finds_for_wasm libclang_rt.builtins-wasm32.a
		nodejs                        command -v node
	TABLE
}

install_toolchains() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -eq 0 ] && return
    if $may_install; then
        say "installing ${#missing[@]} packages with apt: ${missing[*]}"
        apt_install "${missing[@]}"
        # Newer releases have the RISC-V emulators in a package of their own.
        command -v qemu-system-riscv32 >/dev/null || apt_install qemu-system-riscv
        mapfile -t missing < <(missing_packages)
        [ ${#missing[@]} -eq 0 ] && return
        tail -n 5 "$log" >&2
        why_not="apt failed, see above"
    fi
    say "these tools are missing and were not installed ($why_not):"
    say "    ${missing[*]}"
    say "to install them on Debian or Ubuntu:"
    printf '\n    sudo apt-get update && sudo apt-get install -y %s\n\n' "${missing[*]}"
    $require_all && fail "stopped: --require-all was given"
    say "going on without them: what needs them is skipped and says so"
}

# What a few tests use if it is there, and are skipped without: a browser for report.html, Meson, Rust's crate cc.
install_extras() {
    $may_install || return 0
    local missing=()
    command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
    command -v meson >/dev/null || missing+=(meson)
    command -v cargo >/dev/null || missing+=(cargo)
    compgen -G '/usr/share/cargo/registry/cc-*' >/dev/null || missing+=(librust-cc-dev)
    [ ${#missing[@]} -eq 0 ] && return
    say "installing for a few tests, with apt: ${missing[*]}"
    apt_install "${missing[@]}" || say "going on without some of them: those tests are skipped"
}

# --- Python ------------------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

python_or_fail() {
    find_python && return
    apt_install python3 python3-venv || true
    find_python || fail "mmcc needs Python 3.11 or newer; set PYTHON=/path/to/python3.12 if it has another name"
}

make_venv() {
    local python version
    python="$(python_or_fail)"
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "installing python$version-venv with apt"
        apt_install "python$version-venv" ||
            fail "Python has no venv module; install it: sudo apt-get install -y python$version-venv"
    fi
    say "making .venv with Python $version"
    quietly "$python" -m venv --clear .venv || fail "could not make .venv"
}

# What .venv was installed from: the version is in __init__.py, and scripts in a virtual environment hold its path.
fingerprint() {
    pwd
    cksum pyproject.toml scripts/setup.sh compiler/mmcc/__init__.py
}

install_python_packages() {
    local stamp=.venv/installed-from
    .venv/bin/python -c '' 2>/dev/null || make_venv
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] && return
    # A folder that was moved: pip itself would start from the old place.
    [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" != "$(pwd)" ] && make_venv
    say "installing mmcc and its Python packages into .venv (takes a minute)"
    quietly .venv/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]' ||
        fail "pip could not install the packages; is there a network, or a proxy to set (HTTPS_PROXY, PIP_INDEX_URL)?"
    fingerprint >"$stamp"
}

install_toolchains
install_extras
install_python_packages
