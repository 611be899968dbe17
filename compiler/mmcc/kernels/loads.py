# SPDX-License-Identifier: Apache-2.0
"""How often a kernel loads values of its input: what it holds in registers from one multiplication to others.

A convolution makes some filters at a time, and loads each value of a window once for all of them. A kernel
that gathers a pixel's window first loads it once for all filters. One that works on a row's channels one by
one holds columns that neighbouring windows share.
"""

from __future__ import annotations

from math import prod
from typing import Any

from mmcc.ir.nest import Affine, LoopKind, Nest
from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp.filters import BLOCK as DSP_BLOCK
from mmcc.kernels.arm_mve.filters import BLOCK as MVE_BLOCK
from mmcc.kernels.portable.conv_float import BLOCK as FLOAT_BLOCK

GATHERED = ("patch_dsp", "pointwise_pairs", "conv_pairs")
# All constants for each pixel.
PIXEL_BY_PIXEL = ("pointwise_dsp", "conv_dsp", "patch_dsp", "depthwise_dsp", "depthwise_pixel")
OUTPUTS = 4  # next to each other, for which a kernel reads a weight once, where it is not known better
BLOCKS = {
    "conv": FLOAT_BLOCK,
    "dense": FLOAT_BLOCK,
    "conv_transpose": FLOAT_BLOCK,
    "mve_conv_int8": MVE_BLOCK,
}


def input_loads(use: KernelUse, nest: Nest) -> float:
    """Values of its first operand that a kernel loads, over multiply-accumulates; 1 where there are none."""
    if not nest.multiplies or not nest.reads:
        return 1.0
    options: dict[str, Any] = dict(use.options)
    filters = _filters(nest)
    if use.template in GATHERED or options.get("patch"):
        return 1 / filters
    if use.template == "depthwise_dsp":
        return _columns(nest)
    if use.template == "depthwise_int8":
        return _columns(nest, max(options["outputs"]))
    usual: int = options.get("filters", BLOCKS.get(use.template, 1))
    block = DSP_BLOCK.get(options.get("form", ""), usual)
    return -(-filters // block) / filters


def constant_passes(use: KernelUse, nest: Nest) -> float:
    """How often a kernel reads all its constants in a run; 0 where that is not known."""
    return float(prod(nest.write.shape[:-1])) if use.template in PIXEL_BY_PIXEL else 0.0


def about_passes(use: KernelUse, nest: Nest) -> float:
    """The same where a guess will do: at least 1."""
    return constant_passes(use, nest) or max(1.0, prod(nest.write.shape[:-1]) / OUTPUTS)


def _filters(nest: Nest) -> int:
    """Outputs that read the same values."""
    taken = {loop for index in nest.reads[0].index if isinstance(index, Affine) for loop, _ in index.terms}
    parallel = (loop for loop in nest.loops if loop.kind is LoopKind.PARALLEL)
    return prod(loop.extent for loop in parallel if loop.name not in taken)


def _columns(nest: Nest, together: int = 0) -> float:
    """Distinct columns that neighbouring windows read, over columns read window by window; `together` windows
    are neighbours, or (0) all of a row."""
    index = nest.reads[0].index[1] if len(nest.reads[0].index) == 3 else None
    if not isinstance(index, Affine) or len(index.terms) != 2:
        return 1.0
    extent = {loop.name: loop.extent for loop in nest.loops}
    (out, stride), (tap, dilation) = index.terms
    windows = min(together, extent[out]) or extent[out]
    held = {o * stride + t * dilation for o in range(windows) for t in range(extent[tap])}
    return len(held) / (windows * extent[tap])
