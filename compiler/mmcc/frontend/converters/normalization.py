# SPDX-License-Identifier: Apache-2.0
"""ONNX normalizations and Softmax."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.reduction import reduced
from mmcc.frontend.layouts import innermost, permuted, reshaped, shaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ir.types import Shape
from mmcc.ops.batch_norm import BatchNorm
from mmcc.ops.broadcasting import broadcast_shape
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.ops.softmax import Softmax

MAX_LRN = 65536


@converts("BatchNormalization", notes="a product and a sum; trained with --batch-norm own", layout=Layout.ANY)
def convert_batch_normalization(call: Call) -> Value:
    """x * scale / sqrt(variance + epsilon) + (bias - mean * ...), with constants a channel."""
    x = call.float_input(0)
    training = call.integer("training_mode", 0) if call.version >= 14 else 0
    momentum, keep = call.number("momentum", 0.9), call.build.keep_batch_norm
    if not keep and (training or (call.version < 7 and not call.integer("is_test", 0))):
        raise unsupported(
            "BatchNormalization in training mode",
            "exporting the model for inference, or mmcc train --batch-norm own",
        )
    if any(call.is_read(k) for k in range(1, len(call.node.output))):
        raise unsupported("the statistics of BatchNormalization are read")
    if call.version < 9 and not call.integer("spatial", 1):
        raise unsupported("BatchNormalization with spatial=0")
    names = ("the scale", "the bias", "the mean", "the variance")
    scale, bias, mean, variance = (
        call.needed(k + 1, name).astype(np.float64) for k, name in enumerate(names)
    )
    channels, epsilon = x.shape[1] if x.rank > 1 else 1, call.finite("epsilon")
    if any(p.shape != (channels,) for p in (scale, bias, mean, variance)):
        raise bad_model("MM104", f"parameters do not fit {channels} channels of {list(x.shape)}")
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
        offset = bias - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        raise bad_model("MM107", "the parameters of BatchNormalization give numbers that are not finite")
    if not keep:
        return _affine(call.build, x, factor, offset)
    if x.rank < 2 or not 0 <= momentum <= 1:
        raise bad_model("MM104", f"BatchNormalization of {list(x.shape)} with a momentum of {momentum:g}")
    parameters = zip(("scale", "bias", "mean", "variance"), (scale, bias, mean, variance), strict=True)
    operands = [
        call.build.constant(array.astype(np.float32), f"{call.build.hint}.{what}").tensor
        for what, array in parameters
    ]
    return along_last_axis(call.build, BatchNorm(epsilon, momentum), x, [1], *operands)


def _affine(build: Builder, x: Value, factor: NDArray[Any], offset: NDArray[Any]) -> Value:
    """x * factor + offset with constants a channel."""
    shape = (-1, *(1,) * (x.rank - 2)) if x.rank > 1 else (-1,)
    for function, array, what in (("mul", factor, "scale"), ("add", offset, "offset")):
        constant = build.constant(array.astype(np.float32).reshape(shape), f"{build.hint}.{what}")
        build.learned.add(constant.tensor)
        x = elementwise(build, Binary(function), x, constant)
    return x


@converts("InstanceNormalization", notes="as reductions and element functions", layout=Layout.CHANNELS_FIRST)
def convert_instance_normalization(call: Call) -> Value:
    """Each channel of each sample is normalized by its own mean and variance."""
    x = call.float_input(0)
    if x.rank < 3:
        raise bad_model("MM104", f"InstanceNormalization of {list(x.shape)}")
    y = standardized(call.build, x, list(range(2, x.rank)), call.finite("epsilon"))
    return _scaled_channels(call, x, y)


@converts(
    "GroupNormalization", since=21, notes="as reductions and element functions", layout=Layout.CHANNELS_FIRST
)
def convert_group_normalization(call: Call) -> Value:
    """Each group of channels of each sample is normalized by its own mean and variance."""
    x = call.float_input(0)
    groups = call.integer("num_groups")
    if x.rank < 3 or groups < 1 or x.shape[1] % groups:
        raise bad_model("MM104", f"{groups} groups of {list(x.shape)}")
    build = call.build
    cut = reshaped(build, x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    y = standardized(build, cut, list(range(2, cut.rank)), call.finite("epsilon"))
    return _scaled_channels(call, x, reshaped(build, y, x.shape))


def _scaled_channels(call: Call, x: Value, y: Value) -> Value:
    scale, bias = call.needed(1, "the scale"), call.needed(2, "the bias")
    if scale.shape != (x.shape[1],) or bias.shape != (x.shape[1],):
        raise bad_model("MM104", f"parameters do not fit the channels of {list(x.shape)}")
    return _affine(call.build, y, scale, bias)


def standardized(build: Builder, x: Value, axes: list[int], epsilon: float) -> Value:
    """(x - mean) / sqrt(variance + epsilon) over some axes."""
    centred = elementwise(build, Binary("sub"), x, reduced(build, x, "mean", axes))
    square = elementwise(build, Binary("mul"), centred, centred)
    small = build.constant(np.array(epsilon, np.float32))
    variance = elementwise(build, Binary("add"), reduced(build, square, "mean", axes), small)
    return elementwise(build, Binary("div"), centred, unary(build, Unary("sqrt"), variance))


@converts("LayerNormalization", notes="constant scale and bias; one output")
def convert_layer_normalization(call: Call) -> Value:
    """Less the mean, divided by the deviation, over the last axes."""
    if any(call.is_read(k) for k in range(1, len(call.node.output))):
        raise unsupported("the mean and deviation of LayerNormalization are read")
    return normalized(call, call.float_input(0), call.axis(call.float_input(0).rank), centred=True)


@converts("RMSNormalization", notes="constant scale")
def convert_rms_normalization(call: Call) -> Value:
    """Divided by the root of the mean square over the last axes."""
    return normalized(call, call.float_input(0), call.axis(call.float_input(0).rank), centred=False)


def normalized(
    call: Call, x: Value, axis: int, *, centred: bool, scale: int = 1, epsilon: float | None = None
) -> Value:
    """LayerNorm of the axes from `axis` on, by the parameters of operand `scale` and, if `centred`, the next.

    `epsilon` is what it is where the node has none, for operators that ONNX does not know.
    """
    if call.integer("stash_type", 1) != 1:
        raise unsupported("a normalization that is not computed in float32")
    length = x.shape[axis:]
    needed = [(scale, "scale"), *([(scale + 1, "bias")] if centred and call.has(scale + 1) else [])]
    if not length:
        raise bad_model("MM104", f"parameters do not fit {list(length)}")
    parameters = [_along(call, index, what, length) for index, what in needed]
    op = LayerNorm(call.finite("epsilon", epsilon), centred)
    return along_last_axis(call.build, op, x, list(range(axis, x.rank)), *parameters)


def _along(call: Call, index: int, what: str, length: Shape) -> str:
    """A constant operand, repeated to a shape, as a vector: the model's own, by its name, where it is one."""
    build, array = call.build, call.needed(index, f"the {what}")
    if broadcast_shape(array.shape, length) != length:
        raise bad_model("MM104", f"parameters do not fit {list(length)}")
    own = build.constants.get(call.input(index).tensor)
    if own is not None and own.shape == length and len(length) == 1 and own.dtype == np.float32:
        return call.input(index).tensor
    repeated = np.broadcast_to(array, length).astype(np.float32).reshape(-1)
    return build.constant(repeated, f"{build.hint}.{what}").tensor


