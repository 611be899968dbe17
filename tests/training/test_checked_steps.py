# SPDX-License-Identifier: Apache-2.0
"""What every compile runs of a step: with gradients that are not 0, and with numbers that overflow."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mmcc
import mmcc.driver.build
import numpy as np
import pytest
from mmcc.api import TrainOptions
from mmcc.errors import CompileError
from mmcc.ir.program import KernelUse, Program
from onnx import TensorProto, helper, numpy_helper, save

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a compiler for this machine")

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits_fp32.onnx"


def plant(monkeypatch: pytest.MonkeyPatch, kernel: str, name: str, change: Callable[[float], float]) -> None:
    """Let one field of all calls of a kernel be lowered wrongly."""

    def changed(use: KernelUse) -> KernelUse:
        if use.template != kernel:
            return use
        assert name in dict(use.fields)
        return replace(use, fields=tuple((k, change(v) if k == name else v) for k, v in use.fields))

    def lower(*given: object) -> Program:
        program = right(*given)
        entries = (
            replace(entry, nodes=tuple(replace(node, use=changed(node.use)) for node in entry.nodes))
            for entry in program.entries
        )
        return replace(program, entries=tuple(entries))

    right = mmcc.driver.build.lower
    monkeypatch.setattr(mmcc.driver.build, "lower", lower)
    monkeypatch.setattr(mmcc.driver.build, "check_program", lambda *_: [])


def normalized(folder: Path, size: float) -> Path:
    """A dense layer, a LayerNormalization and another dense layer; weights of about `size`."""
    rng = np.random.default_rng(5)
    shapes = {"w": (8, 16), "b": (16,), "scale": (16,), "shift": (16,), "v": (16, 3), "c": (3,)}
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) * size).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["d"]),
        helper.make_node("LayerNormalization", ["d", "scale", "shift"], ["n"]),
        helper.make_node("Gemm", ["n", "v", "c"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [4, 8]), ("y", [4, 3]))
    )
    graph = helper.make_graph(nodes, "normalized", [x], [y], weights)
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, ir_version=8, opset_imports=opsets), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("kernel", "field", "train"),
    [
        ("cross_entropy_gradient", "count", TrainOptions(update="last:1")),
        ("moment", "weight", TrainOptions(update="last:1", optimizer="momentum", accumulate=2)),
    ],
)
def test_a_fault_in_what_is_0_without_a_gradient_is_caught(
    kernel: str, field: str, train: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label that is no class has no gradient; sums that no step has added to have nothing to apply."""
    plant(monkeypatch, kernel, field, lambda value: 2 * value)
    with pytest.raises(CompileError) as caught:
        mmcc.compile_training(DIGITS, tmp_path / "net", train, name="net", stack=4096)
    assert caught.value.code == "MM807"
    assert kernel in caught.value.message


@pytest.mark.parametrize("size", [1e10, 1e19])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("loss", ["softmax-cross-entropy", "mse"])
def test_a_step_whose_numbers_overflow_is_no_fault_and_warns_of_nothing(
    size: float, optimizer: str, loss: str, tmp_path: Path
) -> None:
    train = TrainOptions(optimizer=optimizer, loss=loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = mmcc.compile_training(
            normalized(tmp_path, size), tmp_path / "net", train, name="net", stack=4096
        )
    assert made.folder.is_dir()


def test_a_fault_in_a_normalization_of_sound_numbers_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "layer_norm", "epsilon", lambda epsilon: epsilon + 0.1)
    with pytest.raises(CompileError) as caught:
        mmcc.compile_training(
            normalized(tmp_path, 1.0), tmp_path / "net", TrainOptions(), name="net", stack=4096
        )
    assert caught.value.code == "MM807"
    assert "layer_norm" in caught.value.message
