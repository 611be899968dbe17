# SPDX-License-Identifier: Apache-2.0
"""A graph while a pass writes it: new nodes and constants, and tensors that others have replaced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import Where
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.ports import Port
from mmcc.ir.types import Quant, Tensor
from mmcc.ops.movement import Expand

SHARED_BYTES = 1 << 16  # new constants up to this size are looked up among those made before


class Draft:
    """Starts with the tensors of `graph` and none of its nodes; a pass keeps, changes or drops each.

    Names in `inputs` are those of the old graph or of the draft; `replace` redirects old ones.
    """

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.tensors = dict(graph.tensors)
        self.constants = dict(graph.constants)
        self.producer: dict[str, Node] = {}
        self.origins = dict(graph.origins)
        self.nodes: list[Node] = []
        self._positions: dict[str, int] = {}
        self._renamed: dict[str, str] = {}
        self._counts: dict[str, int] = {}  # for each wanted name, the numbers that were tried
        self._equal: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}
        self._learned = set(graph.learned or ())

    def now(self, name: str) -> str:
        """What stands for tensor `name` of the old graph in the new one."""
        last = name
        while last in self._renamed:
            last = self._renamed[last]
        while name != last:  # long chains are walked once
            self._renamed[name], name = last, self._renamed[name]
        return last

    def given(self, tensor: Tensor) -> str:
        """The name of a new tensor that no node writes, an input or what a state begins with."""
        name = self._fresh(tensor.name)
        self.tensors[name] = replace(tensor, name=name)
        return name

    def constant(self, data: NDArray[Any], hint: str) -> str:
        """A constant with this data, shared if the same (small) one was made before.

        Of floats that training may change one is shared if it is named after the same one, however large: two
        layers that begin alike do not learn as one.
        """
        data = np.asarray(data, order="C")  # ascontiguousarray would make a vector of a scalar
        learns = self.source.learned is not None and data.dtype.kind == "f"
        shared = learns or data.nbytes <= SHARED_BYTES
        key = (hint if learns else "", data.dtype.str, data.shape, digest(data) if shared else b"")
        if shared and key in self._equal:
            return self._equal[key]
        name = self._fresh(hint)
        self.tensors[name] = Tensor(name, data.shape, ElementType.of(data))
        self.constants[name] = data
        if shared:
            self._equal[key] = name
        return name

    def piece(self, name: str, data: NDArray[Any], what: str) -> str:
        """A constant that another becomes: where training may change that one, it may change this."""
        made = self.constant(data, f"{name}_{what}")
        if name in self._learned:
            self._learned.add(made)
        return made

    def add(
        self, op: Op, inputs: Iterable[str], hint: str, where: tuple[Where, ...], quant: Quant | None = None
    ) -> str:
        """A new node of an op with one result, which gets a new name like `hint`."""
        return self.write(op, inputs, self._fresh(hint), where, quant)

    def add_all(self, op: Op, inputs: Iterable[str], hint: str, where: tuple[Where, ...]) -> tuple[str, ...]:
        """A new node of an op with any number of results, which get new names like `hint`."""
        names = tuple(self.now(name) for name in inputs)
        count = len(op.results(*(self.tensors[name] for name in names)))
        outputs: list[str] = []
        for _ in range(count):
            outputs.append(self._fresh(hint))
            self.tensors[outputs[-1]] = self.tensors[names[0]]  # the name is taken; the shape follows
        self._write(op, names, tuple(outputs), where, (None,) * count)
        return tuple(outputs)

    def write(
        self, op: Op, inputs: Iterable[str], output: str, where: tuple[Where, ...], quant: Quant | None = None
    ) -> str:
        """A new node of an op with one result, the tensor `output`; its shape and type follow from the op."""
        self._write(op, inputs, (output,), where, (quant,))
        return output

    def keep(self, node: Node) -> None:
        """The node as it is, but for inputs that were replaced."""
        quants = tuple(self.tensors[name].quant for name in node.outputs)
        self._write(node.op, node.inputs, node.outputs, node.where, quants)

    def _write(
        self,
        op: Op,
        inputs: Iterable[str],
        outputs: tuple[str, ...],
        where: tuple[Where, ...],
        quants: tuple[Quant | None, ...],
    ) -> None:
        names = tuple(self.now(name) for name in inputs)
        node = Node(op, names, outputs, unique(where))
        results = op.results(*(self.tensors[name] for name in names))
        for output, (shape, dtype), quant in zip(outputs, results, quants, strict=True):
            self.tensors[output] = Tensor(output, shape, dtype, quant)
            self._positions[output] = len(self.nodes)
            self.producer[output] = node
        self.nodes.append(node)

    def replace(self, old: str, new: str, where: tuple[Where, ...] = ()) -> None:
        """Let `new` stand for `old`, of equal shape and type.

        What is read after the last node, an output or the end of a state, stays a tensor of its own that a
        node writes: where it would become an input, a constant or another of these, it is copied (an Expand,
        since a Reshape moves no bytes).
        """
        new = self.now(new)
        if old in self.source.kept:
            others = {self.now(name) for name in self.source.kept if name != old}
            if new not in self.producer or new in others:
                quant = self.tensors[new].quant or self.source.tensors[old].quant
                self.write(Expand(self.tensors[new].shape), (new,), old, where, quant)
                return
        assert old != new
        self._renamed[old] = new
        self.stands_for(new, old)

    def stands_for(self, new: str, old: str) -> None:
        """Note that `new` holds what `old` did (in int8, if it is int8): the same value of the model."""
        if old in self.origins:
            self.origins.setdefault(new, self.origins[old])

    def position(self, name: str) -> int:
        """How many nodes were written before the one that writes tensor `name`."""
        return self._positions[name]

    def is_constant(self, name: str) -> bool:
        """True if the tensor is a constant by now."""
        return self.now(name) in self.constants

    def reads_constants(self, node: Node) -> bool:
        """True if every input of the node is a constant by now."""
        return all(self.is_constant(name) for name in node.inputs)

    def find(self, op: Op, inputs: tuple[str, ...]) -> str | None:
        """The result of a node like this that was written before."""
        return next((n.output for n in self.nodes if n.op == op and n.inputs == inputs), None)

    def graph(self, source: Graph | None = None) -> Graph:
        """The finished graph, without nodes, tensors and constants that nothing needs.

        `source` is the graph whose ports and states it has, if not that with which the draft began.
        """
        source = source or self.source
        outputs = tuple(replace(port, tensor=self.now(port.tensor)) for port in source.outputs)
        states = tuple(replace(state, end=self.now(state.end)) for state in source.states)
        needed = {port.tensor for port in outputs} | {state.end for state in states}
        nodes: list[Node] = []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.outputs):
                nodes.append(node)
                needed.update(node.inputs, node.outputs)
        needed |= source.given
        return replace(
            source,
            tensors={name: t for name, t in self.tensors.items() if name in needed},
            constants={name: data for name, data in self.constants.items() if name in needed},
            nodes=tuple(reversed(nodes)),
            outputs=outputs,
            states=states,
            origins={name: self._origin(name) for name in self.origins if name in needed},
            learned=None if source.learned is None else frozenset(self._learned & needed),
        )

    def _origin(self, name: str) -> Port:
        """The model's value that a tensor stands for; with its quantization, where the model has floats."""
        port, tensor = replace(self.origins[name], tensor=name), self.tensors[name]
        if port.onnx_dtype.is_float and not tensor.dtype.is_float and port.quant is None:
            return replace(port, quant=tensor.quant)
        return port

    def _fresh(self, hint: str) -> str:
        name, count = hint, self._counts.get(hint, 1)
        while name in self.tensors:
            count += 1
            name = f"{hint}_{count}"
        self._counts[hint] = count
        return name


def unique(where: tuple[Where, ...]) -> tuple[Where, ...]:
    """Places in the model, each once, in order."""
    return tuple(dict.fromkeys(where))


def sole_reader(graph: Graph, name: str) -> Node | None:
    """The one node that reads a tensor; None if there are others, or it is read after the last node."""
    readers = graph.consumers[name]
    return readers[0] if len(readers) == 1 and name not in graph.kept else None


def digest(data: NDArray[Any]) -> bytes:
    """What equal arrays of one shape and type have in common, and others have not, in 32 bytes."""
    octets = np.ascontiguousarray(data).reshape(-1).view(np.uint8)  # hashed where they lie, not copied
    return blake2b(octets.data, digest_size=32).digest()
