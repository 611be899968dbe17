# SPDX-License-Identifier: Apache-2.0
"""Tensor level: what the model computes. Frozen values; a pass returns a new `Graph`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from mmcc.errors import Where
from mmcc.ir.nest import Nest
from mmcc.ir.op import Op
from mmcc.ir.ports import Port
from mmcc.ir.state import State
from mmcc.ir.storage import Storage
from mmcc.ir.types import Tensor


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an op; a tensor for each result. `where` grows when passes merge nodes."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    where: tuple[Where, ...] = ()

    @property
    def output(self) -> str:
        """The result of a node that has one: an error where it has more, or none."""
        (name,) = self.outputs
        return name


@dataclass(frozen=True, slots=True)
class Stored:
    """Constants as the model's file has them: bytes, and ONNX's names of element types below 32 bits."""

    bytes: int
    kinds: frozenset[str]


@dataclass(frozen=True, eq=False)
class Graph:
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

    def storage(self, name: str) -> Storage:
        """Where the bytes of tensor `name` are and how long they last."""
        if name in self.constants:
            return Storage.CONSTANT
        if name in self._state_names:
            return Storage.STATE
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
        body = [
            f"  {', '.join(str(self.tensors[o]) for o in n.outputs)} = "
            f"{n.op}({', '.join('%' + i for i in n.inputs)})"
            for n in self.nodes
        ]
        head = f"graph {self.name}({', '.join(str(self.tensors[p.tensor]) for p in self.inputs)}) {{"
        body = [f"  state {self.tensors[s.begin]} becomes %{s.end}" for s in self.states] + body
        return "\n".join([head, *body, f"  return {', '.join('%' + p.tensor for p in self.outputs)}", "}"])


def nest_of(graph: Graph, node: Node) -> Nest:
    """The loops of a node."""
    return node.op.nest(*(graph.tensors[name].shape for name in node.inputs))
