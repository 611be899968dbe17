# SPDX-License-Identifier: Apache-2.0
"""The nodes of loops' bodies beside ONNX Runtime, over all steps: what agrees, and what is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from exported_loops import LOOPS
from frontend_models import model_of, save
from loop_models import chaotic, counting, loops_of
from mmcc.frontend import import_model
from mmcc.frontend.expose_steps import expose_steps
from mmcc.ir.graph import Graph
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.repeat import Repeat, Taken, node_at
from mmcc.passes import optimize
from mmcc.verification import agreement as agreements
from mmcc.verification.agreement import Agreement
from onnx import TensorProto, helper
from random_loops import RandomLoop

pytestmark = pytest.mark.quick

node = helper.make_node


def seen(graph: Graph, path, inputs) -> Agreement:
    """What is found of a graph beside the model in a file."""
    agreement = Agreement(graph, path, {})
    agreement.run([inputs[port.onnx_name] for port in graph.inputs])
    return agreement


def right(graph: Graph, agreement: Agreement) -> bool:
    found = True
    for path, tally in agreement.tallies.items():
        inner, at = node_at(graph, path)
        found &= tally.ok(integer=not inner.tensors[at.outputs[0]].dtype.is_float)
    return found


def changed(graph: Graph, path: tuple[int, ...], change) -> Graph:
    """The graph with `change` made of the node at a path, or None where there is nothing to change."""
    index, *within = path
    at = graph.nodes[index]
    made = (
        replace(at, op=replace(at.op, body=changed(at.op.body, tuple(within), change)))
        if within
        else change(at)
    )
    return replace(graph, nodes=(*graph.nodes[:index], made, *graph.nodes[index + 1 :]))


def paths(graph: Graph, before: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """All nodes, those of bodies too."""
    for index, each in enumerate(graph.nodes):
        yield (*before, index)
        if isinstance(each.op, Repeat):
            yield from paths(each.op.body, (*before, index))


@pytest.mark.parametrize("seed", [0, 4, 7, 9, 16])
def test_nodes_of_random_bodies_agree_and_other_ones_do_not(seed, tmp_path) -> None:
    """Each operator that is another is found: of the body, of what is made before all steps, behind them."""
    loop = RandomLoop(seed, steps=12)
    path = save(loop.model, tmp_path)
    graph = optimize(import_model(path), float_io=True)
    (op, *_) = loops_of(graph)
    agreement = seen(graph, path, loop.inputs)
    assert right(graph, agreement)
    assert sum(len(where) > 1 for where in agreement.tallies) >= len(op.body.nodes) / 2
    assert agreement.whole_loops == {}
    planted = 0
    for where in paths(graph):
        _, at = node_at(graph, where)
        other = {Unary: Unary("abs"), Binary: Binary("min")}.get(type(at.op))
        if other is None or at.op.function in (other.function, "max", "greater", "less"):
            continue
        wrong = changed(graph, where, lambda n, to=other: replace(n, op=to))
        planted += 1
        assert not right(wrong, seen(wrong, path, loop.inputs)), (where, str(at.op))
    assert planted


@pytest.mark.parametrize("name", ["windows", "chunks backward", "nested", "keras"])
def test_nodes_of_exporters_loops_agree_and_other_steps_do_not(name, tmp_path) -> None:
    """Of a loop that takes the rows of other steps, hands on another value or makes rows in another order."""
    loop = LOOPS[name][0]()
    path = save(loop.model, tmp_path)
    graph = optimize(import_model(path), float_io=True)
    agreement = seen(graph, path, loop.inputs)
    assert right(graph, agreement)
    loops = [where for where in paths(graph) if isinstance(node_at(graph, where)[1].op, Repeat)]
    assert {where[:k] for where in agreement.tallies for k in range(1, len(where))} == {*loops}
    for where in loops:
        op = node_at(graph, where)[1].op
        for k, taken in enumerate(op.scanned):
            other = Taken(taken.begin(op.steps - 1), -taken.stride, taken.rows)
            scanned = (*op.scanned[:k], other, *op.scanned[k + 1 :])
            wrong = changed(graph, where, lambda n, to=scanned: replace(n, op=replace(n.op, scanned=to)))
            assert not right(wrong, seen(wrong, path, loop.inputs))
        if op.made:
            made = tuple(not back for back in op.made)
            wrong = changed(graph, where, lambda n, to=made: replace(n, op=replace(n.op, made=to)))
            assert not right(wrong, seen(wrong, path, loop.inputs))


def test_what_last_bits_decide_after_many_steps_is_judged_in_each(tmp_path, monkeypatch) -> None:
    """A factor that is a hundredth off is found; by the result of the last step alone nothing could be."""
    model, inputs = chaotic()
    path = save(model, tmp_path)
    graph = optimize(import_model(path))
    (where,) = (k for k, each in enumerate(graph.nodes) if isinstance(each.op, Repeat))
    body = graph.nodes[where].op.body
    (factor,) = (name for name, array in body.constants.items() if np.all(array == np.float32(3.9)))

    def with_factor(by: np.float32) -> Graph:
        other = replace(body, constants=body.constants | {factor: body.constants[factor] * by})
        return changed(graph, (where,), lambda n: replace(n, op=replace(n.op, body=other)))

    near, wrong = with_factor(np.float32(1 + 2**-22)), with_factor(np.float32(0.99))
    assert right(near, seen(near, path, inputs))
    assert not right(wrong, seen(wrong, path, inputs))
    monkeypatch.setattr(agreements, "MOST_BYTES", 100)
    whole = seen(wrong, path, inputs)
    assert right(wrong, whole)
    assert [*whole.tallies] == [(where,)]
    (why,) = whole.whole_loops.values()
    assert why.startswith("the values of its 60 steps are ")
    assert why.endswith("bytes, more than 100")


def test_values_of_steps_are_handed_out_under_new_names() -> None:
    model, _ = counting(5)
    model.graph.input[0].name = "p_of_steps"
    loop = next(each for each in model.graph.node if each.op_type == "Loop")
    asked = [("hn", "p"), ("hn", "count"), ("hn", "nowhere"), ("p_of_steps", "p"), ("hn", "hn", "p")]
    found = expose_steps(model, asked)
    assert found == {asked[0]: "p_of_steps_", asked[1]: "count_of_steps"}
    assert [*loop.output[-2:]] == [*found.values()]
    assert [info.name for info in loop.attribute[0].g.output[-2:]] == ["p", "count"]


def test_a_loop_of_other_names_is_looked_at_as_a_whole(tmp_path) -> None:
    """A body of which the model has no value: that is said, and the loop's results are compared."""
    model, inputs = counting(12)
    path = save(model, tmp_path)
    graph = optimize(import_model(path))
    (where,) = (k for k, each in enumerate(graph.nodes) if isinstance(each.op, Repeat))
    other = changed(graph, (where,), lambda n: replace(n, op=replace(n.op, name="another")))
    found = seen(other, path, inputs)
    assert right(other, found)
    assert {len(each) for each in found.tallies} == {1}
    assert found.whole_loops == {(where,): "none of its nodes makes a value that the model's loop has"}


