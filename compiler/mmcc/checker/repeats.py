# SPDX-License-Identifier: Apache-2.0
"""Loops that have a body: its plan is a sound one, and each step finds what the step before made.

The code of a loop says where steps find and put things by a few numbers. Here all steps are gone through with
these, and it is asked where every value was made; nothing is shared with the kernel that chose them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from mmcc.checker.replay import label
from mmcc.ir.graph import Graph, Node
from mmcc.ir.module import LOOP, Entry
from mmcc.ir.plan import Plan
from mmcc.ir.program import EntryCode, KernelUse, View
from mmcc.ir.regions import External
from mmcc.ir.types import Tensor, geometry
from mmcc.ops.repeat import Repeat

Check = Callable[[Graph, Plan], list[str]]
CheckCode = Callable[[Entry, Plan, EntryCode], list[str]]


def check_repeats(graph: Graph, plan: Plan, check: Check) -> Iterator[str]:
    """Bodies whose plan is wrong, as `check` finds; operands and results of loops that are not dense."""
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.op, Repeat):
            continue
        here, body, own = label(graph, index), node.op.body, node.op.plan
        if own is None:
            yield f"the body of {here} has no plan"
            continue
        yield from (f"the body of {here}: {text}" for text in check(body, own))
        ports = {port.tensor for port in (*body.inputs, *body.outputs)}
        inside = {name for name in ports if not isinstance(_region(own, name), External)}
        yield from (f'"{name}" of the body of {here} is in its arena' for name in sorted(inside))
        yield from _elsewhere(graph, plan, index, own)
        if own.staged or own.fetched or own.chunks or own.transfers or body.states:
            yield f"the body of {here} needs more than an arena and its constants"
        for name in dict.fromkeys((*graph.activations(node), *node.outputs)):
            yield from _dense(graph, plan, name, here)


def _elsewhere(graph: Graph, plan: Plan, index: int, own: Plan) -> Iterator[str]:
    """Buffers of a body that are not in what its loop works in, or not aligned there."""
    here = label(graph, index)
    work = (plan.scratch or {}).get(index)
    align = next((b.align for b in plan.buffers if b.name == work), 1)
    for b in own.buffers:
        region = own.places[b.name].region
        if isinstance(region, External):
            continue
        if region.name != LOOP:
            yield f'buffer "{b.name}" of the body of {here} is in {region}, not in what the loop works in'
        elif align % b.align:
            yield f'buffer "{b.name}" of the body of {here} is aligned to {b.align}, its arena to {align}'


def check_bodies(graph: Graph, plan: Plan, program: EntryCode, check: CheckCode) -> Iterator[str]:
    """Bodies whose code is wrong, as `check` finds, and steps that are not those of the op."""
    for node in program.nodes:
        op, here = graph.nodes[node.index].op, label(graph, node.index)
        if not isinstance(op, Repeat):
            if node.body is not None:
                yield f"{here} has a body, but is no loop"
        elif node.body is None or op.plan is None:
            yield f"{here} has no body"
        else:
            inside = check(Entry(LOOP, op.body), op.plan, node.body)
            yield from (f"the body of {here}: {text}" for text in inside)
            yield from _check_steps(graph, node.index, plan, node.use)


def _region(plan: Plan, name: str) -> object:
    return plan.places[plan.slots[name].buffer].region


def _dense(graph: Graph, plan: Plan, name: str, here: str) -> Iterator[str]:
    slot = plan.slots[name]
    rows, cols, channels = geometry(graph.tensors[name].shape)
    size = graph.tensors[name].dtype.size
    wanted = (rows, size * cols * channels if rows > 1 else 0, size * channels if cols > 1 else 0)
    found = (slot.rows, slot.row_stride if rows > 1 else 0, slot.col_stride if cols > 1 else 0)
    if found != wanted:
        yield f'{here} finds "{name}" as {slot}, not whole and dense'


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Bytes [begin, end) of an operand, a result or the scratch."""

    of: str
    begin: int
    end: int

    def meets(self, other: _Bytes) -> bool:
        return self.of == other.of and self.begin < other.end and other.begin < self.end

    def __str__(self) -> str:
        return f"bytes [{self.begin}, {self.end}) of {self.of}"


def _check_steps(graph: Graph, index: int, plan: Plan, use: KernelUse) -> Iterator[str]:
    """Everything in which the steps of a loop are not what its op says; `plan` has its scratch."""
    node, here = graph.nodes[index], label(graph, index)
    op, options = node.op, dict(use.options)
    assert isinstance(op, Repeat)
    work = (plan.scratch or {}).get(index)
    size = next((b.size for b in plan.buffers if b.name == work), 0)
    counts = len(options["handed_on"]), len(options["slices"]), len(options["rows"])
    wholes = tuple(range(op.carried + len(op.scanned), len(node.inputs)))
    views = {name for name, value in use.fields if isinstance(value, View)}
    wanted = {f"x{k}" for k in range(len(node.inputs))} | {_result(k) for k in range(len(node.outputs))}
    wanted |= {"work"} if work is not None else set()
    if views != wanted or options["works"] != ("work" in wanted):
        missing = ", ".join(sorted(wanted - views)) or "what it works in"
        yield f"{here} does not know where {missing} is"
    elif counts != (op.carried, len(op.scanned), len(op.made)) or options["wholes"] != wholes:
        yield f"{here} hands on, takes and makes {counts} values a step, and sees {options['wholes']} whole"
    elif options["steps"] != op.steps:
        yield f"{here} takes {options['steps']} steps, not {op.steps}"
    else:
        yield from (f"{here}: {text}" for text in _Steps(graph, node, op, options, size).faults())


