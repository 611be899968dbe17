# SPDX-License-Identifier: Apache-2.0
"""Decision trees of ai.onnx.ml, as scikit-learn, XGBoost and LightGBM export them: flat tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.classes import (
    Labels,
    label_of,
    labelled,
    of_two,
    opposite,
    transformed,
)
from mmcc.frontend.converters.parts import sliced
from mmcc.frontend.converters.reduction import arg_max
from mmcc.frontend.forest import MODES, Forest
from mmcc.frontend.layouts import plain
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import LEARNED, converts
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast, Where
from mmcc.ops.trees import LEAF, TreeEnsemble

HINTS = ("nodes_hitrates", "nodes_hitrates_as_tensor")  # how often a branch was taken in training
MAX_NODES = 2**22
AGGREGATES = {"SUM": "sum", "AVERAGE": "sum", "MIN": "min", "MAX": "max"}


def ensemble(build: Builder, x: Value, forest: Forest, targets: int, aggregate: str) -> Value:
    """The op's result [rows, targets]."""
    if x.rank != 2 or not 1 <= targets <= 2**16:
        raise bad_model("MM104", f"trees of {targets} targets for {list(x.shape)}")
    x = x if x.dtype == ElementType.F32 else unary(build, Cast(ElementType.F32), x)
    if not forest.roots or max(forest.feature, default=0) // 2 >= x.shape[1]:
        raise bad_model("MM104", f"trees have no root, or a feature that {list(x.shape)} has not")
    tables = [build.constant(table, f"{build.hint}.tree").tensor for table in forest.ordered()]
    made = build.emit(TreeEnsemble(targets, x.shape[1], aggregate), plain(build, x), *tables)
    return whole(made, range(2))


def _numbered(call: Call, forest: Forest, kind: str) -> None:
    """Nodes and leaves as before version 5 of ai.onnx.ml: named by tree and number."""

    def integers(name: str) -> list[int]:
        return call.integers(name, MAX_NODES) or []

    trees, ids = integers("nodes_treeids"), integers("nodes_nodeids")
    features, modes = integers("nodes_featureids"), call.texts("nodes_modes", MAX_NODES) or []
    yes, no = integers("nodes_truenodeids"), integers("nodes_falsenodeids")
    values = _numbers(call, "nodes_values")
    missing = integers("nodes_missing_value_tracks_true") or [0] * len(ids)
    if len({*map(len, (trees, ids, features, modes, yes, no, values, missing))}) > 1 or not ids:
        raise bad_model("MM103", "the lists of a tree's nodes have different lengths")
    place = {key: forest.add(LEAF, 0.0, 0, 0) for key in zip(trees, ids, strict=True)}
    said: dict[tuple[int, int], list[tuple[int, float]]] = {}
    lists = (integers(f"{kind}_{name}") for name in ("treeids", "nodeids", "ids"))
    weights = _numbers(call, f"{kind}_weights")
    for tree, node, target, weight in zip(*lists, weights, strict=True):
        said.setdefault((tree, node), []).append((target, weight))
    for k, key in enumerate(zip(trees, ids, strict=True)):
        if modes[k] == "LEAF":
            _leaf(forest, place[key], said.get(key, []))
            continue
        if modes[k] not in MODES or not 0 <= features[k] < 2**29:
            raise bad_model("MM103", f"a node's mode or feature is none: {features[k]}")
        ways = place[trees[k], yes[k]], place[trees[k], no[k]]
        forest.branch(place[key], modes[k], (features[k], values[k]), ways, bool(missing[k]))
    first: dict[int, int] = {}
    branches = [k for k, mode in enumerate(modes) if mode != "LEAF"]
    reached = {(trees[k], way) for k in branches for way in (yes[k], no[k])}
    for key in zip(trees, ids, strict=True):
        if key not in reached:
            first.setdefault(key[0], place[key])
    forest.roots = [*first.values()]


def _numbers(call: Call, name: str) -> list[float]:
    """A list of numbers: floats, or a tensor where the input is float64."""
    floats, tensor = call.numbers(name, MAX_NODES) or [], call.tensor(f"{name}_as_tensor", double=True)
    if tensor is None:
        return floats
    if floats or tensor.dtype.kind != "f" or tensor.ndim > 1 or tensor.size > MAX_NODES:
        given = f"a tensor of {tensor.dtype} {list(tensor.shape)} and {len(floats)} floats"
        raise bad_model("MM103", f"{name} is {given}, where a list of at most {MAX_NODES} is wanted")
    return tensor.reshape(-1).tolist()


def _leaf(forest: Forest, node: int, said: Sequence[tuple[int, float]]) -> None:
    start = len(forest.targets)
    forest.targets += [target for target, _ in said]
    forest.weights += [weight for _, weight in said]
    forest.yes[node], forest.no[node] = start, len(forest.targets)


