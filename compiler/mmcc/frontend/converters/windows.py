# SPDX-License-Identifier: Apache-2.0
"""What convolutions and pools share: geometry from attributes, the layout [H, W, C], and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmcc.errors import CompileError
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.parts import concat, sliced
from mmcc.frontend.layouts import arranged
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.value import Value
from mmcc.ir.types import Shape, Tensor
from mmcc.ops.window import Window

MAX_BATCH = 64
MAX_EXTENT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sliding:
    """A window over axes of space, as ONNX's attributes say it; pads are all begins, then all ends."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    auto_pad: str

    @property
    def reach(self) -> list[int]:
        """How far the window extends on each axis."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def lacking(self, space: Shape) -> list[int]:
        """The elements that SAME_* adds to each axis; below 0, those that no window reads."""
        return [
            (-(-extent // stride) - 1) * stride + reach - extent
            for extent, stride, reach in zip(space, self.strides, self.reach, strict=True)
        ]

    def window(self, pads: Sequence[int]) -> Window:
        """As mmcc's two-dimensional window: one axis is rows of one column."""
        if min(pads) < 0:
            raise unsupported(f"negative pads {list(pads)}")
        if len(self.kernel) == 1:
            (k,), (s,), (d,) = self.kernel, self.strides, self.dilations
            return Window((k, 1), (s, 1), (d, 1), (pads[0], 0, pads[1], 0))
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.strides, self.dilations
        return Window((kh, kw), (sh, sw), (dh, dw), (pads[0], pads[1], pads[2], pads[3]))


def sliding(call: Call, x: Value, kernel: Sequence[int] | None, axes: int = 0) -> Sliding:
    """Read the window's attributes, over 1 or 2 axes, or so many; `kernel` is what the weights say."""
    wanted, axes = axes, x.rank - 2
    if axes not in (1, 2, wanted):
        raise unsupported(f"{max(axes, 0)} axes of space (input {list(x.shape)}); 1 and 2 are supported")
    given = call.integers("kernel_shape")
    if kernel is None and given is None:
        raise bad_model("MM103", "attribute kernel_shape is missing")
    if kernel is not None and given is not None and list(kernel) != given:
        raise bad_model("MM104", f"kernel_shape {given}, but the weights are {list(kernel)}")
    size = list(kernel if kernel is not None else given or [])
    strides = call.integers("strides") or [1] * axes
    dilations = call.integers("dilations") or [1] * axes
    pads = call.integers("pads") or [0] * (2 * axes)
    lists_fit = len(size) == len(strides) == len(dilations) == axes and len(pads) == 2 * axes
    if not lists_fit or min(*size, *strides, *dilations, 1) < 1:
        raise bad_model(
            "MM104", f"kernel {size}, strides {strides}, dilations {dilations}, pads {pads} over {axes} axes"
        )
    if max(*size, *strides, *dilations, *pads) > MAX_EXTENT:
        raise bad_model("MM105", f"a kernel, stride, dilation or pad of more than {MAX_EXTENT}")
    auto_pad = call.text("auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise bad_model("MM103", f'auto_pad is "{auto_pad}"')
    return Sliding(size, strides, dilations, pads, auto_pad)


def pads_unclear(message: str) -> CompileError:
    """An error for an auto_pad that ONNX and its runtimes take differently."""
    return unsupported(message, "exporting with explicit pads")


def resolved_pads(slide: Sliding, space: Shape) -> list[int]:
    """The pads once auto_pad is taken into account."""
    if slide.auto_pad == "NOTSET":
        return slide.pads
    if slide.auto_pad == "VALID":
        return [0] * len(slide.pads)
    begins: list[int] = []
    ends: list[int] = []
    for total, stride, reach in zip(slide.lacking(space), slide.strides, slide.reach, strict=True):
        if total < -2:  # up to here everybody begins at the first element
            raise pads_unclear(
                f"auto_pad {slide.auto_pad} with stride {stride} over windows of {reach}: "
                "runtimes disagree on which elements are left out"
            )
        less, more = max(0, total) // 2, max(0, total) - max(0, total) // 2
        upper = slide.auto_pad == "SAME_UPPER"
        begins.append(less if upper else more)
        ends.append(more if upper else less)
    return begins + ends


def spatial(build: Builder, x: Value) -> str:
    """The tensor of one sample as [H, W, C], or as [T, 1, C]."""
    return arranged(build, x, [(2,), (3,) if x.rank == 4 else (), (1,)])


def from_spatial(made: Tensor, rank: int) -> Value:
    """The ONNX value that a tensor [H, W, C] or [T, 1, C] holds."""
    axes: tuple[tuple[int, ...], ...] = ((), (2,), (0,), (1,)) if rank == 4 else ((), (2,), (0,))
    return Value(made.name, made.dtype, made.shape, axes)


def channels_last(call: Call, x: Value) -> Value:
    """An operand of a Microsoft operator that may be channels-last, as ONNX has it."""
    return x.transposed((0, x.rank - 1, *range(1, x.rank - 1))) if call.integer("channels_last", 0) else x


def as_called(call: Call, y: Value) -> Value:
    """The inverse of `channels_last`, for the result."""
    return y.transposed((0, *range(2, y.rank), 1)) if call.integer("channels_last", 0) else y


def each_sample(build: Builder, x: Value, convert: Callable[[Value], Value]) -> Value:
    """Convert sample by sample: mmcc's operators have no batch axis."""
    batch = x.shape[0]
    if x.size == 0:
        raise bad_model("MM105", f"the input {list(x.shape)} is empty")
    if batch == 1:
        return convert(x)
    if batch > MAX_BATCH:
        raise unsupported(
            f"a batch of {batch}; up to {MAX_BATCH} are unrolled", "exporting with a batch of 1"
        )
    return concat(build, [convert(sliced(build, x, {0: (k, 1, 1)})) for k in range(batch)], 0)
