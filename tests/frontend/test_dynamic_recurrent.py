# SPDX-License-Identifier: Apache-2.0
"""com.microsoft DynamicQuantizeLSTM against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from frontend_models import check, model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ops.int8_to_float import DenseInt8ToFloat
from mmcc.ops.recurrent import CellFunction, Recurrent, rounded_to_bytes
from mmcc.passes import optimize
from onnx import helper, numpy_helper

pytestmark = pytest.mark.quick

FORMS = {
    "plain": {},
    "uint8": {"unsigned": True},
    "by_rows": {"by_rows": True},
    "backward": {"direction": "reverse"},
    "both": {"direction": "bidirectional"},
    "begun": {"initial": True},
    "sequences": {"sequences": 3, "initial": True},
}


def dynamic_layer(
    seed: int,
    steps: int = 9,
    sequences: int = 1,
    features: int = 7,
    units: int = 6,
    *,
    direction: str = "forward",
    initial: bool = False,
    by_rows: bool = False,
    unsigned: bool = False,
    lengths: list[int] | None = None,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model and its input; weights as quantize_dynamic writes them, [directions, inputs, rows]."""
    rng = np.random.default_rng(seed)
    directions, rows = 1 + (direction == "bidirectional"), 4 * units
    kind, shift = (np.uint8, 128) if unsigned else (np.int8, 0)
    constants: dict[str, np.ndarray] = {"B": rng.normal(0, 0.4, (directions, 2 * rows)).astype(np.float32)}
    for name, inner in (("W", features), ("R", units)):
        constants[name] = (rng.integers(-127, 128, (directions, inner, rows)) + shift).astype(kind)
        shape = (directions, rows) if by_rows else (directions,)
        constants[f"{name}_s"] = rng.uniform(0.004, 0.012, shape).astype(np.float32)
        constants[f"{name}_z"] = np.full(shape, shift, kind)
    names = ["x", "W", "R", "B", "", "", "", "", "W_s", "W_z", "R_s", "R_z"]
    if lengths is not None:
        constants["lengths"], names[4] = np.array(lengths, np.int32), "lengths"
    if initial:
        for at, name in ((5, "h"), (6, "c")):
            constants[name] = rng.uniform(-0.9, 0.9, (directions, sequences, units)).astype(np.float32)
            names[at] = name
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        names,
        ["Y", "Y_h", "Y_c"],
        domain="com.microsoft",
        hidden_size=units,
        direction=direction,
    )
    feeds = {"x": rng.normal(0, 1.5, (steps, sequences, features)).astype(np.float32)}
    return model_of([node], feeds, ["Y", "Y_h", "Y_c"], constants, microsoft=True), feeds


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_those_of_onnx_runtime(form, tmp_path):
    check(*dynamic_layer(2, **FORMS[form]), tmp_path, 1e-5)


def test_weights_stay_bytes(tmp_path):
    """And both products are sums of integers."""
    model, _ = dynamic_layer(6, features=32, units=16, direction="bidirectional")
    graph = optimize(import_model(save(model, tmp_path)))
    large = [array for array in graph.constants.values() if array.size >= 32 * 16]
    assert {array.dtype for array in large} == {np.dtype(np.int8)}
    assert sum(isinstance(node.op, DenseInt8ToFloat) for node in graph.nodes) == 2


def test_rows_with_zero_points_that_int8_cannot_take_off(tmp_path):
    """quantize_dynamic's uint8 weights have such."""
    model, feeds = dynamic_layer(7, by_rows=True, unsigned=True, sequences=2)
    for at, tensor in enumerate(model.graph.initializer):
        if tensor.name in ("W_z", "R_z"):
            zeros = np.full(tuple(tensor.dims), 77 if tensor.name == "W_z" else 200, np.uint8)
            model.graph.initializer[at].CopyFrom(numpy_helper.from_array(zeros, tensor.name))
    check(model, feeds, tmp_path, 1e-5)


def test_an_input_of_zeros(tmp_path):
    model, feeds = dynamic_layer(3)
    check(model, {"x": np.zeros_like(feeds["x"])}, tmp_path, 1e-5)


def test_sequences_of_several_lengths_are_refused(tmp_path):
    model, _ = dynamic_layer(4, sequences=2, lengths=[9, 4])
    with pytest.raises(CompileError, match="rounded together"):
        import_model(save(model, tmp_path))


def test_beside_a_value_rounded_to_another_step_only_its_own_step_differs():
    """What a judge compares with: each step goes on from the h that was made, not from the reference's."""
    rng = np.random.default_rng(1)
    functions = (CellFunction("sigmoid"), CellFunction("tanh"), CellFunction("tanh"))
    cell = Recurrent("lstm", functions, ("scales",), rounded=True)
    x, scales = rng.normal(0, 1, (8, 24)).astype(np.float32), rng.uniform(0.005, 0.01, 24).astype(np.float32)
    operands = [x, rng.integers(-127, 128, (24, 6)).astype(np.int8), scales]
    (want,) = cell.reference(*operands)
    made = want.copy()
    made[3, 2] += np.float32(0.01)
    (beside,) = cell.beside(made, *operands)
    np.testing.assert_array_equal(beside[:4], want[:4])
    assert (beside[4] != want[4]).any()
    (again,) = cell.beside(beside, *operands)
    np.testing.assert_array_equal(again[:4], want[:4])
    np.testing.assert_array_equal(cell.beside(want, *operands)[0], want)


def test_rounding_is_that_of_dynamic_quantize_linear():
    """255 steps over a range with 0 in it; 0 stays 0."""
    h = np.array([[0.0, -0.5, 0.2, 0.77], [0.1, 0.3, -0.25, 0.0]], np.float32)
    step = np.float32(1.27) / np.float32(255)
    bytes_of, found = rounded_to_bytes(h)
    assert found == step
    assert bytes_of.dtype == np.int32
    near = bytes_of * found
    assert np.abs(near - h).max() <= step / 2 * 1.001
    assert near[0, 0] == 0 == near[1, 3]
    assert np.abs(near / step - np.rint(near / step)).max() < 1e-4
    assert (rounded_to_bytes(np.zeros((2, 3), np.float32))[0] == 0).all()
    with np.errstate(all="raise"):  # a step of 0 would make what no integer is
        assert (rounded_to_bytes(np.full((2, 3), 1e-44, np.float32))[0] == 0).all()