def test_a_scan_with_results_along_other_axes_may_hand_out_more(tmp_path) -> None:
    body = helper.make_graph(
        [
            node("Add", ["h", "row"], ["sum"]),
            node("Tanh", ["sum"], ["out"]),
            node("Identity", ["out"], ["seen"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("h", "row")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("out", "seen")],
    )
    axes = {"scan_input_axes": [1], "scan_output_axes": [1], "scan_output_directions": [1]}
    scan = node("Scan", ["h0", "x"], ["hn", "all"], body=body, num_scan_inputs=1, **axes)
    inputs = {"h0": np.ones(3, np.float32), "x": np.linspace(-1, 1, 300, dtype=np.float32).reshape(3, 100)}
    path = save(model_of([scan], inputs, ["hn", "all"]), tmp_path)
    graph = optimize(import_model(path))
    assert loops_of(graph)
    found = seen(graph, path, inputs)
    assert right(graph, found)
    assert any(len(each) > 1 for each in found.tallies)
    exposed = onnx.load(path)
    expose_steps(exposed, [("all", "sum")])
    given = {a.name: list(a.ints) for a in exposed.graph.node[0].attribute if a.ints}
    assert given == {"scan_input_axes": [1], "scan_output_axes": [1, 0], "scan_output_directions": [1, 0]}
