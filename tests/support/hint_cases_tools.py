# SPDX-License-Identifier: Apache-2.0
"""Hints about options, folders and data, followed: see test_hints.py."""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from frontend_models import model_of, save
from hint_runs import FLOATS, RELU, X, mmcc, node
from hints import follows
from mmcc.errors import CompileError
from mmcc.target import load_target
from mmcc.toolchain.build import compile_objects

_KEPT = []
CONV = model_of([node("Conv", ["x", "w"], ["y"])], X, ["y"], {"w": FLOATS})


@cache
def _compiled():
    """A package, and the model it was made from, for tests to copy."""
    _KEPT.append(TemporaryDirectory(prefix="mmcc-hints-"))
    folder = Path(_KEPT[-1].name)
    mmcc("compile", save(CONV, folder), "-o", folder / "out")
    return folder


def package_in(folder):
    """A package in a folder of this test's, and its model."""
    shutil.copytree(_compiled() / "out", folder / "out")
    return folder / "out", _compiled() / "model.onnx"


def data(folder, name="data.npz", **arrays):
    np.savez(folder / name, **arrays)
    return folder / name


ONE = {"input_0": X["x"][None]}


@follows("cli/compile.py: 'leave out one of them'")
def stack_and_flash(folder, _):
    path = save(RELU, folder)
    options = ("compile", path, "-o", folder / "out", "--stack", "100", "--flash", "1M")
    assert "leave out one of them" in mmcc(*options, exit=2)
    mmcc(*options[:-2])
    mmcc(*options[:-4], *options[-2:])


@follows("sizes.py: 'a whole number, perhaps with K (1024), M or G: 256K'")
def sizes(folder, _):
    options = ("compile", save(RELU, folder), "-o", folder / "out", "--ram")
    assert "256K" in mmcc(*options, "much", exit=2)
    mmcc(*options, "256K")


@follows(
    "driver/options.py: 'a letter, then letters, digits and single underscores; no keyword of C or C++, "
    "no header of the C library (math), no device of Windows (aux), nothing that begins with mmcc'"
)
def prefix(folder, _):
    options = ("compile", save(RELU, folder), "-o", folder / "out", "--name")
    assert "a letter, then letters" in mmcc(*options, "1__a", exit=2)
    mmcc(*options, "a_1")


@follows("driver/ram_fit.py: _less_flash(module, flash['total'])")
def flash(folder, _):
    """What is told is enough; quantizing is told where there are floats to quantize."""
    options = ("compile", save(CONV, folder), "-o", folder / "out", "--flash")
    text = mmcc(*options, "100", exit=5)
    mmcc(*options, re.search(r"--flash (\d+)", text)[1])
    large = {"w": np.ones((2048, 4, 3, 3), np.float32)}
    large_model = model_of([node("Conv", ["x", "w"], ["y"])], X, ["y"], large)
    assert "quantizing" in mmcc(
        "compile", save(large_model, folder), "-o", folder / "out", "--flash", "100", exit=5
    )
    assert "quantizing" not in mmcc(
        "compile", save(RELU, folder), "-o", folder / "out", "--flash", "100", exit=5
    )


# folders


@follows("package/folder.py: '-o another name'")
def output_is_a_file(folder, _):
    path = save(RELU, folder)
    assert "-o another name" in mmcc("compile", path, "-o", path, exit=2)
    mmcc("compile", path, "-o", folder / "out")


@follows("package/folder.py: '-o a new folder; packages that mmcc wrote are replaced'")
def output_holds_something(folder, _):
    path = save(RELU, folder)
    assert "-o a new folder" in mmcc("compile", path, "-o", folder, exit=2)
    mmcc("compile", path, "-o", folder / "new")
    mmcc("compile", path, "-o", folder / "new")


@follows("package/folder.py: '-o another folder'")
def output_cannot_be_written(folder, monkeypatch):
    path = save(RELU, folder)
    monkeypatch.setattr("mmcc.package.folder.os.access", lambda _, mode: mode != os.W_OK | os.X_OK)
    assert "-o another folder" in mmcc("compile", path, "-o", folder / "closed" / "out", exit=2)
    monkeypatch.undo()
    mmcc("compile", path, "-o", folder / "open" / "out")


@follows("package/folder.py: 'move it, or -o another folder'")
def output_holds_a_users_file(folder, _):
    path, out = save(RELU, folder), folder / "out"
    mmcc("compile", path, "-o", out, "--name", "one")
    (out / "two.c").write_text("/* mine */")
    options = ("compile", path, "--name", "two", "-o")
    assert "move it" in mmcc(*options, out, exit=2)
    mmcc(*options, folder / "other")
    (out / "two.c").rename(out / "mine.c")
    mmcc(*options, out)