def _check_targets(forest: Forest, count: int) -> None:
    if any(not 0 <= target < count for target in forest.targets):
        raise bad_model("MM104", f"a leaf names a target that is none of {count}")


def _result(call: Call, forest: Forest, targets: int, how: str, kind: str) -> Value:
    """Scores [rows, targets] of a regressor, after base values and the post_transform `kind`."""
    y = ensemble(call.build, call.input(0), forest, targets, how)
    some = any(_numbers(call, "base_values")) and len(forest.always_named()) < targets
    named = _is_named(call, forest, targets) if some else None  # ONNX Runtime adds no base value to others
    return transformed(call, _based(call, y, named), kind)


def _based(call: Call, y: Value, named: Value | None) -> Value:
    """Scores [rows, targets] and base values, just those of targets that are `named` [rows, targets]."""
    base, targets, build = _numbers(call, "base_values"), y.shape[1], call.build
    if base and len(base) != targets:
        raise bad_model("MM104", f"{len(base)} base values for {targets} targets")
    if not any(base):
        return y
    added = build.constant(np.array(base, np.float32))
    if named is not None:
        added = elementwise(build, Where(), named, added, _zero(build))
    return elementwise(build, Binary("add"), y, added)


def _is_named(call: Call, forest: Forest, targets: int) -> Value:
    """Whether a leaf that the row reaches names a target: [rows, targets]."""
    ones = replace(forest, weights=[1.0] * len(forest.weights))
    return elementwise(
        call.build,
        Binary("greater"),
        ensemble(call.build, call.input(0), ones, targets, "max"),
        _zero(call.build),
    )


def _zero(build: Builder) -> Value:
    return build.constant(np.zeros((), np.float32))


@converts(
    "TreeEnsembleRegressor", domain=LEARNED, ignored=HINTS, notes="SUM, AVERAGE, MIN, MAX; missing values"
)
def convert_tree_regressor(call: Call) -> Value:
    """Sums of what the trees say, for each target."""
    forest = Forest()
    _numbered(call, forest, "target")
    targets = call.integer("n_targets", 1)
    _check_targets(forest, targets)
    how = call.text("aggregate_function", "SUM")
    if how not in AGGREGATES:
        raise bad_model("MM103", f'aggregate_function is "{how}"')
    if how == "AVERAGE":
        forest.weights = [weight / len(forest.roots) for weight in forest.weights]
    return _result(call, forest, targets, AGGREGATES[how], call.text("post_transform", "NONE"))


@converts(
    "TreeEnsembleClassifier", domain=LEARNED, ignored=HINTS, notes="labels are numbers, or indices of strings"
)
def convert_tree_classifier(call: Call) -> tuple[Value, ...]:
    """The label with the largest sum of weights, and the scores."""
    forest, build = Forest(), call.build
    _numbered(call, forest, "class")
    names = call.texts("classlabels_strings", MAX_NODES)
    labels = names or call.integers("classlabels_int64s", MAX_NODES) or []
    count = len(labels)
    _check_targets(forest, max(count, 1))
    base = _numbers(call, "base_values")
    if count < 2:
        raise unsupported(f"{count} class labels; it takes 2 to choose")
    if count == 2 and len({*forest.targets}) == 1:  # the score of one class stands for both
        return _of_one_score(call, forest, labels, base)
    if count == 2:
        return _of_two_scores(call, forest, labels, base)
    y = ensemble(build, call.input(0), forest, count, "sum")
    if base or len(forest.always_named()) == count or min(forest.weights, default=0) > 0:
        return labelled(call, _based(call, y, None), labels)
    # A class that no leaf names has a score of 0, and is no label.
    least = build.constant(np.array(-math.inf, np.float32))
    scores = elementwise(build, Where(), _is_named(call, forest, count), y, least)
    return label_of(build, arg_max(build, scores, 1).without([1]), labels), transformed(call, y)


def _of_two_scores(call: Call, forest: Forest, labels: Labels, base: list[float]) -> tuple[Value, ...]:
    """Two classes, and leaves that speak of both: ONNX Runtime's label is 1 where the second is above 0, or
    where it has no score the first, whatever the other's score and the labels are."""
    if any(base) or len(forest.always_named()) < 2 or not (isinstance(labels[0], str) or [*labels] == [0, 1]):
        raise unsupported(
            "two classes with leaves of both, and base values, labels other than 0 and 1, or"
            " leaves that do not name both; ONNX Runtime's label is none of the model's then"
        )
    y = ensemble(call.build, call.input(0), forest, 2, "sum")
    wins = elementwise(
        call.build,
        Binary("greater"),
        sliced(call.build, y, {1: (1, 1, 1)}),
        _zero(call.build),
    )
    index = unary(call.build, Cast(ElementType.I64), wins).without([1])
    return label_of(call.build, index, labels), transformed(call, y)


