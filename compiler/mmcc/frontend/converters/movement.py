# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that move elements or only rename axes."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from mmcc.frontend.call import Call, normal_axes
from mmcc.frontend.layouts import expanded, reshaped
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ir.op import ShapeError
from mmcc.ops.broadcasting import broadcast_shape


@converts("Transpose", notes="moves elements only where a reader needs their order")
def convert_transpose(call: Call) -> Value:
    """Permute axes."""
    x = call.input(0)
    perm = call.integers("perm") or list(reversed(range(x.rank)))
    if sorted(perm) != list(range(x.rank)):
        raise bad_model("MM104", f"cannot permute the axes of {list(x.shape)} by {perm}")
    return x.transposed(perm)


@converts("Reshape", notes="constant shape; moves no elements as a rule")
def convert_reshape(call: Call) -> Value:
    """Another shape; 0 keeps an extent and -1 is what is left."""
    x = call.input(0)
    shape = call.integers("shape") if call.version < 5 else call.ints_at(1, "the shape")
    if shape is None:
        raise bad_model("MM103", "the shape is missing")
    keep = not call.integer("allowzero", 0)
    wanted = list(shape)
    for k, extent in enumerate(shape):
        if extent == 0 and keep:
            if k >= x.rank:
                raise bad_model("MM104", f"shape {shape} keeps axis {k} of {list(x.shape)}")
            wanted[k] = x.shape[k]
    rest = prod(extent for extent in wanted if extent != -1)
    if wanted.count(-1) > 1 or any(extent < -1 for extent in wanted):
        raise bad_model("MM104", f"cannot reshape to {shape}")
    if -1 in wanted:
        if rest == 0 or x.size % rest:
            raise bad_model("MM104", f"cannot reshape {list(x.shape)} to {shape}")
        wanted[wanted.index(-1)] = x.size // rest
    return reshaped(call.build, x, tuple(wanted))


@converts("Flatten", notes="as Reshape")
def convert_flatten(call: Call) -> Value:
    """Two axes: those before `axis`, and the rest."""
    x = call.input(0)
    axis = call.integer("axis")
    if not -x.rank <= axis <= x.rank:
        raise bad_model("MM104", f"axis {axis} of a tensor of rank {x.rank}")
    axis += x.rank * (axis < 0)
    return reshaped(call.build, x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


def axes_operand(call: Call, since: int, index: int = 1) -> list[int] | None:
    """`axes`, an attribute that became an operand in operator set `since`."""
    return call.integers("axes") if call.version < since else call.ints_at(index, "axes")


@converts("Squeeze", notes="constant axes; makes no code")
def convert_squeeze(call: Call) -> Value:
    """Drop axes of extent 1."""
    x = call.input(0)
    given = axes_operand(call, 13)
    if given is None:
        return x.without([k for k, extent in enumerate(x.shape) if extent == 1])
    axes = normal_axes(given, x.rank)
    if any(x.shape[k] != 1 for k in axes):
        raise bad_model("MM104", f"axes {given} of {list(x.shape)} are not all 1")
    return x.without(axes)


@converts("Unsqueeze", notes="constant axes; makes no code")
def convert_unsqueeze(call: Call) -> Value:
    """Insert axes of extent 1."""
    x = call.input(0)
    given = axes_operand(call, 13)
    if given is None:
        raise bad_model("MM103", "axes are missing")
    rank = x.rank + len(given)
    axes = normal_axes(given, rank)
    old = iter(x.axes)
    return replace(x, axes=tuple(() if k in axes else next(old) for k in range(rank)))


@converts("Expand", notes="constant shape")
def convert_expand(call: Call) -> Value:
    """Repeat axes of extent 1."""
    x = call.input(0)
    wanted = call.ints_at(1, "the shape") or []
    if any(extent < 0 for extent in wanted):
        raise bad_model("MM104", f"cannot expand {list(x.shape)} to {wanted}")
    try:
        shape = broadcast_shape(x.shape, tuple(wanted))
    except ShapeError:
        raise bad_model("MM104", f"cannot expand {list(x.shape)} to {wanted}") from None
    x = x.padded(len(shape))
    return expanded(call.build, x, {k: n for k, n in enumerate(shape) if n != x.shape[k]})


@converts("Tile", since=6, notes="constant repeats")
def convert_tile(call: Call) -> Value:
    """Repeat along each axis: a new axis before it is expanded, then both are one."""
    x = call.input(0)
    repeats = call.ints_at(1, "the repeats") or []
    if len(repeats) != x.rank or any(n < 0 for n in repeats):
        raise bad_model("MM104", f"cannot tile {list(x.shape)} by {repeats}")
    paired = replace(x, axes=tuple(a for axis in x.axes for a in ((), axis)))
    done = expanded(call.build, paired, {2 * k: n for k, n in enumerate(repeats) if n != 1})
    return replace(done, axes=tuple(done.axes[2 * k] + done.axes[2 * k + 1] for k in range(x.rank)))


@converts("DepthToSpace", notes="4-D; DCR and CRD", layout=Layout.CHANNELS_FIRST)
def convert_depth_to_space(call: Call) -> Value:
    """Blocks of channels become blocks of pixels."""
    x = call.input(0)
    size, mode = call.integer("blocksize"), call.text("mode", "DCR")
    if x.rank != 4 or size < 1 or x.shape[1] % (size * size) or mode not in ("DCR", "CRD"):
        raise bad_model("MM104", f"blocks of {size} ({mode}) of {list(x.shape)}")
    n, c, h, w = x.shape
    depth = c // (size * size)
    if mode == "DCR":
        cut = reshaped(call.build, x, (n, size, size, depth, h, w)).transposed((0, 3, 4, 1, 5, 2))
    else:
        cut = reshaped(call.build, x, (n, depth, size, size, h, w)).transposed((0, 1, 4, 2, 5, 3))
    return reshaped(call.build, cut, (n, depth, h * size, w * size))


@converts("SpaceToDepth", notes="4-D; DCR and CRD", layout=Layout.CHANNELS_FIRST)
def convert_space_to_depth(call: Call) -> Value:
    """Blocks of pixels become channels."""
    x = call.input(0)
    size, mode = call.integer("blocksize"), call.text("mode", "DCR")
    if x.rank != 4 or size < 1 or x.shape[2] % size or x.shape[3] % size or mode not in ("DCR", "CRD"):
        raise bad_model("MM104", f"blocks of {size} ({mode}) of {list(x.shape)}")
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    cut = reshaped(call.build, x, (n, c, h // size, size, w // size, size)).transposed(order)
    return reshaped(call.build, cut, (n, c * size * size, h // size, w // size))