@follows("toolchain/build.py: 'make room there, or set TMPDIR to a folder with room'")
def a_full_disk(folder, monkeypatch):
    """A compiler that can write nowhere but in one folder."""
    compiler, source = folder / "cc", folder / "x.c"
    works = f'[ "$TMPDIR" = {folder}/room ] && exec cc "$@"'
    compiler.write_text(f'#!/bin/sh\n{works}\necho "No space left on device" >&2\nexit 1\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    source.write_text("typedef int nothing;\n")
    target = replace(load_target("host"), compiler=str(compiler))
    with pytest.raises(CompileError, match="set TMPDIR to a folder with room"):
        compile_objects(target, [source], folder)
    (folder / "room").mkdir()
    monkeypatch.setenv("TMPDIR", f"{folder}/room")
    compile_objects(target, [source], folder)


@follows(
    "package/record.py: f'mmcc compile MODEL -o {folder}'", "package/record.py: 'compile the model again'"
)
def no_package(folder, _):
    path, out = save(RELU, folder), folder / "out"
    assert f"mmcc compile MODEL -o {out}" in re.sub(r"\s+", " ", mmcc("bench", out, exit=2))
    mmcc("compile", path, "-o", out)
    record = out / ".mmcc" / "package.json"
    for broken in (re.sub(r'"schema": \d+', '"schema": 0', record.read_text()), '{"schema": %s}'):
        schema = re.search(r'"schema": (\d+)', record.read_text())[1]
        record.write_text(broken % schema if "%s" in broken else broken)
        assert "compile the model again" in mmcc("bench", out, exit=2)
        mmcc("compile", path, "-o", out)
        mmcc("bench", out)


@follows(
    "package/record.py: 'reading it as the user that ran mmcc compile, or compiling into a folder of yours'"
)
def record_that_cannot_be_read(folder, _):
    path, out = save(RELU, folder), folder / "out"
    mmcc("compile", path, "-o", out)
    record = out / ".mmcc" / "package.json"
    record.unlink()
    record.mkdir()
    assert "compiling into a folder of yours" in re.sub(r"\s+", " ", mmcc("bench", out, exit=2))
    mmcc("compile", path, "-o", folder / "mine")
    mmcc("bench", folder / "mine")


@follows(
    "verification/oracle.py: '--model PATH'",
    "verification/oracle.py: 'compile it again, or give --model PATH'",
)
def model_moved(folder, _):
    out, path = package_in(folder)
    kept = save(path.read_bytes(), folder, "kept.onnx")
    gone = folder / "gone.onnx"
    assert "--model PATH" in mmcc("verify", out, "--model", gone, exit=2)
    mmcc("verify", out, "--model", kept)
    other = save(RELU, folder, "other.onnx")
    assert "compile it again" in mmcc("verify", out, "--model", other, exit=2)
    mmcc("verify", out, "--model", kept)
    mmcc("compile", other, "-o", out)
    mmcc("verify", out, "--model", other)


# data


@follows(
    "verification/samples.py: "
    "'numpy.savez(path, input_0=array, ...) writes one; samples are stacked along a first axis'"
)
def no_arrays(folder, _):
    out, _ = package_in(folder)
    (folder / "bad.npz").write_bytes(b"nothing")
    assert "numpy.savez" in mmcc("verify", out, "--data", folder / "bad.npz", exit=2)
    mmcc("verify", out, "--data", data(folder, **ONE))


@follows("verification/samples.py: f\"it holds: {', '.join(sorted(arrays)) or 'nothing'}\"")
def other_arrays(folder, _):
    out, _ = package_in(folder)
    assert "it holds: z" in mmcc("verify", out, "--data", data(folder, z=ONE["input_0"]), exit=2)
    mmcc("verify", out, "--data", data(folder, input_0=ONE["input_0"]))


@follows("verification/samples.py: f\"samples stacked in front: [N, {', '.join(map(str, shape))}]\"")
def other_shape(folder, _):
    out, _ = package_in(folder)
    text = mmcc("verify", out, "--data", data(folder, input_0=np.zeros((5, 5), np.float32)), exit=2)
    shape = re.search(r"\[N, ([\d, ]+)\]", text)[1]
    mmcc(
        "verify", out, "--data", data(folder, input_0=np.zeros((3, *map(int, shape.split(", "))), np.float32))
    )


@follows("output_file.py: f'{option} with a path where files of yours can be'")
def outputs_nowhere(folder, _):
    out, _ = package_in(folder)
    told = mmcc("verify", out, "--save-outputs", folder / "no" / "y.npz", exit=2)
    assert "--save-outputs with a path" in told
    mmcc("verify", out, "--save-outputs", folder / "y.npz")


@follows(
    "verification/verify.py: '--data with the inputs'",
    "verification/oracle.py: 'pip install onnxruntime, or give --expected outputs.npz'",
    "verification/oracle.py: 'another version of onnxruntime, or give --expected outputs.npz'",
)
def expected_outputs(folder, monkeypatch):
    out, _ = package_in(folder)
    inputs, outputs = data(folder, **ONE), folder / "y.npz"
    mmcc("verify", out, "--data", inputs, "--save-outputs", outputs)
    assert "--data with the inputs" in mmcc("verify", out, "--expected", outputs, exit=2)
    mmcc("verify", out, "--expected", outputs, "--data", inputs)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert "--expected outputs.npz" in mmcc("verify", out, "--data", inputs, exit=8)
    mmcc("verify", out, "--expected", outputs, "--data", inputs)
    monkeypatch.undo()
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: 1 / 0)
    assert "--expected outputs.npz" in mmcc("verify", out, "--data", inputs, exit=8)
    mmcc("verify", out, "--expected", outputs, "--data", inputs)


