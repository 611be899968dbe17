# SPDX-License-Identifier: Apache-2.0
"""What the body of a loop computes from its slices alone is computed for all steps at once.

Unrolled, the products of an input with its weights would be a node a step, in no order among them: much for
the planner to choose, and weights that are read over and over. For all steps it is one layer over more rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, NodeProto, helper

from mmcc.frontend.schema import domain_of
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.repeat import Taken, in_turn

# of these a row of the result depends on the same row of the first operand, and on what all steps have
BY_ROWS = frozenset(("Gemm", "MatMul"))
ELEMENTWISE = frozenset(("Add", "Mul", "Sub", "Sigmoid", "Tanh", "Relu"))

Run = Callable[[GraphProto, dict[str, Value]], Value]


@dataclass(frozen=True, slots=True)
class Rows:
    """Slices [rows, features] of all steps one under the other; in the order of time, or `back`."""

    value: Value
    rows: int
    back: bool


@dataclass(frozen=True, eq=False)
class Lifted:
    """A body, and by name what it reads: rows of what was made for all steps, slices of inputs."""

    body: GraphProto
    rows: Mapping[str, Rows]
    sources: Mapping[str, Scanned]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A value of which steps see what they take along an axis."""

    value: Value
    axis: int
    taken: Taken


def lifted(
    nodes: Sequence[NodeProto],
    slices: dict[str, Rows],
    body: GraphProto,
    known: Callable[[str], Value | None],
    run: Run,
) -> tuple[dict[str, Rows], list[NodeProto]]:
    """The rows of all values that nodes make of `slices` alone, and the nodes that remain for each step.

    `known` tells a value from around the loop, or None; `run` converts a graph of one node.
    """
    constants = {tensor.name: tensor for tensor in body.initializer}
    rows, remain = dict(slices), list[NodeProto]()
    for node in nodes:
        first = rows.get(node.input[0]) if node.input else None
        others = [name for name in node.input[1:] if name]
        shapes = [constants[n].dims if n in constants else _shape(known(n)) for n in others]
        may = first is not None and _may(node, shapes)
        if not may or first is None or any(name in rows for name in others):
            remain.append(node)
            continue
        used = [constants[name] for name in others if name in constants]
        given = {node.input[0]: first.value}
        around = ((name, known(name)) for name in others if name not in constants)
        given |= {name: value for name, value in around if value is not None}
        result = helper.make_empty_tensor_value_info(node.output[0])
        made = run(helper.make_graph([node], "", [], [result], used), given)
        rows[node.output[0]] = Rows(made, first.rows, first.back)
    return rows, remain


def liftable(source: Scanned, steps: int) -> bool:
    """True of slices whose rows can stand one under the other."""
    value, turns = source.value, (in_turn(steps), in_turn(steps, back=True))
    return value.rank == 3 and value.dtype == ElementType.F32 and source.taken in turns


def _shape(value: Value | None) -> Sequence[int] | None:
    return None if value is None else value.shape


def _may(node: NodeProto, others: Sequence[Sequence[int] | None]) -> bool:
    """True if a row of the result needs no other row; `others` are the shapes of the other operands."""
    if domain_of(node) or len(node.output) != 1 or None in others:
        return False
    vectors = [shape is not None and len(shape) < 2 for shape in others]
    if node.op_type in ELEMENTWISE:
        return all(vectors)
    if node.op_type not in BY_ROWS or any(a.name == "transA" and a.i for a in node.attribute):
        return False
    return bool(others) and others[0] is not None and len(others[0]) == 2 and all(vectors[1:])
