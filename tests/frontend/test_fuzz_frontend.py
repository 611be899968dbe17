# SPDX-License-Identifier: Apache-2.0
"""The front-end campaign of bench/fuzz_frontend.py with a fixed seed, and what campaigns found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from frontend_models import check, model_of, save
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from onnx import helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import fuzz_frontend
import mutants
import nasty_models

node = helper.make_node
MUTANTS = 5000  # a minute; the campaign is `make fuzz-frontend`
SAMPLE = 60  # through the same function in this process, to know that it finds anything


def test_mutants_are_compiled_or_refused(tmp_path):
    """In a process of its own: it forks, and libraries have started threads in this one."""
    found = tmp_path / "found"
    arguments = ["--mutants", str(MUTANTS), "--seed", "1", "--out", str(found), "--compile-every", "400"]
    command = [sys.executable, fuzz_frontend.__file__, *arguments, "--no-nasty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not found.exists()


def test_mutants_are_a_function_of_the_seed():
    seeds = fuzz_frontend.corpus(None)
    assert len(seeds) >= 8
    first = [fuzz_frontend.made(seeds, 3, k) for k in range(100, 100 + SAMPLE)]
    assert first == [fuzz_frontend.made(seeds, 3, k) for k in range(100, 100 + SAMPLE)]
    assert len({data for _, data in first}) > SAMPLE // 2


def test_every_change_changes_something():
    data = [made.SerializeToString() for _, made in nasty_models.seeds()]
    for change in mutants.CHANGES:
        different = 0
        for k in range(40):
            model = onnx.ModelProto.FromString(data[k % len(data)])
            try:
                change(model, Random(k))
                different += model.SerializeToString() != data[k % len(data)]
            except (IndexError, ValueError, TypeError, OverflowError):
                continue
        assert different, change.__name__


@pytest.mark.parametrize("fault", ["crash", "hang", "memory", "message"])
def test_a_fault_is_a_finding(fault, tmp_path, monkeypatch, capfd):
    def load(*_):
        if fault == "crash":
            raise KeyError("planted")
        if fault == "hang":
            while True:
                pass
        if fault == "memory":
            kept = np.ones(2**26)
            raise CompileError("MM101", str(kept[:1]), exit=3)
        error = CompileError("MM101", "x", exit=3)
        error.message = "\x1b" * 5000
        raise error

    monkeypatch.setattr(fuzz_frontend, "load_graph", load)
    monkeypatch.setattr(fuzz_frontend, "CPU_SECONDS", 1 if fault == "hang" else 10)
    monkeypatch.setattr(fuzz_frontend, "MEMORY", 2**28)
    monkeypatch.setattr(nasty_models, "NASTY", {})
    assert fuzz_frontend.main(["--mutants", "1", "--out", str(tmp_path)]) == 1
    assert len(list(tmp_path.glob("*.onnx"))) == 1
    said = {"crash": "KeyError", "hang": "is 1 s", "memory": "MiB", "message": "a message of"}
    assert said[fault] in capfd.readouterr().out


# found by campaigns


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Identity", ["x"], ["y"])],
        [node("Flatten", ["x"], ["y"])],
        [node("Transpose", ["x"], ["y"])],
        [node("Clip", ["x"], ["y"])],
        [node("Identity", ["x"], ["a"]), node("Relu", ["a"], ["y"])],
        [node("Concat", ["x", "x"], ["y"], axis=0)],
    ],
)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_integers_that_are_only_moved_mean_themselves(nodes, dtype, tmp_path):
    given = {"x": np.arange(6).reshape(2, 3).astype(dtype)}
    model = model_of(nodes, given, ["y"], opset=18)
    if nodes[-1].op_type == "Relu" and dtype == np.uint8:
        pytest.skip("ONNX has no Relu of uint8")
    check(model, given, tmp_path)
    load_graph(save(model, tmp_path), CompileOptions())


def test_outputs_that_are_integer_constants(tmp_path):
    """A zero point, and quantized weights, that are outputs as well."""
    given = {"x": np.linspace(-1, 1, 4).astype(np.float32).reshape(1, 4)}
    fixed = {"s": np.float32(0.1), "z": np.int8(3), "w": np.ones((4, 2), np.int8), "t": np.float32(0.5)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "t"], ["v"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    for outputs in (["y", "z"], ["y", "w"], ["z"]):
        model = model_of(nodes, given, outputs, fixed)
        graph = load_graph(save(model, tmp_path), CompileOptions())
        assert [port.onnx_name for port in graph.outputs] == outputs


@pytest.mark.parametrize(
    "bad",
    [
        node("Einsum", ["x", "x"], ["b"], equation="a\0b"),
        node("Einsum", ["x", "x"], ["b"], equation="," * 1000),
        node("Split", ["x"], ["b", "c", "d", "e"], axis=1, num_outputs=3),
    ],
)
def test_shape_inference_that_aborts_or_never_ends(bad, tmp_path):
    """ONNX's own C++ does both on nodes like these; it runs in a process of its own."""
    given = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    model = model_of([bad, node("Relu", ["b"], ["y"])], given, ["y"], opset=18)
    with pytest.raises(CompileError):
        import_model(save(model, tmp_path))
