# SPDX-License-Identifier: Apache-2.0
"""int8 convolutions and dense layers on Armv8.1-M vectors (Helium): which kernel, how constants are packed.

One instruction multiplies 16 values of a pixel by 16 weights of a filter and adds up. Four filters go
together, so their weights lie as [4 filters][16 values] for each 16 values of a window, in the order in which
they are read. Filters beyond a multiple of four, and channels of a depthwise window, are made by a last block
that overlaps the one before: nothing is padded and no partial block is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields, Options
from mmcc.kernels.portable.conv_float import inner_columns
from mmcc.kernels.portable.conv_int8 import (
    Filters,
    columns_join,
    filters_of,
    reaches_outside,
    row_bound,
    views,
    window_fields,
)
from mmcc.kernels.select import Site, variant_layer
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.window import Window

VECTOR = 16  # values of a vector
BLOCK = 4  # filters or channels of a block
SHARED_REST = 8  # values beyond whole vectors that most networks have, if any
LANES = 8  # taps of a depthwise window that one gathering load brings
PATCH_LIMIT = 160  # bytes of a window that may be gathered on the stack
TAP_LIMIT = 25  # taps of a window whose addresses may be listed on the stack
WIDEST = 49  # taps of a depthwise window
SIDE = 7  # rows of a window that kernels are made for; above these, for the exact number
GATHER_LIMIT = 2**16  # bytes that a gathering load of 16-bit offsets reaches


@dataclass(frozen=True, slots=True)
class Block:
    """What all kernels of filters in blocks of four are told of the end of a filter."""

    filters: Filters

    @property
    def usable(self) -> bool:
        """Vectors keep the high word of a product only, and have symmetric weights."""
        return self.filters.plain and self.filters.w_zero == 0

    @property
    def options(self) -> Options:
        return (("left", self.filters.epilogue.left > 0),)

    def fields(self, op: ConvInt8 | DenseInt8) -> Fields:
        left = self.filters.epilogue.left
        more: Fields = (("left", left),) if left else ()
        return (("y_zero", op.y_zero), *more)

    @staticmethod
    def limits(op: ConvInt8 | DenseInt8) -> Fields:
        return (("low", op.low), ("high", op.high))

    @property
    def order(self) -> NDArray[np.int64]:
        """The filters of all blocks, one after the other; the first few again if there are less than four."""
        count = self.filters.w.shape[0]
        if count < BLOCK:
            return np.arange(BLOCK) % count
        starts = [*range(0, count - BLOCK + 1, BLOCK), *([count - BLOCK] if count % BLOCK else [])]
        return (np.array(starts)[:, None] + np.arange(BLOCK)).reshape(-1)

    @property
    def scale(self) -> NDArray[np.int32]:
        """For each block four biases, multipliers, and shifts of a byte each, negative to the right."""
        filters, order = self.filters, self.order
        right = -(filters.epilogue.tail.astype(np.int16) + 1)
        shift = np.ascontiguousarray(right[order].astype(np.int8).reshape(-1, BLOCK))
        bias = filters.bias[order].astype(np.int32).reshape(-1, BLOCK)
        multiplier = filters.multiplier[order].astype(np.int32).reshape(-1, BLOCK)
        return np.concatenate((bias, multiplier, shift.view("<i4").astype(np.int32)), 1)


def pack_runs(w: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights [filters, runs, values] as [block][run][16 values][4 filters][16], a run's rest as [4][rest].

    The last load of a block reads a whole vector: bytes behind its weights must exist.
    """
    (filters, runs, values), block = w.shape, BLOCK
    whole, count = values // VECTOR, filters // BLOCK
    blocks = w.reshape(count, block, runs, values)
    vectors = blocks[..., : whole * VECTOR].reshape(count, block, runs, whole, VECTOR)
    head = vectors.transpose(0, 2, 3, 1, 4).reshape(count, runs, whole * block * VECTOR)
    rest = values % VECTOR
    tail = blocks[..., whole * VECTOR :].transpose(0, 2, 1, 3).reshape(count, runs, block * rest)
    return np.concatenate((head, tail), 2).reshape(count, -1)


def filter_stream(block: Block, w: NDArray[np.int8]) -> NDArray[np.int32]:
    """All constants of four filters one behind the other, blocks after each other; `w` as for `pack_runs`."""
    scale = np.ascontiguousarray(block.scale.astype("<i4")).view(np.int8)
    stream = np.concatenate((scale[:, : 4 * BLOCK], pack_runs(w), scale[:, 4 * BLOCK :]), 1)
    return np.ascontiguousarray(stream).view("<i4").astype(np.int32)  # words are aligned


