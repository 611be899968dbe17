# SPDX-License-Identifier: Apache-2.0
"""Build a Graph node by node: constants are folded at once, layouts are changed only where needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import Where
from mmcc.frontend.meaning import meanings
from mmcc.frontend.problems import bad_model
from mmcc.frontend.value import Value, runs, whole
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.ports import Port
from mmcc.ir.types import DType, Shape, Tensor
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense, MatMul
from mmcc.ops.elementwise import broadcast_shape
from mmcc.ops.movement import Expand, Reshape, Transpose
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.quantize import DequantizeConstant
from mmcc.ops.resize import ResizeLinear

MAX_ELEMENTS = 2**31 - 1  # sizes and indices in the generated C are 32 bits wide
MAX_RANK = 16
MAX_EMITTED = 2**14  # nodes: passes and planner take a millisecond for each
MAX_WALKED = 6  # axes that a copy of single elements can walk
MULTIPLIES_PER_BYTE = 512  # time is limited by the same budget

Groups = Sequence[Sequence[int]]


@dataclass(slots=True)
class Builder:
    """The graph so far. `where` is the ONNX node being converted, `hint` the name its results get."""

    budget: int  # bytes that folding may still produce
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    constants: dict[str, NDArray[Any]] = field(default_factory=dict[str, "NDArray[Any]"])
    nodes: list[Node] = field(default_factory=list[Node])
    stored: dict[str, int] = field(default_factory=dict[str, int])  # constant -> ONNX type, if mmcc has none
    producer: dict[str, Node] = field(default_factory=dict[str, Node])
    titles: dict[str, str] = field(default_factory=dict[str, str])  # tensor -> its name in ONNX
    hints: dict[str, str] = field(default_factory=dict[str, str])  # tensor -> a name if it has no title
    known: dict[tuple[Op, tuple[str, ...]], Tensor] = field(
        default_factory=dict[tuple[Op, tuple[str, ...]], Tensor]
    )
    where: tuple[Where, ...] = ()
    hint: str = ""
    warnings: dict[str, list[Where]] = field(default_factory=dict[str, list[Where]])  # text -> where it holds

    def warn(self, text: str) -> None:
        """Tell the user something about the node being converted; one warning for all nodes it holds for."""
        self.warnings.setdefault(text, []).extend(self.where)

    # tensors and nodes

    def tensor(self, shape: Shape, dtype: DType, hint: str) -> Tensor:
        """A new tensor; its final name is given by `finish`."""
        if any(extent < 0 for extent in shape) or prod(shape) > MAX_ELEMENTS:
            raise bad_model("MM105", f"a tensor of shape {list(shape)} has more than 2^31 - 1 elements")
        made = Tensor(f"t{len(self.tensors)}", shape, dtype)
        self.tensors[made.name] = made
        self.hints[made.name] = hint
        return made

    def constant(self, array: NDArray[Any], hint: str | None = None) -> Value:
        """A constant, in the shape it has in ONNX."""
        made = self.tensor(array.shape, DType.of(array), self.hint if hint is None else hint)
        self.constants[made.name] = array
        return whole(made, range(array.ndim))

    def is_constant(self, name: str) -> bool:
        """True of constants, quantized ones included."""
        return name in self.constants or self.quantized(name) is not None

    def quantized(self, name: str) -> tuple[DequantizeConstant, str] | None:
        """What makes `name` of a constant of integers, and that constant, if that is what it is."""
        node = self.producer.get(name)
        return (node.op, node.inputs[0]) if node and isinstance(node.op, DequantizeConstant) else None

    def data(self, name: str) -> NDArray[Any]:
        """The elements of a constant in its own layout, quantized ones as float."""
        quantized = self.quantized(name)
        return quantized[0].reference(self.constants[quantized[1]]) if quantized else self.constants[name]

    def array(self, x: Value) -> NDArray[Any]:
        """The elements of a constant in ONNX's layout."""
        spare = [v for v in range(len(x.view)) if not any(v in axis for axis in x.axes)]
        order = [v for axis in x.axes for v in axis] + spare
        return self.data(x.tensor).reshape(x.view).transpose(order).reshape(x.shape)

    def emit(self, op: Op, *inputs: str, hint: str | None = None) -> Tensor:
        """Apply an op: a new node, or a constant if all operands are."""
        result = op.result(*(self.tensors[name] for name in inputs))
        if 0 in result[0] and not all(map(self.is_constant, inputs)):
            raise bad_model("MM105", f"{op} makes an empty tensor {list(result[0])}")
        moves = isinstance(op, (Reshape, Transpose))
        hint = hint or (self._name_of(inputs[0]) if moves else self.hint)
        if (op, inputs) in self.known:
            return self.known[op, inputs]
        quantized = self.quantized(inputs[0]) if moves else None
        made = self._move_quantized(op, result[0], hint, *quantized) if quantized else None
        if made is None and all(map(self.is_constant, inputs)) and not isinstance(op, DequantizeConstant):
            made = self._fold(op, inputs, result, hint)
        if made is None:
            if len(self.nodes) >= MAX_EMITTED:
                raise bad_model("MM105", f"the model needs more than {MAX_EMITTED} nodes that compute")
            made = self.tensor(*result, hint)
            node = Node(op, inputs, made.name, self.where)
            self.nodes.append(node)
            self.producer[made.name] = node
        if moves:
            self.known[op, inputs] = made
        return made

    def _name_of(self, name: str) -> str:
        return self.titles.get(name, self.hints[name])

    def _fold(self, op: Op, inputs: tuple[str, ...], result: tuple[Shape, DType], hint: str) -> Tensor:
        made = self.tensor(*result, hint)
        if not isinstance(op, Reshape):  # costs nothing
            scratch = _scratch(op, [self.tensors[name].shape for name in inputs], made.shape)
            self.spend(made.bytes + scratch, f"{op} to {list(made.shape)}")
        value = op.reference(*(self.data(name) for name in inputs))
        assert value.shape == made.shape
        self.constants[made.name] = value.astype(made.dtype.numpy, copy=False)
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
        """Reshape or Transpose the integers instead of the floats; None if the scales' axis is lost.

        Where a Reshape joins their axis with those before it (the groups of a ConvTranspose), scales repeat.
        """
        axis, copies = old.axis, 1
        if axis is not None and isinstance(op, Transpose):
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

    # layouts

    def shaped(self, x: Value, shape: Shape) -> str:
        """The tensor of `x` under another shape, elements in the same order."""
        name = x.tensor
        node = self.producer.get(name)
        if self.tensors[name].shape != shape and node is not None and isinstance(node.op, Reshape):
            name = node.inputs[0]  # one Reshape in place of two
        return name if self.tensors[name].shape == shape else self.emit(Reshape(shape), name).name

    def viewed(self, x: Value) -> str:
        """The tensor of `x` in the shape of its view."""
        return self.shaped(x, x.view)

    def permuted(self, x: Value, order: Sequence[int]) -> Value:
        """The same value with its solid view axes in another order in memory."""
        solid = x.solid
        assert sorted(order) == solid
        view = tuple(x.view[v] for v in order)
        tensor = x.tensor
        if list(order) != solid:
            compact = self.shaped(x, tuple(x.view[v] for v in solid))
            tensor = self._transposed(compact, [solid.index(v) for v in order])
        return Value(tensor, x.dtype, view, x.permuted_axes(order))

    def _transposed(self, name: str, perm: list[int]) -> str:
        """A tensor with its axes in another order; in several steps if that order is too wild for one."""
        if len(perm) <= MAX_WALKED:
            return self.emit(Transpose(tuple(perm)), name).name
        shape = self.tensors[name].shape
        runs: list[list[int]] = []  # axes that stay neighbours are one
        for axis in perm:
            if runs and axis == runs[-1][-1] + 1:
                runs[-1].append(axis)
            else:
                runs.append([axis])
        if len(runs) <= MAX_WALKED:
            ordered = sorted(runs)
            joined = self.emit(Reshape(tuple(prod(shape[a] for a in run) for run in ordered)), name).name
            moved = self.emit(Transpose(tuple(ordered.index(run) for run in runs)), joined).name
            return self.emit(Reshape(tuple(shape[a] for a in perm)), moved).name
        # what is in front already, two more runs, and the rest in three pieces at most: never too wild
        front = [axis for run in runs[: 2 + (runs[0][0] == 0)] for axis in run]
        step = front + [axis for axis in range(len(perm)) if axis not in front]
        return self._transposed(self._transposed(name, step), [step.index(axis) for axis in perm])

    def by_view(self, x: Value, groups: Groups) -> str:
        """The tensor of `x` with one axis for each group of view axes, those of a group joined."""
        order = [v for group in groups for v in group if x.view[v] != 1]
        moved = self.permuted(x, order) if order != x.solid else x
        return self.shaped(moved, tuple(prod(x.view[v] for v in group) for group in groups))

    def arranged(self, x: Value, groups: Groups) -> str:
        """The tensor of `x` with one axis for each group of ONNX axes, those of a group joined."""
        return self.by_view(x, [[v for k in group for v in x.axes[k]] for group in groups])

    def plain(self, x: Value) -> str:
        """The tensor of `x` just as ONNX has it."""
        return self.arranged(x, [(k,) for k in range(x.rank)])

    def single(self, x: Value) -> Value:
        """The same value with each ONNX axis on at most one axis of the tensor."""
        if any(list(axis) != list(range(axis[0], axis[0] + len(axis))) for axis in x.axes if len(axis) > 1):
            axes = sorted((k for k in range(x.rank) if x.atoms([k])), key=lambda k: min(x.atoms([k])))
            x = self.permuted(x, x.atoms(axes))
        shape: list[int] = []
        place: dict[int, int] = {}  # first view axis -> tensor axis
        inner = {v for axis in x.axes for v in axis[1:]}
        starts = {axis[0]: axis for axis in x.axes if axis}
        for v, extent in enumerate(x.view):
            if v not in inner:
                place[v] = len(shape)
                shape.append(prod(x.view[w] for w in starts.get(v, (v,))) if v in starts else extent)
        axes = tuple((place[axis[0]],) if axis else () for axis in x.axes)
        return Value(self.shaped(x, tuple(shape)), x.dtype, tuple(shape), axes)

    def with_axis(self, x: Value, axis: int, last: bool = False) -> tuple[Value, int]:
        """`single`, with ONNX axis `axis` on an axis of the tensor even if its extent is 1; and which."""
        x = self.single(x)
        if x.axes[axis]:
            return x, x.axes[axis][0]
        earlier = [v for k in range(axis) for v in x.axes[k]]
        at = len(x.view) if last else max(earlier, default=-1) + 1
        view = (*x.view[:at], 1, *x.view[at:])
        axes = tuple(
            (at,) if k == axis else tuple(v + (v >= at) for v in old) for k, old in enumerate(x.axes)
        )
        return Value(self.shaped(x, view), x.dtype, view, axes), at

    def with_axes(self, x: Value, axes: Sequence[int]) -> Value:
        """`with_axis` for several axes."""
        x = self.single(x)
        for axis in axes:
            x, _ = self.with_axis(x, axis)
        return x

    def tail(self, x: Value, axes: Sequence[int]) -> Value:
        """The same value with the given ONNX axes innermost in memory, in any order among themselves."""
        wanted = x.atoms(axes)
        solid = x.solid
        if set(solid[len(solid) - len(wanted) :]) == set(wanted):
            return x
        return self.permuted(x, [v for v in solid if v not in wanted] + wanted)

    def reshape(self, x: Value, shape: Shape) -> Value:
        """ONNX's Reshape."""
        if prod(shape) != x.size:
            raise bad_model(
                "MM104",
                f"cannot reshape {list(x.shape)} ({x.size} elements) to {list(shape)} ({prod(shape)})",
            )
        lazy = x.reshaped(shape) if x.size else None
        if lazy is not None:
            return lazy
        return Value(self.plain(x), x.dtype, shape, tuple((k,) for k in range(len(shape))))

    def expanded(self, x: Value, extents: Mapping[int, int]) -> Value:
        """Repeat ONNX axes of extent 1."""
        if not extents:
            return x
        if x.size * prod(extents.values()) > MAX_ELEMENTS:
            raise bad_model("MM105", f"{list(x.shape)} is expanded by {list(extents.values())}")
        if x.rank > MAX_WALKED and len(extents) > 1:  # the others are one or two axes to a copy then
            for k, extent in extents.items():
                x = self.expanded(x, {k: extent})
            return x
        x = self.with_axes(x, sorted(extents))
        view = list(x.view)
        for k, extent in extents.items():
            view[x.axes[k][0]] = extent
        return replace(x, tensor=self.emit(Expand(tuple(view)), x.tensor).name, view=tuple(view))

    # operators that keep the order of elements

    def unary(self, op: Op, x: Value) -> Value:
        """Apply an op to each element, in whatever layout they are."""
        made = self.emit(op, x.tensor)
        return replace(x, tensor=made.name, dtype=made.dtype)

    def elementwise(self, op: Op, *values: Value) -> Value:
        """Apply an op of several operands by numpy's rules of broadcasting, in the largest one's layout."""
        shape = broadcast_shape(*(x.shape for x in values))
        values = tuple(x.padded(len(shape)) for x in values)
        if len(shape) > MAX_WALKED:
            values = tuple(self._spread(x, shape) for x in values)
        full = [x for x in values if x.shape == shape]
        lead = next((x for x in full if not self.is_constant(x.tensor)), full[0] if full else None)
        refined = self._same_factors(lead, values) if lead else None
        if lead is None or refined is None:
            return self._elementwise_plain(op, shape, values)
        lead = refined[next(k for k, x in enumerate(values) if x is lead)]
        groups = self._common_runs(lead, refined)
        if groups is None:
            groups = [[v] for v in range(len(lead.view))]
        owner = {v: (k, j) for k, axis in enumerate(lead.axes) for j, v in enumerate(_solid(lead, axis))}
        names: list[str] = []
        for x in refined:
            mine: list[list[int]] = []
            for group in groups:
                places = [owner[v] for v in group if v in owner]
                mine.append([_solid(x, x.axes[k])[j] for k, j in places if x.shape[k] != 1])
            names.append(self._operand(x, mine))
        made = self.emit(op, *names)
        return replace(lead, tensor=made.name, dtype=made.dtype)

    def _spread(self, x: Value, shape: Shape) -> Value:
        """An activation that repeats along many axes, in full: kernels walk a few broadcast axes only."""
        missing = {k: n for k, n in enumerate(shape) if x.shape[k] != n}
        few = len(missing) < 2 or x.size == 1 or self.is_constant(x.tensor)
        return x if few else self.expanded(x, missing)

    def _operand(self, x: Value, groups: list[list[int]]) -> str:
        """An operand in a layout; leading axes of extent 1 are left out where that costs nothing."""
        constant = self.is_constant(x.tensor)
        shape = tuple(prod(x.view[v] for v in group) for group in groups)
        own = self.tensors[x.tensor].shape
        order = [v for group in groups for v in group]
        if (
            order == x.solid
            and _stripped(own) == _stripped(shape)
            and len(own) <= len(shape)
            and not constant
        ):
            return x.tensor
        while constant and groups and not groups[0]:
            groups = groups[1:]
        return self.by_view(x, groups)

    def _same_factors(self, lead: Value, values: Sequence[Value]) -> list[Value] | None:
        """All operands with each of their axes factored alike; None if some cannot be."""
        result = list(values)
        for axis in range(lead.rank):
            for _ in range(2):  # a factor that one brings must reach those before it
                for x in list(result):
                    factors = [x.view[v] for v in x.atoms([axis])]
                    for k, other in enumerate(result):
                        if other.shape[axis] == 1 or not factors:
                            continue
                        finer = other.refined(axis, factors)
                        if finer is None:
                            return None
                        result[k] = finer
        return result

    def _common_runs(self, lead: Value, values: Sequence[Value]) -> list[list[int]] | None:
        """The view axes in each axis of the lead's tensor, if each operand has all of them or none."""
        groups = runs(self.tensors[lead.tensor].shape, lead.view)
        owner = {v: k for k, axis in enumerate(lead.axes) for v in axis if lead.view[v] != 1}
        for group in groups or []:
            for x in values:
                if len({x.shape[owner[v]] != 1 for v in group if v in owner}) > 1:
                    return None
        return groups

    def _elementwise_plain(self, op: Op, shape: Shape, values: Sequence[Value]) -> Value:
        first = next((k for k, extent in enumerate(shape) if extent != 1), len(shape))
        kept = range(first, len(shape))
        made = self.emit(op, *(self.arranged(x, [(k,) for k in kept]) for x in values))
        return Value(
            made.name, made.dtype, made.shape, ((),) * first + tuple((k,) for k in range(len(shape) - first))
        )

    # the result

    def copied(self, name: str) -> str:
        """The tensor copied by a node, so that an output is not a constant, an input or another output."""
        tensor = self.tensors[name]
        data = self.data(name) if self.is_constant(name) else None
        source = name if data is None else self.constant(data).tensor
        made = self.tensor(tensor.shape, tensor.dtype, self._name_of(name))
        node = Node(Expand(tensor.shape), (source,), made.name, self.where)
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
            if node.output in live:
                live.update(node.inputs)
                kept.append(node)
        kept.reverse()
        names = self._final_names([t for t in self.tensors if t in live])
        quants = meanings([port.tensor for port in inputs], kept, self.tensors)
        tensors = {names[t]: replace(self.tensors[t], name=names[t], quant=quants.get(t)) for t in names}
        constants = {names[t]: np.asarray(a, order="C") for t, a in self.constants.items() if t in live}
        nodes = tuple(
            replace(n, inputs=tuple(names[i] for i in n.inputs), output=names[n.output]) for n in kept
        )
        ins, outs = (tuple(replace(p, tensor=names[p.tensor]) for p in ports) for ports in (inputs, outputs))
        live_origins = {names[t]: replace(p, tensor=names[t]) for t, p in origins.items() if t in names}
        return Graph(
            name, tensors, constants, nodes, ins, outs, warnings=self._warned(), origins=live_origins
        )

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


def _scratch(op: Op, inputs: Sequence[Shape], output: Shape) -> int:
    """Bytes that an op's reference may need beside its result; at least where a file could abuse that."""
    x = inputs[0]
    match op:
        case Conv(window) | MaxPool(window) | AveragePool(window):
            top, left, bottom, right = window.pads
            taps = prod(output[:2]) * prod(window.kernel) * x[2]
            return 8 * (taps + (x[0] + top + bottom) * (x[1] + left + right) * x[2])
        case ConvTranspose(window, size):
            reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
            full = [
                max((x[k] - 1) * window.strides[k] + reach[k], size[k] + window.pads[k]) for k in range(2)
            ]
            return 8 * prod(full) * output[2]
        case ResizeLinear(row_first, _, taps):
            return 8 * len(row_first) * taps * x[1] * x[2] + 8 * prod(output) * taps
        case Dense() | MatMul() | LocalResponseNorm():
            return op.nest(*inputs).iterations // MULTIPLIES_PER_BYTE
        case _:
            return 0


def _solid(x: Value, axis: Sequence[int]) -> list[int]:
    return [v for v in axis if x.view[v] != 1]


def _stripped(shape: Shape) -> Shape:
    first = next((k for k, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[first:]
