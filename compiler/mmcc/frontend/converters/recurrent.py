# SPDX-License-Identifier: Apache-2.0
"""ONNX RNN, GRU and LSTM: the input times its weights for all steps, then a cell that goes from step to step.

Each direction is a layer of its own; the results of both lie side by side in the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mmcc.frontend.absent import NO_BIAS
from mmcc.frontend.call import Call
from mmcc.frontend.layouts import arranged
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import converts
from mmcc.frontend.tensors import dtype_of
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.movement import Concat, Reshape, Slice
from mmcc.ops.quantize import DequantizeConstant
from mmcc.ops.recurrent import GATES, CellFunction, Recurrent
from mmcc.ops.window import Window

Cell = Literal["rnn", "gru", "lstm"]
Array = NDArray[Any]

# ONNX's name in lower case: ours, and the defaults for alpha and beta; None where runtimes disagree on them
ONNX_FUNCTIONS: dict[str, tuple[str, tuple[float | None, ...]]] = {
    "tanh": ("tanh", ()),
    "sigmoid": ("sigmoid", ()),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
    "relu": ("clamp", ()),
    "affine": ("affine", (None, None)),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "thresholdedrelu": ("thresholded_relu", (None,)),
    "scaledtanh": ("scaled_tanh", (None, None)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "elu": ("elu", (1.0,)),
}
DEFAULTS = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lstm": ("Sigmoid", "Tanh", "Tanh")}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
COMMON = "constant weights; an activation with parameters states them"


@converts("RNN", notes=COMMON, ignored=("output_sequence",))
def convert_rnn(call: Call) -> tuple[Value, ...]:
    """h' = f(W x + R h + b)."""
    return recurrent_layer(call, "rnn")


@converts("GRU", notes=COMMON, ignored=("output_sequence",))
def convert_gru(call: Call) -> tuple[Value, ...]:
    """Gates z and r, and a new value."""
    return recurrent_layer(call, "gru")


@converts("LSTM", notes=COMMON, ignored=("output_sequence",))
def convert_lstm(call: Call) -> tuple[Value, ...]:
    """Gates i, o and f, a new value, and a cell beside h."""
    return recurrent_layer(call, "lstm")


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Extents of a layer, and which axis of x is which."""

    steps: int
    batch: int
    features: int
    units: int
    directions: int
    batch_first: bool

    @property
    def row(self) -> Shape:
        """The axes of a tensor between time and channels."""
        return (self.batch,) if self.batch > 1 else ()

    @property
    def time_axes(self) -> tuple[tuple[int, ...], ...]:
        """The axes of x for each of a tensor's: time, sequences if there are several, features."""
        time, batch = (1, 0) if self.batch_first else (0, 1)
        return ((time,), (batch,), (2,)) if self.batch > 1 else ((time,), (batch, 2))


class Rounded(Protocol):
    """Sums of integers, for a layer that rounds its input and h to bytes."""

    def product(self, k: int, bias: Array, axes: Sequence[tuple[int, ...]]) -> str:
        """The input times the weights of direction k, plus a bias; a tensor with these axes."""
        ...

    def recurrence(self, k: int) -> tuple[str, dict[str, str]]:
        """The recurrent weights of direction k, and the operands of the cell that belong to them."""
        ...


def recurrent_layer(call: Call, cell: Cell, rounded: Rounded | None = None) -> tuple[Value, ...]:
    """The results of a layer; one that rounds what it multiplies is given what makes its sums."""
    x = call.float_input(0)
    if x.rank != 3:
        raise bad_model("MM104", f"{call.node.op_type} of {list(x.shape)}, which has not three axes")
    direction = call.text("direction", "forward").lower()
    if direction not in DIRECTIONS:
        raise bad_model("MM103", f'direction "{direction}"')
    sizes, biases = _sizes(call, cell, x, len(DIRECTIONS[direction]))
    functions = _functions(call, cell, sizes.directions)
    options = _Options(call, cell, sizes, rounded)
    source = arranged(call.build, x, sizes.time_axes)
    made = [
        options.direction(k, backward, functions[k], source, biases[k])
        for k, backward in enumerate(DIRECTIONS[direction])
    ]
    y = _joined(call, sizes, [each[0] for each in made], sizes.steps)
    found = [y]
    for result in range(1, len(call.node.output)):
        every = [each[result] for each in made]
        known = [tensor for tensor in every if tensor]
        value = _joined(call, sizes, known, 1) if known else y  # nobody reads it
        found.append(value.without([1 if sizes.batch_first else 0]))
    return tuple(found)


