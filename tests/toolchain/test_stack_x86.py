# SPDX-License-Identifier: Apache-2.0
"""The stack of what gcc and clang make of our kernels for each x86-64 generation, realigned frames included.

The walk and the compiler's own record of a frame (.su) are two sources: here the walk may not look at
the record, and must find the same number. No program is run: it does not matter what this
machine's processor can do.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.package.host import package_sources
from mmcc.report.text import render_text
from mmcc.target import load_target
from mmcc.toolchain import StackBound, compile_objects, link, measure
from mmcc.toolchain.stack.listing import Line, Step
from mmcc.toolchain.stack.walk import Unreadable, Walk, read_listing, recorded_frames
from toolchains import ready

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
MARCHES = (
    "x86-64",
    "x86-64-v2",
    "x86-64-v3",
    "x86-64-v4",
    "skylake-avx512",
    "icelake-server",
    "sapphirerapids",
    "znver2",
)
BUILDS = [(march, "-O2") for march in MARCHES]
BUILDS += [("x86-64-v4", level) for level in ("-O0", "-O1", "-O3", "-Os")]
RETURN_ADDRESS = 8
# What a compiler's record leaves out: gcc what aligning a frame takes, clang the saved registers as well.
UNRECORDED = {"gcc": 64, "clang": 128}


class OwnFrames(Walk):
    """The walk of one function, as if what it calls took nothing."""

    def of(self, name: str) -> int:
        start = self._listing.starts[name]
        return self._follow(start, name).bytes + RETURN_ADDRESS

    def _function(self, start: int) -> StackBound:
        return StackBound(-(2**40), (self._name(start),), ())

    def _next(self, line: Line, step: Step) -> list[int]:
        """A jump to another function is a call; the part of a function that is hardly run is not another."""
        here = line.function.removesuffix(".cold")
        return [a for a in super()._next(line, step) if self._name(a).removesuffix(".cold") == here]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    for kind in ("int8", "fp32"):
        compile_model(DIGITS / f"digits_{kind}.onnx", folder / kind, CompileOptions(stack=4096))
    return folder


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(("march", "level"), BUILDS)
def test_the_walk_finds_what_the_compiler_recorded(compiler, march, level, packages, tmp_path):
    host = replace(ready("host"), compiler=compiler, flags=(f"-march={march}", level, "-ffunction-sections"))
    compared = 0
    for kind in ("int8", "fp32"):
        work = tmp_path / kind
        objects = compile_objects(
            host, package_sources(packages / kind), work, include_dirs=[packages / kind]
        )
        elf = link(host, objects, work / "all.elf", flags=["-nostartfiles", "-Wl,--no-gc-sections"])
        listing = read_listing(elf, host)
        walk = OwnFrames(listing, {}, host)
        for name, frame in recorded_frames(objects).items():
            # Copies of a function that the compiler specialised share one name in the record.
            copies = [start for start in listing.starts if re.sub(r"\.\d+", "", start) == name]
            found = max(walk.of(copy) for copy in copies)
            most = frame.bytes + UNRECORDED[compiler]
            assert frame.bytes - RETURN_ADDRESS <= found <= most, f"{name}: recorded {frame}, found {found}"
            compared += 1
    assert compared > 10


GROWS_OUT_OF_SIGHT = {
    "host": ".globl f\nf:\n\tsubq %rdi, %rsp\n\taddq %rdi, %rsp\n\tret\n",
    "cortex-m4": ".syntax unified\n.thumb\n.globl f\n.thumb_func\nf:\n\tmov r3, sp\n\tsubs r3, r3, r0\n"
    "\tmov sp, r3\n\tbx lr\n",
}


def frame_without_a_record(name, folder):
    source = folder / "f.S"
    source.write_text(GROWS_OUT_OF_SIGHT[name])
    target = ready(name)
    return measure(target, compile_objects(target, [source], folder), ["f"], folder).stack["f"]


def test_with_an_operating_system_an_unreadable_frame_is_a_margin(tmp_path):
    found = frame_without_a_record("host", tmp_path)
    assert found.bytes == load_target("host").stack_bytes
    assert found.assumed == "f: sub %rdi,%rsp"


def test_a_function_is_read_again_after_a_caller_could_not_be(tmp_path):
    """What cannot be read is no recursion when it is asked for alone."""
    source, target = tmp_path / "f.S", ready("host")
    source.write_text(GROWS_OUT_OF_SIGHT["host"] + ".globl g\ng:\n\tcall f\n\tret\n")
    found = measure(target, compile_objects(target, [source], tmp_path), ["g", "f"], tmp_path).stack
    assert [found[name].assumed for name in "gf"] == ["f: sub %rdi,%rsp"] * 2


def test_on_bare_metal_an_unreadable_frame_is_an_error(tmp_path):
    with pytest.raises(CompileError, match="f: mov sp, r3") as caught:
        frame_without_a_record("cortex-m4", tmp_path)
    assert caught.value.code == "MM804"


def test_a_margin_is_a_warning_in_the_report(monkeypatch, tmp_path):
    def lost(walk: Walk, entry: str) -> StackBound:
        raise Unreadable(f"{entry}: weird %rsp")

    monkeypatch.setattr(Walk, "bound", lost)
    report = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "out", CompileOptions(name="net")).report
    assert report["ram"]["stack_from"] == "assumed"
    assert "the worst-case stack is not proved: net_init: weird %rsp" in report["warnings"][-1]
    assert "not proved" in render_text(report)