@converts("LpNormalization", notes="p = 1 and 2; a norm of 0 gives zeros")
def convert_lp_normalization(call: Call) -> Value:
    """Divided by the norm along an axis."""
    x, build = call.float_input(0), call.build
    p = call.integer("p", 2)
    if p not in (1, 2) or x.rank == 0:
        raise bad_model("MM103", f"p is {p}, of {list(x.shape)}")
    norm = reduced(build, x, f"l{p}", [call.axis(x.rank, -1)])
    least = build.constant(np.array(np.finfo(np.float32).smallest_normal, np.float32))
    return elementwise(build, Binary("div"), x, elementwise(build, Binary("max"), norm, least))


@converts("LRN", notes="across channels", layout=Layout.CHANNELS_FIRST)
def convert_lrn(call: Call) -> Value:
    """Local response normalization across channels."""
    x = call.float_input(0)
    size = call.integer("size")
    if x.rank < 2 or not 1 <= size <= MAX_LRN:
        raise bad_model("MM104", f"LRN of size {size} of {list(x.shape)}")
    op = LocalResponseNorm(size, call.finite("alpha"), call.finite("beta"), call.finite("bias"))
    return along_last_axis(call.build, op, x, [1])


@converts("Softmax", "LogSoftmax", notes="before operator set 13 over all axes from `axis` on")
def convert_softmax(call: Call) -> Value:
    """Softmax over one axis, or over a flattened tail of axes."""
    x = call.float_input(0)
    op = Softmax(log=call.node.op_type == "LogSoftmax")
    if x.rank == 0:
        raise bad_model("MM104", "Softmax of a scalar")
    axis = call.axis(x.rank)
    return along_last_axis(call.build, op, x, [axis] if call.version >= 13 else list(range(axis, x.rank)))


def along_last_axis(
    build: Builder,
    op: Softmax | LocalResponseNorm | LayerNorm | BatchNorm,
    x: Value,
    axes: list[int],
    *more: str,
) -> Value:
    """Bring `axes` to the end, in any order that the op allows, and apply an op along the last axis.

    `more` are the names of further operands.
    """
    ordered = not isinstance(op, Softmax)  # places count: the axis must be in ONNX's order
    atoms = x.atoms(axes)
    x = innermost(build, x, axes)
    if ordered and atoms != sorted(atoms):
        x = permuted(build, x, [v for v in x.solid if v not in x.atoms(axes)] + x.atoms(axes))
    inner = x.atoms(axes)
    extent = prod(x.view[v] for v in inner)
    shape = build.tensors[x.tensor].shape
    if not shape or shape[-1] != extent:
        shape = (*(x.view[v] for v in x.solid if v not in inner), extent)
    return replace(x, tensor=build.emit(op, shaped(build, x, shape), *more).name)
