# SPDX-License-Identifier: Apache-2.0
"""A graph that runs once for each step of a loop, and hands values on from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.plan import Plan
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step takes of an operand: of its first axis `rows` rows, moved on by `stride` each step.

    Step k takes rows [first + k * stride, first + k * stride + rows). With `rows` 0 it is one row without the
    axis.
    """

    first: int = 0
    stride: int = 1
    rows: int = 0

    @property
    def extent(self) -> int:
        """Rows of a step."""
        return self.rows or 1

    def begin(self, step: int) -> int:
        """The first row that a step takes."""
        return self.first + step * self.stride

    def within(self, rows: int, steps: int) -> bool:
        """True if no step takes more than the rows there are."""
        ends = self.begin(0), self.begin(steps - 1)
        return min(ends) >= 0 and max(ends) + self.extent <= rows

    def shape(self, whole: Shape) -> Shape:
        """That of what a step takes."""
        return (self.rows, *whole[1:]) if self.rows else whole[1:]


def in_turn(steps: int, back: bool = False) -> Taken:
    """One row after the other, or from the last of all `steps` on."""
    return Taken(steps - 1, -1) if back else Taken()


@op
@dataclass(frozen=True)
class Repeat:
    """The body `steps` times, one step after the other.

    Inputs of the body, and in the same order operands: `carried` values, which the first step finds as they
    are given and all others as the step before made them; slices, what a step takes of an operand, one for
    each of `scanned`; then what every step sees whole. Outputs of the body: the carried values, then what a
    step makes of each of `made`, rows of a result along its first axis.

    Results: carried values after the last step, those whose numbers are `kept`, then all that is `made`.

    `made` says of each whether it goes backward: then the last row is that of the first step.
    `name` is the result by which the model's graph, or body, around the loop calls it; names in `origins` of
    the body are those in the loop's.
    `plan` is that of the body, whose inputs and outputs are outside; None until the driver has made it.
    """

    body: Graph
    steps: int
    carried: int
    scanned: tuple[Taken, ...] = ()
    made: tuple[bool, ...] = ()
    kept: tuple[int, ...] = ()
    name: str = field(default="", repr=False, compare=False)
    plan: Plan | None = field(default=None, repr=False, compare=False)

    kernel: ClassVar[str] = "repeat"
    traits = OpTraits(at_once=True)

    def inputs(self) -> list[Tensor]:
        """The tensors of the body that it finds in its operands."""
        return [self.body.tensors[port.tensor] for port in self.body.inputs]

    def outputs(self) -> list[Tensor]:
        """The tensors of the body that a step makes."""
        return [self.body.tensors[port.tensor] for port in self.body.outputs]

    @property
    def nodes(self) -> int:
        """Nodes of the body, and of those within it."""
        within = (node.op.nodes for node in self.body.nodes if isinstance(node.op, Repeat))
        return len(self.body.nodes) + sum(within)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        own, makes = self.inputs(), self.outputs()
        if len(own) != len(inputs) or len(makes) != self.carried + len(self.made) or self.steps < 1:
            raise ShapeError(f"{self.steps} steps of a body of {len(own)} inputs, {len(makes)} outputs")
        for k, (tensor, given) in enumerate(zip(own, inputs, strict=True)):
            shape = self._part(k, given.shape)
            if (shape, given.dtype) != (tensor.shape, tensor.dtype):
                raise ShapeError(f"operand {k} of a body: {given.dtype.name}{list(given.shape)}")
        for before, after in zip(own[: self.carried], makes, strict=False):
            if (before.shape, before.dtype) != (after.shape, after.dtype):
                raise ShapeError(f"a step hands on {after}, and is given {before}")
        last = ((makes[k].shape, makes[k].dtype) for k in self.kept)
        return (*last, *(((self.steps, *t.shape), t.dtype) for t in makes[self.carried :]))

    def _part(self, operand: int, whole: Shape) -> Shape | None:
        """The shape in which a step finds an operand; None if it does not have what some step takes."""
        if not 0 <= operand - self.carried < len(self.scanned):
            return whole
        taken = self.scanned[operand - self.carried]
        fits = bool(whole) and taken.within(whole[0], self.steps)
        return taken.shape(whole) if fits else None

    def nest(self, *inputs: Shape) -> Nest:
        """Any element may be of any other: only how much work it is is said."""
        outputs = self.outputs()
        shapes = [outputs[k].shape for k in self.kept]
        shapes += [(self.steps, *tensor.shape) for tensor in outputs[self.carried :]]
        macs, elements = self.work
        loops = (
            Loop("step", self.steps, LoopKind.REDUCE),
            Loop("each", macs or elements, LoopKind.REDUCE),
        )
        reads = tuple(Access(k, shape, (None,) * len(shape)) for k, shape in enumerate(inputs))
        writes = tuple(Access(k, shape, (None,) * len(shape)) for k, shape in enumerate(shapes))
        return Nest(loops, reads, writes, multiplies=bool(macs), in_place=False)

    @cached_property
    def work(self) -> tuple[int, int]:
        """Multiply-accumulates of a step, and elements that its nodes make."""
        nests = [nest_of(self.body, node) for node in self.body.nodes]
        return sum(nest.macs for nest in nests), max(1, sum(prod(nest.write.shape) for nest in nests))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return self.run(lambda _, given: evaluate_tensors(self.body, given), inputs)

    def run(
        self, step: Callable[[int, Mapping[str, Array]], Mapping[str, Array]], inputs: Sequence[Array]
    ) -> tuple[Array, ...]:
        """The results, of what `step` makes: of its number and its inputs, by tensor, the body's outputs."""
        names = [port.tensor for port in self.body.inputs]
        ends = [port.tensor for port in self.body.outputs]
        given = dict(zip(names, inputs, strict=True))
        for k, (tensor, array) in enumerate(zip(self.inputs(), inputs, strict=True)):
            if self._part(k, array.shape) != tensor.shape:
                raise ShapeError(f"operand {k} of a body: {list(array.shape)} does not fit {tensor}")
        rows: list[list[Array]] = [[] for _ in self.made]
        for number in range(self.steps):
            for k, taken in enumerate(self.scanned, self.carried):
                begin = taken.begin(number)
                part = inputs[k][begin : begin + taken.extent]
                given[names[k]] = part.reshape(taken.shape(inputs[k].shape))
            found = step(number, given)
            given |= zip(names, [found[name] for name in ends[: self.carried]], strict=False)
            for values, name in zip(rows, ends[self.carried :], strict=True):
                values.append(found[name])
        made = (
            np.stack(values[::-1] if back else values) for values, back in zip(rows, self.made, strict=True)
        )
        return (*(given[names[k]] for k in self.kept), *made)

    def __str__(self) -> str:
        return f"repeat<{self.steps} steps of {len(self.body.nodes)} nodes>"


