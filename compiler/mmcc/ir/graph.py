# SPDX-License-Identifier: Apache-2.0
"""Tensor level: what the model computes. Frozen values; a pass returns a new `Graph`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from mmcc.errors import Where
from mmcc.ir.data_text import data_text
from mmcc.ir.handoff import Handoff
from mmcc.ir.nest import Nest
from mmcc.ir.op import Op
from mmcc.ir.ports import Port
from mmcc.ir.state import State
from mmcc.ir.storage import Storage
from mmcc.ir.text import Written, name_text, names_text, port_text, string_text, tensor_text, value_text
from mmcc.ir.types import Tensor


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an op; a tensor for each result. `where` grows when passes merge nodes.

    With a `handoff` a function of the user's computes it.
    """

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    where: tuple[Where, ...] = ()
    handoff: Handoff | None = None

    @property
    def output(self) -> str:
        """The result of a node that has one: an error where it has more, or none."""
        (name,) = self.outputs
        return name

    @property
    def alone(self) -> bool:
        """True if it runs in one call, and so in no group with others."""
        whole = self.op.traits.at_once or (self.handoff is not None and self.handoff.whole)
        return len(self.outputs) > 1 or whole

    @property
    def at_once(self) -> bool:
        """True if it runs in one call that may write any of its results while it still reads."""
        return self.alone and not (self.handoff is not None and self.handoff.in_place)


@dataclass(frozen=True, slots=True)
class Stored:
    """Constants as the model's file has them: bytes, and ONNX's names of element types below 32 bits."""

    bytes: int
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Removed:
    """Channels of a node's result, of how many, that are not computed since no output needs them.

    `macs` and `bytes` are what the node needs less: multiply-accumulates, and constants in flash.
    """

    tensor: str
    channels: int
    of: int
    macs: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Graph(Written):
    """Nodes in execution order; every tensor is written once. Constants are tensors with data."""

    name: str
    tensors: dict[str, Tensor]
    constants: dict[str, NDArray[Any]]
    nodes: tuple[Node, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    warnings: tuple[str, ...] = field(default=())
    origins: dict[str, Port] = field(default_factory=dict[str, Port])  # tensors that are values of the model
    reasons: dict[str, str] = field(default_factory=dict[str, str])  # by tensor: why it is computed in float
    stored: dict[Where, Stored] = field(default_factory=dict[Where, Stored])  # by node of the model
    states: tuple[State, ...] = ()
    removed: tuple[Removed, ...] = ()
    learned: frozenset[str] | None = None  # constants of the model's own, if training is to change some

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """For each tensor, the nodes that read it (once each)."""
        table: dict[str, tuple[Node, ...]] = dict.fromkeys(self.tensors, ())
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                table[name] += (node,)
        return table

    @cached_property
    def producer(self) -> dict[str, Node]:
        """The node that writes a tensor; graph inputs and constants have none."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def output_names(self) -> frozenset[str]:
        return frozenset(port.tensor for port in self.outputs)

    @cached_property
    def input_names(self) -> frozenset[str]:
        return frozenset(port.tensor for port in self.inputs)

    @cached_property
    def _port_names(self) -> frozenset[str]:
        return self.input_names | self.output_names

    @cached_property
    def _state_names(self) -> frozenset[str]:
        return frozenset(name for state in self.states for name in (state.begin, state.end))

    @cached_property
    def paged(self) -> frozenset[str]:
        """Tensors in slow memory."""
        return frozenset(name for node in self.nodes if node.op.traits.paged for name in node.outputs)

    def storage(self, name: str) -> Storage:
        """Where the bytes of tensor `name` are and how long they last."""
        if name in self.constants:
            return Storage.CONSTANT
        if name in self._state_names:
            return Storage.STATE
        if name in self.paged:
            return Storage.PAGED
        return Storage.PORT if name in self._port_names else Storage.ACTIVATION

    def is_constant(self, name: str) -> bool:
        """True of a tensor in the weights; all others are in RAM."""
        return self.storage(name) is Storage.CONSTANT

    @cached_property
    def given(self) -> frozenset[str]:
        """Tensors that hold something before the first node runs: inputs, and states as the run begins."""
        return self.input_names | {state.begin for state in self.states}

    @cached_property
    def kept(self) -> frozenset[str]:
        """Tensors that are read after the last node: outputs, and states as the run ends."""
        return self.output_names | {state.end for state in self.states}

    def activations(self, node: Node) -> tuple[str, ...]:
        """The inputs of `node` that live in RAM, in operand order."""
        return tuple(name for name in node.inputs if not self.is_constant(name))

    def operands(self, node: Node) -> tuple[Tensor, ...]:
        return tuple(self.tensors[name] for name in node.inputs)

    def __str__(self) -> str:
        """The text that `mmcc.ir.parse` reads: constants stand before the first node that reads them."""
        lines = [f"input {self._port(port)}" for port in self.inputs]
        for state in self.states:
            begin = tensor_text(self.tensors[state.begin])
            lines.append(f"state {begin} becomes {name_text(state.end)} = {data_text(state.initial)}")
        unsaid = dict(self.constants)
        for node in self.nodes:
            lines += [self._constant(name, unsaid.pop(name)) for name in node.inputs if name in unsaid]
            results = ", ".join(tensor_text(self.tensors[name]) for name in node.outputs)
            places = f" at {', '.join(map(value_text, node.where))}" if node.where else ""
            given = f" handoff {value_text(node.handoff)}" if node.handoff else ""
            lines.append(f"{results} = {value_text(node.op)}({names_text(node.inputs)}){given}{places}")
        lines += [self._constant(name, data) for name, data in unsaid.items()]
        for port in self.outputs:
            lines.append(f"output {name_text(port.tensor)}{port_text(port, self.tensors[port.tensor])}")
        body = "".join(f"  {line}\n" for line in (*lines, *self._remarks()))
        return f"graph {string_text(self.name)} {{\n{body}}}"

    def _port(self, port: Port) -> str:
        tensor = self.tensors[port.tensor]
        return tensor_text(tensor) + port_text(port, tensor)

    def _constant(self, name: str, data: NDArray[Any]) -> str:
        return f"constant {tensor_text(self.tensors[name])} = {data_text(data)}"

    def _remarks(self) -> Iterator[str]:
        """What is known of the model besides its meaning."""
        for name, port in self.origins.items():
            yield f"origin {name_text(name)}{port_text(port, self.tensors[name])}"
        for name, reason in self.reasons.items():
            yield f"reason {name_text(name)} {string_text(reason)}"
        for where, stored in self.stored.items():
            yield f"stored {value_text(where)} {value_text(stored)}"
        for removed in self.removed:
            yield f"removed {value_text(removed)}"
        if self.learned is not None:
            yield f"learned [{', '.join(map(name_text, sorted(self.learned)))}]"
        for warning in self.warnings:
            yield f"warning {string_text(warning)}"


def nest_of(graph: Graph, node: Node) -> Nest:
    """The loops of a node."""
    nest = node.op.nest(*(graph.tensors[name].shape for name in node.inputs))
    return nest if node.handoff is None else nest.once_in_order(in_place=node.handoff.in_place)


def taken_by(graph: Graph, node: Node) -> str:
    """The operand whose rows a node that sums over rows can take in one by one (`Nest.taken`)."""
    nest = nest_of(graph, node)
    return node.inputs[nest.reads[nest.taken].operand]
