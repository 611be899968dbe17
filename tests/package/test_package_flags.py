# SPDX-License-Identifier: Apache-2.0
"""NAME_STACK_SIZE holds for what a project makes of a package, however it builds its own code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from cmake_projects import DIGITS, build_project
from mmcc.driver.build import CALLER_BYTES
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.target import load_target
from mmcc.toolchain import measure
from shared_models import model_path, needs_shared
from toolchains import ready

PROJECTS = {
    "debug": ["-DCMAKE_BUILD_TYPE=Debug"],
    "release": ["-DCMAKE_BUILD_TYPE=Release"],
    "small": ["-DCMAKE_BUILD_TYPE=MinSizeRel"],
    "lto": ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON"],
    "flags": ["-DOPTIONS=-O0;-flto;-ffast-math;-fstack-protector-all;-fno-omit-frame-pointer"],
}
# flags that reach targets through a library of interfaces, as those of Zephyr do
PROJECT = """project(app C)
add_compile_options(${{OPTIONS}})
add_library(board INTERFACE)
target_compile_options(board INTERFACE -O1 -flto)
add_subdirectory("{package}" net)
target_link_libraries(mmcc_net PRIVATE board)
"""
TARGETS = {
    "cortex-m4": "digits_int8",
    "cortex-m55": "digits_int8",
    "rv32imac": "digits_fp32",
    "host": "digits_fp32",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Of a target, compiled when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("packages"), {}

    def of(target, model=None):
        ready(target)
        model = model or DIGITS / f"{TARGETS[target]}.onnx"
        if (target, model) not in made:
            made[target, model] = folder / f"{target}_{len(made)}"
            compile_model(model, made[target, model], CompileOptions(name="net", target=target))
        return made[target, model]

    return of


def cpu_flags(target):
    """What a project for this very machine says: only cross compilers have a toolchain file."""
    flags = [f for f in load_target("host").flags if f.startswith("-m")]
    return [f"-DCMAKE_C_FLAGS={' '.join(flags)}"] if target == "host" else []


def stack_of(build, target, work):
    """The bound on the stack of the objects in the library that a project made."""
    work.mkdir()
    library = next(build.rglob("libmmcc_net.a"))
    subprocess.run(["ar", "x", library.resolve()], cwd=work, check=True)
    objects = sorted(work.glob("*.o")) + sorted(work.glob("*.obj"))
    assert len(objects) == 3, objects
    found = measure(load_target(target), objects, ["net_init", "net_run"], work / "probe")
    stack = max(bound.bytes for bound in found.stack.values()) + CALLER_BYTES
    return -(-stack // 16) * 16


def reported(package):
    header = (package / "net.h").read_text()
    stack = json.loads((package / "report.json").read_text())["ram"]["stack"]
    assert f"#define NET_STACK_SIZE {stack}u\n" in header
    return stack


def assert_bound_holds(package, target, options, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    text = PROJECT.format(package=package)
    build = build_project(tmp_path / "app", text, target, *options, *cpu_flags(target))
    assert stack_of(build, target, tmp_path / "objects") <= reported(package)


@pytest.mark.parametrize(
    ("target", "project"),
    [("cortex-m4", name) for name in PROJECTS]
    + [(name, project) for name in ("cortex-m55", "rv32imac", "host") for project in ("release", "flags")],
)
def test_the_stated_stack_holds_in_every_project(target, project, package, tmp_path):
    assert_bound_holds(package(target), target, PROJECTS[project], tmp_path)


@needs_shared
@pytest.mark.parametrize("name", ["kws_dscnn_int8_qdq", "kws_dscnn_fp32"])
def test_the_stated_stack_holds_for_keyword_spotting(name, package, tmp_path):
    path = model_path(name)
    assert_bound_holds(package("cortex-m4", path), "cortex-m4", PROJECTS["release"], tmp_path)


PRINTS = """#include "net.h"
#ifdef NET_STACK_SIZE
int stack = NET_STACK_SIZE;
#else
#error "the stack was not measured"
#endif
"""
USES = PROJECT + "add_library(user STATIC main.c)\ntarget_link_libraries(user PRIVATE mmcc::net)\n"


@pytest.mark.parametrize("definitions", [[], ["-DNET_OWN_FLAGS=ON"]], ids=["measured", "own flags"])
def test_there_is_no_bound_where_it_would_not_hold(definitions, package, tmp_path):
    """A program that builds on the bound does not compile where the project has flags of its own."""
    text = USES.format(package=package("cortex-m4"))
    if definitions:
        with pytest.raises(AssertionError, match="the stack was not measured"):
            build_project(tmp_path, text, "cortex-m4", *definitions, main=PRINTS)
    else:
        build_project(tmp_path, text, "cortex-m4", main=PRINTS)


def test_another_compiler_has_no_bound(package, tmp_path):
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    text = USES.format(package=package("host"))
    with pytest.raises(AssertionError, match="the stack was not measured"):
        build_project(tmp_path, text, "host", "-DCMAKE_C_COMPILER=clang", main=PRINTS)


def test_firmware_is_not_position_independent(package, tmp_path):
    """Linker scripts of vendors have no rule for a global offset table, and nothing would fill it."""
    build = build_project(tmp_path, PROJECT.format(package=package("cortex-m4")), "cortex-m4")
    commands = "".join(p.read_text() for p in build.rglob("build.make")) + "".join(
        p.read_text() for p in build.rglob("flags.make")
    )
    assert not re.search(r"-f(?:pic|PIC|pie|PIE)\b", commands)
    library = next(build.rglob("libmmcc_net.a"))
    listing = subprocess.run(
        ["arm-none-eabi-objdump", "-r", library], capture_output=True, text=True, check=True
    ).stdout
    assert "R_ARM" in listing
    assert "GOT" not in listing
