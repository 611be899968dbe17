# SPDX-License-Identifier: Apache-2.0
"""ONNX sequences: lists of tensors that exporters write for a split, a stack, or a list in a loop.

No C is made of a list: which tensors are in it, and which one is taken, is known while the model is imported,
so a name of ONNX stands for the values themselves. Nodes that cut or join tensors become Slices and a Concat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.binding_hint import binding_hint
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, Stopped, inline, result_of, with_axis
from mmcc.frontend.problems import CUT_OFF, bad_model, located, unsupported
from mmcc.frontend.reads import nodes_below, reads
from mmcc.frontend.row_rules import Mixed
from mmcc.frontend.schema import checked_node, domain_of
from mmcc.frontend.tensors import dtype_of
from mmcc.frontend.value import Members, NoMembers, Value

MAX_MEMBERS = 4096  # each may be a node
MAX_WORK = 2**23  # members of all sequences, and a node that is made of one counts as many
NODE_WORK = 256
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
        one = _Node(state, where, node, convert, attributes)
        made = OPERATORS.get(node.op_type, _Node.copy)(one)
        results = made if isinstance(made, list) else [made]
        one.count(sum(len(result) for result in results if isinstance(result, tuple)))
    except Stopped:
        state.lost.update(filter(None, node.output))
        return None
    except CompileError as error:
        return located(error, where)
    for name, result in zip(node.output, results, strict=False):
        if name:
            state.define(name, result)
    return None


def refuse_sequences(state: Import, where: Where, node: NodeProto) -> CompileError:
    """The error of a node that reads a sequence where its operator takes a tensor."""
    found = [name for name in node.input if name in state.sequences]
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

    def count(self, work: int) -> None:
        """An error where all sequences of a model together are too much work."""
        build = self.state.build
        build.listed += work
        if build.listed > MAX_WORK:
            what = f"sequences of more than {MAX_WORK:,} tensors together"
            raise unsupported(f"{what}, or {MAX_WORK // NODE_WORK:,} nodes that are made of them", CUT_OFF)

    def copy(self) -> Members:
        return self._members(0)

    def construct(self) -> Members:
        return self._alike([self._tensor(k) for k in range(len(self.node.input))])

    def empty(self) -> Members:
        number = self._integer("dtype", TensorProto.FLOAT)
        return NoMembers.of(dtype_of(number, "a sequence without tensors", self.state.build))

    def at(self) -> Value:
        members = self._members(0)
        return members[self._place(1, members)]

    def insert(self) -> Members:
        members, tensor = self._members(0), self._tensor(1)
        place = self._place(2, members, beyond=1) if self._has(2) else len(members)
        self._alike([*members[:1], tensor])
        if isinstance(members, NoMembers) and members.dtype is not tensor.dtype:
            types = f"a tensor of {tensor.dtype.name} into a sequence of {members.dtype.name}"
            raise bad_model("MM104", f"{types}; SequenceEmpty says which type with dtype")
        self._few(len(members) + 1)
        return (*members[:place], tensor, *members[place:])

    def erase(self) -> Members:
        members = self._members(0)
        place = self._place(1, members) if self._has(1) else self._last(members)
        return (*members[:place], *members[place + 1 :]) or NoMembers.of(members[place].dtype)

    def length(self) -> Value:
        return self.state.build.constant(np.array(len(self._members(0)), np.int64), self.state.build.hint)

    def split(self) -> Members:
        x = self._tensor(0)
        axis = self._axis(self._integer("axis", 0), x.rank)
        rows = self.state.uncertain.get(x)
        if rows is not None and rows.axis == axis:  # how many parts there are is known only at run time
            raise unsupported(str(Mixed()), CUT_OFF)
        extent, given = x.shape[axis], self._sizes(x.shape[axis])
        if min(given, default=1) < 0 or sum(given) != extent:
            raise bad_model("MM104", f"parts of {given[:8]} elements of an axis of {extent}")
        ends = [int(end) for end in np.cumsum(given, dtype=np.int64)]
        parts = [self._slice(x, axis, end - size, end) for end, size in zip(ends, given, strict=True)]
        if self._has(1) or self._integer("keepdims", 1):  # keepdims says nothing where the parts are given
            return tuple(parts)
        return tuple(self._with_axis(part, axis, "Squeeze") for part in parts)

    def concat(self) -> Value:
        members = self._members(0)
        if not members:
            raise unsupported("a ConcatFromSequence of no tensors, whose result has no elements")
        new = self._integer("new_axis", 0)
        axis = self._axis(self._integer("axis", 0), members[0].rank + (1 if new else 0))
        if new:
            members = tuple(self._with_axis(each, axis, "Unsqueeze") for each in members)
        return self._one("Concat", members, axis=axis)

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
            self.count(NODE_WORK * max(1, len(body.node)))
            made = inline(self.state, self.where, body, given, self.convert)
            for found, value in zip(results, made, strict=True):
                if value is None:
                    raise Stopped
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
        self._few(len(members))
        return tuple(members)

    def _few(self, count: int) -> None:
        if count > MAX_MEMBERS:
            raise unsupported(f"a sequence of {count:,} tensors; {MAX_MEMBERS:,} are the most", CUT_OFF)

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
        if not value.dtype.is_integer:
            raise bad_model("MM104", f"{what} of type {value.dtype.name}")
        self._few(value.size)
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

    def _sizes(self, extent: int) -> list[int]:
        """How many elements each part has."""
        numbers = self._numbers(1, "sizes") if self._has(1) else [1]
        if self._has(1) and self._tensor(1).rank:
            return numbers
        (size,) = numbers
        if size < 1:
            raise bad_model("MM104", f"parts of {size} elements")
        self._few(-(-extent // size))
        return [min(size, extent - begin) for begin in range(0, extent, size)]

    def _slice(self, x: Value, axis: int, begin: int, end: int) -> Value:
        ends = ([begin], [end], [axis])
        constants = (self.state.build.constant(np.array(each, np.int64), "ends") for each in ends)
        return self._one("Slice", [x, *constants])

    def _with_axis(self, x: Value, axis: int, op: str) -> Value:
        self.count(NODE_WORK)
        return with_axis(self.state, self.where, x, axis, self.convert, op=op)

    def _one(self, op: str, operands: Sequence[Value], **attributes: Any) -> Value:
        """The result of one node more, under the name of what this one makes."""
        self.count(NODE_WORK)
        name = next(filter(None, self.node.output), self.node.op_type)
        given = {f"{name}/{k}": value for k, value in enumerate(operands)}
        made = helper.make_node(op, list(given), [name], **attributes)
        return result_of(self.state, self.where, made, given, self.convert)


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