@follows("verification/oracle.py: '--data inputs.npz, with inputs that the model takes'")
def an_index_outside(folder, _):
    """Made-up indices are within what they pick from; what is computed of them need not be."""
    nodes = [node("Add", ["i", "all"], ["j"]), node("Gather", ["w", "j"], ["y"])]
    weights = {"w": FLOATS.reshape(-1), "all": np.array([FLOATS.size])}
    model = model_of(nodes, {"i": np.array([-1, -2])}, ["y"], weights)
    out = folder / "out"
    mmcc("compile", save(model, folder), "-o", out)
    assert "--data inputs.npz" in mmcc("verify", out, exit=8)
    mmcc("verify", out, "--data", data(folder, input_0=np.array([[-1, -2]])))


@follows("verification/samples.py: f'{count} integers, -1 if unknown'")
def labels(folder, _):
    out, _ = package_in(folder)
    assert "1 integers, -1 if unknown" in mmcc(
        "verify", out, "--data", data(folder, **ONE, labels=[0.5]), exit=2
    )
    mmcc("verify", out, "--data", data(folder, **ONE, labels=np.array([-1])))


@follows("verification/verify.py: f'--limit {min(len(given), count)}'")
def fewer_outputs(folder, _):
    out, _ = package_in(folder)
    three, outputs = data(folder, "three.npz", input_0=np.repeat(ONE["input_0"], 3, 0)), folder / "y.npz"
    mmcc("verify", out, "--data", data(folder, **ONE), "--save-outputs", outputs)
    options = ("verify", out, "--data", three, "--expected", outputs)
    limit = re.search(r"--limit (\d+)", mmcc(*options, exit=2))[1]
    mmcc(*options, "--limit", limit)


@follows("report/svg.py: \"pip install 'mmcc[plot]', or --html: browsers draw it themselves\"")
def a_picture_without_the_library(folder, monkeypatch):
    model = save(RELU, folder)
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    assert "or --html" in mmcc("analyze", model, "--svg", folder / "f.svg", exit=8)
    assert not (folder / "f.svg").exists()
    mmcc("analyze", model, "--html", folder / "f.html")
    monkeypatch.undo()
    mmcc("analyze", model, "--svg", folder / "f.svg")


@follows("verification/page.py: 'compile the model again'")
def a_damaged_report(folder, _):
    out, model = package_in(folder)
    (out / "report.json").write_text("{}")
    assert "compile the model again" in mmcc("report", out, exit=2)
    mmcc("compile", model, "-o", out)
    mmcc("report", out)


@follows("cli/bench.py: '--on host'")
def threads_are_of_this_machine(folder, _):
    out, _ = package_in(folder)
    assert "--on host" in mmcc("bench", out, "--threads", "2", "--on", "qemu", exit=2)
    assert "MM003" in mmcc("bench", out, "--threads", "2", "--on", "host", exit=2)  # the next hint's


@follows("verification/threads.py: 'mmcc compile --threads N; small kernels are not cut'")
def chunks_for_threads(folder, _):
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((16, 8, 3, 3)).astype(np.float32)
    large = {"x": rng.standard_normal((1, 8, 64, 64)).astype(np.float32)}
    model = save(model_of([node("Conv", ["x", "w"], ["y"])], large, ["y"], {"w": weights}), folder)
    mmcc("compile", model, "-o", folder / "out")
    assert "mmcc compile --threads N" in mmcc("bench", folder / "out", "--threads", "2", exit=2)
    mmcc("compile", model, "-o", folder / "out", "--threads", "2")
    assert "in chunks" in mmcc("bench", folder / "out", "--threads", "2")
