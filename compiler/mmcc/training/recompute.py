# SPDX-License-Identifier: Apache-2.0
"""A training step whose backward nodes read some values of the forward pass made again, or brought back from
slow memory, instead of kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property

from mmcc.errors import Where
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.made_again import SavedValue
from mmcc.ir.types import geometry
from mmcc.ops.clamp_bits import ClampBits
from mmcc.ops.conv_gradient import WeightGradient
from mmcc.ops.paging import PageIn, PageOut
from mmcc.ops.pool_arg_max import PoolArgMax
from mmcc.passes.draft import Draft
from mmcc.training.in_place import sums_early


class SavedValues:
    """The values of a training step's forward pass that its backward pass reads, and the `gradients` between
    layers.

    `forward` are the results of the nodes of the forward pass, and `read` those that backward nodes read.
    `given` are the bytes of the inputs that the backward pass reads, which are not chosen.
    """

    def __init__(self, graph: Graph, forward: Collection[str]) -> None:
        packed = {node.output for node in graph.nodes if isinstance(node.op, ClampBits | PoolArgMax)}
        self.graph, self._forward = graph, packed.union(forward)
        self._position = {name: k for k, node in enumerate(graph.nodes) for name in node.outputs}
        read = dict.fromkeys(name for node in graph.nodes if self._is_backward(node) for name in node.inputs)
        sources = {self.source(name) for name in read if name in self._forward}
        ordered = sorted(sources & self._forward, key=lambda name: self._position[name])
        self.values = tuple(SavedValue(name, graph.tensors[name].bytes, self.macs(name)) for name in ordered)
        sums = [node.inputs[1] for node in graph.nodes if isinstance(node.op, WeightGradient)]
        between = [
            name for name in dict.fromkeys(sums) if name in self._position and name not in self._forward
        ]
        inputs = {port.tensor for port in graph.inputs if not port.argument}
        self._given = inputs.intersection(map(self.source, read))
        self._sizes = {name: graph.tensors[name].bytes for name in (*self._given, *ordered)}
        self.given = sum(self._sizes[name] for name in self._given)
        self.gradients = tuple(SavedValue(name, graph.tensors[name].bytes, 0) for name in between)
        self.read = [name for name in read if name in self._forward]

    def _is_backward(self, node: Node) -> bool:
        return node.outputs[0] not in self._forward

    def is_forward(self, name: str) -> bool:
        """Whether a tensor is a result of the forward pass."""
        return name in self._forward

    @cached_property
    def at_the_loss(self) -> Mapping[str, int]:
        """By saved value, and input that is read backward, the bytes of it that are there in any plan which
        keeps it, when the gradient of the loss is made.

        None of any, where that gradient has several rows: the first of them may go backward before the last
        is there. And none of a value that only nodes without a gradient read, to compare it with others, say:
        what these make may be there instead.
        """
        forward = {name for node in self.graph.nodes if not self._is_backward(node) for name in node.inputs}
        labels = {port.tensor for port in self.graph.inputs if not port.argument} - forward
        first = [
            node
            for node in self.graph.nodes
            if not labels.isdisjoint(node.inputs) and any(self.graph.consumers[n] for n in node.outputs)
        ]
        read, behind = set[str](), set[str]()
        if len(first) == 1 and geometry(self.graph.tensors[first[0].output].shape)[0] == 1:
            behind = {first[0].output}
            read = set(first[0].inputs)
        for node in self.graph.nodes:
            if not behind.isdisjoint(node.inputs):
                behind.update(node.outputs)
                read.update(node.inputs)
        there = set(map(self.source, read))
        return {name: size if name in there else 0 for name, size in self._sizes.items()}

    def least(self, kept: Collection[str]) -> int:
        """Bytes that no plan has an arena below which keeps these values."""
        return sum(size for name, size in self.at_the_loss.items() if name in kept or name in self._given)

    def readers(self, name: str) -> list[Node]:
        """The backward nodes that read a saved value."""
        late = [node for node in self.graph.nodes if self._is_backward(node)]
        return [node for node in late if any(self.source(other) == name for other in node.inputs)]

    @cached_property
    def ends(self) -> tuple[str, ...]:
        """The saved values that all of the forward pass goes through, in order: articulation points of its
        graph, such as the ends of residual blocks."""
        last = {name: k for k, node in enumerate(self.graph.nodes) if not self._is_backward(node)
                for name in node.inputs}  # fmt: skip
        found, reach = list[str](), -1
        for k, node in enumerate(self.graph.nodes):
            if reach <= k:
                found += node.outputs
            reach = max([reach, *(last.get(name, -1) for name in node.outputs)])
        through = {self.source(name) for name in found}
        return tuple(value.name for value in self.values if value.name in through)

    def macs(self, name: str) -> int:
        """Multiply-accumulates of the node that makes a value of the forward pass."""
        return nest_of(self.graph, self.graph.producer[name]).macs

    def source(self, name: str) -> str:
        """What a tensor is a view of, as far as a view of one operand goes; itself if it is none."""
        while name in self.graph.producer:
            node = self.graph.producer[name]
            operands = self.graph.activations(node)
            if node.op.traits.alias is None or len(operands) != 1:
                break
            (name,) = operands
        return name

    def made_again(self, kept: Collection[str], paged: Collection[str] = ()) -> list[str]:
        """What is made again, in order, if the values `kept` are there for the backward pass, and those
        `paged` are brought back."""
        found, waiting = set[str](), list(self.read)
        while waiting:
            name = waiting.pop()
            if name in found or name not in self._forward or self.source(name) in kept or name in paged:
                continue
            found.add(name)
            waiting += self.graph.producer[name].inputs
        return sorted(found, key=lambda name: self._position[name])

    def work(self, kept: Collection[str], paged: Collection[str] = ()) -> int:
        """Multiply-accumulates of what is made again."""
        return sum(self.macs(name) for name in self.made_again(kept, paged))

    def made_twice(self, again: Collection[str], end: str) -> list[str]:
        """Of what is made again, what is made once more, in order, for the backward nodes that read values
        before `end`, one of `ends`: they wait for its gradient. Nothing, if `end` is ""."""
        before = {name for name in again if end and self._position[name] < self._position[end]}
        found, waiting = set[str](), [name for name in self.read if name in before]
        while waiting:
            name = waiting.pop()
            if name in before and name not in found:
                found.add(name)
                waiting += self.graph.producer[name].inputs
        return sorted(found, key=lambda name: self._position[name])

    def recomputed(self, kept: Collection[str], paged: Collection[str] = (), twice: str = "") -> Graph:
        """The step in which backward nodes read what is not kept made a second time, once for all of them, or
        brought back from slow memory; what is before `twice`, once more, as `made_twice` says. `paged` may
        name gradients between layers, too."""
        draft = Draft(self.graph)
        twins, there = dict[str, str](), dict[str, tuple[int, str]]()
        again = self.made_again(kept, paged)
        late = [node for node in self.graph.nodes if self._is_backward(node)]

        def leave(node: Node) -> None:
            for name in (name for name in node.outputs if name in paged):
                page = len(there)
                there[name] = page, draft.add(PageOut(page), (name,), f"{name}_slow", node.where)

        def now(name: str) -> str:
            if name in there and name not in twins:
                page, slow = there[name]
                twins[name] = draft.add(PageIn(page), (slow,), f"{name}_back", self._where(name))
            return twins.get(name, name)

        for node in (node for node in self.graph.nodes if not self._is_backward(node)):
            draft.keep(node)
            leave(node)
        for name in again:
            node = self.graph.producer[name]
            inputs = tuple(map(now, node.inputs))
            twins[name] = draft.add(node.op, inputs, f"{name}_again", node.where)
        first = dict(twins)
        for name in self.made_twice(again, twice):
            node = self.graph.producer[name]
            inputs = tuple(map(now, node.inputs))
            twins[name] = draft.add(node.op, inputs, f"{first[name]}_later", node.where)
        for node in late:
            draft.keep(replace(node, inputs=tuple(map(now, node.inputs))))
            leave(node)
        return sums_early(draft.graph())

    def _where(self, name: str) -> tuple[Where, ...]:
        return self.graph.producer[name].where