def _sizes(call: Call, cell: Cell, x: Value, directions: int) -> tuple[_Sizes, Array]:
    """The extents, as weights [D, gates * H, I] and [D, gates * H, H] have them; biases [D, 2, gates * H]."""
    w, r = call.needed(1, "W"), call.needed(2, "R")
    for index, name in enumerate("WRB", 1):
        if call.has(index) and call.build.stored.get(call.input(index).tensor) == TensorProto.DOUBLE:
            dtype_of(TensorProto.DOUBLE, f"{name} (operand {index})", call.build)  # says that it narrows
    gates = GATES[cell]
    batch_first = bool(call.integer("layout", 0)) if call.version >= 14 else False
    units = r.shape[-1] if r.ndim == 3 else 0
    steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    wanted = ((directions, gates * units, x.shape[2]), (directions, gates * units, units))
    if (w.shape, r.shape) != wanted or call.integer("hidden_size", units) != units or not units:
        raise bad_model(
            "MM104",
            f"weights {list(w.shape)} and {list(r.shape)} do not fit {directions} directions of {gates} "
            f"gates, and {x.shape[2]} features",
        )
    b = call.constant(3, "B")
    b = np.zeros((directions, 2 * gates * units), np.float32) if b is None else b
    if b.shape != (directions, 2 * gates * units):
        raise bad_model("MM104", f"a bias of {list(b.shape)} for weights {list(w.shape)}")
    sizes = _Sizes(steps, batch, x.shape[2], units, directions, batch_first)
    return sizes, b.reshape(directions, 2, gates * units)


def _functions(call: Call, cell: Cell, directions: int) -> list[tuple[CellFunction, ...]]:
    """By direction, the functions of the gates; those with parameters take the next alpha and beta."""
    each = len(DEFAULTS[cell])
    given = call.texts("activations") if "activations" in call.attributes else None
    names = given or list(DEFAULTS[cell]) * directions
    if len(names) != each * directions:
        raise bad_model("MM103", f"{len(names)} activations, not {each * directions}")
    alphas, betas = (iter(call.numbers(f"activation_{name}") or ()) for name in ("alpha", "beta"))
    found: list[CellFunction] = []
    for name in names:
        if name.lower() not in ONNX_FUNCTIONS:
            raise unsupported(f'activation "{name}"')
        ours, defaults = ONNX_FUNCTIONS[name.lower()]
        each_default = zip((alphas, betas), defaults, strict=False)
        known = [next(numbers, default) for numbers, default in each_default]
        parameters = tuple(float(value) for value in known if value is not None)
        if len(parameters) < len(known):
            raise unsupported(f'activation "{name}" without its parameters, on which runtimes disagree')
        found.append(CellFunction(ours, (0.0, inf) if ours == "clamp" else parameters))
    return [tuple(found[k * each : (k + 1) * each]) for k in range(directions)]


