# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits: ONNX Runtime's MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.blocked import blocked
from mmcc.frontend.broadcasting import elementwise
from mmcc.frontend.call import Call, normal_axis
from mmcc.frontend.converters.indexing import gathered, index_input
from mmcc.frontend.converters.matrix import dense
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import MICROSOFT, converts
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Binary


def unpacked(data: NDArray[Any], bits: int) -> NDArray[np.int64]:
    """Unsigned integers of `bits` bits that lie in bytes along the last axis, the first in the low bits."""
    each = [data.astype(np.int64) >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(each, -1).reshape(*data.shape[:-1], -1)


def _bits(call: Call) -> int:
    bits = call.integer("bits", 4)
    if bits not in (2, 4, 8):
        raise unsupported(f"weights of {bits} bits")
    return bits


@converts("MatMulNBits", domain=MICROSOFT, notes="weights of 2, 4 and 8 bits in blocks, kept so in flash")
def convert_matmul_n_bits(call: Call) -> Value:
    """A dense layer of floats with unsigned integers as weights, each block of inputs with a scale."""
    build, x = call.build, call.float_input(0)
    length, count, block = (call.integer(name) for name in ("K", "N", "block_size"))
    bits, _ = _bits(call), call.integer("accuracy_level", 0)  # what others may lose is not lost here
    if min(length, count, block) < 1 or x.rank == 0 or x.shape[-1] != length:
        raise bad_model("MM104", f"{count} x {length} weights in blocks of {block}, of {list(x.shape)}")
    blocks = -(-length // block)
    integers = unpacked(call.needed(1, "the weights").astype(np.uint8), bits)
    if integers.size != count * blocks * block:
        raise bad_model("MM104", f"{integers.size} weights, not {count} x {blocks} x {block}")
    integers = integers.reshape(count, blocks * block)[:, :length]
    scale = call.needed(2, "the scales").astype(np.float32)
    if scale.size != count * blocks:
        raise bad_model("MM104", f"{scale.size} scales, not {count} x {blocks}")
    zeros = _zero_points(call, 3, (count, blocks), bits)
    place = _groups(call, (length, blocks, block), bits)
    order = np.argsort(place, kind="stable")
    if (place != place[order]).any():  # inputs in the order of their blocks: theirs may be kept
        x = gathered(build, x, x.rank - 1, build.constant(order))
        integers, place = integers[:, order], place[order]
    kept = None
    if (place == np.arange(length) // block).all():
        kept = blocked(integers, scale.reshape(count, blocks), zeros, block, 1)
    build.spend(8 * integers.size, "MatMulNBits")
    real = (integers - zeros[:, place]) * scale.reshape(count, blocks)[:, place]
    w = build.constant(real.astype(np.float32))
    if kept is not None and not np.issubdtype(zeros.dtype, np.floating):
        build.blocked[w.tensor] = kept
    y = dense(build, x, x.rank - 1, w, None)
    return elementwise(build, Binary("add"), y, call.float_input(5)) if call.has(5) else y


def _groups(call: Call, sizes: tuple[int, int, int], bits: int) -> NDArray[np.int64]:
    """Which block of scales each input has: every `block` inputs the next, or as g_idx says."""
    length, blocks, block = sizes
    given = call.constant(4, "g_idx")
    if given is None:
        return np.arange(length) // block
    if bits != 4 or (call.has(3) and call.needed(3, "the zero points").dtype == np.uint8):
        what = "MatMulNBits with g_idx, of other than 4 bits or with packed zero points"
        raise unsupported(f"{what}: ONNX Runtime refuses the former, and takes 8 for the latter")
    if given.size != length or given.dtype.kind not in "iu":
        raise bad_model("MM104", f"{given.size} numbers of blocks in g_idx, not {length} integers")
    found = given.reshape(-1).astype(np.int64)
    if found.min() < 0 or found.max() >= blocks:
        raise bad_model("MM104", f"g_idx has blocks {found.min()} to {found.max()}, of {blocks}")
    return found


def _zero_points(call: Call, k: int, shape: tuple[int, int], bits: int) -> NDArray[Any]:
    """One a block: packed as the weights are, or floats; the middle where none are given."""
    given = call.constant(k, "the zero points") if call.has(k) else None
    if given is None:
        return np.full(shape, 1 << (bits - 1), np.int64)
    if given.dtype != np.uint8:
        if given.size != shape[0] * shape[1]:
            raise bad_model("MM104", f"{given.size} zero points, not {list(shape)}")
        return given.astype(np.float64).reshape(shape)
    row = -(-shape[1] * bits // 8)
    if given.size != shape[0] * row:
        raise bad_model("MM104", f"{given.size} bytes of zero points, not {shape[0]} x {row}")
    return unpacked(given.reshape(shape[0], row), bits)[:, : shape[1]]


@converts("GatherBlockQuantized", domain=MICROSOFT, notes="of constants; kept as float32")
def convert_gather_block_quantized(call: Call) -> Value:
    """Rows of a constant matrix of integers, scaled in blocks."""
    build = call.build
    data, scale = call.needed(0, "the data"), call.needed(2, "the scales")
    axis = normal_axis(call.integer("quantize_axis", 1), data.ndim)
    block, bits = call.integer("block_size", 128), _bits(call)
    if data.dtype == np.uint8:
        integers = unpacked(data, bits)
        zero: NDArray[Any] = np.array(1 << (bits - 1))
    else:
        integers, zero = data.astype(np.int64), np.array(0)
    if call.has(3):
        zero = call.needed(3, "the zero points")
        zero = unpacked(zero, bits) if data.dtype == np.uint8 else zero.astype(np.int64)
    wanted = tuple(-(-n // max(block, 1)) if k == axis else n for k, n in enumerate(integers.shape))
    if block < 1 or scale.shape != wanted:
        raise bad_model("MM104", f"{list(scale.shape)} scales for blocks of {block}")
    if zero.ndim and zero.shape[:axis] + zero.shape[axis + 1 :] != wanted[:axis] + wanted[axis + 1 :]:
        raise bad_model("MM104", f"{list(zero.shape)} zero points for {list(scale.shape)} scales")
    if zero.ndim and zero.shape[axis] < scale.shape[axis]:
        raise bad_model("MM104", f"{list(zero.shape)} zero points for {list(scale.shape)} scales")
    build.spend(8 * integers.size, "GatherBlockQuantized")
    place = np.arange(int(integers.shape[axis])) // block
    if zero.ndim:
        zero = np.take(np.take(zero, range(scale.shape[axis]), axis), place, axis)
    real = (integers - zero) * np.take(scale, place, axis)
    table = build.constant(real.astype(np.float32))
    axis = normal_axis(call.integer("gather_axis", 0), data.ndim)
    return gathered(build, table, axis, index_input(call, 1))
