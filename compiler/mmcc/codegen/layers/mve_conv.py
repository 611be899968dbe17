"""Convolutions and dense layers in int8 on Armv8.1-M vectors (Helium): which kernel, and how constants are packed.

One instruction multiplies 16 values of a pixel by 16 weights of a filter and adds up. Four filters go together, so
their weights lie as [4 filters][16 values] for each 16 values of a window, in the order in which they are read.
Filters beyond a multiple of four, and channels of a depthwise window, are made by a last block that overlaps the
one before: nothing is padded and no partial block is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.layers import Site, variant_layer
from mmcc.codegen.layers.conv_int8 import Filters, filters_of, row_bound, views, window_fields
from mmcc.codegen.layers.epilogue import Fields, Options
from mmcc.ir.program import KernelUse
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.window import Window

VECTOR = 16  # values of a vector
BLOCK = 4  # filters or channels of a block
LANES = 8  # taps of a depthwise window that one gathering load brings
PATCH_LIMIT = 160  # bytes of a window that may be gathered on the stack
TAP_LIMIT = 25  # taps of a window whose addresses may be listed on the stack
GATHER_LIMIT = 2**16  # bytes that a gathering load of 16-bit offsets reaches


@dataclass(frozen=True, slots=True)
class Block:
    """What all kernels of filters in blocks of four are told of the end of a filter."""

    filters: Filters

    @property
    def usable(self) -> bool:
        """Vectors keep the high word of a product only, have symmetric weights, and four filters at least."""
        filters = self.filters
        fast = dict(filters.epilogue.options)["requantize"] != "wide"
        return fast and filters.w_zero == 0 and filters.w.shape[0] >= BLOCK

    @property
    def options(self) -> Options:
        return (("left", dict(self.filters.epilogue.options)["requantize"] == "left"),)

    def fields(self, op: ConvInt8 | DenseInt8) -> Fields:
        left = dict(self.filters.epilogue.fields).get("left", 0)
        more: Fields = (("left", left),) if left else ()
        return (("y_zero", op.y_zero), ("low", op.low), ("high", op.high), *more)

    @property
    def order(self) -> NDArray[np.int64]:
        """The filters of all blocks, one after the other."""
        count = self.filters.w.shape[0]
        starts = [*range(0, count - BLOCK + 1, BLOCK), *([count - BLOCK] if count % BLOCK else [])]
        return (np.array(starts)[:, None] + np.arange(BLOCK)).reshape(-1)

    @property
    def scale(self) -> NDArray[np.int32]:
        """For each block four biases, four multipliers, and four shifts of a byte: negative is to the right."""
        filters, order = self.filters, self.order
        right = -(filters.epilogue.shift.astype(np.int16) + 1)
        shift = np.ascontiguousarray(right[order].astype(np.int8).reshape(-1, BLOCK))
        bias = filters.bias[order].astype(np.int32).reshape(-1, BLOCK)
        multiplier = filters.multiplier[order].astype(np.int32).reshape(-1, BLOCK)
        return np.concatenate((bias, multiplier, shift.view("<i4").astype(np.int32)), 1)


def pack_runs(w: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights [filters, runs, values] as [block][run][16 values][4 filters][16], what is left of a run as [4][rest].

    The last load of a block reads a whole vector: bytes behind its weights must exist.
    """
    (filters, runs, values), block = w.shape, BLOCK
    whole, count = values // VECTOR, filters // BLOCK
    blocks = w.reshape(count, block, runs, values)
    vectors = blocks[..., : whole * VECTOR].reshape(count, block, runs, whole, VECTOR)
    head = vectors.transpose(0, 2, 3, 1, 4).reshape(count, runs, whole * block * VECTOR)
    rest = values % VECTOR
    tail = blocks[..., whole * VECTOR :].transpose(0, 2, 1, 3).reshape(count, runs, block * rest)
    spare = np.zeros(VECTOR if rest else 0, np.int8)
    return np.concatenate((np.concatenate((head, tail), 2).reshape(-1), spare))


@variant_layer("arm_mve", DenseInt8)
def dense_int8(op: DenseInt8, site: Site) -> KernelUse | None:
    """A pointwise convolution of images one pixel wide."""
    block = Block(filters_of(site, op.w_zero, op.x_zero, op.y_zero, (op.low, op.high)))
    if not block.usable:
        return None
    return _pointwise(op, site, block, (1, 1))


