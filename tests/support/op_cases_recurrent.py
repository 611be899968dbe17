# SPDX-License-Identifier: Apache-2.0
"""Cases of recurrent layers: every cell, direction, function and operand."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
from mmcc.ops.recurrent import CELL_FUNCTIONS, GATES, CellFunction, Recurrent
from mmcc.ops.recurrent_gradient import SLOPES, STATES, RecurrentGradient
from op_case import OpCase, rng_of
from op_case_values import real


def layers(
    name: str,
    steps: int,
    cell: str,
    units: int,
    functions: tuple[CellFunction, ...],
    operands: tuple[str, ...] = (),
    sequences: int = 1,
    **options,
) -> OpCase:
    """A recurrent layer; what starts it and how long its sequences are is not constant."""
    rng = rng_of(name)
    row = (sequences,) if sequences > 1 else ()
    sums = GATES[cell] * units
    shapes = {"bias": (units,), "peepholes": (3 * units,)}
    numbers = {"lengths": rng.integers(0, steps + 1, (1, *row, 1)), "hops": np.ones(1)}
    given = [
        numbers[operand].astype(np.int32)
        if operand in numbers
        else real(rng, *shapes.get(operand, (1, *row, units)))
        for operand in operands
    ]
    x, r = real(rng, steps, *row, sums), real(rng, sums, units) / np.float32(units**0.5)
    constant = (False, True, *(operand in shapes for operand in operands))
    return OpCase(name, Recurrent(cell, functions, operands, **options), (x, r, *given), constant)


def rounded_layer(
    name: str,
    steps: int,
    units: int,
    zeros: tuple[str, ...] = (),
    operands: tuple[str, ...] = (),
    sequences: int = 1,
    **options,
) -> OpCase:
    """An LSTM that rounds h to bytes, with recurrent weights of 8 bits."""
    functions = CellFunction("sigmoid"), CellFunction("tanh"), CellFunction("tanh")
    case = layers(name, steps, "lstm", units, functions, operands, sequences, **options)
    rng, rows = rng_of(f"{name} weights"), 4 * units
    given = {
        "scales": rng.uniform(0.002, 0.01, rows).astype(np.float32),
        "zeros": rng.integers(-128, 128, rows).astype(np.int32),
    }
    names = ("scales", *zeros)
    x, _, *others = case.inputs
    r = rng.integers(-128, 128, (rows, units)).astype(np.int8)
    op = replace(case.op, operands=(*names, *operands), rounded=True)
    constant = (*case.constant[:2], *(True for _ in names), *case.constant[2:])
    return OpCase(name, op, (x, r, *(given[each] for each in names), *others), constant)


def recurrent_layers() -> list[OpCase]:
    sigmoid, tanh = CellFunction("sigmoid"), CellFunction("tanh")
    gru, lstm = (sigmoid, tanh), (sigmoid, tanh, tanh)
    cases = [
        layers("rnn_plain", 7, "rnn", 5, (tanh,)),
        layers("rnn_begun", 5, "rnn", 16, (CellFunction("clamp", (0.0, inf)),), ("h",), clip=0.5),
        layers("rnn_backward", 6, "rnn", 9, (tanh,), ("lengths", "h"), 3, backward=True),
        layers("gru_plain", 7, "gru", 12, gru),
        layers("gru_one_unit", 4, "gru", 1, gru, backward=True),
        layers("gru_reset_after", 6, "gru", 20, gru, ("bias", "h"), 2, clip=0.7),
        layers("gru_backward", 5, "gru", 8, gru, ("bias", "lengths"), backward=True),
        layers("lstm_plain", 7, "lstm", 20, lstm),
        layers("lstm_one_step", 1, "lstm", 8, lstm, ("h", "c")),
        layers("lstm_begun", 6, "lstm", 3, lstm, ("h", "c"), 4, coupled=True),
        layers("lstm_peepholes", 5, "lstm", 11, lstm, ("peepholes", "lengths", "h", "c"), 2, clip=0.4),
        layers("gru_late", 5, "gru", 9, gru, ("bias", "h", "hops"), 2, lag=5, hop=3),
        layers("lstm_later", 4, "lstm", 8, lstm, ("h", "c", "hops"), lag=9, hop=4),
        layers("lstm_backward", 6, "lstm", 9, lstm, ("peepholes", "c"), backward=True),
    ]
    cases += [
        rounded_layer("lstm_rounded", 7, 12),
        rounded_layer("lstm_rounded_begun", 4, 5, ("zeros",), ("h", "c"), 3),
        rounded_layer("lstm_rounded_backward", 5, 9, (), ("peepholes",), backward=True),
        rounded_layer("lstm_rounded_one_unit", 4, 1, ("zeros",), clip=0.8),
    ]
    for function, (count, _) in CELL_FUNCTIONS.items():
        other = CellFunction(function, (0.25, 0.5)[:count])
        cases.append(layers(f"gru_{function}", 3, "gru", 6, (sigmoid, other)))
        cases.append(layers(f"lstm_{function}", 3, "lstm", 6, (sigmoid, tanh, other), clip=0.9))
    return cases


def trained_layers() -> list[OpCase]:
    """Layers whose weights are no constants; LSTMs that show c; and steps backward."""
    sigmoid, tanh = CellFunction("sigmoid"), CellFunction("tanh")
    gru, lstm = (sigmoid, tanh), (sigmoid, tanh, tanh)
    known = [
        layers("rnn_trained", 5, "rnn", 19, (tanh,), ("h",), 2),
        layers("gru_trained", 5, "gru", 11, gru),
        layers("gru_reset_after_trained", 4, "gru", 9, gru, ("bias",), backward=True),
        layers("lstm_trained", 4, "lstm", 10, lstm, ("peepholes", "h", "c"), 2, cells=True),
    ]
    cases = [replace(case, constant=()) for case in known]
    cases.append(layers("lstm_cells", 5, "lstm", 12, lstm, cells=True))
    for name, units, sequences, op in (
        ("rnn", 9, 1, RecurrentGradient("rnn")),
        ("gru", 6, 2, RecurrentGradient("gru")),
        ("gru_after", 7, 1, RecurrentGradient("gru", after=True)),
        ("lstm", 8, 1, RecurrentGradient("lstm")),
        ("lstm_wide", 5, 3, RecurrentGradient("lstm")),
    ):
        rng, row = rng_of(f"{name} back"), (sequences,) if sequences > 1 else ()
        slopes, g = (
            real(rng, 6, *row, count * units) / np.float32(2) for count in (SLOPES[op.cell], STATES[op.cell])
        )
        r = real(rng, GATES[op.cell] * units, units) / np.float32(units)
        cases.append(OpCase(f"{name}_backward_steps", op, (slopes, r, g), (False, name == "gru", False)))
    return cases
