# SPDX-License-Identifier: Apache-2.0
"""Cells of recurrent layers, float."""

from __future__ import annotations

from math import isinf, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import Constant, Field, KernelUse
from mmcc.kernels.portable.conv_float import ALIGN, pack
from mmcc.kernels.portable.float_fields import half_option
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.portable.recurrent_int8 import NARROW, PAIRED, paired
from mmcc.kernels.scratch import vectors, whole_lines
from mmcc.kernels.select import Site, layer
from mmcc.ops.recurrent import GATES, Recurrent

# gates whose sums are made side by side, over the same h
SETS = {"rnn": ((0,),), "gru": ((0, 1), (2,)), "lstm": ((0, 1), (2, 3))}
FUNCTIONS = {"rnn": "f", "gru": "fg", "lstm": "fgo"}
OF_BYTES = ("scales", "zeros")  # operands that belong to recurrent weights of 8 bits
OF_WEIGHTS = (*OF_BYTES, "bias", "peepholes")
OPERANDS = (*OF_WEIGHTS, "lengths", "h", "c", "hops")
BLOCK = 8  # units whose sums are made side by side
COLUMNS = {NARROW: 8}  # of bytes of a row that a variant has side by side; others four
Fields = tuple[tuple[str, Field], ...]


@layer(Recurrent)
def recurrent(op: Recurrent, site: Site) -> KernelUse:
    """One kernel a cell with its functions; which operands there are is in the options, too."""
    x, r = site.inputs[0], site.inputs[1]
    units, rows = r.shape[1], x.shape[0]
    plain = _is_plain(op, site)
    functions = zip(FUNCTIONS[op.cell], op.functions, strict=True)
    options = (
        ("cell", op.cell),
        ("functions", tuple((name, function.name) for name, function in functions)),
        ("sets", (GATES[op.cell],) if op.rounded else tuple(len(gates) for gates in SETS[op.cell])),
        ("backward", op.backward),
        ("clipped", not isinf(op.clip)),
        ("coupled", op.coupled),
        ("rounded", op.rounded),
        ("cells", op.cells),
        half_option(site),
        ("plain", plain),
        *((name, _field(op, name, plain=plain)) for name in OPERANDS),
        *((f"last_{name}", f"y{1 + op.last.index(name)}" if name in op.last else "") for name in ("h", "c")),
    )
    fields: Fields = (
        ("x", x.where()),
        ("y", site.output.where()),
        *((f"y{k}", site.outputs[k].where()) for k in range(1, len(site.outputs))),
        ("work", site.work()),
        *((("x1", source_view(site, 1)),) if plain else _weights(op, site, r.constant())),
        *(_of_bytes(op, site) if op.rounded else ()),
        *_given(op, site, plain=plain),
        *_parameters(op),
        ("units", units),
        ("vectors", vectors(op)),
        ("first", rows - 1 if op.backward else 0),
        ("final", 0 if op.backward else rows - 1),
        *((("lag", op.lag), ("hop", op.hop)) if "hops" in op.operands else ()),
    )
    kernel = "recurrent_rounded" if op.rounded else "recurrent"
    return KernelUse(kernel, options, fields, origins=max(3, len(site.inputs)))


def _is_plain(op: Recurrent, site: Site) -> bool:
    """True if training changes some of the weights."""
    read = (op.position(name) for name in OF_WEIGHTS)
    return any(site.inputs[at].data is None for at in (1, *read) if at is not None)


def _field(op: Recurrent, operand: str, *, plain: bool) -> str:
    """The field of an operand: constants have their name, others a number, by which they are checked."""
    at = op.position(operand)
    if at is None or (operand in OF_WEIGHTS and not plain):
        return "" if at is None else operand
    return f"x{at}"


def _given(op: Recurrent, site: Site, *, plain: bool) -> Fields:
    """What there is besides x and the recurrent weights."""
    found: list[tuple[str, Field]] = []
    for operand in op.operands:
        at = op.position(operand)
        assert at is not None
        if operand in OF_WEIGHTS and plain:
            found.append((f"x{at}", source_view(site, at)))
        elif operand in OF_WEIGHTS:
            found.append((operand, site.keep(operand, site.inputs[at].constant())))
        else:
            found.append((f"x{at}", site.read(at, operand)))
    return tuple(found)


def _weights(op: Recurrent, site: Site, r: NDArray[Any]) -> tuple[tuple[str, Constant], ...]:
    """For each set of gates [block of 8 units][h][gate][8]; bytes: [block of 4 units][gate] of `_bytes`."""
    if op.rounded:
        variant = site.variant("recurrent_rounded")
        lines = [_bytes(part, variant) for part in np.split(r, GATES[op.cell])]
        return (("weights0", site.keep("weights0", np.stack(lines, axis=1), 4)),)
    each = [pack(part, 1) for part in np.split(r, GATES[op.cell])]  # [1, block, h, 8]
    sets = [np.stack([each[gate][0] for gate in gates], axis=2) for gates in SETS[op.cell]]
    return tuple((f"weights{k}", site.keep(f"weights{k}", array, ALIGN)) for k, array in enumerate(sets))


def _bytes(rows: NDArray[np.int8], variant: str) -> NDArray[np.int8]:
    """Rows [units, h] as [block of 4 units][columns of h][unit][column], with zeros behind both."""
    units, inner = rows.shape
    padded = np.pad(rows, ((0, -units % BLOCK), (0, whole_lines(inner) - inner)))
    fours = padded.reshape(-1, 4, padded.shape[1])
    if variant == PAIRED:
        first = padded.shape[1] // 8 * 4
        return np.hstack((paired(fours[..., :first]), paired(fours[..., first:])))
    wide = COLUMNS.get(variant, 4)
    cut = fours.reshape(len(fours), 4, -1, wide).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cut).reshape(len(cut), -1)


def _of_bytes(op: Recurrent, site: Site) -> Fields:
    """Where h lies in bytes, in floats from where h and c begin, and how many there are."""
    sequences = prod(site.inputs[0].shape[1:-1])
    units = site.inputs[1].shape[1]
    return ("near", vectors(op) * units * sequences), ("inner", whole_lines(units))


def _parameters(op: Recurrent) -> tuple[tuple[str, Field], ...]:
    """Of the functions, and the clip."""
    names = FUNCTIONS[op.cell]
    found = [
        (f"{name}{k}", float(value))
        for name, function in zip(names, op.functions, strict=True)
        for k, value in enumerate(function.parameters)
    ]
    return (*found, *(() if isinf(op.clip) else (("clip", float(op.clip)),)))