@variant_layer("arm_mve", DenseInt8)
def dense_int8(op: DenseInt8, site: Site) -> KernelUse | None:
    """A pointwise convolution of images one pixel wide."""
    block = Block(filters_of(site, op))
    if not block.usable:
        return None
    return _pointwise(op, site, block, (1, 1))


@variant_layer("arm_mve", ConvInt8)
def conv_int8(op: ConvInt8, site: Site) -> KernelUse | None:
    """Windows of few values are gathered; others are listed by where their taps are."""
    block = Block(filters_of(site, op))
    if not block.usable:
        return None
    if op.groups > 1:
        return _depthwise(op, site, block)
    window, (_, kh, kw, depth) = op.window, block.filters.w.shape
    if (kh, kw) == (1, 1) and not any(window.pads):
        return _pointwise(op, site, block, window.strides)
    if depth % VECTOR and kh * kw * depth <= PATCH_LIMIT:
        return _patch(op, site, block)
    return _window(op, site, block) if kh * kw <= TAP_LIMIT else None


@dataclass(frozen=True, slots=True)
class Form:
    """How the kernel comes by the values of a window, as its template says; `joined` vectors make a row."""

    name: str
    runs: int = 1
    kernel: tuple[int, int] = (1, 1)
    depth: int = 0
    dense: bool = True
    joined: int = 0


