# SPDX-License-Identifier: Apache-2.0
"""ONNX sequences: lists of tensors that exporters write for a split, a stack, or a list in a loop.

No C is made of a list: which tensors are in it, and which one is taken, is known while the model is imported,
so a name of ONNX stands for the values themselves. Nodes that cut or join tensors become Slices and a Concat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.binding_hint import binding_hint
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, inline
from mmcc.frontend.layouts import reshaped
from mmcc.frontend.problems import CUT_OFF, bad_model, located, unsupported
from mmcc.frontend.reads import nodes_below, reads
from mmcc.frontend.schema import checked_node, domain_of
from mmcc.frontend.value import Members, Value

MAX_MEMBERS = 4096  # each may be a node
AS_OUTPUTS = "its tensors as outputs of their own, or one of all (ConcatFromSequence)"


def is_of_sequences(state: Import, node: NodeProto) -> bool:
    """True of a node that makes a sequence, or that takes one."""
    if domain_of(node):
        return False
    copies = node.op_type == "Identity" and any(name in state.sequences for name in node.input)
    return copies or node.op_type in OPERATORS


def follow_sequence(state: Import, where: Where, node: NodeProto, convert: Convert) -> CompileError | None:
    """Name what a node of sequences makes, whose operands are all known; what is wrong, if anything is."""
    state.build.where = (where,)
    state.build.hint = next(filter(None, node.output), node.op_type)
    try:
        _, attributes = checked_node(node, state.source.opsets[""])
        made = OPERATORS.get(node.op_type, _Node.copy)(_Node(state, where, node, convert, attributes))
    except CompileError as error:
        return located(error, where)
    results = made if isinstance(made, list) else [made]
    for name, result in zip(node.output, results, strict=False):
        if name:
            state.define(name, result)
    return None


def refuse_sequences(state: Import, where: Where, node: NodeProto) -> CompileError | None:
    """The error of a node that reads a sequence where its operator takes a tensor."""
    found = [name for name in node.input if name in state.sequences]
    if not found:
        return None
    what = f'operand "{printable(found[0])}" is a sequence of tensors, which {printable(node.op_type, 60)}'
    return located(bad_model("MM104", f"{what} does not take"), where)


def takes_sequences(state: Import, node: NodeProto) -> bool:
    """True where a loop is handed a sequence, or its body reads or makes one."""
    return any(
        is_of_sequences(state, inner) or not state.sequences.keys().isdisjoint(reads(inner))
        for inner in nodes_below([node])
    )


def operand(state: Import, name: str) -> Value | Members:
    """What a node is given under a name, of which all is known; an error where an operand is left out."""
    if not name:
        raise bad_model("MM103", "an operand is missing")
    sequence = state.sequences.get(name)
    return state.values[name] if sequence is None else sequence


def only_tensors(found: Iterable[Value | Members]) -> list[Value]:
    """The values, where none can be a sequence: counts, conditions, slices; an error if one is."""
    values: list[Value] = []
    for value in found:
        if isinstance(value, tuple):
            raise bad_model("MM104", "a sequence is where only a tensor can be")
        values.append(value)
    return values


def tensors_of(
    names: Sequence[str], found: Sequence[Value | Members], ends: Sequence[str]
) -> tuple[dict[str, Value], list[str]]:
    """Those of the values that are no sequences, by name, and the `ends` that are theirs."""
    kept = [(n, v, end) for n, v, end in zip(names, found, ends, strict=True) if not isinstance(v, tuple)]
    return {name: value for name, value, _ in kept}, [end for *_, end in kept]


def check_handed_on(
    names: Sequence[str], before: Sequence[Value | Members], after: Sequence[Value | Members]
) -> None:
    """An error where a step of a loop hands on to the next another type than it was given."""
    for name, old, new in zip(names, before, after, strict=False):
        was, now = ("a sequence" if isinstance(v, tuple) else v.dtype.name for v in (old, new))
        if was != now:
            types = f"{was}, and a step makes {now} of it"
            raise bad_model("MM103", f'"{printable(name)}", which steps hand on, is {types}')


def output_of_sequences(state: Import) -> None:
    """A problem for each output of the model that is a sequence."""
    for info in state.source.outputs:
        if info.name in state.sequences:
            count = len(state.sequences[info.name])
            what = f'output "{printable(info.name)}" is a sequence of {count} tensors'
            state.problems.add(unsupported(what, AS_OUTPUTS))


@dataclass(frozen=True, eq=False)
class _Node:
    """A node of sequences, with its operands and attributes."""

    state: Import
    where: Where
    node: NodeProto
    convert: Convert
    attributes: dict[str, AttributeProto]

    def copy(self) -> Members:
        return self._members(0)

    def construct(self) -> Members:
        return self._alike([self._tensor(k) for k in range(len(self.node.input))])

    def empty(self) -> Members:
        return ()

    def at(self) -> Value:
        members = self._members(0)
        return members[self._place(1, members)]

    def insert(self) -> Members:
        members = list(self._members(0))
        place = self._place(2, members, beyond=1) if self._has(2) else len(members)
        return self._alike([*members[:place], self._tensor(1), *members[place:]])

    def erase(self) -> Members:
        members = self._members(0)
        place = self._place(1, members) if self._has(1) else self._last(members)
        return (*members[:place], *members[place + 1 :])

    def length(self) -> Value:
        return self.state.build.constant(np.array(len(self._members(0)), np.int64), self.state.build.hint)

    def split(self) -> Members:
        x = self._tensor(0)
        axis = self._axis(self._integer("axis", 0), x.rank)
        extent, given = x.shape[axis], self._split(x.shape[axis])
        if len(given) > MAX_MEMBERS:
            raise unsupported(f"a sequence of {len(given)} tensors; {MAX_MEMBERS:,} are the most")
        if min(given, default=1) < 0 or sum(given) != extent:
            raise bad_model("MM104", f"parts of {given[:8]} elements of an axis of {extent}")
        ends = [int(end) for end in np.cumsum(given, dtype=np.int64)]
        parts = [self._slice(x, axis, end - size, end) for end, size in zip(ends, given, strict=True)]
        if self._has(1) or self._integer("keepdims", 1):  # keepdims says nothing where the parts are given
            return tuple(parts)
        left = (*x.shape[:axis], *x.shape[axis + 1 :])
        return tuple(reshaped(self.state.build, part, left) for part in parts)

    def concat(self) -> Value:
        members = self._members(0)
        if not members:
            raise unsupported("a ConcatFromSequence of no tensors, whose result has no elements")
        new = self._integer("new_axis", 0)
        axis = self._axis(self._integer("axis", 0), members[0].rank + (1 if new else 0))
        if new:
            build = self.state.build
            shapes = [(*each.shape[:axis], 1, *each.shape[axis:]) for each in members]
            members = tuple(reshaped(build, each, shape) for each, shape in zip(members, shapes, strict=True))
        given = {f"member{k}": each for k, each in enumerate(members)}
        return self._one(helper.make_node("Concat", list(given), ["all"], axis=axis), given)

    def map(self) -> list[Value | Members]:
        body = self.attributes["body"].g
        operands = [self._operand(k) for k in range(len(self.node.input))]
        lengths = {len(each) for each in operands if isinstance(each, tuple)}
        if len(body.input) != len(operands) or len(body.output) != len(self.node.output) or len(lengths) != 1:
            raise bad_model("MM103", "the body does not fit the SequenceMap")
        names = [info.name for info in body.input]
        results: list[list[Value]] = [[] for _ in body.output]
        for k in range(*lengths):
            own = [each[k] if isinstance(each, tuple) else each for each in operands]
            given = dict(zip(names, own, strict=True))
            for found, value in zip(results, self._inline(body, given), strict=True):
                found.append(value)
        return [tuple(found) for found in results]

    def _operand(self, k: int) -> Value | Members:
        return operand(self.state, self.node.input[k] if self._has(k) else "")

    def _has(self, k: int) -> bool:
        return len(self.node.input) > k and bool(self.node.input[k])

    def _tensor(self, k: int) -> Value:
        found = self._operand(k)
        if isinstance(found, tuple):
            raise bad_model("MM104", f"operand {k} is a sequence, not a tensor")
        return found

    def _members(self, k: int) -> Members:
        found = self._operand(k)
        if not isinstance(found, tuple):
            raise bad_model("MM104", f"operand {k} is a tensor, not a sequence")
        return found

    def _alike(self, members: Sequence[Value]) -> Members:
        types = sorted({member.dtype.name for member in members})
        if len(types) > 1:
            raise bad_model("MM104", f"tensors of types {', '.join(types)} in one sequence")
        if len(members) > MAX_MEMBERS:
            raise unsupported(f"a sequence of {len(members)} tensors; {MAX_MEMBERS:,} are the most")
        return tuple(members)

    def _integer(self, name: str, default: int) -> int:
        return self.attributes[name].i if name in self.attributes else default

    def _axis(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise bad_model("MM103", f"axis {axis} of tensors of {rank} axes")
        return axis % rank

    def _numbers(self, k: int, what: str) -> list[int]:
        value, build = self._tensor(k), self.state.build
        if not build.is_constant(value.tensor):
            bind = binding_hint(self.state, self.node.input[k])
            raise unsupported(f"{self.node.op_type} with {what} known only at run time", bind or CUT_OFF)
        return [int(number) for number in build.array(value).reshape(-1)]

    def _place(self, k: int, members: Sequence[Value], beyond: int = 0) -> int:
        """Where in a sequence; `beyond` is 1 where behind the last is a place, too."""
        numbers = self._numbers(k, "a position")
        if len(numbers) != 1:
            raise bad_model("MM104", f"a position of {len(numbers)} numbers")
        (place,), count = numbers, len(members)
        if not -count <= place < count + beyond:
            raise bad_model("MM104", f"position {place} in a sequence of {count} tensors")
        return place + count if place < 0 else place

    def _last(self, members: Sequence[Value]) -> int:
        if not members:
            raise bad_model("MM104", "a sequence without tensors has no last one")
        return len(members) - 1

    def _split(self, extent: int) -> list[int]:
        """How many elements each part has."""
        if not self._has(1):
            return [1] * extent
        numbers = self._numbers(1, "sizes")
        if self._tensor(1).rank:
            return numbers
        (size,) = numbers
        if size < 1:
            raise bad_model("MM104", f"parts of {size} elements")
        return [min(size, extent - begin) for begin in range(0, extent, size)]

    def _slice(self, x: Value, axis: int, begin: int, end: int) -> Value:
        build = self.state.build
        given = {"x": x}
        for name, number in (("begin", begin), ("end", end), ("axis", axis)):
            given[name] = build.constant(np.array([number], np.int64), name)
        return self._one(helper.make_node("Slice", list(given), ["part"]), given)

    def _one(self, node: NodeProto, given: dict[str, Value]) -> Value:
        (result,) = node.output
        graph = helper.make_graph([node], "", [], [helper.make_empty_tensor_value_info(result)])
        return self._inline(graph, given)[0]

    def _inline(self, graph: GraphProto, given: dict[str, Value]) -> list[Value]:
        made = inline(self.state, self.where, graph, given, self.convert)
        if None in made:  # what is wrong is among the problems
            raise unsupported(f"what {self.node.op_type} stands for")
        return [value for value in made if value is not None]


OPERATORS: dict[str, Callable[[_Node], Value | Members | list[Value | Members]]] = {
    "SequenceConstruct": _Node.construct,
    "SequenceEmpty": _Node.empty,
    "SequenceAt": _Node.at,
    "SequenceInsert": _Node.insert,
    "SequenceErase": _Node.erase,
    "SequenceLength": _Node.length,
    "SequenceMap": _Node.map,
    "SplitToSequence": _Node.split,
    "ConcatFromSequence": _Node.concat,
}
