# SPDX-License-Identifier: Apache-2.0
"""Compile, link, take the measure: sizes, and a bound on the stack that holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mmcc.errors import CompileError, Exit
from mmcc.resources import data_dir
from mmcc.target import load_target
from mmcc.toolchain import compile_objects, find_tool, measure
from toolchains import ALL, BOARDS, FIRMWARE, ready

pytestmark = pytest.mark.quick

INCLUDES = [data_dir("runtime_c") / "firmware"]
ENTRIES = ["mmcc_adapter_init", "mmcc_adapter_run"]


def measured(target, source, folder, flags=()):
    objects = compile_objects(target, [FIRMWARE / source], folder, include_dirs=INCLUDES, flags=flags)
    return measure(target, objects, ENTRIES, folder, weight_prefixes=["toy_weights"])


def bound(target, case, folder, *flags):
    return measured(target, "stacks.c", folder, [f"-DCASE={case}", *flags]).stack["mmcc_adapter_run"]


@pytest.mark.parametrize("name", ALL)
def test_sizes_are_told_apart(name, tmp_path):
    found = measured(ready(name), "toy.c", tmp_path)
    assert found.weights == 80
    assert 100 < found.code < 9000
    assert 1024 + 4 <= found.bss <= 1024 + 32
    assert found.data <= 64
    assert found.flash == found.code + found.weights + found.data
    assert found.ram == found.data + found.bss


@pytest.mark.parametrize("name", BOARDS)
def test_libraries_bring_no_hidden_ram(name, tmp_path):
    """newlib's own errno would be a kilobyte."""
    found = measured(ready(name), "stacks.c", tmp_path, ["-DCASE=4"])
    assert found.ram <= 64


def test_a_longer_constant_is_flash_only(tmp_path):
    target = ready("cortex-m4")
    small, large = tmp_path / "small.c", tmp_path / "large.c"
    for path, size in ((small, 100), (large, 1100)):
        table = "extern const unsigned char table[]; const unsigned char table[SIZE] = {1};\n"
        path.write_text(
            table.replace("SIZE", str(size)) + "int f(int i); int f(int i) { return table[i]; }\n"
        )
    a, b = (
        measure(target, compile_objects(target, [p], tmp_path), ["f"], tmp_path / p.stem)
        for p in (small, large)
    )
    assert b.code - a.code == 1000
    assert (a.ram, b.ram) == (0, 0)


@pytest.mark.parametrize("name", ALL)
def test_recursion_is_an_error(name, tmp_path):
    with pytest.raises(CompileError, match=r"no bound: recursion: shape.* -> shape") as caught:
        bound(ready(name), 6, tmp_path)
    assert caught.value.code == "MM804"


@pytest.mark.parametrize("name", ALL)
def test_a_stack_known_only_at_run_time_is_an_error(name, tmp_path):
    with pytest.raises(CompileError, match=r"no bound: .*shape"):
        bound(ready(name), 7, tmp_path)


@pytest.mark.parametrize("name", ALL)
def test_a_call_through_a_pointer_is_reported(name, tmp_path):
    found = bound(ready(name), 8, tmp_path)
    assert found.indirect
    assert all("shape" in function or "run" in function for function in found.indirect)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("case", [1, 2, 3, 5])
def test_nothing_else_is_taken_for_a_call_through_a_pointer(name, case, tmp_path):
    assert bound(ready(name), case, tmp_path).indirect == ()


@pytest.mark.parametrize(
    "name", [n for n in ALL if n not in ("cortex-m0plus", "wasm32")]
)  # there compilers make none
def test_a_tail_call_releases_the_frame_first(name, tmp_path):
    """shape, middle (240 bytes) and last (160 bytes): the larger counts, not the sum."""
    found = bound(ready(name), 5, tmp_path)
    red_zone = 128 if name == "host" else 0
    assert 240 <= found.bytes < 240 + 160 + red_zone


def test_warnings_are_errors(tmp_path):
    source = tmp_path / "narrow.c"
    source.write_text("char f(int x); char f(int x) { return x; }\n")
    with pytest.raises(CompileError, match=r"(?s)narrow.c does not compile .*conversion") as caught:
        compile_objects(ready("cortex-m4"), [source], tmp_path)
    assert (caught.value.code, caught.value.exit) == ("MM802", Exit.INTERNAL)


def test_an_undefined_function_is_named(tmp_path):
    source = tmp_path / "open.c"
    source.write_text("int g(void); int f(void); int f(void) { return g(); }\n")
    target = ready("cortex-m4")
    with pytest.raises(CompileError, match="undefined reference to `g'"):
        measure(target, compile_objects(target, [source], tmp_path), ["f"], tmp_path)


def test_a_missing_tool_names_its_package():
    target = replace(load_target("cortex-m4"), packages={"no-such-gcc": "gcc-no-such"})
    with pytest.raises(CompileError, match="apt-get install gcc-no-such") as caught:
        find_tool("no-such-gcc", target)
    assert (caught.value.code, caught.value.exit) == ("MM801", Exit.TOOL_MISSING)


def test_a_missing_c_library_names_its_package(tmp_path):
    source = tmp_path / "bare.c"
    source.write_text("#include <string.h>\ntypedef int nothing;\n")
    target = ready("cortex-m4")
    bare = replace(target, flags=(*target.flags, "-nostdinc"))
    with pytest.raises(CompileError, match="apt-get install libnewlib-arm-none-eabi") as caught:
        compile_objects(bare, [source], tmp_path)
    assert caught.value.exit == Exit.TOOL_MISSING
