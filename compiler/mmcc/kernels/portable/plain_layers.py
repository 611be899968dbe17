# SPDX-License-Identifier: Apache-2.0
"""Layers whose weights lie as the model has them, in RAM or in flash, since training changes them; gradients.

Of weights that are constant and that only layers read there are packed forms, which are faster.
"""

from __future__ import annotations

from math import gcd

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.float_fields import Fields, activation_fields, window_fields
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.activation import Activation
from mmcc.ops.conv import Conv
from mmcc.ops.conv_gradient import POINT, ConvInputGradient
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.window import Window


def has_packed(site: Site) -> bool:
    """True if weights and bias are known when the model is compiled, so that they can be packed."""
    return all(operand.data is not None for operand in site.inputs[1:3])


def plain_conv(op: Conv, site: Site) -> KernelUse:
    """Sums over kh, kw, ic in this order, from the bias on, as the packed forms."""
    return _plain(site, op.window, op.groups, op.activation, across=False, turned=False)


def plain_dense(op: Dense, site: Site) -> KernelUse:
    """A convolution of one tap over rows of one pixel."""
    return _plain(site, POINT, 1, op.activation, across=False, turned=False)


def plain_conv_transpose(op: ConvTranspose, site: Site) -> KernelUse:
    """As the packed form."""
    return _plain(site, op.window, op.groups, op.activation, across=True, turned=False)


@layer(ConvInputGradient)
def conv_input_gradient(op: ConvInputGradient, site: Site) -> KernelUse:
    """A transposed convolution: the filters of the weights are its input, their channels its output."""
    return _plain(site, op.window, op.groups, None, across=True, turned=True)


def _plain(
    site: Site, window: Window, groups: int, activation: Activation | None, *, across: bool, turned: bool
) -> KernelUse:
    """`across`: outputs gather from windows that cover them. `turned`: the weights' filters are summed up."""
    option, limits = activation_fields(activation)
    weights = source_view(site, 1)
    rows, cols, _ = site.inputs[0].geometry
    filters, depth = site.inputs[1].geometry[0] // groups, site.inputs[1].shape[-1]
    filter_step = weights.row_stride // site.inputs[1].dtype.size
    bias: Fields = tuple(("x2", source_view(site, k)) for k in range(2, len(site.inputs)))
    fields: Fields = (
        ("x", source_view(site, 0)),
        ("x1", weights),
        *bias,
        ("y", site.output.where()),
        *limits,
        *window_fields(window, rows, cols),
        ("groups", groups),
        ("in_channels", filters if turned else depth),
        ("out_channels", depth if turned else filters),
        ("filter_step", 1 if turned else filter_step),
        ("channel_step", filter_step if turned else 1),
        ("kernel_row_step", weights.col_stride),
        ("tap_step", depth),
        ("group_step", filters * filter_step),
        *(_across_fields(window) if across else ()),
    )
    return KernelUse("conv_plain", (option, ("across", across), ("bias", bool(bias))), fields)


def _across_fields(window: Window) -> Fields:
    """Of the taps that meet an input, neighbours are `taps` apart in the kernel and `back` in the input."""
    fields: list[tuple[str, int]] = []
    for name, stride, dilation in zip(("row", "col"), window.strides, window.dilations, strict=True):
        taps = stride // gcd(stride, dilation)
        fields += [(f"{name}_taps", taps), (f"{name}_back", taps * dilation // stride)]
    return tuple(fields)
