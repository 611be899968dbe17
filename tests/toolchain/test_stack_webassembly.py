# SPDX-License-Identifier: Apache-2.0
"""The stack in a module's memory: shapes that compilers make, those without a bound, and what runs use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mmcc.driver.build import CALLER_BYTES
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import package_sources
from mmcc.package.record import bench_files, load_package
from mmcc.toolchain import compile_objects, measure
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from mmcc.toolchain.stack.webassembly import NotConstant, Recursion, bound_of, functions_in
from mmcc.verification.samples import made_up, to_c
from toolchains import ready

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
POINTER = "0 <__stack_pointer>"
LEAF = ["i32.const 1"]


def listing(*functions: list[str]) -> str:
    """As `wasm-objdump -d` writes functions f0, f1, ... behind two that are imported."""
    lines = ["", "x.wasm:\tfile format wasm 0x1", "", "Code Disassembly:", ""]
    for k, code in enumerate(functions):
        lines.append(f"0000{k:02x} func[{k + 2}] <f{k}>:")
        lines += [f" 0000{k:02x}: 23 80 80 80 80 00          | {line}" for line in code]
        lines.append(f" 0000{k:02x}: 0b                         | end")
    return "\n".join(lines)


def bound(*functions: list[str]) -> int:
    return bound_of(functions_in(listing(*functions)), 2)[0]


def begin(frame: int) -> list[str]:
    return [f"global.get {POINTER}", f"i32.const {frame}", "i32.sub", "local.tee 3", f"global.set {POINTER}"]


def end(frame: int) -> list[str]:
    return ["local.get 3", f"i32.const {frame}", "i32.add", f"global.set {POINTER}"]


@pytest.mark.quick
def test_frames_of_a_chain_add_up() -> None:
    assert bound(LEAF) == 0
    assert bound([*begin(48), *end(48)]) == 48
    assert bound([*begin(48), "  call 3 <f1>", *end(48)], [*begin(32), *end(32)]) == 80
    twice = [*begin(16), "call 3 <f1>", "call 4 <f2>", *end(16)]
    assert bound(twice, [*begin(32), *end(32)], [*begin(64), *end(64)]) == 80
    assert bound(["call 0 <__imported_fd_write>"]) == 0


@pytest.mark.quick
def test_a_leaf_that_does_not_move_the_pointer_has_its_frame_all_the_same() -> None:
    assert bound([f"global.get {POINTER}", "i32.const 96", "i32.sub", "local.tee 1", "i32.load 2 0"]) == 96


@pytest.mark.quick
def test_frames_that_are_aligned_or_kept() -> None:
    aligned = [f"global.get {POINTER}", "i32.const 100", "i32.sub", "i32.const -32", "i32.and", "local.tee 1"]
    assert bound([*aligned, f"global.set {POINTER}"]) == 131
    kept = [f"global.get {POINTER}", "local.tee 5", "i32.const 64", "i32.sub", "local.tee 1"]
    assert bound([*kept, f"global.set {POINTER}", "local.get 5", f"global.set {POINTER}"]) == 64


@pytest.mark.quick
def test_a_pointer_that_is_used_further_on() -> None:
    read = [f"global.get {POINTER}", "local.set 5", "local.get 1", "i32.load 2 24", "local.set 7"]
    frame = ["local.get 5", "i32.const 32", "i32.sub", "local.tee 11"]
    assert bound([*read, *frame, "i32.const 8", "i32.add"]) == 32
    assert bound([*read, *frame, f"global.set {POINTER}", "local.get 5", f"global.set {POINTER}"]) == 32
    another = ["local.get 5", "i32.const -48", "i32.add", "local.set 12"]
    assert bound([*read, *frame, *another]) == 48
    assert bound([*read, *frame, "local.get 2", "local.tee 5", "i32.const 8", "i32.lt_u"]) == 32


@pytest.mark.quick
@pytest.mark.parametrize(
    "code",
    [
        [f"global.get {POINTER}", "local.set 5", "local.get 5", "local.get 1", "i32.sub", "local.set 6"],
        [f"global.get {POINTER}", "local.set 5", "nop", "local.get 5", "local.set 6", "nop"],
        [*begin(16), "local.get 3", "local.get 0", "i32.sub", "local.tee 4", f"global.set {POINTER}"],
        [f"global.get {POINTER}", "local.get 0", "i32.sub", "local.tee 4", f"global.set {POINTER}"],
        [f"global.get {POINTER}", "i32.const -16", "i32.sub", "local.tee 4", f"global.set {POINTER}"],
        [*begin(16), "local.get 3", "i32.const -64", "i32.add", f"global.set {POINTER}"],
        [*begin(16), "local.get 0", f"global.set {POINTER}"],
        [*begin(16), "i32.const 4096", f"global.set {POINTER}"],
        [f"global.get {POINTER}", "i32.load 2 0"],
    ],
)
def test_what_is_not_understood_has_no_bound(code: list[str]) -> None:
    with pytest.raises(NotConstant):
        bound(code)
    with pytest.raises(NotConstant):
        bound(["call 3 <f1>"], code)


@pytest.mark.quick
def test_recursion_has_no_bound() -> None:
    with pytest.raises(Recursion, match="f0 -> f1 -> f0"):
        bound(["call 3 <f1>"], [*begin(16), "call 2 <f0>", *end(16)])


@pytest.mark.quick
def test_calls_through_pointers_are_named() -> None:
    found = bound_of(functions_in(listing(["call 3 <f1>"], ["call_indirect 0 (type 1)"])), 2)
    assert found[2] == {"f1"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ready("wasm32")
    folder = tmp_path_factory.mktemp("packages")
    for kind in ("int8", "fp32"):
        options = CompileOptions(target="wasm32", name="net", stack=8192)
        compile_model(DIGITS / f"digits_{kind}.onnx", folder / kind, options)
    return folder


@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
@pytest.mark.parametrize("kind", ["int8", "fp32"])
def test_runs_stay_within_the_bound(packages: Path, kind: str, level: str, tmp_path: Path) -> None:
    """A package's code at other levels of optimization: the painted stack against what was read."""
    base, folder = ready("wasm32"), packages / kind
    target = replace(base, flags=tuple(level if flag == "-O2" else flag for flag in base.flags))
    package = load_package(folder)
    objects = compile_objects(target, package_sources(folder), tmp_path / "objects", include_dirs=[folder])
    limit = measure(target, objects, ["net_run"], tmp_path / "probe").stack["net_run"].bytes
    adapter = bench_files(folder) / "adapter_firmware.c"
    program = build_firmware(target, [*objects, adapter], [folder], tmp_path / "program")
    sample = made_up(package.inputs, 1)[0]
    fed = b"".join(a.tobytes() for a in to_c(package.inputs, package.tensors, sample))
    run = run_firmware(program, target, fed, len(fed), tmp_path / "run")
    assert 0 < run.stack_bytes <= limit + CALLER_BYTES
    assert limit < 16384