def with_bodies(graph: Graph) -> Iterator[Graph]:
    """The graph, the bodies of its loops, and those within them."""
    yield graph
    for node in graph.nodes:
        if isinstance(node.op, Repeat):
            yield from with_bodies(node.op.body)


def node_at(graph: Graph, path: Sequence[int]) -> tuple[Graph, Node]:
    """The node of the last number in `path`, in the body of the loops before, and the graph that it is in."""
    *around, index = path
    for each in around:
        op = graph.nodes[each].op
        assert isinstance(op, Repeat), f"node {each} is no loop"
        graph = op.body
    return graph, graph.nodes[index]


def bodies_from(graph: Graph, begin: int) -> dict[int, int]:
    """By loop of a graph, the number in C of its body's first node; that of the first body is `begin`."""
    found: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, Repeat):
            found[index] = begin
            begin += node.op.nodes
    return found


def numbers_of(graphs: Sequence[Graph]) -> list[tuple[int, int]]:
    """Of each entry the numbers in C of its first node, and of its loops' bodies: behind all entries."""
    found: list[tuple[int, int]] = []
    first, body = 0, sum(len(graph.nodes) for graph in graphs)
    for graph in graphs:
        found.append((first, body))
        first += len(graph.nodes)
        body += sum(node.op.nodes for node in graph.nodes if isinstance(node.op, Repeat))
    return found


def by_number(
    graph: Graph, first: int, bodies: int, path: tuple[int, ...] = ()
) -> dict[int, tuple[int, ...]]:
    """By number in C, the path (`node_at`) of each node of a graph and of its loops' bodies."""
    found = {first + index: (*path, index) for index in range(len(graph.nodes))}
    for index, begin in bodies_from(graph, bodies).items():
        op = graph.nodes[index].op
        assert isinstance(op, Repeat)
        found |= by_number(op.body, begin, begin + len(op.body.nodes), (*path, index))
    return found
