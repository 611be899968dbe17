# SPDX-License-Identifier: Apache-2.0
"""QONNX's operators mean what the package qonnx computes: in mmcc, and in the form that ONNX Runtime gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmcc.errors import CompileError
from mmcc.frontend.expose import with_outputs
from mmcc.frontend.importer import import_model
from mmcc.frontend.qonnx_nodes import DOMAINS
from mmcc.ir.interpret import evaluate_tensors
from mmcc.passes import optimize
from onnx import TensorProto, helper, numpy_helper, save

ort = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(11)
X = RNG.normal(size=(3, 40)).astype(np.float32)
HALVES = np.array([[-2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5]], np.float32) * np.float32(0.25)
ROUNDINGS = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


def rounded(y: np.ndarray, mode: str) -> np.ndarray:
    """As qonnx's resolve_rounding_mode."""
    if mode in ("ROUND", "HALF_EVEN"):
        return np.round(y)
    whole = {
        "CEIL": np.ceil(y),
        "FLOOR": np.floor(y),
        "UP": np.sign(y) * np.ceil(np.abs(y)),
        "DOWN": np.fix(y),
        "HALF_UP": np.sign(y) * np.floor(np.abs(y) + 0.5),
        "HALF_DOWN": np.sign(y) * np.ceil(np.abs(y) - 0.5),
    }
    return whole[mode]


def ends(bits: int, signed: int, narrow: int) -> tuple[int, int]:
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def int_quant(x, scale, zero, bits: int, signed=1, narrow=0, rounding_mode="ROUND") -> np.ndarray:
    """As qonnx's function of this name."""
    y = x / scale + zero
    if bits == 1 and signed:
        y = np.where(y >= 0, 1, -1)
    else:
        y = rounded(np.clip(y, *ends(bits, signed, narrow)), rounding_mode)
    return (y - zero) * scale


def trunc_1(x, scale, zero, bits: int, left: int, rounding_mode="FLOOR") -> np.ndarray:
    return (rounded(np.round(x / scale + zero) / 2.0 ** (bits - left), rounding_mode) - zero) * scale


def trunc_2(x, scale, zero, step, left: int, signed=1, narrow=0, rounding_mode="FLOOR") -> np.ndarray:
    dropped = 2 ** np.round(np.log2(step / scale))
    y = np.clip(np.round(x / scale + zero) / dropped, *ends(left, signed, narrow))
    return (rounded(y, rounding_mode) - zero / dropped) * step


def write(path: Path, nodes, constants, shape: tuple[int, ...], given=X.shape) -> Path:
    """A model with one input and one output; constants are floats, lists integers."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    arrays = {name: np.asarray(data) for name, data in constants.items()}
    tensors = [
        numpy_helper.from_array(
            array if array.dtype == np.int64 and array.ndim else array.astype(np.float32), name
        )
        for name, array in arrays.items()
    ]
    graph = helper.make_graph(nodes, "qonnx", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAINS[0], 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def made(path: Path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What mmcc and ONNX Runtime compute."""
    graph = optimize(import_model(path))
    (port,), (result,) = graph.inputs, graph.outputs
    given = in_integers(x, graph.tensors[port.tensor])
    ours = evaluate_tensors(graph, {port.tensor: given})[result.tensor]
    if quant := graph.tensors[result.tensor].quant:
        ours = (ours.astype(np.float32) - quant.zero_point) * np.float32(quant.scale)
    model = with_outputs(path, ["y"]).model
    (theirs,) = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return ours.reshape(theirs.shape), theirs


def in_integers(x: np.ndarray, tensor) -> np.ndarray:
    """A sample as the C takes it."""
    if tensor.quant is not None:
        least, most = tensor.dtype.least, tensor.dtype.most
        x = np.clip(np.rint(x / np.float32(tensor.quant.scale)) + tensor.quant.zero_point, least, most)
    return x.astype(tensor.dtype.numpy)


def check(tmp_path: Path, op: str, operands: dict, want: np.ndarray, x: np.ndarray, **attributes) -> None:
    """An operator of a computed value and of a constant, in mmcc and in ONNX Runtime."""
    constants = {"c": x, "begin": [0], "end": [x.shape[0]], **operands}
    nodes = [  # not the input itself, which mmcc would take as integers
        helper.make_node("Concat", ["x", "c"], ["both"], axis=0),
        helper.make_node("Slice", ["both", "begin", "end"], ["same"]),
        helper.make_node(op, ["same", *operands], ["a"], domain=DOMAINS[0], **attributes),
        helper.make_node(op, ["c", *operands], ["b"], domain=DOMAINS[0], **attributes),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=0),
    ]
    shape = (2 * x.shape[0], x.shape[1])
    path = write(tmp_path / "model.onnx", nodes, constants, shape, x.shape)
    for result in made(path, x):
        np.testing.assert_allclose(result, np.concatenate([want, want]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8, 12, 16, 20])
def test_quant_to_any_number_of_bits(tmp_path, op, signed, bits) -> None:
    scale, more = np.float32(0.0371), {"signed": signed, "narrow": int(bits > 1), "rounding_mode": "ROUND"}
    want = int_quant(X, scale, 0, bits, **more)
    check(tmp_path, op, {"s": scale, "z": 0, "n": bits}, want, X, **more)


@pytest.mark.parametrize("mode", ROUNDINGS)
@pytest.mark.parametrize("zero", [0, 2])
def test_quant_rounds_as_it_is_told(tmp_path, mode, zero) -> None:
    scale, more = np.float32(0.25), {"signed": 1, "narrow": 0, "rounding_mode": mode}
    want = int_quant(HALVES, scale, zero, 6, **more)
    check(tmp_path, "Quant", {"s": scale, "z": zero, "n": 6}, want, HALVES, **more)


