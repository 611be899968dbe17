# SPDX-License-Identifier: Apache-2.0
"""Cases of recurrent layers in integers: every cell, direction, operand, and sizes that divide nothing."""

from __future__ import annotations

import numpy as np
from mmcc.ops.recurrent import GATES
from mmcc.ops.recurrent_int8 import RecurrentInt8
from op_case import OpCase, rng_of
from op_cases_int8_layers import int8


def cells(
    name: str, steps: int, features: int, cell: str, units: int, sequences: int = 1, given: str = "", **more
) -> OpCase:
    """Gates of both signs that reach their ends; `given` has h, c and n, hops, where they are operands."""
    rng = rng_of(name)
    row = (sequences,) if sequences > 1 else ()
    sums = GATES[cell] * units
    count = sums + more.get("after", False) * units
    numbers = np.stack(
        (
            rng.integers(1 << 28, (1 << 31) - 1, count) // features,
            rng.integers(1 << 27, 1 << 30, count) // units,
            rng.integers(-(1 << 17), 1 << 17, count),
        )
    ).astype(np.int32)
    states = {
        "h": rng.integers(-(1 << 15), 1 << 15, (1, *row, units)).astype(np.int16),
        "c": rng.integers(-(1 << 22), 1 << 22, (1, *row, units)).astype(np.int32),
    }
    states["n"] = np.ones(1, np.int32)
    names = tuple(each if each != "n" else "hops" for each in given)
    op = RecurrentInt8(
        cell, more.pop("x_zero", 7), more.pop("left", 2), 1 << 30, 53, -3, operands=names, **more
    )
    weights = int8(rng, sums, features), int8(rng, sums, units)
    operands = (int8(rng, steps, *row, features), *weights, numbers, *(states[each] for each in given))
    return OpCase(name, op, operands, (False, True, True, True))


def recurrent_int8_cases() -> list[OpCase]:
    return [
        cells("lstm_int8", 7, 20, "lstm", 12),
        cells("lstm_int8_odd", 5, 3, "lstm", 5, x_zero=-128),
        cells("lstm_int8_begun", 4, 16, "lstm", 8, given="hc", low=-100, high=90),
        cells("lstm_int8_sequences", 4, 9, "lstm", 11, 3, given="hc"),
        cells("lstm_int8_backward", 6, 8, "lstm", 4, backward=True, x_zero=127),
        cells("lstm_int8_wide", 3, 33, "lstm", 35, left=0),
        cells("lstm_int8_shifted", 3, 6, "lstm", 6, left=9),
        # 128 times the sum of x exceeds 32 bits
        cells("lstm_int8_long", 1, 1200, "lstm", 4, x_zero=-128, left=7),
        cells("lstm_int8_late", 5, 6, "lstm", 8, given="hcn", lag=5, hop=3),
        cells("gru_int8_later", 4, 9, "gru", 5, 2, given="hn", lag=8, hop=4),
        cells("gru_int8", 7, 20, "gru", 12),
        cells("gru_int8_odd", 5, 3, "gru", 5, 2, given="h"),
        cells("gru_int8_backward", 5, 7, "gru", 9, backward=True),
        cells("gru_int8_after", 6, 17, "gru", 10, after=True),
        cells("gru_int8_after_begun", 6, 4, "gru", 16, given="h", after=True),
        cells("gru_int8_turns", 2, 19, "gru", 51, given="h"),
        cells("gru_int8_after_turns", 2, 32, "gru", 32, after=True),
        cells("rnn_int8", 7, 5, "rnn", 6),
        cells("rnn_int8_one", 5, 1, "rnn", 1, given="h", backward=True),
    ]
