# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of 3x3 that make several outputs of a channel together, in memory lent to them.

Neighbours share the values and the weights that they load. Weights are widened once a call, or once for all
calls of a node that has its memory for itself meanwhile: at its first row or, if rows are made backward, its
last.
"""

from __future__ import annotations

from typing import Any

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields, Options
from mmcc.kernels.select import Site
from mmcc.ops.window import Window

CHUNKS = (5, 4, 3, 2)  # outputs: sums in registers
COLUMNS = 48  # widened at a time, about
COLUMN = 32  # bytes of one, four channels
CHANNEL = 40  # bytes that a channel needs
TEMPLATE = "depthwise_chunks"


def fits(site: Site, window: Window) -> bool:
    """True if the kernel can make the layer, and has memory to."""
    return site.scratch is not None and window.kernel == (3, 3) and window.strides[1] in (1, 2)


def chunk_of(width: int, stride: int) -> int:
    """How many outputs to make together in rows of `width`: the fewest cycles of a Cortex-M4."""
    return min(CHUNKS, key=lambda chunk: -(-width // chunk) * _cycles(chunk, stride))


def _cycles(chunk: int, stride: int) -> int:
    """Of a chunk: loads in twos, products, requantization."""
    loads = 3 * ((chunk - 1) * stride + 3)
    return loads + 6 * chunk + 6 * chunk + 22


def options(site: Site, window: Window) -> Options:
    """What the code is made for."""
    stride = window.strides[1]
    return (("stride", stride), ("chunk", chunk_of(site.output.shape[1], stride)), ("kept", site.alone))


def fields(site: Site, window: Window) -> Fields:
    """Where it works, and how many outputs of a row it makes at most before it widens more columns."""
    rows, cols, _ = site.output.shape
    end: Fields = (("end", rows),) if site.alone else ()
    return (("work", site.work()), ("most", _most(cols, window.strides[1])), *end)


def work_bytes(use: KernelUse) -> int:
    """Bytes that the kernel works in: what channels need, and columns, to the end of a chunk begun."""
    if use.template != TEMPLATE:
        return 0
    fields: dict[str, Any] = dict(use.fields)
    options: dict[str, Any] = dict(use.options)
    outputs = -(-fields["most"] // options["chunk"]) * options["chunk"]
    return int(CHANNEL * fields["channels"] + COLUMN * ((outputs - 1) * options["stride"] + 3))


def _most(width: int, stride: int) -> int:
    """Outputs of a row at a time: few parts that are whole chunks, as equal as they can be."""
    chunk = chunk_of(width, stride)
    chunks = -(-width // chunk)
    parts = -(-width * stride // COLUMNS)
    return min(width, -(-chunks // parts) * chunk)
