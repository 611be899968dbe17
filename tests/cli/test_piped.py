# SPDX-License-Identifier: Apache-2.0
"""Models through the standard input and through pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick
MODEL = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": np.zeros((1, 3), np.float32)}, ["y"])


def mmcc(*args, data=None, cwd=None):
    command = [sys.executable, "-m", "mmcc", *map(str, args)]
    return subprocess.run(command, input=data, capture_output=True, cwd=cwd, check=False)


def test_standard_input(tmp_path):
    for name in ("-", "/dev/stdin"):
        done = mmcc("check", name, data=MODEL.SerializeToString())
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"can be compiled" in done.stdout
    done = mmcc("compile", "-", "-o", "out", data=MODEL.SerializeToString(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.h").is_file()
    assert b"[MM101]" in mmcc("check", "-", data=b"").stderr


def test_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(MODEL.SerializeToString(),))
    writer.start()
    done = mmcc("check", pipe)
    writer.join()
    assert done.returncode == 0, done.stderr


def test_external_data_needs_a_folder(tmp_path):
    model = model_of(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": np.zeros((1, 3), np.float32)},
        ["y"],
        {"w": np.zeros(3, np.float32)},
    )
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    assert mmcc("check", save(model, tmp_path)).returncode == 0  # what the hint says
    done = mmcc("check", "-", data=model.SerializeToString(), cwd=tmp_path)
    assert done.returncode == 3
    assert b"through a" in done.stderr
    assert b"giving the model as a file" in done.stderr


def test_devices_and_pipes_are_refused_by_the_library(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(CompileError, match="is a pipe or a device"):
            import_model(path)
    with pytest.raises(CompileError, match=r"cannot read|no file"):
        import_model("nul\0.onnx")