def _use(op: ConvInt8 | DenseInt8, site: Site, block: Block, form: Form, fields: Fields) -> KernelUse:
    """The kernel's inner loop takes two vectors a turn where all runs have an even number of them."""
    w = block.filters.w[block.order].reshape(len(block.order), form.runs, -1)
    count, values = block.filters.w.shape[0], w.shape[2]
    vectors, block_bytes = values // VECTOR, BLOCK * (form.runs * values + 9)
    rest = values % VECTOR
    loop = min(vectors, 1 if vectors % 2 or form.joined % 2 else 2)
    turns, made_for = vectors // max(loop, 1), rest
    if form.name == "point" and (rest or loop == 1):  # one kernel for any number of vectors
        loop, made_for, turns = 1, rest or SHARED_REST, 2 * vectors - 2 + (rest > 0)
    joined: Fields = (("joined", form.joined // loop if form.joined else 0),) if form.name == "window" else ()
    return KernelUse(
        "mve_conv_int8",
        (
            *block.options,
            ("form", form.name),
            ("kernel", form.kernel),
            ("depth", form.depth),
            ("dense", form.dense),
            ("few", count < BLOCK),
            ("ragged", count > BLOCK and count % BLOCK > 0),
            ("loop", loop),
            ("rest", made_for),
            ("pairs", site.output.geometry[1] > 1),
        ),
        (
            *views(site),
            ("stream", site.keep("stream", filter_stream(block, w))),
            *block.fields(op),
            *block.limits(op),
            *((("filters", count),) if count % BLOCK else ()),
            *((("blocks", count // BLOCK),) if count >= BLOCK else ()),
            *((("block_bytes", block_bytes),) if count > BLOCK and count % BLOCK else ()),
            ("turns", turns),
            *joined,
            *fields,
        ),
    )


def _pointwise(op: ConvInt8 | DenseInt8, site: Site, block: Block, strides: tuple[int, int]) -> KernelUse:
    fields: Fields = (("stride_rows", strides[0]), ("stride_cols", strides[1]))
    return _use(op, site, block, Form("point"), fields)


def _patch(op: ConvInt8, site: Site, block: Block) -> KernelUse:
    depth, dense = int(block.filters.w.shape[3]), columns_join(site, op.window)
    form = Form("patch", kernel=op.window.kernel, depth=depth, dense=dense)
    return _use(op, site, block, form, (*window_fields(site, op.window), ("x_zero", op.x_zero)))


def _window(op: ConvInt8, site: Site, block: Block) -> KernelUse:
    """A row of the window is one run where its columns follow each other in whole vectors."""
    (kh, kw), depth, window = op.window.kernel, int(block.filters.w.shape[3]), op.window
    joined = kw * depth // VECTOR if depth % VECTOR == 0 and columns_join(site, window) else 0
    pad = np.full(kw * depth if joined else depth, op.x_zero, np.int8)
    fields: Fields = (
        *window_fields(site, window),
        ("pad", site.keep("pad", pad)),
        ("kernel_rows", kh),
        ("kernel_cols", kw),
        ("reach", (kw - 1) * window.dilations[1] + 1),
    )
    form = Form("window", runs=kh * kw, kernel=(row_bound(kh), row_bound(kw)), joined=joined)
    return _use(op, site, block, form, fields)


def _odd_tap(site: Site, window: Window) -> tuple[int, int] | None:
    """A tap that no output has outside the image, the middle one if it can be."""
    found: list[int] = []
    for axis in (0, 1):
        kernel, dilation = window.kernel[axis], window.dilations[axis]
        last = (site.output.shape[axis] - 1) * window.strides[axis] - window.pads[axis]
        taps = sorted(range(kernel), key=lambda tap, middle=kernel // 2: abs(tap - middle))
        first, size = window.pads[axis], site.inputs[0].shape[axis]
        inside = [tap for tap in taps if tap * dilation >= first and last + tap * dilation < size]
        if not inside:
            return None
        found.append(inside[0])
    return found[0], found[1]


def _far(site: Site, window: Window) -> int:
    """An offset that none in a gathering load exceeds."""
    x, height = site.inputs[0].where(), site.inputs[0].shape[0]
    rows = (window.kernel[0] - 1) * window.dilations[0] if x.rows >= height else x.rows - 1
    return rows * x.row_stride + window.kernel[1] * window.dilations[1] * x.col_stride + BLOCK


def _stream(block: Block, odd: int, *, small: bool) -> NDArray[np.int32]:
    """All constants of a block of channels one behind the other; see the kernel."""
    w = block.filters.w[block.order]
    taps = w.reshape(len(w) // BLOCK, BLOCK, -1)
    even = np.delete(taps, odd, 2).reshape(len(taps), BLOCK, -1, LANES)
    halves = even[:, [[0, 2], [1, 3]]].transpose(0, 1, 3, 2, 4).reshape(len(taps), 2, -1)
    scale = np.ascontiguousarray(block.scale.astype("<i4")).view(np.int8)
    if not small:
        biases = np.ascontiguousarray(block.scale[:, [0, 2, 1, 3]].astype("<i4")).view(np.int8)
        halves, scale = np.concatenate((biases.reshape(len(taps), 2, -1), halves), 2), scale[:, 16:]
    stream = np.concatenate((halves.reshape(len(taps), -1), taps[:, :, odd], scale), 1)
    return np.ascontiguousarray(stream).view("<i4").astype(np.int32)  # words are aligned


def _lanes(window: Window, odd: tuple[int, int]) -> NDArray[np.uint16]:
    """For each row and then each column of the window the predicate bits of its taps, by vectors of eight."""
    taps = [tap for tap in product(range(window.kernel[0]), range(window.kernel[1])) if tap != odd]
    bits = [
        sum(3 << 2 * (k - v) for k in range(v, v + LANES) if taps[k][axis] == line)
        for axis in (0, 1)
        for line in range(window.kernel[axis])
        for v in range(0, len(taps), LANES)
    ]
    return np.array(bits, np.uint16)


def _depthwise(op: ConvInt8, site: Site, block: Block) -> KernelUse | None:
    """Windows of 8n + 1 taps, as squares of odd sides are, near enough for 16-bit offsets."""
    window, odd, (kh, kw) = op.window, _odd_tap(site, op.window), op.window.kernel
    plain = block.filters.w.shape[3] == 1 and block.filters.w.shape[0] == op.groups >= BLOCK
    made_for = kh * kw in range(LANES + 1, WIDEST + 1, LANES)
    if not (plain and made_for and odd is not None and _far(site, window) < GATHER_LIMIT):
        return None
    padded = reaches_outside(site, window)
    inner = inner_columns(window, site.inputs[0].shape[1], site.output.shape[1])
    small, full = (kh, kw) == (3, 3), (op.low, op.high) == (-128, 127)
    stream = site.keep("stream", _stream(block, odd[0] * kw + odd[1], small=small))
    lanes = _lanes(window, odd)
    size: Fields = (("vectors", kh * kw // LANES), ("kernel_rows", kh), ("kernel_cols", kw))
    return KernelUse(
        "mve_depthwise_int8",
        (
            *block.options,
            ("full", full),
            ("side", 3 if small else max(SIDE, kh)),
            ("vectors", 1 if small else WIDEST // LANES),
            ("odd", odd if small else ()),
            ("lanes", tuple(int(bits) for bits in lanes) if small and padded else ()),
            ("padded", padded),
            ("ragged", op.groups % BLOCK > 0),
            ("pairs", site.output.shape[1] > 1),
        ),
        (
            *views(site),
            ("stream", stream),
            *block.fields(op),
            *(() if full else block.limits(op)),
            *window_fields(site, window),
            *((("channels", op.groups),) if op.groups % BLOCK else ()),
            ("blocks", op.groups // BLOCK),
            ("x_zero", op.x_zero),
            *(() if small else (*size, ("odd_row", odd[0]), ("odd_col", odd[1]))),
            *((("inner_begin", inner[0]), ("inner_end", inner[1])) if padded else ()),
            *((("lanes", site.keep("lanes", lanes)),) if padded and not small else ()),
        ),
    )
