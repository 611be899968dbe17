# SPDX-License-Identifier: Apache-2.0
"""Cells of recurrent layers, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.epilogue import epilogue
from mmcc.kernels.scratch import CellVectors
from mmcc.kernels.select import Site, layer
from mmcc.ops.recurrent import GATES
from mmcc.ops.recurrent_int8 import MOST_WIDE, STATES, RecurrentInt8, sigmoid_table

Array = NDArray[Any]
Fields = tuple[tuple[str, Field], ...]
BLOCK = 4  # units whose rows of weights are summed together, and columns that are taken at once
NARROW = "arm_mve"  # the variant that takes x as it is, the bytes of h, and four units at a time
LANES = 16  # columns that it takes at once
PAIRED = "arm_dsp"  # the variant that takes two units for two columns in a word of weights


def sets(op: RecurrentInt8) -> tuple[tuple[int, ...], ...]:
    """Gates whose sums are made side by side, over the same h."""
    if op.cell == "gru" and not op.after:
        return ((0, 1), (2,))
    return (tuple(range(GATES[op.cell])),)


@layer(RecurrentInt8)
def recurrent_int8(op: RecurrentInt8, site: Site) -> KernelUse:
    """One kernel a cell; which operands there are is in the options, too."""
    x, r = site.inputs[0], site.inputs[2].constant()
    units, features, rows = r.shape[1], x.shape[-1], x.shape[0]
    scale = np.array([op.multiplier], np.int32), np.array([op.shift], np.int8)
    end = epilogue(1 << 30, *scale, op.y_zero, (op.low, op.high))
    vectors = CellVectors(op, features, units)
    narrow = site.variant("recurrent_int8") == NARROW
    shifted = 0 if narrow else min(op.left, MOST_WIDE)
    given = tuple((name, op.position(name)) for name in (*STATES, "hops"))
    options = (
        ("cell", op.cell),
        ("sets", tuple(len(gates) for gates in sets(op))),
        ("after", op.after),
        ("backward", op.backward),
        ("left", op.left > shifted),
        *((name, f"x{at}" if at is not None else "") for name, at in given),
        *((f"last_{name}", f"y{1 + op.last.index(name)}" if name in op.last else "") for name in STATES),
        *end.options,
    )
    fields: Fields = (
        ("x", x.where()),
        ("y", site.output.where()),
        *((f"y{k}", site.outputs[k].where()) for k in range(1, len(site.outputs))),
        ("work", site.work()),
        *_constants(op, site),
        *((f"x{at}", site.read(at, name)) for name, at in given if at is not None),
        *end.fields,
        ("multiplier", op.multiplier),
        ("shift", int(end.tail[0])),
        *((("x_zero", op.x_zero), ("wide", 1 << shifted)) if not narrow else ()),
        *((("left", 1 << (op.left - shifted)),) if narrow or op.left > shifted else ()),
        ("channels", features),
        ("units", units),
        ("features", vectors.features),
        ("inner", vectors.inner),
        ("shared", vectors.shared),
        ("own", vectors.own),
        ("first", rows - 1 if op.backward else 0),
        ("final", 0 if op.backward else rows - 1),
        *((("lag", op.lag), ("hop", op.hop)) if "hops" in op.operands else ()),
    )
    return KernelUse("recurrent_int8", options, fields, origins=max(3, len(site.inputs)))


def _constants(op: RecurrentInt8, site: Site) -> Fields:
    """Of each set its weights, scales and biases in blocks of units; those of what r makes of h; table."""
    w, r, numbers = (site.inputs[k].constant() for k in (1, 2, 3))
    gates, variant = GATES[op.cell], site.variant("recurrent_int8")
    rows = zip(np.split(w, gates), np.split(r, gates), strict=True)
    if variant == NARROW:
        parts = [np.hstack((_begun(of_x, op.x_zero), _turns(_begun(of_h, -128)))) for of_x, of_h in rows]
    else:
        parts = [np.hstack((_blocks(of_x, variant), _blocks(of_h, variant))) for of_x, of_h in rows]
    by_gate = np.stack([_units(each) for each in np.split(numbers.T, gates + op.after)], 1)
    if variant == NARROW:
        by_gate = by_gate.transpose(0, 1, 3, 2)  # of four units together
    found: list[tuple[str, Field]] = [("table", site.keep("table", sigmoid_table()))]
    for k, group in enumerate(sets(op)):
        weights = np.stack([parts[gate] for gate in group], axis=1)
        if variant == NARROW:
            weights = _readable(weights.reshape(-1), r.shape[1] % LANES)
        mine = by_gate[:, list(group)]
        found.append((f"weights{k}", site.keep(f"weights{k}", weights.view(np.int32))))
        found.append((f"numbers{k}", site.keep(f"numbers{k}", np.ascontiguousarray(mine))))
    if op.after:
        inner = np.ascontiguousarray(by_gate[:, -1])
        found.append(("inner_numbers", site.keep("inner_numbers", inner)))
    return tuple(found)


def _units(rows: Array) -> Array:
    """Numbers of each unit in blocks, with zeros at the end."""
    padding = (-len(rows)) % BLOCK
    padded = np.pad(rows, ((0, padding), *((0, 0) for _ in rows.shape[1:])))
    return padded.reshape(-1, BLOCK, *rows.shape[1:])


def _begun(rows: Array, less: int) -> Array:
    """Weights [units, columns] in blocks, each one line: what sums begin with if `less` is to be taken off
    what they are multiplied by, then [unit][column]."""
    begins = (-less * rows.astype(np.int64).sum(1)).astype(np.int32)
    padded = _units(rows)
    return np.hstack((_units(begins).view(np.int8), padded.reshape(len(padded), -1)))


def _turns(blocks: Array) -> Array:
    """The same, but [16 columns][unit][column], and of the rest [unit][column]."""
    begins, rows = np.split(blocks, [4 * BLOCK], axis=1)
    rows = rows.reshape(len(blocks), BLOCK, -1)
    cut = np.split(rows, range(LANES, rows.shape[2], LANES), axis=2)
    return np.hstack((begins, *(each.reshape(len(blocks), -1) for each in cut)))


def _readable(line: Array, rest: int) -> Array:
    """The same with zeros behind: of the last four rows, of `rest` columns, the third is read as a vector."""
    return np.pad(line, (0, max(0, LANES - 2 * rest + 3) // 4 * 4 if rest else 0))


def _blocks(rows: Array, variant: str) -> Array:
    """Weights [units, columns] in blocks of units, as one line each: [column of columns][unit][column]."""
    padded = _units(rows)
    padded = np.pad(padded, ((0, 0), (0, 0), (0, (-rows.shape[1]) % BLOCK)))
    if variant == PAIRED:
        return paired(padded)
    blocks, units, width = padded.shape
    cut = padded.reshape(blocks, units, width // BLOCK, BLOCK)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3)).reshape(blocks, -1)


def paired(weights: Array) -> Array:
    """Weights [blocks, units, columns] as one line a block: [pair of columns][pair of units][column][unit].

    A pair's second unit comes first, plus 128: the low byte of a halfword, see mmcc_recurrent_dsp.h.
    """
    blocks, units, width = weights.shape
    pairs = weights.reshape(blocks, units // 2, 2, width // 2, 2)[:, :, ::-1].transpose(0, 3, 1, 4, 2)
    halves = np.ascontiguousarray(pairs)
    halves[..., 0] ^= np.int8(-128)
    return halves.reshape(blocks, -1)
