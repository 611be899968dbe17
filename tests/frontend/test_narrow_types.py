# SPDX-License-Identifier: Apache-2.0
"""Models in float16, and types that are only converted: against ONNX Runtime and ONNX's own reference."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import assert_same, model_of, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend.importer import import_model
from mmcc.ir.element_type import ElementType
from mmcc.ir.interpret import evaluate
from mmcc.ops.conv import Conv
from mmcc.ops.elementwise import Cast
from mmcc.ops.elementwise_int8 import Lookup
from mmcc.ops.movement import Concat
from mmcc.passes import optimize
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(16)


def halves(*shape):
    return RNG.normal(size=shape).astype(np.float16)


def both(model, inputs, folder):
    """What a model gives after all passes; as imported it gives the same, but for how sums are ordered."""
    graph = import_model(save(model, folder))
    made = optimize(graph)
    (first,), (second,) = evaluate(graph, inputs).values(), evaluate(made, inputs).values()
    assert_same(second, first)
    return made, second


def test_a_network_of_halves(tmp_path):
    """A result is rounded once a node, tensors between nodes are halves, and a Relu is part of its layer."""
    x = halves(1, 3, 6, 5)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Concat", ["r", "x"], ["j"], axis=1),
        helper.make_node("MaxPool", ["j"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("Softmax", ["m"], ["y"], axis=1),
    ]
    constants = {"w": halves(4, 3, 3, 3), "b": halves(4)}
    model = model_of(nodes, {"x": x}, ["y"], constants)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    graph, got = both(model, {"x": x}, tmp_path)
    assert_same(got, onnx_runtime(model, {"x": x})["y"])
    (conv,) = (node for node in graph.nodes if isinstance(node.op, Conv))
    assert str(conv.op.activation) != "none"
    (joined,) = (node for node in graph.nodes if isinstance(node.op, Concat))
    assert {graph.tensors[name].dtype for name in (*joined.inputs, joined.output)} == {ElementType.F16}


def test_what_only_moves_makes_no_conversion(tmp_path):
    x = halves(2, 6)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("Slice", ["t", "from", "to"], ["y"]),
    ]
    constants = {"from": np.array([1]), "to": np.array([4])}
    model = model_of(nodes, {"x": x}, ["y"], constants)
    graph, got = both(model, {"x": x}, tmp_path)
    assert not any(isinstance(node.op, Cast) for node in graph.nodes)
    np.testing.assert_array_equal(got, x.T[1:4])


def casts(source, target, shape, opset=25):
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=target)],
        "g",
        [helper.make_tensor_value_info("x", source, shape)],
        [helper.make_tensor_value_info("y", target, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


FEW = [TensorProto.INT2, TensorProto.INT4, TensorProto.UINT2, TensorProto.UINT4]


@pytest.mark.parametrize("few", FEW)
def test_integers_of_few_bits(tmp_path, few):
    """One value a byte; what is outside keeps its low bits, as ONNX's reference has it."""
    x = np.arange(-9, 16).astype(np.float32)
    model = casts(TensorProto.FLOAT, few, x.shape)
    graph, got = both(model, {"x": x}, tmp_path)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.astype(np.int8), want.astype(np.int8))
    assert graph.tensors[graph.outputs[0].tensor].dtype.bits == 8
    back = casts(few, TensorProto.FLOAT, x.shape)
    np.testing.assert_array_equal(both(back, {"x": got}, tmp_path)[1], got.astype(np.float32))


def test_a_table_reads_the_twin_of_an_unsigned_cast(tmp_path):
    """A function of uint8 that a Cast made is a table of int8, which must not be read with the uint8."""
    x = np.arange(0, 256, 5).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["u"], to=TensorProto.UINT8),
        helper.make_node("BitwiseAnd", ["u", "m"], ["y"]),
    ]
    model = model_of(nodes, {"x": x}, ["y"], {"m": np.array(60, np.uint8)}, opset=18)
    graph, got = both(model, {"x": x}, tmp_path)
    (lookup,) = (node for node in graph.nodes if isinstance(node.op, Lookup))
    assert graph.tensors[lookup.inputs[0]].dtype == ElementType.I8
    np.testing.assert_array_equal(got, x.astype(np.uint8) & 60)


def test_arithmetic_of_other_floats_is_refused(tmp_path):
    model = model_of([helper.make_node("Abs", ["x"], ["y"])], {"x": np.zeros(3, np.float32)}, ["y"])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    with pytest.raises(CompileError, match="Abs of BFLOAT16; there are conversions and moves of it only"):
        import_model(save(model, tmp_path))
