# SPDX-License-Identifier: Apache-2.0
"""A graph that runs once for each step of a loop, and hands values on from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.plan import Plan
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op

Array = NDArray[Any]


@op
@dataclass(frozen=True)
class Repeat:
    """The body `steps` times, one step after the other.

    Inputs of the body, and in the same order operands: `carried` values, which the first step finds as they
    are given and all others as the step before made them; slices, those of a step along the first axis of the
    operand, one for each of `scanned`; then what every step sees whole. Outputs of the body: the carried
    values, then what a step makes of each of `made`, rows of a result along its first axis.

    Results: carried values after the last step, those whose numbers are `kept`, then all that is `made`.

    `scanned` and `made` say of each whether it goes backward: then the last slice is that of the first step.
    `plan` is that of the body, whose inputs and outputs are outside; None until the driver has made it.
    """

    body: Graph
    steps: int
    carried: int
    scanned: tuple[bool, ...] = ()
    made: tuple[bool, ...] = ()
    kept: tuple[int, ...] = ()
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
            slices = self.carried <= k < self.carried + len(self.scanned)
            wanted = (self.steps, *tensor.shape) if slices else tensor.shape
            if (given.shape, given.dtype) != (wanted, tensor.dtype):
                raise ShapeError(f"operand {k} of a body: {given.dtype.name}{list(given.shape)}")
        for before, after in zip(own[: self.carried], makes, strict=False):
            if (before.shape, before.dtype) != (after.shape, after.dtype):
                raise ShapeError(f"a step hands on {after}, and is given {before}")
        last = ((makes[k].shape, makes[k].dtype) for k in self.kept)
        return (*last, *(((self.steps, *t.shape), t.dtype) for t in makes[self.carried :]))

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
        names = [port.tensor for port in self.body.inputs]
        ends = [port.tensor for port in self.body.outputs]
        given = dict(zip(names, inputs, strict=True))
        for k, (tensor, array) in enumerate(zip(self.inputs(), inputs, strict=True)):
            shape = array.shape[1:] if 0 <= k - self.carried < len(self.scanned) else array.shape
            if shape != tensor.shape:
                raise ShapeError(f"operand {k} of a body: {list(array.shape)} does not fit {tensor}")
        rows: list[list[Array]] = [[] for _ in self.made]
        for step in range(self.steps):
            for name, back in zip(names[self.carried :], self.scanned, strict=False):
                operand = inputs[names.index(name)]
                given[name] = operand[self.steps - 1 - step if back else step]
            found = evaluate_tensors(self.body, given)
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
