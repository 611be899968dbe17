# SPDX-License-Identifier: Apache-2.0
"""Loops that stay loops: random bodies against ONNX Runtime, and which loops are unrolled all the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from exported_loops import LOOPS, counted
from frontend_models import assert_same, check, model_of, onnx_runtime, save
from loop_models import counting, loops_of, one_loop
from mmcc.driver.handoff_file import Rule
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.kept_loops import FEW_NODES
from mmcc.ir.handoff import Handoff
from mmcc.ir.interpret import evaluate
from mmcc.ir.verify import check_final
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Unary
from mmcc.ops.repeat import Taken
from mmcc.passes import optimize
from onnx import TensorProto, helper
from random_loops import RandomLoop

pytestmark = pytest.mark.quick

node = helper.make_node


@pytest.mark.parametrize("seed", range(24))
def test_a_random_loop_is_what_onnx_runtime_makes_of_it(seed, tmp_path):
    loop = RandomLoop(seed)
    graph = optimize(import_model(save(loop.model, tmp_path)), float_io=True)
    assert check_final(graph) == []
    for name, want in onnx_runtime(loop.model, loop.inputs).items():
        assert_same(evaluate(graph, loop.inputs)[name], want, 1e-4)


def test_most_random_loops_stay_loops(tmp_path):
    kept = [loops_of(import_model(save(RandomLoop(seed).model, tmp_path))) for seed in range(24)]
    assert sum(map(len, kept)) >= 12
    assert {bool(op.carried) for found in kept for op in found} == {True, False}


@pytest.mark.parametrize("seed", range(6))
def test_layers_of_a_body_are_integers_where_it_is_quantized(seed, tmp_path):
    """Its sums are exact: what differs from ONNX Runtime is where a float on the way was at a tie."""
    loop = RandomLoop(seed + 100, steps=24, nodes=14, quantized=True)
    graph = optimize(import_model(save(loop.model, tmp_path)), float_io=True)
    plain = optimize(import_model(save(loop.model, tmp_path), keep_loops=False), float_io=True)
    bodies = [type(each.op).__name__ for op in loops_of(graph) for each in op.body.nodes]
    whole = [type(each.op).__name__ for each in plain.nodes]
    assert {name for name in bodies if "Int8" in name} == {name for name in whole if "Int8" in name}
    assert len(bodies) < len(whole)
    got, want = evaluate(graph, loop.inputs), onnx_runtime(loop.model, loop.inputs)
    differs = [np.abs(got[name] - want[name]) > 1e-4 for name in want]
    assert sum(map(np.sum, differs)) <= 0.02 * sum(map(np.size, differs))


@pytest.mark.parametrize("steps", [8, 40])
def test_a_body_may_have_names_of_values_around_it(steps, tmp_path):
    """What it takes and adds is its own."""
    rng = np.random.default_rng(0)
    shapes = {"x": (40, 4), "x0": (40, 4), "h0": (4,)}
    inputs = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    inside = [
        node("Gather", ["x", "step"], ["xt"], axis=0),
        node("Neg", ["x"], ["x_out"]),
        node("Add", ["k", "one"], ["k_out"]),
        node("Add", ["one", "two"], ["one_out"]),
        node("Cast", ["k"], ["kf"], to=TensorProto.FLOAT),
        node("Mul", ["xt", "kf"], ["m"]),
        node("Add", ["f8", "m"], ["h_out"]),
    ]
    carried = [("x0", "x", "x_out", TensorProto.FLOAT), ("h0", "h", "h_out", TensorProto.FLOAT)]
    carried += [(f"{name}0", name, f"{name}_out", TensorProto.INT64) for name in ("k", "one")]
    constants = {"k0": np.int64(0), "one0": np.int64(5), "one": np.int64(1), "two": np.int64(2)}
    model = one_loop(inside, carried, [], ["last_h"], inputs, constants, steps)
    model.graph.node.extend([node("Neg", ["x"], ["y"]), node("Neg", ["one"], ["z"])])
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("y", "z"))
    graph = check(model, inputs, tmp_path)
    assert len(loops_of(graph)) == (steps == 40)


def test_rows_that_nobody_reads_are_not_made(tmp_path):
    inputs = {"h0": np.ones((1, 4), np.float32)}
    inside = [node("Neg", ["f8"], ["h_out"]), node("Abs", ["h"], ["a"]), node("Exp", ["h"], ["e"])]
    carried = [("h0", "h", "h_out", TensorProto.FLOAT)]
    graph = check(one_loop(inside, carried, ["a", "e"], ["all_e"], inputs, {}), inputs, tmp_path)
    (op,) = loops_of(graph)
    assert (op.kept, op.made) == ((), (False,))
    assert not any(each.op == Unary("abs") for each in op.body.nodes)


def test_what_has_no_elements_is_not_handed_on(tmp_path):
    """No plan has a place for it."""
    inputs = {"h0": np.ones(4, np.float32)}
    inside = [
        node("Concat", ["e", "f8"], ["s"], axis=0),
        node("Slice", ["f8", "none", "none"], ["cut"]),
        node("Mul", ["e", "cut"], ["e_out"]),
        node("Neg", ["s"], ["h_out"]),
    ]
    carried = [("e0", "e", "e_out", TensorProto.FLOAT), ("h0", "h", "h_out", TensorProto.FLOAT)]
    constants = {"e0": np.zeros(0, np.float32), "none": np.zeros(1, np.int64)}
    graph = check(one_loop(inside, carried, ["e_out"], ["last_h"], inputs, constants), inputs, tmp_path)
    assert not loops_of(graph)


@pytest.mark.parametrize(("steps", "stays"), [(1, False), (3, True), (40, True)])
def test_a_loop_stays_one_where_that_saves_code(steps, stays, tmp_path):
    graph = check(*counting(steps), tmp_path)
    assert bool(loops_of(graph)) is stays


@pytest.mark.parametrize(("units", "stays"), [(8, True), (4096, False)])
def test_code_is_weighed_against_what_steps_hand_on(units, stays, tmp_path):
    """Two places of 16 KB are more RAM than the code of 180 nodes is worth."""
    inputs = {"h0": np.ones(units, np.float32)}
    inside, carried = [node("Neg", ["f8"], ["h_out"])], [("h0", "h", "h_out", TensorProto.FLOAT)]
    graph = check(one_loop(inside, carried, [], ["last_h"], inputs, {}, steps=20), inputs, tmp_path)
    assert bool(loops_of(graph)) is stays
    assert graph.warnings == ()


def test_what_steps_hand_on_in_other_shapes_is_unrolled_and_said(tmp_path):
    graph = check(*counting(30, grows=True), tmp_path, rtol=1e-4)
    assert not loops_of(graph)
    assert "unrolled into" in graph.warnings[0]
    assert 'a step hands on "h" in another shape' in graph.warnings[0]


def test_a_loop_that_its_condition_ends_has_as_many_steps(tmp_path):
    graph = check(*counting(30, stops=True), tmp_path, rtol=1e-4)
    assert [op.steps for op in loops_of(graph)] == [5]


def test_training_and_staged_weights_have_loops_unrolled(tmp_path):
    path = save(counting(40)[0], tmp_path)
    assert loops_of(import_model(path))
    assert not loops_of(import_model(path, keep_loops=False))


def test_a_stream_has_loops_unrolled_that_are_in_its_way(tmp_path):
    """Its rows go through nodes one by one; a loop whose steps are no rows of time is at once."""
    inside = [node("MatMul", ["f8", "W"], ["h_out"])]
    inputs, carried = {"x": np.ones((1, 16, 4), np.float32)}, [("x", "h", "h_out", TensorProto.FLOAT)]
    path = save(
        one_loop(inside, carried, [], ["last_h"], inputs, {"W": np.eye(4, dtype=np.float32)}), tmp_path
    )
    assert loops_of(load_graph(path, CompileOptions(name="net")))
    assert not loops_of(load_graph(path, CompileOptions(name="net", stream="x:1")))


def test_functions_of_the_users_compute_nodes_of_a_loop(tmp_path):
    """They get nodes of the graph, and so the loop is unrolled."""
    rule = Rule(Handoff("own_product"), operators=("MatMul",), nodes=(), sources=(), stack=100)
    graph = load_graph(save(counting(40)[0], tmp_path), CompileOptions(name="net", handoff=(rule,)))
    assert sum(each.handoff is not None for each in graph.nodes) == 40


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_exporters_stay_loops(name, tmp_path):
    """Their conditions and slices are known before the first step."""
    make, steps, slices = LOOPS[name]
    loop = make()
    graph = check(loop.model, loop.inputs, tmp_path, rtol=1e-4)
    (op,) = loops_of(graph)
    assert (op.steps, op.scanned) == (steps, tuple(Taken(*each) for each in slices))
    assert [each.steps for each in loops_of(op.body)] == ([9] if name == "nested" else [])
    assert graph.warnings == ()


def test_a_loop_that_never_ends_is_refused(tmp_path):
    """So is one whose condition is known only at run time: nobody waits for either."""
    endless = counted(by=0, limit=None)
    with pytest.raises(CompileError, match="more than 8,192 nodes"):
        import_model(save(endless.model, tmp_path))


def test_a_node_that_makes_large_values_beside_small_ones_stays_in_the_body(tmp_path):
    """What is known of a step before the first are its small values; the node makes both."""
    rng = np.random.default_rng(0)
    inputs = {"h0": rng.uniform(-1, 1, 17).astype(np.float32)}
    inside = [
        node("Gather", ["table", "step"], ["row"], axis=0),
        node("Split", ["row", "sizes"], ["few", "many"], axis=0),
        node("ReduceSum", ["few", "axis"], ["sum"], keepdims=0),
        node("Mul", ["f8", "many"], ["product"]),
        node("Sub", ["product", "sum"], ["h_out"]),
    ]
    carried = [("h0", "h", "h_out", TensorProto.FLOAT)]
    constants = {"table": rng.uniform(-1, 1, (40, 20)).astype(np.float32)}
    constants |= {"sizes": np.array([3, 17]), "axis": np.array([0])}
    model = one_loop(inside, carried, ["few"], ["last_h", "all_few"], inputs, constants)
    assert loops_of(check(model, inputs, tmp_path))


@pytest.mark.parametrize("steps", [2, 30])
def test_of_a_longer_value_only_what_steps_take_is_computed(steps, tmp_path):
    rng = np.random.default_rng(0)
    inputs = {"x": rng.uniform(-1, 1, (64, 1, 4)).astype(np.float32), "h0": np.ones((1, 4), np.float32)}
    inside = [
        node("Gather", ["x", "step"], ["xt"], axis=0),
        node("MatMul", ["xt", "W"], ["p"]),
        node("Add", ["p", "f8"], ["h_out"]),
    ]
    carried = [("h0", "h", "h_out", TensorProto.FLOAT)]
    constants = {"W": rng.uniform(-1, 1, (4, 4)).astype(np.float32)}
    graph = check(one_loop(inside, carried, [], ["last_h"], inputs, constants, steps), inputs, tmp_path)
    (product,) = (each for each in graph.nodes if isinstance(each.op, Dense))
    assert graph.tensors[product.output].shape == (steps, 4)


def test_what_is_wrong_with_nodes_of_constants_is_said_as_elsewhere(tmp_path):
    """They are run before the first step, of which nothing must stay behind."""
    inside = [
        node("Add", ["k", "one"], ["k_out"]),
        node("Reshape", ["k_out", "two"], ["r"]),
        node("Cast", ["r"], ["rf"], to=TensorProto.FLOAT),
        node("Mul", ["f8", "rf"], ["h_out"]),
    ]
    inputs = {"h0": np.ones(2, np.float32)}
    carried = [
        ("h0", "h", "h_out", TensorProto.FLOAT),
        ("k0", "k", "k_out", TensorProto.INT64),
    ]
    constants = {"k0": np.zeros(1, np.int64), "one": np.array([1]), "two": np.array([2])}
    with pytest.raises(CompileError, match="cannot reshape") as error:
        import_model(save(one_loop(inside, carried, [], ["last_h"], inputs, constants), tmp_path))
    assert "defined twice" not in str(error.value)


def test_a_loop_in_a_loop(tmp_path):
    """The inner one of few nodes is unrolled in the body, a long one is a loop in the body."""
    for steps in (2, 40):
        layers = [node("Tanh", [f"i{k}" if k else "h"], [f"i{k + 1}"]) for k in range(10)]
        floats = [helper.make_tensor_value_info("h", TensorProto.FLOAT, None)]
        inner_made = [("c1", TensorProto.BOOL, []), ("i10", TensorProto.FLOAT, None)]
        scalars = [("i", TensorProto.INT64), ("c", TensorProto.BOOL)]
        given = [helper.make_tensor_value_info(name, kind, []) for name, kind in scalars]
        inner = helper.make_graph(
            [*layers, node("Identity", ["c"], ["c1"])],
            "inner",
            [*given, *floats],
            [helper.make_tensor_value_info(*each) for each in inner_made],
        )
        outer_given = [
            helper.make_tensor_value_info("j", TensorProto.INT64, []),
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("g", TensorProto.FLOAT, None),
        ]
        outer_nodes = [
            node("Add", ["g", "around"], ["started"]),
            node("Loop", ["inner_trip", "", "started"], ["inner_out"], body=inner),
            node("Identity", ["d"], ["d1"]),
        ]
        outer_made = [("d1", TensorProto.BOOL, []), ("inner_out", TensorProto.FLOAT, None)]
        outer = helper.make_graph(
            outer_nodes, "outer", outer_given, [helper.make_tensor_value_info(*each) for each in outer_made]
        )
        inputs = {"h0": np.full((2, 3), 0.5, np.float32), "around": np.full((2, 3), 0.25, np.float32)}
        whole = [node("Loop", ["trip", "", "h0"], ["y"], body=outer)]
        constants = {"trip": np.int64(130), "inner_trip": np.int64(steps)}
        graph = check(model_of(whole, inputs, ["y"], constants), inputs, tmp_path)
        (op,) = loops_of(graph)
        assert [each.steps for each in loops_of(op.body)] == ([] if steps == 2 else [steps])


def test_one_step_of_many_nodes(tmp_path):
    """It is no loop, and a count is known after it, too."""
    model, inputs = counting(1)
    body = model.graph.node[0].attribute[0].g
    body.node.extend(node("Tanh", [f"wide{k}" if k else "g8"], [f"wide{k + 1}"]) for k in range(FEW_NODES))
    body.output[-1].name = f"wide{FEW_NODES}"
    graph = check(model, inputs, tmp_path)
    assert not loops_of(graph)
