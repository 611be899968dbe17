# SPDX-License-Identifier: Apache-2.0
"""The cells of recurrent layers: what is left of ONNX's RNN, GRU and LSTM once the input is multiplied by its
weights for all steps, which is an ordinary dense layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.elementwise import UNARY
from mmcc.ops.halves import widened

Array = NDArray[Any]
LEAST_RANGE = np.float32(1e-30)  # of h that is rounded: a step of less could be 0 in float32
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


Begin = Literal["first", "every"]  # which steps read the row of an operand that has one for each sequence


def cell_nest(
    x: Shape,
    units: int,
    products: int,
    operands: Sequence[tuple[Shape, Begin | None]],
    backward: bool,
    last: int,
) -> Nest:
    """The loops of a layer of cells over x [T, (B,) K]: its steps in order, in each the products of a unit.

    `operands` are those after x; None is what every step reads whole. After the result of all steps come
    `last` results [1, (B,) H].
    """
    time = Loop("t", x[0], LoopKind.BACKWARD if backward else LoopKind.FORWARD)
    batch = tuple(Loop("b", extent) for extent in x[1:-1])
    unit = Loop("n", units)
    columns = tuple(loop.i for loop in batch)
    # only the first step reads these: their one row is that step's
    rows = {"first": time.i - (x[0] - 1 if backward else 0), "every": CONSTANT}
    reads = [Access(0, x, (time.i, *columns, None))]
    for k, (shape, begin) in enumerate(operands, 1):
        index = (None,) * len(shape) if begin is None else (rows[begin], *columns, None)
        reads.append(Access(k, shape, index))
    writes = [Access(0, (*x[:-1], units), (time.i, *columns, unit.i))]
    end = (1, *x[1:-1], units)
    writes += [Access(k, end, (CONSTANT, *columns, unit.i)) for k in range(1, 1 + last)]
    loops = (time, *batch, unit, Loop("k", products, LoopKind.REDUCE))
    return Nest(loops, tuple(reads), tuple(writes), multiplies=True)


@dataclass(frozen=True, slots=True)
class CellFunction:
    """The function of a gate, with its parameters; see CELL_FUNCTIONS."""

    name: str
    parameters: tuple[float, ...] = ()

    def __call__(self, x: Array) -> Array:
        """The function in float64, rounded once to the type of x."""
        count, function = CELL_FUNCTIONS[self.name]
        assert len(self.parameters) == count
        with np.errstate(all="ignore"):
            return function(x.astype(np.float64), *self.parameters).astype(x.dtype)

    def __str__(self) -> str:
        return f"{self.name}{list(self.parameters) if self.parameters else ''}"


def rounded_to_bytes(h: Array) -> tuple[Array, Any]:
    """All of h as DynamicQuantizeLinear has it: bytes less their zero point, int32, and the step, float32.

    A step is 1/255 of the range of h, which includes 0.
    """
    low, high = (end(h, initial=np.float32(0)) for end in (np.min, np.max))
    step = (high - low) / np.float32(255) if high - low > LEAST_RANGE else np.float32(1)
    zero = np.clip(np.rint(np.float32(0) - low / step), 0, 255).astype(np.float32)
    return (np.clip(np.rint(h / step) + zero, 0, 255) - zero).astype(np.int32), step


class Late(Protocol):
    """A cell of a stream whose rows lag behind."""

    @property
    def lag(self) -> int: ...
    @property
    def hop(self) -> int: ...


def steps_before_start(op: Late, hops: Array | None, steps: int) -> int:
    """How many of a hop's steps come before row 0 of the sequence: they leave h and c as they are.

    `hops` is how many there were before this one; None if the cell is no late one of a stream.
    """
    return 0 if hops is None else min(steps, max(0, op.lag - int(hops[0]) * op.hop))


@op
@dataclass(frozen=True, slots=True)
class Recurrent:
    """A layer of RNN, GRU or LSTM cells: row t of the result is h after step t; float.

    Operands: x [T, (B,) gates * H], the input times its weights, with all biases that can be added there;
    r [gates * H, H], which may be float16 if it is constant; then those that `operands` names, in the order
    of its type's values: "scales" [gates * H] and "zeros" in int32 [gates * H], see `rounded`, "bias" [H] of
    a GRU that resets after its product, "peepholes" [3 * H] of an LSTM (i, o, f), "lengths" [1, (B,) 1] in
    int32, how many steps count of each sequence, "h", "c" [1, (B,) H] before the first step, or else 0, and
    "hops" [1] in int32: x begins with row `hops * hop - lag` of a sequence, see `steps_before_start`.

    Results: h of all steps [T, (B,) H], 0 where a sequence has ended, and h as it was where it has not begun;
    then what `last` names, "h" and "c" after the last step [1, (B,) H].

    `clip` bounds what the functions of gates are given, but not that of c. `coupled`: the forget gate is 1
    less the input gate. `rounded`: r is int8, and multiplies h in integers, `rounded_to_bytes` for all
    sequences together; a row of r less its zero point, if there are "zeros", is in steps of its scale; only
    of an LSTM. `cells`: a row of the first result [T, (B,) 2 * H] is h, then c, which
    is what steps backward read; only of an LSTM without lengths and `last`.
    """

    cell: Literal["rnn", "gru", "lstm"]
    functions: tuple[CellFunction, ...]
    operands: tuple[Literal["scales", "zeros", "bias", "peepholes", "lengths", "h", "c", "hops"], ...] = ()
    last: tuple[Literal["h", "c"], ...] = ()
    backward: bool = False
    clip: float = inf
    coupled: bool = False
    rounded: bool = False
    cells: bool = False
    lag: int = 0
    hop: int = 0

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
        wanted = {"bias": (units,), "peepholes": (3 * units,), "lengths": (*row, 1), "hops": (1,)}
        wanted |= dict.fromkeys(("scales", "zeros"), (gates * units,))
        for name, shape in zip(self.operands, others, strict=True):
            if shape != wanted.get(name, (*row, units)):
                raise ShapeError(f"{name} of a cell: {list(shape)} does not fit {list(x)}")
        if self.rounded != ("scales" in self.operands) or (self.rounded and self.cell != "lstm"):
            raise ShapeError(
                f"recurrent weights with scales are those of an LSTM that rounds h, not of {self}"
            )
        if "hops" in self.operands and (self.backward or "lengths" in self.operands or self.cells):
            raise ShapeError(f"a stream's cell goes forward, over one sequence that has no end: not {self}")
        if self.cells and (self.cell != "lstm" or "lengths" in self.operands or self.last):
            raise ShapeError(f"h and c of every step are those of an LSTM over all steps, not of {self}")
        last = ((*row, units), ElementType.F32)
        return (((*x[:-1], units * (1 + self.cells)), ElementType.F32), *(last for _ in self.last))

    def nest(self, *inputs: Shape) -> Nest:
        x, r, *others = inputs
        begins: dict[str, Begin] = {"h": "first", "c": "first", "lengths": "every"}
        operands: list[tuple[Shape, Begin | None]] = [(r, None)]
        for name, shape in zip(self.operands, others, strict=True):
            operands.append((shape, begins.get(name)))
        return cell_nest(x, r[1] * (1 + self.cells), r[0], operands, self.backward, len(self.last))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return self.beside(None, *inputs)

    def beside(self, made: Array | None, *inputs: Array) -> tuple[Array, ...]:
        """The reference; if somebody else's first result is given, each step goes on from that one's h.

        So one value that was rounded to another step counts once, not in all steps after it.
        """
        x, r, *others = inputs
        r = widened(r)
        given = dict[str, Array](zip(self.operands, others, strict=True))
        units = r.shape[1]
        y = np.zeros((*x.shape[:-1], units * (1 + self.cells)), x.dtype)
        zeros = np.zeros((*x.shape[1:-1], units), x.dtype)
        state = {name: given[name][0] if name in given else zeros for name in ("h", "c")}
        early = steps_before_start(self, given.get("hops"), len(x))
        y[:early] = state["h"] if early else 0
        steps = range(early, len(x))
        for t in reversed(steps) if self.backward else steps:
            after = self._step(x[t], r, state, given)
            alive = t < given["lengths"][0] if "lengths" in given else np.True_
            shown = np.concatenate([after["h"], after["c"]], -1) if self.cells else after["h"]
            y[t] = np.where(alive, shown, 0)
            after["h"] = after["h"] if made is None else made[t][..., :units]
            state = {name: np.where(alive, after[name], state[name]) for name in state}
        return (y, *(state[name][np.newaxis].astype(x.dtype) for name in self.last))

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
                return self._lstm(gates, self._products(r, h, given), state, given.get("peepholes"))

    def _products(self, r: Array, h: Array, given: Mapping[str, Array]) -> list[Array]:
        """h times the weights of each gate."""
        if not self.rounded:
            return [h @ w.T for w in np.split(r, GATES[self.cell])]
        near, step = rounded_to_bytes(h)
        zeros = given["zeros"] if "zeros" in given else np.zeros(len(r), np.int32)
        w = r.astype(np.int32) - zeros[:, np.newaxis]
        exact: Array = (near.astype(np.float64) @ w.T.astype(np.float64)).astype(h.dtype)
        return np.split(exact * (step * given["scales"]), GATES[self.cell], axis=-1)

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
        self, gates: list[Array], products: list[Array], state: Mapping[str, Array], peepholes: Array | None
    ) -> dict[str, Array]:
        f, g, o = self.functions
        c = state["c"]
        peep = np.split(peepholes, 3) if peepholes is not None else [np.zeros((), c.dtype)] * 3
        sums = [gate + product for gate, product in zip(gates, products, strict=True)]
        enter = f(self._clipped(sums[0] + peep[0] * c))
        forget = 1 - enter if self.coupled else f(self._clipped(sums[2] + peep[2] * c))
        after = forget * c + enter * g(self._clipped(sums[3]))
        leave = f(self._clipped(sums[1] + peep[1] * after))
        return {"h": leave * o(after), "c": after}

    def __str__(self) -> str:
        names = ", ".join(map(str, self.functions))
        more = f"{' backward' if self.backward else ''}{' with cells' if self.cells else ''}"
        return f"{self.cell}<{names}{more}>"
