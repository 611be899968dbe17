# SPDX-License-Identifier: Apache-2.0
"""ONNX operators with indices, known and computed, against ONNX Runtime."""

from __future__ import annotations

import mmcc
import numpy as np
import pytest
from frontend_models import check, kinds, model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import helper
from operator_models import array, ints, run

pytestmark = pytest.mark.quick

X = array(3, 4, 5)
WAYS = ("computed", "known")


def apply(tmp_path, op, x, index, updates=(), way="computed", **options):
    """The node with indices that are an input, or a constant."""
    if way == "known":
        names = ["x", "i", *("u" for _ in updates)]
        node = helper.make_node(op, names, ["y"], **{k: v for k, v in options.items() if k != "opset"})
        given = {"x": x, **({"u": updates[0]} if updates else {})}
        model = model_of([node], given, ["y"], {"i": index}, options.get("opset", 18))
        return check(model, given, tmp_path)
    return run(tmp_path, op, [x, index, *updates], **{"opset": 18, **options})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3)])
def test_gather(tmp_path, axis, shape, way):
    index = np.random.default_rng(1).integers(-3, 3, shape)
    apply(tmp_path, "Gather", X, np.asarray(index), way=way, axis=axis)


def test_gather_from_a_table(tmp_path):
    tokens = ints(4, 0, -1, 7)
    model = model_of(
        [helper.make_node("Gather", ["t", "i"], ["y"])], {"i": tokens}, ["y"], {"t": array(9, 6)}
    )
    assert kinds(check(model, {"i": tokens}, tmp_path)) == ["TakeLines"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("axis", "shape"), [(0, (2, 4, 5)), (1, (3, 6, 5)), (2, (2, 3, 7)), (-1, (3, 4, 1))])
def test_gather_elements(tmp_path, axis, shape, way):
    index = np.random.default_rng(2).integers(-3, 3, shape)
    apply(tmp_path, "GatherElements", X, index, way=way, axis=axis)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("shape", "batch"), [((2, 3), 0), ((4, 1), 0), ((2, 2, 2), 0), ((3, 2, 2), 1), ((3, 4, 1), 2), ((3,), 0)]
)
def test_gather_nd(tmp_path, shape, batch, way):
    index = np.random.default_rng(3).integers(-3, 3, shape)
    apply(tmp_path, "GatherND", X, index, way=way, batch_dims=batch)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize(("axis", "shape"), [(0, (2, 4, 5)), (1, (2, 3, 4)), (-1, (3, 4, 2))])
def test_scatter_elements(tmp_path, axis, shape, reduction, way):
    index = np.argsort(np.random.default_rng(4).random(shape), axis) - X.shape[axis]  # none twice
    apply(tmp_path, "ScatterElements", X, index, [array(*shape)], way, axis=axis, reduction=reduction)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("index", [[[2], [0]], [[0, 3], [2, -1], [1, 1]], [[[0, 1, 2]], [[2, 3, 4]]]])
def test_scatter_nd(tmp_path, index, reduction, way):
    index = np.array(index)
    updates = array(*index.shape[:-1], *X.shape[index.shape[-1] :])
    apply(tmp_path, "ScatterND", X, index, [updates], way, reduction=reduction)


def test_indices_of_32_bits(tmp_path):
    run(tmp_path, "GatherElements", [X, np.array([[[0, 1]]], np.int32)], axis=2)


@pytest.mark.parametrize(
    ("op", "inputs", "wrong"),
    [
        ("Gather", [X], ints(3)),
        ("GatherElements", [X], np.full((3, 4, 5), 4)),
        ("ScatterElements", [X], np.full((3, 4, 5), -5)),
    ],
)
def test_known_indices_must_be_inside(tmp_path, op, inputs, wrong):
    updates = ["u"] if op.startswith("Scatter") else []
    node = helper.make_node(op, ["x", "i", *updates], ["y"])
    given = {"x": X, **({"u": X} if updates else {})}
    with pytest.raises(CompileError, match="outside axis 0") as caught:
        import_model(save(model_of([node], given, ["y"], {"i": wrong}, 18), tmp_path))
    assert caught.value.code == "MM104"


@pytest.mark.parametrize("index", [7, 2**40, -(2**63), -20])
def test_indices_outside_at_run_time_touch_nothing_else(tmp_path, index):
    """In the C: the nearest element is read, the nearest written."""
    nodes = [
        helper.make_node("Gather", ["x", "i"], ["g"]),
        helper.make_node("ScatterND", ["x", "j", "g"], ["y"]),
    ]
    x, i = array(6, 4), ints(index)
    given = {"x": x, "i": i, "j": i.reshape(1, 1)}
    model = save(model_of(nodes, given, ["y"], opset=16), tmp_path)
    want = evaluate(import_model(model), given)["y"]
    np.testing.assert_array_equal(want, x)
    (got,) = mmcc.compile_model(model, tmp_path / "c").run(given)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_a_cache_is_written_from_an_index_on(tmp_path, mode):
    cache, new, first = array(2, 3, 6, 2), array(2, 3, 2, 2, seed=1), ints(4, 1 if mode == "linear" else 5)
    node = helper.make_node("TensorScatter", ["x", "u", "i"], ["y"], mode=mode)
    given = {"x": cache, "u": new, "i": first}
    got = evaluate(import_model(save(model_of([node], given, ["y"], opset=24, ir=11), tmp_path)), given)["y"]
    want = cache.copy()
    for sample, start in enumerate(first):
        want[sample][:, [(start + k) % 6 for k in range(2)]] = new[sample]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("way", ["ScatterND", "ScatterElements", "TensorScatter"])
def test_a_line_of_a_cache_is_written_without_turning_it_around(tmp_path, way):
    """A cache [heads, places, channels], which ScatterND must have with its places in front."""
    cache, new, place = array(1, 3, 6, 2), array(1, 3, 1, 2, seed=1), ints(4)
    if way == "ScatterND":
        nodes = [
            helper.make_node("Transpose", ["x"], ["t"], perm=[2, 0, 1, 3]),
            helper.make_node("Transpose", ["u"], ["v"], perm=[2, 0, 1, 3]),
            helper.make_node("Reshape", ["i", "column"], ["j"]),
            helper.make_node("ScatterND", ["t", "j", "v"], ["s"]),
            helper.make_node("Transpose", ["s"], ["y"], perm=[1, 2, 0, 3]),
        ]
    elif way == "ScatterElements":
        nodes = [
            helper.make_node("Reshape", ["i", "line"], ["j"]),
            helper.make_node("Expand", ["j", "all"], ["k"]),
            helper.make_node("ScatterElements", ["x", "k", "u"], ["y"], axis=2),
        ]
    else:
        nodes = [helper.make_node("TensorScatter", ["x", "u", "i"], ["y"])]
    shapes = {"column": ints(1, 1), "line": ints(1, 1, 1, 1), "all": ints(*new.shape)}
    given = {"x": cache, "u": new, "i": place}
    opset = 24 if way == "TensorScatter" else 18
    graph = import_model(save(model_of(nodes, given, ["y"], shapes, opset, ir=10), tmp_path))
    want = cache.copy()
    want[:, :, 4] = new[:, :, 0]
    np.testing.assert_array_equal(evaluate(graph, given)["y"], want)
    assert "Transpose" not in kinds(graph)
    assert kinds(graph).count("ScatterAlong") == 1
