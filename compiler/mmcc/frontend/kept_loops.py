# SPDX-License-Identifier: Apache-2.0
"""A loop that stays one: its body becomes a graph of its own, and the loop one node (`ops/repeat.py`).

Unrolled, code, weights' copies and the time to plan grow with the steps. A body of few nodes is unrolled all
the same: then nodes of several steps are seen together, and what depends on the step's number is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto

from mmcc.errors import CompileError, Where
from mmcc.frontend.builder import Builder
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, inline
from mmcc.frontend.layouts import plain
from mmcc.frontend.problems import Problems
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.op import ShapeError
from mmcc.ir.ports import Port
from mmcc.ir.types import Shape
from mmcc.ops.repeat import Repeat

FEW_NODES = 256  # of the body, all steps together: as many are unrolled
MOST_STEPS = 2**16  # the checker goes through all
MOST_RUNS = 2**18  # of nodes of all bodies, all steps together: the reference goes through all
HANDED_OVER = (ElementType.F32, ElementType.BOOL, ElementType.I32, ElementType.I64)


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of all steps along a first axis; in the order of time, or `back`."""

    value: Value
    back: bool


@dataclass(frozen=True, slots=True)
class KeptLoop:
    """A loop as the importer sees it. All is by the names that the body has for it.

    `carried` values are known before the first step; a step sees `slices`, and `known` constants. The results
    of the body are `ignored` (the condition to go on), then the carried values, then the rows that somebody
    reads, of which `rows` says whether they are made backward. `kept` are the numbers of carried values that
    somebody reads after the last step.
    """

    body: GraphProto
    steps: int
    carried: Mapping[str, Value]
    slices: Mapping[str, Slices]
    known: Mapping[str, NDArray[np.generic]]
    ignored: int
    rows: tuple[bool, ...]
    kept: tuple[int, ...]


def keep(state: Import, where: Where, loop: KeptLoop, convert: Convert) -> dict[int, Value] | None:
    """The results of a loop as one node, by their numbers: carried values that are kept, and rows.

    None where it has to be unrolled: the body can only be converted for a step whose number is known, or a
    value that steps hand on changes its shape or its type, has no elements, or is of a type that has a scale.
    """
    if state.uncertain:
        return None
    build = state.build
    inner = Builder(budget=build.budget, keep_batch_norm=build.keep_batch_norm)
    inner.where = build.where = (where,)
    try:
        found = _Body(state, where, loop, inner).converted(convert)
    except (CompileError, ShapeError):
        return None
    runs = build.runs + loop.steps * (len(inner.nodes) + inner.runs)
    if found is None or runs > MOST_RUNS:
        return None
    build.runs = runs
    build.budget = inner.budget
    hints = [f"{where.op}_{k}" for k in found.results]
    made = build.emit_all(found.op, *found.operands, hints=hints)
    return {k: whole(t, range(len(t.shape))) for k, t in zip(found.results, made, strict=True)}


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

    def converted(self, convert: Convert) -> _Found | None:
        """The node, if the body can be converted without the number of a step."""
        loop, inner = self.loop, self.inner
        starts = {name: self._input(value.shape, value.dtype, name) for name, value in loop.carried.items()}
        steps = {
            name: self._input(each.value.shape[1:], each.value.dtype, name)
            for name, each in loop.slices.items()
        }
        known = {name: inner.constant(np.asarray(array), name) for name, array in loop.known.items()}
        around = _Around(self.state, inner)
        within = replace(self.state, build=inner, values=around, problems=Problems(), uncertain={})
        made = inline(within, self.where, loop.body, {**starts, **steps, **known}, convert)
        if None in made or within.problems.found or within.problems.unknown or within.uncertain:
            return None
        values = [value for value in made if value is not None]
        ignored, results = values[: loop.ignored], values[loop.ignored :]
        if not all(inner.is_constant(v.tensor) and inner.array(v).all() for v in ignored):
            return None  # it may end before its last step
        for before, after in zip(loop.carried.values(), results, strict=False):
            if (before.shape, before.dtype) != (after.shape, after.dtype):
                return None
        handed = (*starts.values(), *steps.values(), *results)
        if not all(v.dtype in HANDED_OVER and v.size for v in handed):
            return None
        return self._node([plain(inner, value) for value in results], starts, steps, around)

    def _input(self, shape: Shape, dtype: ElementType, name: str) -> Value:
        tensor = self.inner.tensor(shape, dtype, name)
        self.inner.titles[tensor.name] = name
        return whole(tensor, range(len(shape)))

    def _node(
        self, ends: list[str], starts: Mapping[str, Value], steps: Mapping[str, Value], around: _Around
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
        graph = inner.finish("body", self._ports(inputs), self._ports(outputs), {})
        given = [*loop.carried.values()]
        operands = [plain(build, given[k]) for k in carried]
        operands += [plain(build, loop.slices[name].value) for name in slices]
        kept = [k for k in carried if k in loop.kept]
        op = Repeat(
            graph,
            loop.steps,
            len(carried),
            tuple(loop.slices[name].back for name in slices),
            loop.rows,
            tuple(carried.index(k) for k in kept),
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


@dataclass(eq=False)
class _Around(MutableMapping[str, Value]):
    """The values around a loop as its body has them: constants are its own, of others it is given the tensor.

    `taken` has, by the tensor outside, that of the body.
    """

    state: Import
    inner: Builder
    taken: dict[str, str] = field(default_factory=dict[str, str])
    own: dict[str, Value] = field(default_factory=dict[str, Value])

    def __getitem__(self, name: str) -> Value:
        if name not in self.own:
            self.own[name] = self._seen(self.state.values[name])
        return self.own[name]

    def __setitem__(self, name: str, value: Value) -> None:
        self.own[name] = value

    def __delitem__(self, name: str) -> None:
        del self.own[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.state.values, **self.own})

    def __len__(self) -> int:
        return len({**self.state.values, **self.own})

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.state.values

    def _seen(self, value: Value) -> Value:
        outer, tensor = self.state.build, value.tensor
        if outer.is_constant(tensor):
            quantized = outer.quantized(tensor)
            made = self._constant(quantized[1] if quantized else tensor)
            if quantized:
                made = self.inner.emit(quantized[0], made, hint=outer.hints[tensor]).name
            return replace(value, tensor=made)
        if tensor not in self.taken:
            same = outer.tensors[tensor]
            self.taken[tensor] = self.inner.tensor(same.shape, same.dtype, outer.hints[tensor]).name
            if tensor in outer.titles:
                self.inner.titles[self.taken[tensor]] = outer.titles[tensor]
        return replace(value, tensor=self.taken[tensor])

    def _constant(self, name: str) -> str:
        """A constant of the graph around, in the body."""
        outer, inner = self.state.build, self.inner
        made = inner.tensor(outer.tensors[name].shape, outer.tensors[name].dtype, outer.hints[name]).name
        inner.constants[made] = outer.constants[name]
        if name in outer.stored:
            inner.stored[made] = outer.stored[name]
        if name in outer.titles:
            inner.titles[made] = outer.titles[name]
        if name in outer.blocked:
            inner.blocked[made] = outer.blocked[name]
        return made