def test_quant_with_several_scales(tmp_path) -> None:
    scale = RNG.uniform(0.02, 0.2, (1, 40)).astype(np.float32)
    zero = RNG.integers(-3, 4, (1, 40)).astype(np.float32)
    want = int_quant(X, scale, zero, 5)
    check(tmp_path, "Quant", {"s": scale, "z": zero, "n": 5}, want, X, signed=1, narrow=0)


def test_bipolar_quant(tmp_path) -> None:
    x = np.concatenate([X, np.zeros_like(X)])
    check(tmp_path, "BipolarQuant", {"s": 0.3}, np.where(x >= 0, 0.3, -0.3), x)


@pytest.mark.parametrize("mode", ROUNDINGS)
@pytest.mark.parametrize("zero", [0, 4])
def test_trunc(tmp_path, mode, zero) -> None:
    scale = np.float32(0.0625)
    want = trunc_1(X, scale, zero, 8, 5, mode)
    check(tmp_path, "Trunc", {"s": scale, "z": zero, "m": 8, "n": 5}, want, X, rounding_mode=mode)
    step, more = np.float32(0.25), {"signed": 1, "narrow": 0, "rounding_mode": mode}
    want = trunc_2(X, scale, zero, step, 4, **more)
    operands = {"s": scale, "z": zero, "m": 8, "t": step, "n": 4}
    check(tmp_path, "Trunc", operands, want, X, **more)


def test_within_a_branch(tmp_path) -> None:
    """ONNX Runtime gets it in ONNX's own nodes there, too."""
    node = helper.make_node("BipolarQuant", ["x", "s"], ["b"], domain=DOMAINS[0])
    shape = helper.make_tensor_value_info("b", TensorProto.FLOAT, X.shape)
    branch = helper.make_graph([node], "branch", [], [shape])
    taken = numpy_helper.from_array(np.array(True))
    nodes = [
        helper.make_node("Constant", [], ["taken"], value=taken),
        helper.make_node("If", ["taken"], ["y"], then_branch=branch, else_branch=branch),
    ]
    for result in made(write(tmp_path / "model.onnx", nodes, {"s": 0.3}, X.shape), X):
        np.testing.assert_allclose(result, np.where(X >= 0, 0.3, -0.3), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "operands", "said"),
    [
        ("BipolarQuant", {"s": np.inf}, "positive"),
        ("BipolarQuant", {"s": [0, 0]}, "positive"),
        ("Trunc", {"s": 0.1, "z": 0, "m": 8, "t": -1, "n": 4}, "positive"),
        ("Quant", {"s": np.ones(7), "z": 0, "n": 8}, "scales"),
        ("Quant", {"s": 0.1, "z": np.zeros(7), "n": 8}, "scales"),
        ("BipolarQuant", {"s": np.ones(7)}, "do not broadcast"),
        ("Trunc", {"s": np.ones(7), "z": 0, "m": 8, "n": 4}, "do not broadcast"),
        ("Trunc", {"s": np.ones(40), "z": 0, "m": 8, "t": np.ones(7), "n": 4}, "broadcast"),
        ("Quant", {"s": 0.1}, "zero point"),
    ],
)
def test_operands_that_do_not_fit_are_refused(tmp_path, op, operands, said) -> None:
    with pytest.raises(CompileError, match=said):
        check(tmp_path, op, operands, X, X)
    nodes = [
        helper.make_node(op, ["c", *operands], ["b"], domain=DOMAINS[0]),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    with pytest.raises(CompileError):
        import_model(write(tmp_path / "model.onnx", nodes, {"c": X, **operands}, X.shape))


@pytest.mark.parametrize(
    ("operands", "attributes", "said"),
    [
        ({"s": 0.1, "z": 0, "n": 33}, {}, "33 bits"),
        ({"s": 0.1, "z": 0, "n": 2.5}, {}, r"\[2.5\]"),
        ({"s": -0.1, "z": 0, "n": 8}, {}, "positive"),
        ({"s": 0.1, "z": np.inf, "n": 8}, {}, "finite"),
        ({"s": 0.1, "z": 0, "n": 8}, {"rounding_mode": "SIDEWAYS"}, "SIDEWAYS"),
        ({"s": 0.1, "z": 300, "n": 8}, {}, "outside"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, operands, attributes, said) -> None:
    with pytest.raises(CompileError, match=said):
        check(tmp_path, "Quant", operands, X, X, signed=1, narrow=0, **attributes)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", [3, 8])
def test_weights_and_activations_are_integers(tmp_path, signed: int, bits: int) -> None:
    """A product of both, by the definition of Quant."""
    w = RNG.normal(size=(40, 9)).astype(np.float32)
    scales = {"xs": np.float32(0.07), "ws": RNG.uniform(0.02, 0.2, (1, 9)).astype(np.float32)}
    zero, width = np.float32(0 if signed else 2), np.float32(bits)
    constants = {"w": w, "z": np.array(zero), "n": np.array(width)}
    constants |= {name: np.array(scale) for name, scale in scales.items()}
    more = {"signed": signed, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node("Quant", ["x", "xs", "z", "n"], ["a"], domain=DOMAINS[0], **more),
        helper.make_node("Quant", ["w", "ws", "z", "n"], ["b"], domain=DOMAINS[0], **more),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    graph = optimize(import_model(write(tmp_path / "model.onnx", nodes, constants, (3, 9))))
    want = int_quant(X, scales["xs"], zero, bits, **more) @ int_quant(w, scales["ws"], zero, bits, **more)
    (port,) = graph.inputs
    values = evaluate_tensors(graph, {port.tensor: in_integers(X, graph.tensors[port.tensor])})
    np.testing.assert_allclose(values[graph.outputs[0].tensor], want, rtol=1e-4, atol=1e-4)
