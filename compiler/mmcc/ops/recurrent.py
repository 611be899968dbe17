# SPDX-License-Identifier: Apache-2.0
"""The cells of recurrent layers: what is left of ONNX's RNN, GRU and LSTM once the input is multiplied by its
weights for all steps, which is an ordinary dense layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.elementwise import UNARY

Array = NDArray[Any]
GATES = {"rnn": 1, "gru": 3, "lstm": 4}  # in ONNX's order: (h); z, r, h; i, o, f, c


def _affine(x: Array, alpha: float, beta: float) -> Array:
    return alpha * x + beta


def _scaled_tanh(x: Array, alpha: float, beta: float) -> Array:
    return alpha * np.tanh(beta * x)


# functions of gates, as `UNARY` has them, and two that only cells have
CELL_FUNCTIONS: dict[str, tuple[int, Callable[..., Array]]] = {
    **{name: UNARY[name] for name in ("tanh", "sigmoid", "softsign", "softplus")},
    **{name: UNARY[name] for name in ("leaky_relu", "elu", "thresholded_relu", "clamp", "hard_sigmoid")},
    "affine": (2, _affine),
    "scaled_tanh": (2, _scaled_tanh),
}


@dataclass(frozen=True, slots=True)
class CellFunction:
    """The function of a gate, with its parameters; see CELL_FUNCTIONS."""

    name: str
    parameters: tuple[float, ...] = ()

    def __call__(self, x: Array) -> Array:
        """The function of float32 values, rounded once."""
        count, function = CELL_FUNCTIONS[self.name]
        assert len(self.parameters) == count
        with np.errstate(all="ignore"):
            return function(x.astype(np.float64), *self.parameters).astype(np.float32)

    def __str__(self) -> str:
        return f"{self.name}{list(self.parameters) if self.parameters else ''}"


def rounded_to_bytes(h: Array) -> Array:
    """All of h in steps of 1/255 of its range, which includes 0: DynamicQuantizeLinear, and back; float32."""
    low, high = (end(h, initial=np.float32(0)) for end in (np.min, np.max))
    step = (high - low) / np.float32(255) if high > low else np.float32(1)
    zero = np.clip(np.rint(np.float32(0) - low / step), 0, 255).astype(np.float32)
    return ((np.clip(np.rint(h / step) + zero, 0, 255) - zero) * step).astype(np.float32)


@op
@dataclass(frozen=True, slots=True)
class Recurrent:
    """A layer of RNN, GRU or LSTM cells: row t of the result is h after step t; float.

    Operands: x [T, (B,) gates * H], the input times its weights, with all biases that can be added there;
    r [gates * H, H]; then those that `operands` names, in the order of its type's values: "bias" [H] of a GRU
    that resets after its product, "peepholes" [3 * H] of an LSTM (i, o, f), "lengths" [1, (B,) 1] in int32,
    how many steps count of each sequence, and "h", "c" [1, (B,) H] before the first step, or else 0.

    Results: h of all steps [T, (B,) H], 0 where a sequence has ended; then what `last` names, "h" and "c"
    after the last step [1, (B,) H].

    `clip` bounds what the functions of gates are given, but not that of c. `coupled`: the forget gate is 1
    less the input gate. `rounded`: h is `rounded_to_bytes`, that of all sequences together, before it is
    multiplied by r; only of an LSTM.
    """

    cell: Literal["rnn", "gru", "lstm"]
    functions: tuple[CellFunction, ...]
    operands: tuple[Literal["bias", "peepholes", "lengths", "h", "c"], ...] = ()
    last: tuple[Literal["h", "c"], ...] = ()
    backward: bool = False
    clip: float = inf
    coupled: bool = False
    rounded: bool = False

    kernel: ClassVar[str] = "recurrent"
    traits = COMPUTES

    def position(self, operand: str) -> int | None:
        """Which operand of the op one of `operands` is."""
        return 2 + self.operands.index(operand) if operand in self.operands else None  # type: ignore[arg-type]

    def state_type(self, name: str) -> ElementType:
        """Of h or c."""
        return ElementType.F32

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, r, *others = (tensor.shape for tensor in inputs)
        units, gates = r[-1] if r else 0, GATES[self.cell]
        if len(x) not in (2, 3) or x[-1] != gates * units or r != (gates * units, units):
            raise ShapeError(f"{gates} gates of a cell: recurrent weights {list(r)} do not fit {list(x)}")
        row = (1, *x[1:-1])
        wanted = {"bias": (units,), "peepholes": (3 * units,), "lengths": (*row, 1)}
        for name, shape in zip(self.operands, others, strict=True):
            if shape != wanted.get(name, (*row, units)):
                raise ShapeError(f"{name} of a cell: {list(shape)} does not fit {list(x)}")
        last = ((*row, units), ElementType.F32)
        return (((*x[:-1], units), ElementType.F32), *(last for _ in self.last))

    def nest(self, *inputs: Shape) -> Nest:
        x, r, *others = inputs
        time = Loop("t", x[0], LoopKind.BACKWARD if self.backward else LoopKind.FORWARD)
        batch = tuple(Loop("b", extent) for extent in x[1:-1])
        unit = Loop("n", r[1])
        products = Loop("k", r[0], LoopKind.REDUCE)
        columns = tuple(loop.i for loop in batch)
        # only the first step reads these: their one row is that step's
        only = time.i - (x[0] - 1 if self.backward else 0)
        reads = [Access(0, x, (time.i, *columns, None)), Access(1, r, (None, None))]
        for k, (name, shape) in enumerate(zip(self.operands, others, strict=True), 2):
            begin = {"h": only, "c": only, "lengths": CONSTANT}.get(name)
            reads.append(Access(k, shape, (None,) if begin is None else (begin, *columns, None)))
        y = (*x[:-1], r[1])
        last = (1, *y[1:])
        return Nest(
            (time, *batch, unit, products),
            tuple(reads),
            (
                Access(0, y, (time.i, *columns, unit.i)),
                *(Access(k, last, (CONSTANT, *columns, unit.i)) for k in range(1, 1 + len(self.last))),
            ),
            multiplies=True,
        )

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return self.beside(None, *inputs)

    def beside(self, made: Array | None, *inputs: Array) -> tuple[Array, ...]:
        """The reference; if somebody else's first result is given, each step goes on from that one's h.

        So one value that was rounded to another step counts once, not in all steps after it.
        """
        x, r, *others = inputs
        given = dict[str, Array](zip(self.operands, others, strict=True))
        units = r.shape[1]
        y = np.zeros((*x.shape[:-1], units), np.float32)
        zeros = np.zeros(y.shape[1:], np.float32)
        state = {name: given[name][0] if name in given else zeros for name in ("h", "c")}
        steps = range(len(x))
        for t in reversed(steps) if self.backward else steps:
            after = self._step(x[t], r, state, given)
            alive = t < given["lengths"][0] if "lengths" in given else np.True_
            y[t] = np.where(alive, after["h"], 0)
            after["h"] = after["h"] if made is None else made[t]
            state = {name: np.where(alive, after[name], state[name]) for name in state}
        return (y, *(state[name][np.newaxis].astype(np.float32) for name in self.last))

    def _step(
        self, x: Array, r: Array, state: Mapping[str, Array], given: Mapping[str, Array]
    ) -> dict[str, Array]:
        gates = np.split(x, GATES[self.cell], axis=-1)
        weights = np.split(r, GATES[self.cell])
        h, c = state["h"], state["c"]
        match self.cell:
            case "rnn":
                return {"h": self.functions[0](self._clipped(x + h @ r.T)), "c": c}
            case "gru":
                return {"h": self._gru(gates, weights, h, given.get("bias")), "c": c}
            case "lstm":
                return self._lstm(gates, weights, state, given.get("peepholes"))

    def _clipped(self, x: Array) -> Array:
        return np.clip(x, -self.clip, self.clip)

    def _gru(self, gates: list[Array], weights: list[Array], h: Array, bias: Array | None) -> Array:
        """With a bias of its own the product for the new value is made before the reset gate."""
        f, g = self.functions
        z, reset = (f(self._clipped(gates[k] + h @ weights[k].T)) for k in (0, 1))
        product = (reset * h) @ weights[2].T if bias is None else reset * (h @ weights[2].T + bias)
        new = g(self._clipped(gates[2] + product))
        return (1 - z) * new + z * h

    def _lstm(
        self, gates: list[Array], weights: list[Array], state: Mapping[str, Array], peepholes: Array | None
    ) -> dict[str, Array]:
        f, g, o = self.functions
        h, c = state["h"], state["c"]
        peep = np.split(peepholes, 3) if peepholes is not None else [np.zeros((), np.float32)] * 3
        near = rounded_to_bytes(h) if self.rounded else h
        sums = [gate + near @ w.T for gate, w in zip(gates, weights, strict=True)]
        enter = f(self._clipped(sums[0] + peep[0] * c))
        forget = 1 - enter if self.coupled else f(self._clipped(sums[2] + peep[2] * c))
        after = forget * c + enter * g(self._clipped(sums[3]))
        leave = f(self._clipped(sums[1] + peep[1] * after))
        return {"h": leave * o(after), "c": after}

    def __str__(self) -> str:
        names = ", ".join(map(str, self.functions))
        return f"{self.cell}<{names}{' backward' if self.backward else ''}>"
