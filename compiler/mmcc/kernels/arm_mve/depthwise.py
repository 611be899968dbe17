# SPDX-License-Identifier: Apache-2.0
"""int8 depthwise convolutions on Armv8.1-M vectors (Helium): the kernel, and how its constants are packed.

A gathering load brings eight taps of a channel's window at once; the tap that is left over is multiplied
alone, for which a tap is chosen that no output has outside the image.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_mve.filters import BLOCK, Block
from mmcc.kernels.epilogue import Fields
from mmcc.kernels.portable.conv_float import inner_columns
from mmcc.kernels.select import Site
from mmcc.kernels.window import reaches_outside, views, window_fields
from mmcc.ops.conv import ConvInt8
from mmcc.ops.window import Window

LANES = 8  # taps of a depthwise window that one gathering load brings
WIDEST = 49  # taps of a depthwise window
SIDE = 7  # rows of a window that kernels are made for; above these, for the exact number
GATHER_LIMIT = 2**16  # bytes that a gathering load of 16-bit offsets reaches


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


def depthwise(op: ConvInt8, site: Site, block: Block) -> KernelUse | None:
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
