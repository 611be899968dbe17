# SPDX-License-Identifier: Apache-2.0
"""Back through time: the gradients of what the gates of recurrent cells sum up, the last step first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.recurrent import GATES

Array = NDArray[Any]
SLOPES = {"rnn": 1, "gru": 5, "lstm": 6}  # vectors of units in a row of slopes
STATES = {"rnn": 1, "gru": 1, "lstm": 2}  # in a row of g: h, or h and c


@op
@dataclass(frozen=True, slots=True)
class RecurrentGradient:
    """Row t is the gradient of the sums of the gates in the step before that of row t - 1; float.

    Rows are in the order in which the gradient passes: the last step of the cell comes first. What functions
    and gates make of a gradient is linear in it, and known for all steps at once: `slopes`, S below. What is
    left is what one step hands to the one before it: dh and, of an LSTM, dc, which begin with 0.

    Operands: slopes [T, (B,) SLOPES * H]; r [gates * H, H], the recurrent weights; g [T, (B,) STATES * H],
    the gradients of h, or of h and c, of each step that come from outside of the layer. With dh += g (and
    dc += g), d of a gate the gradient of its sum, R that gate's rows of r:

      rnn:  d = dh S0; then dh = R' d
      lstm: dc += dh S4; d_i, d_f, d_c = dc S0, dc S2, dc S3; d_o = dh S1; then dh = R' d, dc = dc S5
      gru:  d_z = dh S0; d_h = dh S2; q = Rh' d_h; d_r = q S1; then dh = dh S3 + q S4 + Rz' d_z + Rr' d_r
            if `after`: d_r = d_h S1, and in the sum Rh' (d_h S4) in place of q S4

    Results: d of all steps [T, (B,) gates * H], gates in ONNX's order; with `begun` also what is left for h
    (and c) before the first step: [1, (B,) H] each.
    """

    cell: Literal["rnn", "gru", "lstm"]
    after: bool = False
    begun: bool = False

    kernel: ClassVar[str] = "recurrent_gradient"
    traits = COMPUTES

    @property
    def vectors(self) -> int:
        """Vectors of units that go from step to step, or from one half of a step to the other."""
        return 1 if self.cell == "rnn" or self.after else 2

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        slopes, r, g = (tensor.shape for tensor in inputs)
        units, gates = r[-1], GATES[self.cell]
        row = slopes[:-1]
        wanted = (
            (*row, SLOPES[self.cell] * units),
            (gates * units, units),
            (*row, STATES[self.cell] * units),
        )
        if len(slopes) not in (2, 3) or (slopes, r, g) != wanted:
            raise ShapeError(f"{self}: {list(slopes)}, {list(r)} and {list(g)} do not fit")
        first = ((1, *row[1:], units), ElementType.F32)
        return (
            ((*row, gates * units), ElementType.F32),
            *(first for _ in range(STATES[self.cell] if self.begun else 0)),
        )

    def nest(self, *inputs: Shape) -> Nest:
        slopes, r, g = inputs
        time, batch = Loop("t", slopes[0], LoopKind.FORWARD), tuple(Loop("b", n) for n in slopes[1:-1])
        gate, unit = Loop("n", r[0]), Loop("k", r[1], LoopKind.REDUCE)
        at = (time.i, *(loop.i for loop in batch))
        reads = (Access(0, slopes, (*at, None)), Access(1, r, (None, None)), Access(2, g, (*at, None)))
        first = (1, *slopes[1:-1], r[1])
        begun = range(1, 1 + STATES[self.cell] if self.begun else 1)
        writes = (
            Access(0, (*slopes[:-1], r[0]), (*at, gate.i)),
            *(Access(k, first, (CONSTANT, *at[1:], gate.i // GATES[self.cell])) for k in begun),
        )
        return Nest((time, *batch, gate, unit), reads, writes, multiplies=True)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        slopes, r, g = inputs
        count = STATES[self.cell]
        carried = [np.zeros((*g.shape[1:-1], r.shape[1]), g.dtype) for _ in range(count)]
        rows: list[Array] = []
        for s, row in zip(slopes, g, strict=True):
            came = [a + b for a, b in zip(carried, np.split(row, count, -1), strict=True)]
            d, carried = self._step(np.split(s, SLOPES[self.cell], -1), r, came)
            rows.append(d)
        first = (state[np.newaxis].astype(g.dtype) for state in carried) if self.begun else ()
        return (np.stack(rows).astype(g.dtype), *first)

    def _step(self, s: list[Array], r: Array, came: list[Array]) -> tuple[Array, list[Array]]:
        """The gradients of a step's sums, and what it hands on."""
        dh = came[0]
        if self.cell == "rnn":
            return dh * s[0], [(dh * s[0]) @ r]
        if self.cell == "lstm":
            dc = came[1] + dh * s[4]
            d = np.concatenate([dc * s[0], dh * s[1], dc * s[2], dc * s[3]], -1)
            return d, [d @ r, dc * s[5]]
        rz, rr, rh = np.split(r, 3)
        dz, fresh = dh * s[0], dh * s[2]
        if self.after:
            reset, left = fresh * s[1], (fresh * s[4]) @ rh
        else:
            product = fresh @ rh
            reset, left = product * s[1], product * s[4]
        return np.concatenate([dz, reset, fresh], -1), [dh * s[3] + left + dz @ rz + reset @ rr]

    def __str__(self) -> str:
        return f"{self.cell}_gradient{'<reset after>' if self.after else ''}"
