# SPDX-License-Identifier: Apache-2.0
"""ONNX convolutions."""

from __future__ import annotations

import numpy as np

from mmcc.frontend.absent import NO_BIAS
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.volumes import Unfolding, flat_transposed, volume_conv, volume_transposed
from mmcc.frontend.converters.windows import (
    Sliding,
    each_sample,
    from_spatial,
    pads_unclear,
    resolved_pads,
    sliding,
    spatial,
)
from mmcc.frontend.layouts import arranged, plain
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ops.conv import Conv


@converts(
    "Conv", notes="1-D to 3-D, constant weights; auto_pad, groups, dilations", layout=Layout.CHANNELS_FIRST
)
def convert_conv(call: Call) -> Value:
    """A convolution over one to three axes of space."""
    return conv(call, call.float_input(0), call.float_input(1), call.float_input(2) if call.has(2) else None)


def conv(call: Call, x: Value, w: Value, b: Value | None) -> Value:
    """A convolution by the attributes of `call`; also for operators on quantized operands."""
    build = call.build
    if x.rank != w.rank or x.rank < 3:
        raise bad_model("MM104", f"convolution weights {list(w.shape)} do not fit input {list(x.shape)}")
    _need_constant(build, w, b)
    groups = call.integer("group", 1)
    if groups < 1:
        raise bad_model("MM104", f"{groups} groups")
    if x.rank == 5:
        return volume_conv(call, x, w, bias_of(build, b, w.shape[0]), groups)
    slide = sliding(call, x, w.shape[2:])
    window = slide.window(resolved_pads(slide, x.shape[2:]))
    weights = arranged(build, w, [(0,), (2,), (3,) if w.rank == 4 else (), (1,)])
    bias = bias_of(build, b, w.shape[0])
    op = Conv(window, groups)
    return each_sample(
        build, x, lambda one: from_spatial(build.emit(op, spatial(build, one), weights, bias), x.rank)
    )


def _need_constant(build: Builder, w: Value, b: Value | None) -> None:
    for k, (what, value) in enumerate({"weights": w, "bias": b}.items(), 1):
        if value is not None and not build.is_constant(value.tensor):
            raise unsupported(f"{what} (operand {k}) computed at run time")


def bias_of(build: Builder, b: Value | None, channels: int) -> str:
    """The tensor of a bias; zeros if there is none."""
    if b is None:
        return build.constant(np.zeros(channels, np.float32), f"{build.hint}{NO_BIAS}").tensor
    if b.shape != (channels,):
        raise bad_model("MM104", f"a bias of {list(b.shape)} for {channels} output channels")
    return plain(build, b)


@converts(
    "ConvTranspose",
    notes="1-D to 3-D, constant weights; output_padding, output_shape, groups",
    layout=Layout.CHANNELS_FIRST,
)
def convert_conv_transpose(call: Call) -> Value:
    """A transposed convolution over one to three axes of space."""
    build = call.build
    x, w = call.float_input(0), call.float_input(1)
    b = call.float_input(2) if call.has(2) else None
    groups = call.integer("group", 1)
    if x.rank != w.rank or x.rank < 3 or groups < 1 or x.shape[1] != w.shape[0] or w.shape[0] % groups:
        raise bad_model(
            "MM104", f"weights {list(w.shape)} in {groups} groups do not fit input {list(x.shape)}"
        )
    slide = sliding(call, x, w.shape[2:], axes=3)
    _need_constant(build, w, b)
    size, begins = _transposed_size(call, slide, x)
    if min(begins) < 0:
        raise unsupported(f"negative pads {begins}")
    bias = bias_of(build, b, w.shape[1] * groups)
    if x.rank == 5:
        return volume_transposed(build, x, w, bias, groups, Unfolding(slide, size, begins))
    return flat_transposed(build, x, w, bias, groups, Unfolding(slide, size, begins))


def _transposed_size(call: Call, slide: Sliding, x: Value) -> tuple[list[int], list[int]]:
    """The output's extents and the pads at the beginning of each axis."""
    axes = x.rank - 2
    extra = call.integers("output_padding") or [0] * axes
    wanted = call.integers("output_shape")
    wanted = wanted[-axes:] if wanted else None  # old exporters also gave batch and channels
    if len(extra) != axes or min(extra) < 0 or (wanted is not None and len(wanted) != axes):
        raise bad_model("MM104", f"output_padding {extra}, output_shape {wanted} over {axes} axes")
    sizes: list[int] = []
    begins: list[int] = []
    for k in range(axes):
        full = (x.shape[2 + k] - 1) * slide.strides[k] + slide.reach[k] + extra[k]
        same = slide.auto_pad.startswith("SAME")
        size = wanted[k] if wanted else x.shape[2 + k] * slide.strides[k] if same else None
        if size is None:
            begin, end = (slide.pads[k], slide.pads[k + axes]) if slide.auto_pad == "NOTSET" else (0, 0)
            size = full - begin - end
        else:
            if same and not wanted and full < size:
                raise pads_unclear(
                    f"auto_pad {slide.auto_pad}, a window of {slide.reach[k]}, stride {slide.strides[k]}: "
                    f"ONNX Runtime makes {full} elements, ONNX has {size}"
                )
            total = max(0, full - size)
            begin = total // 2 if slide.auto_pad == "SAME_UPPER" else total - total // 2
        if size < 1:
            raise bad_model("MM104", f"axis {2 + k} of the output has extent {size}")
        sizes.append(size)
        begins.append(begin)
    return sizes, begins
