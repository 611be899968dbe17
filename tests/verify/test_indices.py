# SPDX-License-Identifier: Apache-2.0
"""verify without data on models whose inputs are indices, or masks that make infinities."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run
from frontend_models import model_of, save
from mmcc.frontend.indices import index_extents
from onnx import TensorProto, helper

node = helper.make_node


def verified(path: Path, tmp_path: Path, *options: str) -> dict[str, object]:
    out = tmp_path / "c"
    assert run("compile", path, "-t", "host", "--no-self-check", "-o", out).exit_code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = run("verify", out, "--json", *options)
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def picking(tmp_path: Path) -> Path:
    """Token numbers as 32 bits with an axis more, two tables, places along the second axis of another."""
    rng = np.random.default_rng(0)
    tables = {
        "words": np.float32(rng.standard_normal((9, 4))),
        "few": np.float32(rng.standard_normal((5, 4))),
    }
    grid = np.float32(rng.standard_normal((1, 3)))
    nodes = [
        node("Unsqueeze", ["i", "axes"], ["i1"]),
        node("Cast", ["i1"], ["i2"], to=7),
        node("Gather", ["words", "i2"], ["a"]),
        node("Gather", ["few", "i"], ["b"]),
        node("GatherElements", ["grid", "at"], ["c"], axis=1),
        node("ReduceSum", ["c"], ["s"]),
        node("Add", ["a", "b"], ["ab"]),
        node("Add", ["ab", "s"], ["y"]),
    ]
    inputs = {"i": np.array([1, 2, 3, 4], np.int32), "at": np.array([[0, 1]], np.int64)}
    return save(model_of(nodes, inputs, ["y"], {**tables, "grid": grid, "axes": np.array([0])}), tmp_path)


@pytest.mark.quick
def test_made_up_indices_are_within_what_they_pick_from(tmp_path: Path) -> None:
    path = picking(tmp_path)
    assert index_extents(path, {}) == {"i": 5, "at": 3}
    assert verified(path, tmp_path)["ok"]


@pytest.mark.quick
def test_indices_that_may_be_counted_from_the_end(tmp_path: Path) -> None:
    """As Keras and tf2onnx write an embedding: x + 5 where x is below 0."""
    nodes = [
        node("Add", ["i", "five"], ["up"]),
        node("Less", ["i", "none"], ["below"]),
        node("Cast", ["below"], ["yes"], to=6),
        node("Mul", ["up", "yes"], ["a"]),
        node("Not", ["below"], ["not"]),
        node("Cast", ["not"], ["no"], to=6),
        node("Mul", ["i", "no"], ["b"]),
        node("Add", ["a", "b"], ["at"]),
        node("Gather", ["words", "at"], ["y"]),
    ]
    tables = {
        "words": np.arange(10, dtype=np.float32).reshape(5, 2),
        "five": np.int32([5]),
        "none": np.int32([0]),
    }
    path = save(model_of(nodes, {"i": np.array([1, -2, 3], np.int32)}, ["y"], tables), tmp_path)
    assert index_extents(path, {}) == {"i": 5}
    assert verified(path, tmp_path, "--per-node")["ok"]


@pytest.mark.quick
def test_places_that_are_written(tmp_path: Path) -> None:
    """As PyTorch writes index_copy of a cache at a position that is one of several inputs' numbers."""
    nodes = [
        node("Gather", ["places", "second"], ["place"]),
        node("Unsqueeze", ["place", "axis"], ["at"]),
        node("Concat", ["at", "third"], ["pair"], axis=0),
        node("Unsqueeze", ["pair", "axis"], ["pairs"]),
        node("ScatterND", ["cache", "pairs", "line"], ["kept"]),
        node("ScatterElements", ["kept", "along", "one"], ["y"], axis=-1),
    ]
    given = {
        "places": np.array([3, 4], np.int64),
        "cache": np.zeros((5, 6, 2), np.float32),
        "line": np.ones((1, 2), np.float32),
        "along": np.zeros((1, 1, 1), np.int64),
    }
    fixed = {"second": np.array(1), "axis": np.array([0]), "third": np.array([2])}
    path = save(model_of(nodes, given, ["y"], {**fixed, "one": np.ones((1, 1, 1), np.float32)}), tmp_path)
    assert index_extents(path, {}) == {"places": 5, "along": 2}
    assert verified(path, tmp_path, "--per-node")["ok"]


@pytest.mark.quick
def test_infinities_of_a_mask_are_equal_to_themselves(tmp_path: Path) -> None:
    given = {"mask": np.array([True, False, False, True]), "x": np.ones(4, np.float32)}
    nodes = [
        node("Where", ["mask", "low", "x"], ["m"]),
        node("Relu", ["m"], ["r"]),
        node("Neg", ["m"], ["n"]),
    ]
    model = model_of(
        [*nodes, node("Mul", ["r", "n"], ["y"])], given, ["y", "m"], {"low": np.float32([-np.inf])}
    )
    assert verified(save(model, tmp_path), tmp_path, "--per-node")["ok"]


def test_a_model_whose_types_contradict_each_other(tmp_path: Path) -> None:
    """ONNX cannot infer its shapes; it has an input of integers, which might be indices."""
    x = np.zeros((2, 3), np.int8)
    model = model_of([node("Identity", ["x"], ["m"]), node("Identity", ["m"], ["y"])], {"x": x}, ["y"])
    model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [2, 3]))
    assert index_extents(Path(save(model, tmp_path)), {}) == {}


@pytest.mark.quick
def test_lengths_of_sequences_whose_number_of_steps_is_given_by_dim(tmp_path: Path) -> None:
    """ONNX Runtime refuses lengths above the number of steps, which is that of another input's axis."""
    rng = np.random.default_rng(1)
    weights = {name: np.float32(rng.standard_normal((1, 12, k))) for name, k in (("w", 3), ("r", 4))}
    weights["one"] = np.array([1], np.int64)
    given = {"x": np.zeros((6, 1, 3), np.float32), "n": np.array([4], np.int64)}
    nodes = [
        node("TopK", ["n", "one"], ["longest", "which"]),
        node("Cast", ["longest"], ["lengths"], to=TensorProto.INT32),
        node("GRU", ["x", "w", "r", "", "lengths"], ["y"], hidden_size=4),
    ]
    model = model_of(nodes, given, ["y"], weights)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "steps"
    path = save(model, tmp_path)
    assert index_extents(path, {}) == {}
    assert index_extents(path, {"x": (6, 1, 3)}) == {"n": 7}
    out = tmp_path / "c"
    assert run("compile", path, "--dim", "steps=6", "--no-self-check", "-o", out).exit_code == 0
    assert run("verify", out, "--per-node").exit_code == 0
