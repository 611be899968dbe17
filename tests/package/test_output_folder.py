# SPDX-License-Identifier: Apache-2.0
"""A package's folder: whole or not at all, what is not mmcc's stays, what did not change keeps its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mmcc
import pytest
from cmake_projects import DIGITS, build_project
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit
from mmcc.package.folder import check_output
from mmcc.target import load_target
from mmcc.toolchain import compile_objects
from toolchains import ready

MODEL = DIGITS / "digits_int8.onnx"
M4 = CompileOptions(name="net", target="cortex-m4", stack=1000)


def texts(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_nothing_that_build_systems_collect_lies_in_hidden_folders(tmp_path):
    """Before and after a verification; CMake's file(GLOB_RECURSE) looks into all folders."""
    package = tmp_path / "net"
    compile_model(MODEL, package, M4)
    assert mmcc.verify(package)["ok"]
    found = [p for p in package.rglob("*") if p.suffix in (".c", ".h", ".S", ".s", ".cpp", ".inc")]
    assert {p.parent for p in found} == {package}
    assert len(list((package / ".mmcc").iterdir())) >= 3
    project = 'project(app C)\nfile(GLOB_RECURSE sources "*.c")\nadd_library(app STATIC ${sources})\n'
    ready("cortex-m4")
    build_project(tmp_path, f"{project}target_include_directories(app PRIVATE net)\n", "cortex-m4")


def test_files_of_others_are_no_part_of_the_package_and_stay(tmp_path):
    package = tmp_path / "net"
    compile_model(MODEL, package, M4)
    (package / "mine.c").write_text("#error mine\n")
    (package / "mine_internal.h").write_text("#error mine\n")
    (package / "build").mkdir()
    (package / "build" / "notes.c").write_text("#error mine\n")
    assert mmcc.verify(package)["ok"]
    compile_model(MODEL, package, M4)
    assert (package / "mine.c").read_text() == "#error mine\n"
    assert (package / "build" / "notes.c").is_file()
    assert mmcc.verify(package)["ok"]


@pytest.mark.quick
def test_a_file_of_somebody_elses_is_not_overwritten(tmp_path):
    package = tmp_path / "net"
    compile_model(MODEL, package, M4)
    (package / "net_weights.S").write_text("mine")
    before = texts(package)
    with pytest.raises(CompileError, match=r"net_weights\.S is not a file that mmcc wrote") as caught:
        compile_model(MODEL, package, replace(M4, weights="bin"))
    assert (caught.value.code, caught.value.exit) == ("MM006", Exit.USAGE)
    assert texts(package) == before


@pytest.mark.quick
def test_where_the_record_is_damaged_nothing_of_others_is_lost(tmp_path):
    package = tmp_path / "net"
    compile_model(MODEL, package, M4)
    (package / "mine.c").write_text("mine")
    (package / ".mmcc" / "package.json").write_text("{")
    compile_model(MODEL, package, M4)
    assert (package / "mine.c").read_text() == "mine"


@pytest.mark.quick
def test_files_that_are_the_same_keep_their_times(tmp_path):
    package = tmp_path / "net"
    compile_model(MODEL, package, M4)
    for path in package.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    compile_model(MODEL, package, replace(M4, stack=1024))
    times = {path.name: path.stat().st_mtime_ns for path in package.iterdir() if path.is_file()}
    fresh = {name for name, at in times.items() if at != 10**18}
    assert "net.h" in fresh
    assert fresh <= {"net.h", "report.txt", "report.json", "report.html"}


@pytest.mark.quick
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(there, tmp_path):
    (tmp_path / "disk").mkdir()
    if there:
        compile_model(MODEL, tmp_path / "disk" / "net", M4)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "net")
    compile_model(MODEL, tmp_path / "link", M4)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "net" / "net.h").is_file()
    assert sorted(p.name for p in tmp_path.rglob(".mmcc-*")) == []


@pytest.mark.quick
def test_a_line_break_in_the_path_is_refused(tmp_path):
    with pytest.raises(CompileError, match="line break"):
        check_output(tmp_path / "a\nb")


def test_other_signs_in_the_path_work(tmp_path):
    package = tmp_path / "a;b $c 'd' (e)" / "net"
    compile_model(MODEL, package, replace(M4, weights="bin"))
    assert mmcc.verify(package)["ok"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs signals and /proc")
def test_a_compile_that_is_ended_leaves_nothing(tmp_path):
    """The folder is as it was, and no scratch folder stays, here and in the place for temporary files."""
    out, scratch = tmp_path / "here", tmp_path / "tmp"
    scratch.mkdir()
    compile_model(MODEL, out, M4)
    before = texts(out)
    environment = os.environ | {"TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "mmcc", "compile", str(MODEL), "-o", str(out), "--target", "cortex-m4"]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not any(p.name.startswith(".mmcc-") for p in tmp_path.iterdir()):
        assert time.monotonic() < end
        assert running.poll() is None
        time.sleep(0.005)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "tmp"]
    assert list(scratch.iterdir()) == []
    assert texts(out) == before


@pytest.mark.quick
@pytest.mark.parametrize(
    "said", ["fatal error: error writing to x.s: No space left on device", "Disk quota exceeded"]
)
def test_a_full_disk_is_the_users_disk(said, tmp_path: Path):
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    (tmp_path / "x.c").write_text("typedef int nothing;\n")
    target = replace(load_target("host"), compiler=str(compiler))
    with pytest.raises(CompileError, match="could not write") as caught:
        compile_objects(target, [tmp_path / "x.c"], tmp_path)
    assert (caught.value.code, caught.value.exit) == ("MM006", Exit.USAGE)
    assert "TMPDIR" in caught.value.hint
