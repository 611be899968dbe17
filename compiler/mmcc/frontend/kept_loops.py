# SPDX-License-Identifier: Apache-2.0
"""A loop that stays one: its body becomes a graph of its own, and the loop one node (`ops/repeat.py`).

Unrolled, code, weights' copies and the time to plan grow with the steps; kept, what steps hand on needs a
second place, and nodes of several steps are not planned together. So code is weighed against RAM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.builder import Builder
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, inline
from mmcc.frontend.layouts import plain, reshaped
from mmcc.frontend.lifting import Lifted
from mmcc.frontend.outside import Outside
from mmcc.frontend.ports import origins
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.op import ShapeError
from mmcc.ir.ports import Port
from mmcc.ir.types import Shape
from mmcc.ops.repeat import Repeat, Taken, in_turn

FEW_NODES = 256  # of the body, all steps together; of more the time to plan counts, too, and all are kept
NODE_BYTES = 40  # of code, that one node more takes on Cortex-M4: 31 to 70 in eleven loops
LOOP_BYTES = 400  # of code, that the loop itself takes
RAM_WORTH = 8  # bytes of code that one of RAM is worth: microcontrollers have 4 to 8 times as much flash
MOST_RUNS = 2**18  # of nodes of all bodies, all steps together: the reference goes through all
UNCONVERTED = "its body cannot be converted without the number of a step"
HANDED_OVER = (ElementType.F32, ElementType.BOOL, ElementType.I32, ElementType.I64)


@dataclass(frozen=True, slots=True)
class Slices:
    """What steps take of a value, along its first axis; in the body that is axis `axis`, if it has it."""

    value: Value
    taken: Taken
    axis: int = 0


@dataclass(frozen=True, slots=True)
class KeptLoop:
    """A loop as the importer sees it. All is by the names that the body has for it. The graph around calls it
    by its result `name`.

    `carried` values are known before the first step; a step sees `slices`, and constants: `known` ones, and
    `still` those from around the loop that steps hand on as they are. The results of the body are `ignored`
    (the condition to go on), then the carried values, then the rows that somebody reads, of which `rows` says
    whether they are made backward. `kept` are the numbers of carried values that somebody reads after the
    last step.
    """

    name: str
    body: GraphProto
    steps: int
    carried: Mapping[str, Value]
    slices: Mapping[str, Slices]
    known: Mapping[str, NDArray[np.generic]]
    still: Mapping[str, Value]
    ignored: int
    rows: tuple[bool, ...]
    kept: tuple[int, ...]


class Unrolled(Exception):
    """Why a loop is unrolled; empty where that is smaller."""


def slices_for_steps(
    build: Builder, varying: Mapping[str, NDArray[np.generic]], lift: Lifted, steps: int
) -> dict[str, Slices]:
    """What a step is given a slice of: counts, operands of a Scan, what was made for all steps."""
    slices = {name: Slices(build.constant(each, name), in_turn(steps)) for name, each in varying.items()}
    for name, source in lift.sources.items():
        order = [source.axis, *(k for k in range(source.value.rank) if k != source.axis)]
        slices[name] = Slices(source.value.transposed(order), source.taken, source.axis)
    for name, each in lift.rows.items():
        shape = (each.value.shape[0] // each.rows, each.rows, *each.value.shape[1:])
        slices[name] = Slices(reshaped(build, each.value, shape), in_turn(steps, each.back))
    return slices


def keep(state: Import, where: Where, loop: KeptLoop, convert: Convert) -> dict[int, Value]:
    """The results of a loop as one node, by their numbers: carried values that are kept, and rows.

    Unrolled where the body can only be converted for a step whose number is known, or a value that steps hand
    on changes its shape or its type, has no elements, or is of a type that has a scale; or where all steps
    are smaller, bytes of code against bytes of RAM.
    """
    if state.uncertain:
        raise Unrolled("how many rows some of the model's values have is known only at run time")
    build = state.build
    inner = Builder(budget=build.budget, keep_batch_norm=build.keep_batch_norm)
    inner.where = build.where = (where,)
    try:
        found = _Body(state, where, loop, inner).converted(convert)
    except (CompileError, ShapeError) as error:
        raise Unrolled(f"{UNCONVERTED}: {printable(str(error))}") from None
    nodes = loop.steps * (len(found.op.body.nodes) + inner.runs)
    runs = build.runs + nodes
    if runs > MOST_RUNS:
        raise Unrolled(f"all steps together run more than {MOST_RUNS:,} nodes")
    few = build.weigh_loops and nodes <= FEW_NODES
    if loop.steps == 1 or (few and not _saves(found.op, nodes)):
        raise Unrolled
    build.runs = runs
    build.budget = inner.budget
    hints = [f"{where.op}_{k}" for k in found.results]
    made = build.emit_all(found.op, *found.operands, hints=hints)
    return {k: whole(t, range(len(t.shape))) for k, t in zip(found.results, made, strict=True)}


def _saves(op: Repeat, nodes: int) -> bool:
    """True if the code of all steps is worth more than the RAM that the loop takes; `nodes` are of all steps.

    What steps hand on has two places; unrolled it mostly has one, over which the next is made.
    """
    handed_on = sum(tensor.bytes for tensor in op.inputs()[: op.carried])
    return NODE_BYTES * (nodes - op.nodes) >= LOOP_BYTES + RAM_WORTH * 2 * handed_on


@dataclass(frozen=True, slots=True)
class _Found:
    """The node of a loop: its operands, and which of the loop's results it makes."""

    op: Repeat
    operands: tuple[str, ...]
    results: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Body:
    state: Import
    where: Where
    loop: KeptLoop
    inner: Builder

    def converted(self, convert: Convert) -> _Found:
        """The node, if the body can be converted without the number of a step; otherwise Unrolled."""
        loop, inner = self.loop, self.inner
        starts = {name: self._input(value.shape, value.dtype, name) for name, value in loop.carried.items()}
        steps = {name: self._slice(each, name) for name, each in loop.slices.items()}
        known = {name: inner.constant(np.asarray(array), name) for name, array in loop.known.items()}
        around = Outside(self.state, inner)
        still = {name: around.seen(value) for name, value in loop.still.items()}
        within = around.tried()
        own: dict[str, Value] = {}
        made = inline(within, self.where, loop.body, {**starts, **steps, **known, **still}, convert, own)
        problems = within.problems
        if None in made or problems.found or problems.unknown or within.uncertain:
            why = f": {printable(str(problems.found[0]))}" if problems.found else ""
            raise Unrolled(f"{UNCONVERTED}{why}")
        values = [value for value in made if value is not None]
        ignored, results = values[: loop.ignored], values[loop.ignored :]
        if not all(inner.is_constant(v.tensor) and inner.array(v).all() for v in ignored):
            raise Unrolled("its condition is not known before its first step, and may end it early")
        for (name, before), after in zip(loop.carried.items(), results, strict=False):
            if (before.shape, before.dtype) != (after.shape, after.dtype):
                raise Unrolled(f'a step hands on "{printable(name)}" in another shape or type')
        handed = (*starts.values(), *steps.values(), *results)
        if not all(v.dtype in HANDED_OVER and v.size for v in handed):
            raise Unrolled(
                "a value of its steps has no elements, or a type other than {}, {}, {} and {}".format(
                    *(kind.name for kind in HANDED_OVER)
                )
            )
        ends = [plain(inner, value) for value in results]
        return self._node(ends, starts, steps, around, origins(inner, own))

    def _input(self, shape: Shape, dtype: ElementType, name: str) -> Value:
        tensor = self.inner.tensor(shape, dtype, name)
        self.inner.titles[tensor.name] = name
        return whole(tensor, range(len(shape)))

    def _slice(self, each: Slices, name: str) -> Value:
        made = self._input(each.taken.shape(each.value.shape), each.value.dtype, name)
        order = list(range(1, made.rank)) if each.taken.rows else []
        return made.transposed([*order[: each.axis], 0, *order[each.axis :]]) if order else made

    def _node(
        self,
        ends: list[str],
        starts: Mapping[str, Value],
        steps: Mapping[str, Value],
        around: Outside,
        values: dict[str, Port],
    ) -> _Found:
        """The node, without values that go from step to step for nobody, and what no step reads."""
        loop, inner, build = self.loop, self.inner, self.state.build
        begins, rows = [value.tensor for value in starts.values()], range(len(starts), len(ends))
        carried = self._carried(begins, ends)
        read = self._read_for([ends[k] for k in (*carried, *rows)])
        taken = {begins[k] for k in carried}
        slices = [name for name, value in steps.items() if value.tensor in read]
        wholes = [name for name in around.taken if around.taken[name] in read]
        taken |= {steps[name].tensor for name in slices} | {around.taken[name] for name in wholes}
        outputs: list[str] = []
        for name in (ends[k] for k in (*carried, *rows)):
            again = name in taken or name in outputs or inner.is_constant(name)
            outputs.append(inner.copied(name) if again else name)
        inputs = [begins[k] for k in carried]
        inputs += [steps[name].tensor for name in slices] + [around.taken[name] for name in wholes]
        made = [info.name for info in loop.body.output][loop.ignored :]
        for port, k in zip(self._ports(outputs), (*carried, *rows), strict=True):
            values.setdefault(port.tensor, replace(port, onnx_name=made[k]))
        graph = inner.finish("body", self._ports(inputs), self._ports(outputs), values)
        given = [*loop.carried.values()]
        operands = [plain(build, given[k]) for k in carried]
        operands += [plain(build, loop.slices[name].value) for name in slices]
        kept = [k for k in carried if k in loop.kept]
        op = Repeat(
            graph,
            loop.steps,
            len(carried),
            tuple(loop.slices[name].taken for name in slices),
            loop.rows,
            tuple(carried.index(k) for k in kept),
            loop.name,
        )
        return _Found(op, (*operands, *wholes), (*kept, *rows))

    def _carried(self, begins: Sequence[str], ends: Sequence[str]) -> list[int]:
        """Numbers of values that go from step to step and are wanted, or are read for others that are."""
        wanted = {*self.loop.kept}
        while True:
            read = self._read_for([*(ends[k] for k in wanted), *ends[len(begins) :]])
            more = wanted | {k for k, name in enumerate(begins) if name in read}
            if more == wanted:
                return sorted(wanted)
            wanted = more

    def _read_for(self, names: Sequence[str]) -> set[str]:
        """The tensors of the body that make up others, and these."""
        read = {*names}
        for node in reversed(self.inner.nodes):
            if not read.isdisjoint(node.outputs):
                read.update(node.inputs)
        return read

    def _ports(self, names: Sequence[str]) -> list[Port]:
        tensors = [self.inner.tensors[name] for name in names]
        return [Port(t.name, t.name, t.shape, t.dtype, tuple(range(len(t.shape)))) for t in tensors]
