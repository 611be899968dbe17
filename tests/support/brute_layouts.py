# SPDX-License-Identifier: Apache-2.0
"""Every way to let tensors of a tiny graph lie in one another; addresses come from the ops' references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import geometry
from mmcc.ops.movement import Concat, Reshape, Slice, Transpose

MOST_EDGES = 9  # operands that can be copied or not


class TooMany(Exception):
    """The graph is too large to try all of it."""


@dataclass(frozen=True)
class Rules:
    """What a plan may do; as `PlanRequest` has it."""

    align: int = 1
    external: frozenset[str] = frozenset()
    backward: bool = True
    groups: bool = True
    sums: Mapping[int, int] = field(default_factory=dict[int, int])  # by node that takes in rows: bytes kept
    scratch: Mapping[int, int] = field(default_factory=dict[int, int])  # by node
    recompute: float = 1.0  # multiplications at most, in multiples of the model's; above 1 there are strips
    # by node: pixels that are made at a time, left to right
    pixels: Mapping[int, int] = field(default_factory=dict[int, int])
    # by node whose rows come in an order: True if from the last to the first; its scratch is handed on
    ordered: Mapping[int, bool] = field(default_factory=dict[int, bool])
    # by node: those that take in the rows of an operand of its before it does
    riders: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    # by node whose constants come to the arena: bytes of the smallest block of them, and of all
    constants: Mapping[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])


def layouts(graph: Graph, rules: Rules) -> Iterator[dict[str, tuple[str, Any]]]:
    """By tensor, its allocation and the address of each element: every choice of which operands of Concats,
    Slices and Transposes lie where they are needed. Reshapes do wherever that can be expressed.
    """
    edges = [
        (index, operand, name, node.output)
        if isinstance(node.op, Concat)
        else (index, operand, node.output, name)
        for index, node in enumerate(graph.nodes)
        for operand, name in enumerate(node.inputs)
        if isinstance(node.op, Concat | Slice | Transpose) and not graph.is_constant(name)
    ]
    edges = [edge for edge in edges if edge[2] not in rules.external]
    if len(edges) > MOST_EDGES:
        raise TooMany
    seen: set[Any] = set()
    for taken in product((True, False), repeat=len(edges)):
        chosen = [edge for edge, yes in zip(edges, taken, strict=True) if yes]
        tree = {child: (index, operand, parent) for index, operand, child, parent in chosen}
        if len(tree) < len(chosen):
            continue  # in two places
        _add_reshapes(graph, rules, tree)
        lies = _lying(graph, tree)
        if lies is None:
            continue
        first: dict[str, str] = {}
        for name in sorted(lies):
            first.setdefault(lies[name][0], name)
        place = frozenset((index, operand) for index, operand, _ in tree.values())
        sign = tuple((n, first[lies[n][0]], lies[n][1].tobytes()) for n in sorted(lies)), place
        if sign not in seen:
            seen.add(sign)
            yield lies | {"": ("", place)}


def _add_reshapes(graph: Graph, rules: Rules, tree: dict[str, tuple[int, int, str]]) -> None:
    """A Reshape's output lies in its input; if it lies in something else, its input lies in it."""
    for index, node in reversed(list(enumerate(graph.nodes))):
        if isinstance(node.op, Reshape) and not graph.is_constant(node.inputs[0]):
            for child, parent in ((node.output, node.inputs[0]), (node.inputs[0], node.output)):
                if child not in tree and child not in rules.external and not _leads(tree, parent, child):
                    tree[child] = index, 0, parent
                    break


def _leads(tree: Mapping[str, tuple[int, int, str]], name: str, to: str) -> bool:
    while name != to and name in tree:
        name = tree[name][2]
    return name == to


def _lying(graph: Graph, tree: dict[str, tuple[int, int, str]]) -> dict[str, tuple[str, Any]] | None:
    lies: dict[str, tuple[str, Any]] = {}
    ports = graph.input_names | graph.output_names

    def place(name: str, path: tuple[str, ...]) -> bool:
        if name in lies:
            return True
        tensor = graph.tensors[name]
        if name not in tree:
            own = np.arange(int(np.prod(tensor.shape, dtype=int))) * tensor.dtype.size
            lies[name] = name, own.reshape(tensor.shape)
            return True
        index, operand, parent = tree[name]
        if name in path or not place(parent, (*path, name)):
            return False
        allocation, at = lies[parent]
        view = _viewed(graph, graph.nodes[index], operand, name, at)
        rows, size = view.reshape(geometry(tensor.shape)), tensor.dtype.size
        if _is_slot(rows, size) and (name not in ports or is_dense(rows, size)):
            lies[name] = allocation, view
        elif isinstance(graph.nodes[index].op, Reshape):
            del tree[name]
            return place(name, path)
        return name in lies

    for name in graph.tensors:
        if not graph.is_constant(name) and not place(name, ()):
            return None
    return lies


def _viewed(graph: Graph, node: Node, operand: int, child: str, at: Any) -> Any:
    """Addresses of a child's elements, given those of its parent's."""
    if isinstance(node.op, Concat):
        start = sum(graph.tensors[n].shape[node.op.axis] for n in node.inputs[:operand])
        extent = graph.tensors[child].shape[node.op.axis]
        return np.take(at, range(start, start + extent), axis=node.op.axis)
    if isinstance(node.op, Reshape):
        return at.reshape(graph.tensors[child].shape)
    return np.asarray(node.op.reference(at)[0]).reshape(graph.tensors[child].shape)


def _is_slot(at: Any, size: int) -> bool:
    rows, cols, channels = at.shape
    row = at[1, 0, 0] - at[0, 0, 0] if rows > 1 else 1
    col = at[0, 1, 0] - at[0, 0, 0] if cols > 1 else 1
    steps = np.arange(rows)[:, None, None] * row + np.arange(cols)[:, None] * col + np.arange(channels) * size
    return bool(row > 0 and col > 0 and np.array_equal(at, at[0, 0, 0] + steps))


def is_dense(at: Any, size: int) -> bool:
    return bool(np.array_equal(at.ravel() - at.flat[0], np.arange(at.size) * size))