@dataclass(frozen=True, eq=False)
class _Options:
    """What is asked of a layer besides its weights, read once for both directions."""

    call: Call
    cell: Cell
    sizes: _Sizes
    rounded: Rounded | None

    @property
    def _bias(self) -> str:
        return ".bias" if self.call.has(3) else NO_BIAS

    def direction(
        self,
        k: int,
        backward: bool,
        functions: tuple[CellFunction, ...],
        source: str,
        b: Array,
    ) -> list[str]:
        """The tensors of Y, Y_h and Y_c of one direction; empty where nobody reads them."""
        call, build, sizes = self.call, self.call.build, self.sizes
        operands: dict[str, str] = {}
        reset_after = self.cell == "gru" and call.integer("linear_before_reset", 0) != 0
        sums = b[0] + b[1]
        if reset_after:
            sums[-sizes.units :] = b[0][-sizes.units :]
            operands["bias"] = build.constant(b[1][-sizes.units :], f"{build.hint}{self._bias}").tensor
        operands |= self._peepholes(k) | self._lengths() | self._initial(k)
        if self.rounded is None:
            product = self._product(source, k, sums)
            recurrent = direction_weights(call, 2, k, f"{build.hint}.recurrence")
        else:
            product = self.rounded.product(k, sums, sizes.time_axes)
            recurrent, numbers = self.rounded.recurrence(k)
            operands = numbers | operands
        read = {name: call.is_read(number) for name, number in (("h", 1), ("c", 2))}
        last = tuple(name for name in ("h", "c") if read[name] and (name == "c" or "lengths" in operands))
        clip = call.finite("clip", 0.0) or inf
        coupled = self.cell == "lstm" and call.integer("input_forget", 0) != 0
        options = backward, clip, coupled, self.rounded is not None
        op = Recurrent(self.cell, functions, tuple(operands), last, *options)  # type: ignore[arg-type]
        hints = (None, *(f"{build.hint}.{name}" for name in last))
        y, *others = (t.name for t in build.emit_all(op, product, recurrent, *operands.values(), hints=hints))
        found = dict(zip(last, others, strict=True))
        if read["h"] and "h" not in found:
            found["h"] = self._row(y, 0 if backward else sizes.steps - 1)
        return [y, found.get("h", ""), found.get("c", "")]

    def _product(self, source: str, k: int, b: Array) -> str:
        """The input times its weights, for all steps."""
        build = self.call.build
        op: Op = Dense()
        hint = f"{build.hint}.input"
        weights = direction_weights(self.call, 1, k, hint)
        if self.sizes.batch > 1:
            op, (rows, features) = Conv(Window((1, 1))), build.tensors[weights].shape
            weights = build.emit(Reshape((rows, 1, 1, features)), weights, hint=hint).name
        bias = build.constant(np.ascontiguousarray(b), f"{hint}{self._bias}").tensor
        return build.emit(op, source, weights, bias, hint=hint).name

    def _row(self, name: str, row: int) -> str:
        """One row of a tensor, if it has several."""
        shape = self.call.build.tensors[name].shape
        if shape[0] == 1:
            return name
        starts = (row, *(0 for _ in shape[1:]))
        return self.call.build.emit(Slice(starts, (1,) * len(shape), (1, *shape[1:])), name).name

    def _peepholes(self, k: int) -> dict[str, str]:
        if self.cell != "lstm" or not self.call.has(7):
            return {}
        p, wanted = self.call.needed(7, "P"), (self.sizes.directions, 3 * self.sizes.units)
        if p.shape != wanted:
            raise bad_model("MM104", f"peepholes of {list(p.shape)}, not {list(wanted)}")
        return {"peepholes": self.call.build.constant(p[k], f"{self.call.build.hint}.peepholes").tensor}

    def _lengths(self) -> dict[str, str]:
        """How many steps count of each sequence; left out where all do."""
        if not self.call.has(4):
            return {}
        lengths = self.call.input(4)
        if lengths.shape != (self.sizes.batch,) or lengths.dtype != ElementType.I32:
            raise bad_model("MM104", f"sequence_lens are {lengths.dtype.name} {list(lengths.shape)}")
        build = self.call.build
        if build.is_constant(lengths.tensor) and (build.array(lengths) >= self.sizes.steps).all():
            return {}
        if self.rounded is not None:
            raise unsupported("sequence_lens, since h of all sequences is rounded together")
        return {"lengths": arranged(build, lengths, [(), (0,), ()] if self.sizes.batch > 1 else [(0,), ()])}

    def _initial(self, k: int) -> dict[str, str]:
        """The state before the first step; left out where it is 0."""
        sizes, build, found = self.sizes, self.call.build, dict[str, str]()
        direction, batch = (1, 0) if sizes.batch_first else (0, 1)
        for name, index in (("h", 5), ("c", 6)) if self.cell == "lstm" else (("h", 5),):
            if not self.call.has(index):
                continue
            value = self.call.float_input(index)
            wanted = [sizes.directions, sizes.batch, sizes.units]
            if value.rank != 3 or [value.shape[direction], value.shape[batch], value.shape[2]] != wanted:
                raise bad_model("MM104", f"an initial {name} of {list(value.shape)}")
            if build.is_constant(value.tensor) and not build.array(value).any():
                continue
            axes = [(direction,), (batch,), (2,)] if sizes.batch > 1 else [(direction, batch), (2,)]
            found[name] = self._row(arranged(build, value, axes), k)
        return found


def direction_weights(call: Call, index: int, k: int, hint: str) -> str:
    """A direction's weights [rows, columns], of operand [D, rows, columns]: integers, if they are."""
    build, value = call.build, call.input(index)
    quantized = build.quantized(value.tensor)
    if quantized is not None:
        op, integers = quantized
        shape = [
            len(op.scales) if axis == op.axis else 1 for axis in range(len(build.tensors[integers].shape))
        ]
        numbers = (
            build.constants[integers],
            np.array(op.scales, np.float32),
            np.array(op.zero_points, np.int32),
        )
        full = [np.broadcast_to(each.reshape(shape), numbers[0].shape) for each in numbers[1:]]
        stored, scales, zeros = (
            build.array(replace(value, tensor=build.constant(np.ascontiguousarray(each)).tensor))[k]
            for each in (numbers[0], *full)
        )
        if (scales == scales[:, :1]).all() and (zeros == zeros[:, :1]).all():
            constant = build.constant(np.ascontiguousarray(stored), hint).tensor
            of_rows = tuple(map(float, scales[:, 0])), tuple(map(int, zeros[:, 0]))
            return build.emit(DequantizeConstant(*of_rows, 0), constant, hint=hint).name
    return build.constant(np.ascontiguousarray(build.array(value)[k]), hint).tensor


def _joined(call: Call, sizes: _Sizes, tensors: Sequence[str], steps: int) -> Value:
    """The directions side by side, with ONNX's axes: time, direction, sequence, unit; or sequence first."""
    build = call.build
    rank = len(sizes.row) + 2
    name = tensors[0] if len(tensors) == 1 else build.emit(Concat(rank - 1), *tensors).name
    view = (steps, *sizes.row, len(tensors), sizes.units)
    time, batch = (0,), (1,) if sizes.row else ()
    direction, unit = (rank - 1,), (rank,)
    axes = (batch, time, direction, unit) if sizes.batch_first else (time, direction, batch, unit)
    return Value(name, ElementType.F32, view, axes)
