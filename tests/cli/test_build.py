# SPDX-License-Identifier: Apache-2.0
"""mmcc.toml and CMake's mmcc_add_model: compiled when something changed, and only then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from cli_runs import run
from doc_pages import DIGITS
from mmcc.errors import CompileError
from mmcc.frontend.model_file import external_files
from mmcc.project_file import read_project

MODEL = DIGITS / "digits_int8.onnx"
QUICK = 'target = "cortex-m3"\nstack = 1024\nself_check = false\n'


def project(folder, text):
    shutil.copy(MODEL, folder / "digits.onnx")
    (folder / "mmcc.toml").write_text(text)
    return folder / "mmcc.toml"


def built(file, *args, exit=0):
    result = run("build", file, "--json", *args)
    assert result.exit_code == exit, result.output
    return json.loads(result.stdout)


@pytest.mark.quick
def test_models_are_compiled_when_something_changed(tmp_path):
    text = f'[defaults]\n{QUICK}[model.a]\nfile = "digits.onnx"\n'
    text += '[model.b]\nfile = "digits.onnx"\noutput = "out/b"\n'
    file = project(tmp_path, text)
    first = built(file)
    assert [row["compiled"] for row in first.values()] == [True, True]
    assert (tmp_path / "a_c" / "a.h").is_file()
    assert (tmp_path / "out" / "b" / "b.h").is_file()
    assert [row["compiled"] for row in built(file).values()] == [False, False]
    file.write_text(text + 'ram = "min"\n')
    again = built(file)
    assert [row["compiled"] for row in again.values()] == [False, True]
    assert again["b"]["report"]["ram"]["arena"] < first["b"]["report"]["ram"]["arena"]
    (tmp_path / "a_c" / "a.c").unlink()
    assert built(file, "--only", "a")["a"]["compiled"]
    assert (tmp_path / "a_c" / "a.c").is_file()
    for name in ("a_weights.c", "report.json"):
        changed = tmp_path / "a_c" / name
        text = changed.read_bytes()
        changed.write_bytes(text + b" ")
        assert built(file, "--only", "a")["a"]["compiled"], name
        assert not changed.read_bytes().endswith(b" "), name
        assert not built(file, "--only", "a")["a"]["compiled"], name
    model = onnx.load(tmp_path / "digits.onnx")
    model.doc_string = "changed"
    onnx.save(model, tmp_path / "digits.onnx")
    assert [row["compiled"] for row in built(file).values()] == [True, True]


@pytest.mark.quick
def test_a_limit_that_cannot_be_met_ends_it_and_leaves_what_was_there(tmp_path):
    file = project(tmp_path, f'[model.a]\nfile = "digits.onnx"\n{QUICK}')
    built(file)
    before = (tmp_path / "a_c" / "a.c").read_bytes()
    file.write_text(file.read_text() + 'ram = "1K"\n')
    assert built(file, exit=5)["error"]["code"] == "MM040"
    assert (tmp_path / "a_c" / "a.c").read_bytes() == before


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[model.a]\nfile = 'digits.onnx'\nramm = '6K'\n", "did you mean ram?"),
        ("[model.a]\n", "file = "),
        ("[modle.a]\nfile = 'digits.onnx'\n", "did you mean model?"),
        ("", "[model.NAME]"),
        ("model = 3\n", "[model.NAME]"),
        ("[model]\na = 3\n", "[model.NAME]"),
        ("[model.a\n", "docs/projects.md"),
        ("[model.a]\nfile = 'digits.onnx'\ntime_limit = 2020-01-01\n", "numbers"),
        ("[model.a]\nfile = 'digits.onnx'\nstream = 5\n", "numbers"),
        ("[model.a]\nfile = 'digits.onnx'\nram = true\n", "numbers"),
        ("[model.a]\nfile = 'digits.onnx'\npackages = 'zephyr'\n", "numbers"),
        ("[model.a]\nfile = 'digits.onnx'\nio = 'all'\n", "numbers"),
        (
            "[model.a]\nfile = 'a.onnx'\noutput = 'c'\n[model.b]\nfile = 'b.onnx'\noutput = './c'\n",
            "an output",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_said(text, says, tmp_path):
    with pytest.raises(CompileError) as caught:
        read_project(project(tmp_path, text))
    assert caught.value.code == "MM116"
    assert says in caught.value.hint


@pytest.mark.quick
def test_a_limit_that_is_empty_is_not_none(tmp_path):
    file = project(tmp_path, f'[model.a]\nfile = "digits.onnx"\nram = ""\n{QUICK}')
    assert built(file, exit=2)["error"]["code"] == "MM003"


@pytest.mark.quick
def test_without_a_file_the_hint_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CompileError) as caught:
        read_project(Path("mmcc.toml"))
    file = project(tmp_path, caught.value.hint.partition("\n")[2])
    assert [model.name for model in read_project(file)] == ["digits"]


@pytest.mark.quick
def test_external_data_is_part_of_what_a_package_is_made_from(tmp_path):
    model = onnx.load(DIGITS / "digits_fp32.onnx")
    path = tmp_path / "m.onnx"
    onnx.save_model(model, path, save_as_external_data=True, size_threshold=0, location="m.data")
    assert external_files(path) == ((tmp_path / "m.data").resolve(),)
    assert external_files(DIGITS / "test_data.npz") == ()


@pytest.mark.skipif(shutil.which("cmake") is None, reason="there is no cmake here")
def test_cmake_compiles_the_model_and_fails_when_its_limit_cannot_be_met(tmp_path):
    shutil.copy(MODEL, tmp_path / "digits.onnx")
    (tmp_path / "main.c").write_text('#include "digits.h"\nint main(void) { return DIGITS_NODES == 0; }\n')
    lists = tmp_path / "CMakeLists.txt"
    lists.write_text(
        "cmake_minimum_required(VERSION 3.19)\nproject(fw C)\nfind_package(mmcc REQUIRED)\n"
        'mmcc_add_model(digits digits.onnx RAM 12K FOR cortex-m3 OPTIONS "stack=1024" "self_check=false")\n'
        "add_executable(app main.c)\ntarget_link_libraries(app PRIVATE digits)\n"
    )
    program = Path(sys.executable).with_name("mmcc")
    where = run("--cmake-dir").stdout.strip()
    build = tmp_path / "b"

    def cmake(*words):
        command = ["cmake", *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False
        )

    done = cmake("-S", ".", "-B", build, f"-Dmmcc_DIR={where}", f"-DMMCC_PROGRAM={program}")
    assert done.returncode == 0, done.stderr
    assert cmake("--build", build).returncode == 0
    made = build / "mmcc" / "digits" / "digits.c"
    before = made.stat().st_mtime_ns
    (tmp_path / "digits.onnx").touch()
    again = cmake("--build", build)
    assert "up to date" in again.stdout
    assert "Building C object" not in again.stdout
    assert made.stat().st_mtime_ns == before
    whole = lists.read_text()
    for limit, says in (("2K", "MM040"), ("${UNSET}", "RAM is empty"), ('""', "RAM is empty")):
        lists.write_text(whole.replace("12K", limit))
        failed = cmake("--build", build)
        assert failed.returncode != 0, limit
        assert says in failed.stdout + failed.stderr, limit
