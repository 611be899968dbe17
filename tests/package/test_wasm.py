# SPDX-License-Identifier: Apache-2.0
"""Packages as modules of WebAssembly: the page's sample in Node, networks in wasmtime, bits of floats."""

from __future__ import annotations

import os
import platform
import re
import shlex
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doc_pages import DIGITS, DOCS, blocks
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import package_sources
from mmcc.package.record import bench_files, load_package
from mmcc.target import load_target
from mmcc.toolchain import compile_objects, link
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from mmcc.verification.compare import run_wasm
from mmcc.verification.samples import load_npz, samples_of, to_c
from shared_models import inputs_path, model_path, needs_shared
from toolchains import ready


def test_the_page_s_sample_in_node(tmp_path: Path) -> None:
    """Commands, C and JavaScript of docs/wasm.md, as they stand there."""
    ready("wasm32")
    compile_model(
        DIGITS / "digits_int8.onnx", tmp_path / "digits_c", CompileOptions(target="wasm32", name="digits")
    )
    texts = [text for _, text in blocks(DOCS / "wasm.md")]
    for text in texts:
        if named := re.match(r"(?:/\*|//) (\w+\.\w+):", text):
            (tmp_path / named[1]).write_text(text)
    (build,) = [text for text in texts if text.startswith("clang")]
    subprocess.run(shlex.split(build.replace("\\\n", " ")), cwd=tmp_path, check=True)
    done = subprocess.run(["node", "classify.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "this is a 3\n"


def test_a_module_asks_for_nothing(tmp_path: Path) -> None:
    """No imports: any engine can make an instance of it."""
    target = ready("wasm32")
    folder = tmp_path / "net"
    compile_model(
        DIGITS / "digits_fp32.onnx", folder, CompileOptions(target="wasm32", name="net", stack=4096)
    )
    objects = compile_objects(target, package_sources(folder), tmp_path / "objects", include_dirs=[folder])
    flags = ["-mexec-model=reactor", "-Wl,--export=net_init", "-Wl,--export=net_run"]
    module = link(target, objects, tmp_path / "net.wasm", flags=flags)
    done = subprocess.run(["wasm-objdump", "-x", module], capture_output=True, text=True, check=True)
    assert "Import[" not in done.stdout
    assert "net_run" in done.stdout


class InWasmtime:
    """A package in wasmtime: its memory is read and written by address."""

    def __init__(self, folder: Path, work: Path) -> None:
        wasmtime = pytest.importorskip("wasmtime")
        target = load_target("wasm32")
        sources = [*package_sources(folder), bench_files(folder) / "adapter_firmware.c"]
        firmware = Path(__file__).resolve().parents[2] / "runtime_c" / "firmware"
        objects = compile_objects(target, sources, work / "objects", include_dirs=[folder, firmware])
        names = ("init", "input", "output", "run")
        flags = ["-mexec-model=reactor", *(f"-Wl,--export=mmcc_adapter_{name}" for name in names)]
        module = link(target, objects, work / "module.wasm", flags=flags)
        self.store = wasmtime.Store()
        instance = wasmtime.Instance(
            self.store, wasmtime.Module.from_file(self.store.engine, str(module)), []
        )
        self.exports = instance.exports(self.store)
        self.exports["_initialize"](self.store)
        assert self.call("init") == 0

    def call(self, name: str, *arguments: int) -> int:
        return self.exports[f"mmcc_adapter_{name}"](self.store, *arguments)

    def run(self, inputs: list[np.ndarray], sizes: list[int]) -> list[bytes]:
        memory = self.exports["memory"]
        for k, array in enumerate(inputs):
            memory.write(self.store, array.tobytes(), self.call("input", k))
        assert self.call("run") == 0
        places = [self.call("output", k) for k in range(len(sizes))]
        return [bytes(memory.read(self.store, at, at + size)) for at, size in zip(places, sizes, strict=True)]


def both(model: Path, data: Path, folder: Path, count: int) -> None:
    """Outputs in Node and in wasmtime are the same bytes."""
    compile_model(model, folder / "net", CompileOptions(target="wasm32", name="net", stack=16384))
    package = load_package(folder / "net")
    samples = samples_of(package.inputs, load_npz(data), "input", data)[:count]
    in_node, _ = run_wasm(folder / "net", package, samples)
    engine = InWasmtime(folder / "net", folder)
    tensors = [package.tensors[port.tensor] for port in package.outputs]
    for sample, found in zip(samples, in_node, strict=True):
        made = engine.run(to_c(package.inputs, package.tensors, sample), [tensor.bytes for tensor in tensors])
        assert b"".join(made) == b"".join(a.tobytes() for a in to_c(package.outputs, package.tensors, found))


@pytest.mark.parametrize("kind", ["int8", "fp32"])
def test_node_and_wasmtime_agree(kind: str, tmp_path: Path) -> None:
    ready("wasm32")
    both(DIGITS / f"digits_{kind}.onnx", DIGITS / "test_data.npz", tmp_path, 3)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["vww_mbv1_int8_qdq", "ic_resnet8_int8_qdq", "kws_dscnn_fp32"])
def test_networks_in_node_and_wasmtime_agree(name: str, tmp_path: Path) -> None:
    ready("wasm32")
    both(model_path(name), inputs_path(name), tmp_path, 2)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86-64")
def test_floats_have_the_bits_of_a_processor_without_fused_sums(tmp_path: Path) -> None:
    """Convolutions and dense layers, byte for byte against SSE2, which has no fused multiply-add either."""
    target, host = ready("wasm32"), ready("host")
    host = replace(host, flags=("-march=x86-64", "-O2"))
    folder = tmp_path / "net"
    compile_model(
        DIGITS / "digits_fp32.onnx", folder, CompileOptions(target="wasm32", name="net", stack=8192)
    )
    package = load_package(folder)
    data = DIGITS / "test_data.npz"
    samples = samples_of(package.inputs, load_npz(data), "input", data)[:20]
    fed = [b"".join(a.tobytes() for a in to_c(package.inputs, package.tensors, s)) for s in samples]
    made: list[bytes] = []
    for each in (target, host):
        out = tmp_path / each.name
        sources = [*package_sources(folder), bench_files(folder) / "adapter_firmware.c"]
        program = build_firmware(each, sources, [folder], out)
        made.append(run_firmware(program, each, b"".join(fed), len(fed[0]), out / "run").outputs)
    assert made[0] == made[1]
    assert len(made[0]) == 20 * 10 * struct.calcsize("<f")


def test_without_the_toolchain_this_is_skipped_but_not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchains.shutil.which", lambda tool: None)
    monkeypatch.setitem(os.environ, "CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"wasm-ld \(lld\)"):
        ready("wasm32")
    monkeypatch.setitem(os.environ, "CI", "")
    with pytest.raises(pytest.skip.Exception, match=r"wasm32 needs .*wasm-objdump \(wabt\)"):
        ready("wasm32")
