# SPDX-License-Identifier: Apache-2.0
"""Functions behind a Concat are made of its operands: batches and volumes fall apart into layers."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
import pytest
from graphs import run
from ir_text import nodes_of, read
from mmcc.frontend.importer import import_model
from mmcc.ir.verify import check_graph
from mmcc.ops.movement import Concat
from mmcc.passes import optimize
from mmcc.passes.simplify import simplify
from mmcc.passes.split_functions import split_functions

pytestmark = pytest.mark.quick

SAMPLES = """
    input %a: f32[4,5,2]
    input %b: f32[4,5,2]
    %a1 = Reshape([1,4,5,2])(%a)
    %b1 = Reshape([1,4,5,2])(%b)
    %c = Concat(0)(%a1, %b1)
"""


def test_a_function_is_made_of_what_a_slice_takes():
    graph = read(f"""{SAMPLES}
        constant %k: f32[1,1,1,2] = random 1
        %r = Binary("mul")(%c, %k)
        %s = Unary("sqrt", [])(%r)
        %y = Slice([1,0,0,0], [1,1,1,1], [1,4,5,2])(%s)
        output %y
    """)
    after = simplify(split_functions(graph))
    assert check_graph(after) == []
    assert [line.split(" = ")[1].split("(")[0] for line in nodes_of(after)] == ["Binary", "Unary", "Reshape"]
    inputs = [np.random.default_rng(0).uniform(0, 1, (4, 5, 2)).astype(np.float32) for _ in range(2)]
    np.testing.assert_array_equal(run(graph, *inputs)[0], run(after, *inputs)[0])


@pytest.mark.parametrize(
    "rest",
    [
        '%y = Unary("sqrt", [])(%c)\noutput %y',  # neither layers before it nor slices behind it
        "constant %k: f32[2,1,1,2] = random 1\n"
        '%r = Binary("mul")(%c, %k)\n%y = Slice([1,0,0,0], [1,1,1,1], [1,4,5,2])(%r)\noutput %y',
        "input %e: f32[2,4,5,1]\ninput %f: f32[2,4,5,1]\n%d = Concat(3)(%e, %f)\n"
        '%r = Binary("mul")(%c, %d)\n%y = Slice([1,0,0,0], [1,1,1,1], [1,4,5,2])(%r)\noutput %y',
    ],
)
def test_what_gains_nothing_or_differs_between_parts_stays(rest):
    graph = read(f"{SAMPLES}{rest}")
    assert nodes_of(split_functions(graph)) == nodes_of(graph)


@pytest.mark.parametrize("reader", ["output %d", '%z = Unary("sqrt", [])(%d)\noutput %z'])
def test_what_others_read_as_a_whole_stays_so_wherever_a_constant_stands(reader):
    graph = read(f"""{SAMPLES}
        constant %k: f32[3,1,1,2] = random 1
        constant %o: f32[3] = random 2
        constant %m: f32[1] = [4]
        %e = Conv(Window([1, 1]), 1)(%a, %k, %o)
        %f = Conv(Window([1, 1]), 1)(%b, %k, %o)
        %d = Concat(0)(%e, %f)
        %y = Binary("sub")(%m, %d)
        output %y
        output %c
        {reader}
    """)
    assert nodes_of(split_functions(graph)) == nodes_of(graph)


@pytest.mark.parametrize("sliced", ["v", "i"])
def test_either_of_two_results_may_be_what_slices_are_taken_of(sliced):
    graph = read(f"""{SAMPLES}
        %r = Unary("sqrt", [])(%c)
        %v, %i = TopK(1)(%r)
        %y = Slice([1,0,0,0], [1,1,1,1], [1,4,5,1])(%{sliced})
        output %y
    """)
    assert nodes_of(split_functions(graph)) == nodes_of(graph)


@pytest.mark.parametrize(
    ("functions", "stay"),
    [
        # `verify` forgives one step of integers where floats are half-way, and none of floats joined of them
        ("%q = Quantize(0.5, 3)(%d)\n%y = Dequantize(0.5, 3)(%q)", True),
        ('%y = Unary("sigmoid", [])(%d)', True),  # no layer takes it in: it would be as many kernels as parts
        ('%y = Unary("clamp", [0, 6])(%d)', False),
        ('%q = Binary("mul")(%d, %o)\n%y = Unary("leaky_relu", [0.5])(%q)', False),
    ],
)
def test_layers_get_what_they_take_in(functions, stay):
    graph = read(f"""{SAMPLES}
        constant %k: f32[3,1,1,2] = random 1
        constant %o: f32[3] = random 2
        %e = Conv(Window([1, 1]), 1)(%a, %k, %o)
        %f = Conv(Window([1, 1]), 1)(%b, %k, %o)
        %d = Concat(0)(%e, %f)
        {functions}
        output %y
        output %c
    """)
    assert (nodes_of(split_functions(graph)) == nodes_of(graph)) == stay


@pytest.mark.parametrize(
    ("starts", "shape"),
    [([0, 0, 0, 0], [1, 2, 5, 2]), ([0, 1, 0, 0], [1, 2, 5, 2]), ([0, 4, 1, 0], [1, 4, 3, 2])],
)
def test_a_slice_of_less_than_a_layer_stays_a_slice(starts, shape):
    graph = read(f"""
        input %a: f32[4,5,2]
        input %b: f32[4,5,2]
        %c = Concat(0)(%a, %b)
        %one = Reshape([1,8,5,2])(%c)
        %y = Slice({starts}, [1,1,1,1], {shape})(%one)
        output %y
    """)
    after = simplify(graph)
    assert check_graph(after) == []
    inputs = [np.random.default_rng(k).uniform(0, 1, (4, 5, 2)).astype(np.float32) for k in range(2)]
    np.testing.assert_array_equal(run(graph, *inputs)[0], run(after, *inputs)[0])


def volume(samples, layers, *, residual):
    """Conv, BatchNormalization and Relu, Conv, a sum, a pool; over three axes of space."""
    rng, node = np.random.default_rng(3), onnx.helper.make_node

    def weights(name, *shape):
        return onnx.numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name)

    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 6),
        node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("Conv", ["r", "z"], ["c"], pads=[1] * 6, group=2),
        node("Add", ["c", "n" if residual else "c"], ["d"]),
        node("MaxPool", ["d"], ["p"], kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
        node("GlobalAveragePool", ["p"], ["y"]),
    ]
    constants = [weights("w", 4, 1, 3, 3, 3), weights("z", 4, 2, 3, 3, 3)]
    constants += [weights(name, 4) for name in ("s", "b", "m")]
    constants.append(onnx.numpy_helper.from_array(np.ones(4, np.float32), "v"))
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "volume", [tensor("x", 1, [samples, 1, layers, 8, 8])], [tensor("y", 1, None)], constants
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("samples", [1, 2])
def test_layers_of_a_volume_wait_for_no_others(samples, residual, tmp_path):
    onnx.save(volume(samples, 4, residual=residual), tmp_path / "volume.onnx")
    graph = optimize(import_model(tmp_path / "volume.onnx"))
    whole = [n.output for n in graph.nodes if isinstance(n.op, Concat) and n.op.axis == 0]
    behind_pool = samples * 2 * 4 * 4 * 4
    assert max(prod(graph.tensors[name].shape) for name in whole) <= behind_pool, "what the mean reads"
