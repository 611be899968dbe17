# SPDX-License-Identifier: Apache-2.0
"""Build a Graph node by node: what depends on constants only is computed at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mmcc.errors import Where
from mmcc.frontend.blocked import Blocked
from mmcc.frontend.folding import scratch_bytes
from mmcc.frontend.meaning import meanings
from mmcc.frontend.problems import bad_model
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op, Result
from mmcc.ir.ports import Port
from mmcc.ir.types import Shape, Tensor
from mmcc.ops.elementwise import Cast
from mmcc.ops.movement import Expand, Reshape, Slice, Transpose
from mmcc.ops.quantize import DequantizeConstant

MAX_ELEMENTS = 2**31 - 1  # sizes and indices in the generated C are 32 bits wide
MAX_RANK = 16
MAX_EMITTED = 2**14  # nodes: passes and planner take a millisecond for each


@dataclass(slots=True)
class Builder:
    """The graph so far. `where` is the ONNX node being converted, `hint` the name its results get."""

    budget: int  # bytes that folding may still produce
    keep_batch_norm: bool = False  # as a node of its own
    keep_loops: bool = True  # as a node with a body
    weigh_loops: bool = True  # short ones only where their code is worth more than their RAM
    training: bool = False  # will change constants: each layer of a volume reads all of its weights
    runs: int = 0  # of nodes in the bodies of loops that stay loops, so far
    unrolled: int = 0  # nodes that loops have become so far
    listed: int = 0  # work that sequences took so far (frontend/sequences.py)
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    constants: dict[str, NDArray[Any]] = field(default_factory=dict[str, "NDArray[Any]"])
    nodes: list[Node] = field(default_factory=list[Node])
    learned: set[str] = field(default_factory=set[str])  # constants of the model, as it has them
    read: dict[int, tuple[TensorProto, Value]] = field(
        default_factory=dict[int, "tuple[TensorProto, Value]"]
    )  # initializers by identity: each step of an unrolled loop reads those of its body
    stored: dict[str, int] = field(default_factory=dict[str, int])  # constant -> ONNX type, if mmcc has none
    producer: dict[str, Node] = field(default_factory=dict[str, Node])
    titles: dict[str, str] = field(default_factory=dict[str, str])  # tensor -> its name in ONNX
    hints: dict[str, str] = field(default_factory=dict[str, str])  # tensor -> a name if it has no title
    known: dict[tuple[Op, tuple[str, ...]], tuple[Tensor, ...]] = field(
        default_factory=dict[tuple[Op, tuple[str, ...]], tuple[Tensor, ...]]
    )
    wide: dict[str, str] = field(default_factory=dict[str, str])  # tensor of narrow floats -> as float32
    blocked: dict[str, Blocked] = field(default_factory=dict[str, Blocked])  # constant -> as the file has it
    where: tuple[Where, ...] = ()
    hint: str = ""
    warnings: dict[str, list[Where]] = field(default_factory=dict[str, list[Where]])  # text -> where it holds

    def warn(self, text: str) -> None:
        """Tell the user something about the node being converted; one warning for all nodes it holds for."""
        self.warnings.setdefault(text, []).extend(self.where)

    # tensors and nodes

    def tensor(self, shape: Shape, dtype: ElementType, hint: str) -> Tensor:
        """A new tensor; its final name is given by `finish`."""
        if any(extent < 0 for extent in shape) or prod(shape) > MAX_ELEMENTS:
            raise bad_model("MM105", f"a tensor of shape {list(shape)} has more than 2^31 - 1 elements")
        made = Tensor(f"t{len(self.tensors)}", shape, dtype)
        self.tensors[made.name] = made
        self.hints[made.name] = hint
        return made

    def constant(self, array: NDArray[Any], hint: str | None = None) -> Value:
        """A constant, in the shape it has in ONNX."""
        made = self.tensor(array.shape, ElementType.of(array), self.hint if hint is None else hint)
        self.constants[made.name] = array
        return whole(made, range(array.ndim))

    def begun(self, value: Value) -> Value:
        """What a loop begins with: zeros there, or ones, are none that training may change.

        Weights that a loop hands on as they are stay the model's: a copy would learn apart.
        """
        if not self.training or value.tensor not in self.learned:
            return value
        data = self.data(value.tensor)
        alike = data.size > 0 and bool((data == data.flat[0]).all())
        return replace(value, tensor=self.constant(data).tensor) if alike else value

    def is_constant(self, name: str) -> bool:
        """True of constants, quantized ones included."""
        return name in self.constants or self.quantized(name) is not None

    def quantized(self, name: str) -> tuple[DequantizeConstant, str] | None:
        """Of a quantized constant the op that dequantizes it, and the constant of its integers; else None."""
        node = self.producer.get(name)
        return (node.op, node.inputs[0]) if node and isinstance(node.op, DequantizeConstant) else None

    def data(self, name: str) -> NDArray[Any]:
        """The elements of a constant in its own layout, quantized ones as float."""
        quantized = self.quantized(name)
        return quantized[0].reference(self.constants[quantized[1]])[0] if quantized else self.constants[name]

    def array(self, x: Value) -> NDArray[Any]:
        """The elements of a constant in ONNX's layout."""
        spare = [v for v in range(len(x.view)) if not any(v in axis for axis in x.axes)]
        order = [v for axis in x.axes for v in axis] + spare
        return self.data(x.tensor).reshape(x.view).transpose(order).reshape(x.shape)

    def emit(self, op: Op, *inputs: str, hint: str | None = None) -> Tensor:
        """Apply an op with one result: a new node, or a constant if all operands are."""
        (made,) = self.emit_all(op, *inputs, hints=(hint,))
        return made

    def emit_all(self, op: Op, *inputs: str, hints: Sequence[str | None]) -> tuple[Tensor, ...]:
        """Apply an op: a new node, or constants if all operands are; a hint for each result's name."""
        results = op.results(*(self.tensors[name] for name in inputs))
        assert len(hints) == len(results)
        if all(0 in shape for shape, _ in results):  # there is nothing to compute
            return tuple(
                self._empty(*result, hint or self.hint) for result, hint in zip(results, hints, strict=True)
            )
        permutes = op.traits.permutes
        names = [hint or (self._name_of(inputs[0]) if permutes else self.hint) for hint in hints]
        if (op, inputs) in self.known:
            return self.known[op, inputs]
        quantized = self.quantized(inputs[0]) if permutes or isinstance(op, Slice) else None
        moved = self._move_quantized(op, results[0][0], names[0], *quantized) if quantized else None
        made = (moved,) if moved else None
        if made is None and all(map(self.is_constant, inputs)) and not isinstance(op, DequantizeConstant):
            made = self._fold(op, inputs, results, names)
        if made is None:
            if len(self.nodes) >= MAX_EMITTED:
                raise bad_model("MM105", f"the model needs more than {MAX_EMITTED} nodes that compute")
            made = tuple(self.tensor(*result, name) for result, name in zip(results, names, strict=True))
            node = Node(op, inputs, tuple(tensor.name for tensor in made), self.where)
            self.nodes.append(node)
            self.producer |= dict.fromkeys(node.outputs, node)
        if permutes or (isinstance(op, Slice) and made[0].name in self.constants):
            self.known[op, inputs] = made  # a piece of weights is one constant, however often it is read
        if (permutes or isinstance(op, Cast)) and inputs[0] in self.learned:
            self.learned.add(made[0].name)
        return made

    def _empty(self, shape: Shape, dtype: ElementType, hint: str) -> Tensor:
        made = self.tensor(shape, dtype, hint)
        self.constants[made.name] = np.zeros(shape, dtype.numpy)
        return made

    def _name_of(self, name: str) -> str:
        return self.titles.get(name, self.hints[name])

    def _fold(
        self, op: Op, inputs: tuple[str, ...], results: tuple[Result, ...], names: Sequence[str]
    ) -> tuple[Tensor, ...]:
        made = tuple(self.tensor(*result, name) for result, name in zip(results, names, strict=True))
        if not isinstance(op, Reshape):  # costs nothing
            scratch = scratch_bytes(op, [self.tensors[name].shape for name in inputs], made[0].shape)
            self.spend(sum(t.bytes for t in made) + scratch, f"{op} to {list(made[0].shape)}")
        values = op.reference(*(self.data(name) for name in inputs))
        for tensor, value in zip(made, values, strict=True):
            assert value.shape == tensor.shape
            self.constants[tensor.name] = value.astype(tensor.dtype.numpy, copy=False)
        return made

    def spend(self, size: int, what: str) -> None:
        """Take bytes from the budget for constants; an error if there are not enough."""
        if size > self.budget:
            raise bad_model(
                "MM111",
                f"folding {what} takes {size} bytes, and {self.budget} are left",
                "folding them first with ONNX Runtime: SessionOptions.optimized_model_filepath",
            )
        self.budget -= size

    def _move_quantized(
        self, op: Op, shape: Shape, hint: str, old: DequantizeConstant, integers: str
    ) -> Tensor | None:
        """Reshape, Transpose or Slice the integers instead of the floats; None if the scales' axis is lost.

        Where a Reshape joins their axis with those before it (the groups of a ConvTranspose), scales repeat.
        """
        axis, copies = old.axis, 1
        if axis is not None and isinstance(op, Slice):
            left = op.starts[axis] + op.steps[axis] * np.arange(op.shape[axis])
            scales, zeros = (tuple(of[k] for k in left) for of in (old.scales, old.zero_points))
            old = replace(old, scales=scales, zero_points=zeros)
        elif axis is not None and isinstance(op, Transpose):
            axis = op.perm.index(axis)
        elif axis is not None:
            before, extent = prod(self.tensors[integers].shape[:axis]), len(old.scales)
            axis = None
            for k, n in enumerate(shape):
                if n % extent == 0 and prod(shape[:k]) * (n // extent) == before:
                    axis, copies = k, n // extent
                    break
            if axis is None:
                return None
        new = replace(old, scales=old.scales * copies, zero_points=old.zero_points * copies, axis=axis)
        return self.emit(new, self.emit(op, integers).name, hint=hint)

    # the result

    def copied(self, name: str) -> str:
        """The tensor copied by a node, so that an output is not a constant, an input or another output."""
        tensor = self.tensors[name]
        data = self.data(name) if self.is_constant(name) else None
        source = name if data is None else self.constant(data).tensor
        made = self.tensor(tensor.shape, tensor.dtype, self._name_of(name))
        node = Node(Expand(tensor.shape), (source,), (made.name,), self.where)
        self.nodes.append(node)
        self.producer[made.name] = node
        return made.name

    def finish(
        self, name: str, inputs: Sequence[Port], outputs: Sequence[Port], origins: Mapping[str, Port]
    ) -> Graph:
        """Drop what no output needs, and give tensors their names in ONNX, made unique."""
        live = {port.tensor for port in (*inputs, *outputs)}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if not live.isdisjoint(node.outputs):
                live.update(node.inputs, node.outputs)
                kept.append(node)
        kept.reverse()
        names = self._final_names([t for t in self.tensors if t in live])
        quants = meanings([port.tensor for port in inputs], kept, self.tensors)
        tensors = {names[t]: replace(self.tensors[t], name=names[t], quant=quants.get(t)) for t in names}
        constants = {names[t]: np.asarray(a, order="C") for t, a in self.constants.items() if t in live}
        nodes = tuple(
            replace(n, inputs=tuple(names[i] for i in n.inputs), outputs=tuple(names[o] for o in n.outputs))
            for n in kept
        )
        ins, outs = (tuple(replace(p, tensor=names[p.tensor]) for p in ports) for ports in (inputs, outputs))
        live_origins = {names[t]: replace(p, tensor=names[t]) for t, p in origins.items() if t in names}
        graph = Graph(
            name, tensors, constants, nodes, ins, outs, warnings=self._warned(), origins=live_origins
        )
        learned = frozenset(names[t] for t in self.learned if t in names)
        return replace(graph, learned=learned) if self.training else graph

    def _warned(self) -> tuple[str, ...]:
        lines: list[str] = []
        for text, places in self.warnings.items():
            more = f" ({len(places)} nodes in all)" if len(places) > 1 else ""
            lines.append(f"{places[0]}: {text}{more}" if places else text)
        return tuple(lines)

    def _final_names(self, live: Sequence[str]) -> dict[str, str]:
        names: dict[str, str] = {}
        taken: set[str] = set()
        counts: dict[str, int] = {}  # of tensors with the same base, so that each number is tried once
        for t in sorted(live, key=lambda t: t not in self.titles):
            base = self._name_of(t)
            name, count = base, counts.get(base, 1)
            while name in taken:
                count += 1
                name = f"{base}.{count}"
            counts[base] = count
            taken.add(name)
            names[t] = name
        return {t: names[t] for t in live}