class _Steps:
    """The steps of a loop, one after the other: what each takes and puts, by what its code says."""

    def __init__(self, graph: Graph, node: Node, op: Repeat, options: dict[str, Any], work: int) -> None:
        assert op.plan is not None
        self._op, self._options, self._work = op, options, work
        self._given = [graph.tensors[name] for name in node.inputs]
        self._made = [graph.tensors[name] for name in node.outputs]
        self._ends = [op.body.tensors[port.tensor].bytes for port in op.body.outputs]
        self._wide = [op.body.tensors[port.tensor].dtype.size for port in op.body.outputs]
        self._sizes = {_result(k): tensor.bytes for k, tensor in enumerate(self._made)} | {"work": work}
        peak = max((op.plan.peak(region) for region in op.plan.regions()), default=0)
        self._arena = _Bytes("work", 0, peak)

    def faults(self) -> Iterator[str]:
        if self._arena.end > self._work:
            yield f"the body has an arena of {self._arena.end} bytes, and {self._work} to work in"
        lies = [_Bytes(f"x{k}", 0, self._ends[k]) for k in range(self._op.carried)]
        for step in range(self._op.steps):
            takes, puts = self._takes(step), self._puts(step)
            yield from self._elsewhere(step, takes, puts[self._op.carried :])
            for k, put in enumerate(puts):
                if put.of not in self._sizes:
                    yield f"step {step} puts value {k} at {put}, an operand"
                elif put.begin < 0 or put.end > self._sizes[put.of]:
                    yield f"step {step} puts value {k} at {put}, which has {self._sizes[put.of]} bytes"
                elif put.begin % self._wide[k]:
                    yield f"step {step} puts value {k} at {put}, not aligned to its {self._wide[k]} bytes"
                if any(put.meets(other) for other in (self._arena, *lies, *takes, *puts[:k])):
                    yield f"step {step} puts value {k} at {put}, over something that it uses"
            lies = puts[: self._op.carried]
        for number, k in enumerate(self._op.kept):
            wanted = _Bytes(_result(number), 0, self._ends[k])
            if lies[k] != wanted:
                yield f"value {k} is left at {lies[k]}, but the result is {wanted}"

    def _takes(self, step: int) -> list[_Bytes]:
        """Where a step finds its slices."""
        inputs = self._op.inputs()
        begins: list[tuple[int, int]] = [(k, at + step * more) for k, at, more in self._options["slices"]]
        return [_Bytes(f"x{k}", begin, begin + inputs[k].bytes) for k, begin in begins]

    def _puts(self, step: int) -> list[_Bytes]:
        """Where a step puts what it hands on, and its rows."""
        places = [places[step % 2] for places in self._options["handed_on"]]
        ends = zip(places, self._ends, strict=False)
        handed = [
            _Bytes(place, 0, size) if isinstance(place, str) else _Bytes("work", place, place + size)
            for place, size in ends
        ]
        return handed + [self._part(of, step, size, back) for of, size, back in self._options["rows"]]

    def _part(self, of: str, step: int, size: int, back: bool) -> _Bytes:
        begin = (self._options["steps"] - 1 - step if back else step) * size
        return _Bytes(of, begin, begin + size)

    def _elsewhere(self, step: int, takes: list[_Bytes], rows: list[_Bytes]) -> Iterator[str]:
        """Slices and rows that are not those of the step."""
        carried, kept = self._op.carried, len(self._op.kept)
        for k, (found, taken) in enumerate(zip(takes, self._op.scanned, strict=True), carried):
            begin = taken.first + step * taken.stride
            wanted = _rows(f"x{k}", self._given[k], begin, max(1, taken.rows))
            if found != wanted:
                yield f"step {step} finds a slice at {found}, not at {wanted}"
        for k, (found, back) in enumerate(zip(rows, self._op.made, strict=True), kept):
            begin = self._op.steps - 1 - step if back else step
            wanted = _rows(_result(k), self._made[k], begin, 1)
            if found != wanted:
                yield f"step {step} puts a row at {found}, not at {wanted}"


def _rows(of: str, tensor: Tensor, begin: int, rows: int) -> _Bytes:
    """The bytes of some rows of a dense tensor, along its first axis."""
    each = prod(tensor.shape[1:]) * tensor.dtype.size
    assert 0 <= begin <= tensor.shape[0] - rows
    return _Bytes(of, begin * each, (begin + rows) * each)


def _result(k: int) -> str:
    return f"y{k}" if k else "y"
