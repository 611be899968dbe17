# SPDX-License-Identifier: Apache-2.0
"""int8 convolutions and dense layers on Armv8.1-M vectors (Helium): which kernel, how constants are packed.

One instruction multiplies 16 values of a pixel by 16 weights of a filter and adds up. Four filters go
together, so their weights lie as [4 filters][16 values] for each 16 values of a window, in the order in which
they are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_mve.depthwise import depthwise
from mmcc.kernels.arm_mve.filters import BLOCK, Block, Layer
from mmcc.kernels.epilogue import Fields
from mmcc.kernels.portable.filters_int8 import filters_of
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import columns_join, row_bound, views, window_fields
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat

VECTOR = 16  # values of a vector
SHARED_REST = 8  # values beyond whole vectors that most networks have, if any
PATCH_LIMIT = 160  # bytes of a window that may be gathered on the stack
TAP_LIMIT = 25  # taps of a window whose addresses may be listed on the stack


def pack_runs(w: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights [filters, runs, values] as [block][run][16 values][4 filters][16], a run's rest as [4][rest].

    The last load of a block reads a whole vector: bytes behind its weights must exist (`filter_stream`).
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
    """All constants of four filters one behind the other, blocks after each other; `w` as for `pack_runs`.

    Behind the last weights come zeros where a scale does not: so much of a vector as is no weight.
    """
    scale = np.ascontiguousarray(block.scale.astype("<i4")).view(np.int8)
    begin, end = np.split(scale, [4 * BLOCK], axis=1)
    stream = np.concatenate((begin, pack_runs(w), end), 1).reshape(-1)
    words = max(0, -w.shape[2] % VECTOR - end.shape[1] + 3) // 4
    return np.pad(stream, (0, 4 * words)).view("<i4").astype(np.int32)  # words are aligned


@variant_layer("arm_mve", DenseInt8)
@variant_layer("arm_mve", DenseInt8ToFloat)
def dense_int8(op: DenseInt8 | DenseInt8ToFloat, site: Site) -> KernelUse | None:
    """A pointwise convolution of images one pixel wide."""
    block = Block(filters_of(site, op))
    if not block.usable:
        return None
    return _pointwise(op, site, block, (1, 1))


@variant_layer("arm_mve", ConvInt8)
@variant_layer("arm_mve", ConvInt8ToFloat)
def conv_int8(op: ConvInt8 | ConvInt8ToFloat, site: Site) -> KernelUse | None:
    """Windows of few values are gathered; others are listed by where their taps are."""
    block = Block(filters_of(site, op))
    if not block.usable:
        return None
    if op.groups > 1:
        return depthwise(op, site, block) if isinstance(op, ConvInt8) else None
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


def _use(op: Layer, site: Site, block: Block, form: Form, fields: Fields) -> KernelUse:
    """The kernel's inner loop takes two vectors a turn where all runs have an even number of them."""
    w = block.filters.w[block.order].reshape(len(block.order), form.runs, -1)
    count, values = block.filters.w.shape[0], w.shape[2]
    vectors, block_bytes = values // VECTOR, BLOCK * (form.runs * values + (4 if block.sums else 9))
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
            *block.end(op, site),
            *((("filters", count),) if count % BLOCK or block.sums else ()),
            *((("blocks", count // BLOCK),) if count >= BLOCK else ()),
            *((("block_bytes", block_bytes),) if count > BLOCK and count % BLOCK else ()),
            ("turns", turns),
            *joined,
            *fields,
        ),
    )


def _pointwise(op: Layer, site: Site, block: Block, strides: tuple[int, int]) -> KernelUse:
    fields: Fields = (("stride_rows", strides[0]), ("stride_cols", strides[1]))
    return _use(op, site, block, Form("point"), fields)


def _patch(op: ConvInt8 | ConvInt8ToFloat, site: Site, block: Block) -> KernelUse:
    depth, dense = int(block.filters.w.shape[3]), columns_join(site, op.window)
    form = Form("patch", kernel=op.window.kernel, depth=depth, dense=dense)
    return _use(op, site, block, form, (*window_fields(site, op.window), ("x_zero", op.x_zero)))


def _window(op: ConvInt8 | ConvInt8ToFloat, site: Site, block: Block) -> KernelUse:
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
