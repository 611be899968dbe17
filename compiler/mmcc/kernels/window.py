# SPDX-License-Identifier: Apache-2.0
"""The parameters of kernels for an image and the window that moves over it."""

from __future__ import annotations

from mmcc.kernels.epilogue import Fields
from mmcc.kernels.select import Site
from mmcc.ops.window import Window

ROW_BOUNDS = (1, 3, 5, 7)  # rows of a window that kernels are made for; above these, for the exact number


def row_bound(rows: int) -> int:
    """Rows of window that the kernel is made for, so that kernels are shared."""
    return next((bound for bound in ROW_BOUNDS if rows <= bound), rows)


def views(site: Site) -> Fields:
    """Where the image and the output are."""
    return (("x", site.inputs[0].where()), ("y", site.output.where()))


def reaches_outside(site: Site, window: Window) -> bool:
    """True if a tap of any output lies outside the image."""
    for axis in (0, 1):
        last = (site.output.shape[axis] - 1) * window.strides[axis] - window.pads[axis]
        last += (window.kernel[axis] - 1) * window.dilations[axis]
        if window.pads[axis] > 0 or last >= site.inputs[0].shape[axis]:
            return True
    return False


def window_fields(site: Site, window: Window) -> Fields:
    """Size of the image, and how the window moves over it."""
    height, width, _ = site.inputs[0].shape
    return (
        ("height", height),
        ("width", width),
        ("top", window.pads[0]),
        ("left_pad", window.pads[1]),
        ("stride_rows", window.strides[0]),
        ("stride_cols", window.strides[1]),
        ("dilation_rows", window.dilations[0]),
        ("dilation_cols", window.dilations[1]),
    )


def columns_join(site: Site, window: Window) -> bool:
    """True if the columns of a window follow each other in memory."""
    channels = site.inputs[0].shape[2]
    return window.dilations[1] == 1 and site.inputs[0].where().col_stride == channels


def rows_follow(site: Site) -> bool:
    """True if the pixels of input and output follow each other from row to row."""
    return all(
        operand.where().rows >= operand.geometry[0]
        and operand.where().row_stride == operand.geometry[1] * operand.where().col_stride
        for operand in (site.inputs[0], site.output)
    )
