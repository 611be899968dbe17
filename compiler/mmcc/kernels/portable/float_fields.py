# SPDX-License-Identifier: Apache-2.0
"""Parameters that float layers share: what is done to a sum before it is stored, and the window."""

from __future__ import annotations

from math import inf
from typing import Any

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import Field
from mmcc.kernels.select import Site
from mmcc.ops.activation import Activation, Clamp, Leaky
from mmcc.ops.window import Window

Fields = tuple[tuple[str, Field], ...]


def activation_fields(activation: Activation | None) -> tuple[tuple[str, Any], Fields]:
    """Option and fields for what a layer does to a sum before it stores it.

    None is a clamp that lets all pass: code is dearer than two comparisons an output. An upper
    limit of -0 becomes 0, for which minima have the same bits on all targets.
    """
    match activation:
        case Clamp(low, high):
            return ("activation", "clamp"), (("low", float(low)), ("high", float(high) + 0.0))
        case Leaky(slope):
            return ("activation", "leaky"), (("slope", float(slope)),)
        case None:
            return ("activation", "clamp"), (("low", -inf), ("high", inf))


def half_option(site: Site) -> tuple[str, bool]:
    """Option of a layer whose weights are float16, and widened as they are read."""
    return "half", site.inputs[1].dtype == ElementType.F16


def window_fields(window: Window, rows: int, cols: int) -> Fields:
    """Kernel, strides, dilations and pads, with the size of the input."""
    return (
        ("in_rows", rows),
        ("in_cols", cols),
        ("kernel_rows", window.kernel[0]),
        ("kernel_cols", window.kernel[1]),
        ("row_step", window.strides[0]),
        ("col_step", window.strides[1]),
        ("row_dilation", window.dilations[0]),
        ("col_dilation", window.dilations[1]),
        ("pad_top", window.pads[0]),
        ("pad_left", window.pads[1]),
    )