def _of_one_score(call: Call, forest: Forest, labels: Labels, base: list[float]) -> tuple[Value, ...]:
    """Two classes, and leaves that speak of one: as ONNX Runtime takes it."""
    build, own = call.build, forest.targets[0]
    if len(base) > 1 or (any(base) and not forest.always_named()):
        raise unsupported("base values where leaves name one of two classes, other than one for the first")
    positive = all(weight >= 0 for weight in forest.weights)
    limit = 0.5 if positive else 0.0
    forest.targets = [0] * len(forest.targets)
    y = ensemble(build, call.input(0), forest, 1, "sum")
    if own == 1:
        nothing = build.constant(np.zeros((y.shape[0], 1), np.float32))
        return of_two(call, nothing, y, labels, limit)
    if any(base):
        y = elementwise(build, Binary("add"), y, build.constant(np.array(base[-1:], np.float32)))
    kind = call.text("post_transform", "NONE")
    if kind not in ("NONE", "LOGISTIC"):  # which ONNX Runtime passes over here
        raise unsupported(f"post_transform {kind} of one score for two classes")
    logistic = kind == "LOGISTIC"
    return of_two(call, opposite(build, y, probability=positive and not logistic), y, labels, limit)


@converts(
    "TreeEnsemble", domain=LEARNED, since=5, ignored=HINTS[:1], notes="all modes; SUM, AVERAGE, MIN, MAX"
)
def convert_tree_ensemble(call: Call) -> Value:
    """Trees whose nodes and leaves are numbered through."""
    forest = Forest()

    def integers(name: str) -> list[int]:
        return call.integers(name, MAX_NODES) or []

    splits, modes = call.tensor("nodes_splits", double=True), call.tensor("nodes_modes")
    leaves, said = integers("leaf_targetids"), call.tensor("leaf_weights")
    features = integers("nodes_featureids")
    missing = integers("nodes_missing_value_tracks_true") or [0] * len(features)
    ways = [integers(f"nodes_{name}") for name in ("truenodeids", "falsenodeids", "trueleafs", "falseleafs")]
    if splits is None or modes is None or said is None or len(said) != len(leaves):
        raise bad_model("MM103", "splits, modes or leaves of trees are missing")
    count = len(features)
    if {len(splits), len(modes), len(missing), *map(len, ways)} != {count}:
        raise bad_model("MM103", "the lists of the trees' nodes have different lengths")
    nodes = [forest.add(LEAF, 0.0, 0, 0) for _ in range(count)]
    ends: list[int] = []
    for target, weight in zip(leaves, said.tolist(), strict=True):
        ends.append(forest.add(LEAF, 0.0, 0, 0))
        _leaf(forest, ends[-1], [(target, weight)])
    members = call.tensor("membership_values", double=True)
    sets = _sets(members.tolist() if members is not None else [])
    for k in range(count):
        yes, no = ((ends if leaf[k] else nodes)[way[k]] for way, leaf in zip(ways[:2], ways[2:], strict=True))
        mode = int(modes[k])
        if not 0 <= features[k] < 2**29 or not 0 <= mode <= len(MODES) or min(ways[0][k], ways[1][k]) < 0:
            raise bad_model("MM103", f"a node's mode or feature is none: {mode}, {features[k]}")
        tests = sets.pop(0) if mode == len(MODES) else [float(splits[k])]
        node = nodes[k]
        for j, value in enumerate(tests):  # a member of a set equals one of them
            last = j == len(tests) - 1
            other = no if last else forest.add(LEAF, 0.0, 0, 0)
            name = MODES[mode] if mode < len(MODES) else "BRANCH_EQ"
            forest.branch(node, name, (features[k], value), (yes, other), bool(missing[k]))
            node = other
    forest.roots = [nodes[root] for root in integers("tree_roots")]
    targets = call.integer("n_targets", 1)
    _check_targets(forest, targets)
    how = ("AVERAGE", "SUM", "MIN", "MAX")[call.integer("aggregate_function", 1)]
    if how == "AVERAGE":
        forest.weights = [weight / len(forest.roots) for weight in forest.weights]
    kinds = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
    return _result(call, forest, targets, AGGREGATES[how], kinds[call.integer("post_transform", 0)])


def _sets(values: list[float]) -> list[list[float]]:
    """The sets of values that are divided by what is no number."""
    sets: list[list[float]] = [[]]
    for value in values:
        if value != value:
            sets.append([])
        else:
            sets[-1].append(value)
    if any(not one for one in sets[:-1]):
        raise unsupported("an empty set of values")
    return sets