@variant_layer("arm_mve", ConvInt8)
def conv_int8(op: ConvInt8, site: Site) -> KernelUse | None:
    """Windows of few values are gathered; others are listed by where their taps are."""
    block = Block(filters_of(site, op.w_zero, op.x_zero, op.y_zero, (op.low, op.high)))
    if not block.usable:
        return None
    if op.groups > 1:
        return None
    window, (_, kh, kw, depth) = op.window, block.filters.w.shape
    if (kh, kw) == (1, 1) and not any(window.pads):
        return _pointwise(op, site, block, window.strides)
    if depth % VECTOR and kh * kw * depth <= PATCH_LIMIT:
        return _patch(op, site, block)
    return _window(op, site, block) if kh * kw <= TAP_LIMIT else None


def _use(op: ConvInt8 | DenseInt8, site: Site, block: Block, runs: int, options: Options, fields: Fields):
    """Loops are made for the number of vectors in a run; `values` of a run lie side by side."""
    w = block.filters.w[block.order]
    values = w[0].size // runs
    vectors = dict(fields).get("joined", 0), values // VECTOR
    per_turn = 2 if all(isinstance(n, int) and n % 2 == 0 for n in vectors) else 1
    loop = 0 if values < VECTOR else per_turn
    counted: Fields = (
        ("filters", block.filters.w.shape[0]),
        ("turns", values // VECTOR // max(loop, 1)),
        ("block_weights", BLOCK * w[0].size),
    )
    return KernelUse(
        "mve_conv_int8",
        (
            *block.options,
            *options,
            ("loop", loop),
            ("rest", values % VECTOR),
            ("pairs", site.output.geometry[1] > 1),
        ),
        (
            *views(site),
            ("weights", site.keep("weights", pack_runs(w.reshape(len(w), runs, values)))),
            ("scale", site.keep("scale", block.scale)),
            *block.fields(op),
            *counted,
            *fields,
        ),
    )


def _pointwise(op: ConvInt8 | DenseInt8, site: Site, block: Block, strides: tuple[int, int]) -> KernelUse:
    fields: Fields = (("stride_rows", strides[0]), ("stride_cols", strides[1]))
    return _use(op, site, block, 1, (("form", "point"), ("kernel", (1, 1)), ("depth", 0), ("dense", True)), fields)


def _joined(site: Site, window: Window) -> bool:
    """True if the columns of a window follow each other in memory."""
    channels = site.inputs[0].shape[2]
    return window.dilations[1] == 1 and site.inputs[0].where().col_stride == channels


def _patch(op: ConvInt8, site: Site, block: Block) -> KernelUse:
    options: Options = (
        ("form", "patch"),
        ("kernel", op.window.kernel),
        ("depth", block.filters.w.shape[3]),
        ("dense", _joined(site, op.window)),
    )
    return _use(op, site, block, 1, options, (*window_fields(site, op.window), ("x_zero", op.x_zero)))


def _window(op: ConvInt8, site: Site, block: Block) -> KernelUse:
    """A row of the window is one run where its columns follow each other in whole vectors."""
    (_, kh, kw, depth), window = block.filters.w.shape, op.window
    joined = kw * depth // VECTOR if depth % VECTOR == 0 and _joined(site, window) else 0
    pad = site.keep("pad", np.full(kw * depth if joined else depth, op.x_zero, np.int8))
    fields: Fields = (
        *window_fields(site, window),
        ("pad", pad),
        ("joined", joined),
        ("kernel_rows", kh),
        ("kernel_cols", kw),
        ("reach", (kw - 1) * window.dilations[1] + 1),
    )
    rows, cols = row_bound(kh), row_bound(kw)
    use = _use(
        op, site, block, kh * kw, (("form", "window"), ("kernel", (rows, cols)), ("depth", 0), ("dense", True)), fields
    )
    if not joined:
        return use
    turn = dict(use.options)["loop"]
    return KernelUse(
        use.template, use.options, tuple((n, joined // turn if n == "joined" else v) for n, v in use.fields)
    )
