# SPDX-License-Identifier: Apache-2.0
"""Operators that ONNX defines by no others, or not well, written out in others here for a node's shapes.

Indices that are computed at run time go through Gather and Scatter, which move what is outside to the nearest
element, so nothing else is ever read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, NodeProto, helper, numpy_helper

from mmcc.ir.types import Shape

OPSET = 20  # of the functions
MOST_TAPS = 64  # pixels that an output is made of
MOST_CONSTANT = 2**22  # elements of an array that a function brings along
MOST_ROWS = 4  # of a matrix whose determinant is a sum over all permutations
CUBIC = -0.75  # Keys' parameter, in GridSample


@dataclass(slots=True)
class Body:
    """The nodes of a function so far. A shape or a constant is None where it is not known."""

    shapes: Sequence[Shape | None]
    constants: Sequence[NDArray[Any] | None]
    attributes: dict[str, Any]
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])

    def add(self, op: str, *operands: str | float | NDArray[Any], **attributes: Any) -> str:
        """A node more; numbers and arrays become constants. The name of its result."""
        names = [each if isinstance(each, str) else self.constant(each) for each in operands]
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [result], **attributes))
        return result

    def constant(self, value: float | NDArray[Any]) -> str:
        array = np.asarray(value, np.float32) if isinstance(value, (int, float)) else value
        result = f"v{len(self.nodes)}"
        tensor = numpy_helper.from_array(array)
        self.nodes.append(helper.make_node("Constant", [], [result], value=tensor))
        return result

    def shape(self, index: int) -> Shape:
        """Of an operand that must be there; LookupError if it is not."""
        shape = self.shapes[index] if index < len(self.shapes) else None
        if shape is None:
            raise LookupError(index)
        return shape

    def ints(self, index: int) -> list[int]:
        """A constant operand; LookupError if it is none."""
        array = self.constants[index] if index < len(self.constants) else None
        if array is None:
            raise LookupError(index)
        return [int(value) for value in array.reshape(-1)]


Writer = Callable[[Body], Sequence[str]]
WRITERS: dict[str, Writer] = {}


def written_out(
    node: NodeProto, shapes: Sequence[Shape | None], constants: Sequence[NDArray[Any] | None]
) -> FunctionProto:
    """The function of a node of ONNX's own domain; LookupError if there is none for it, or for its shapes."""
    writer = WRITERS[node.op_type]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    body = Body(shapes, constants, attributes)
    try:
        results = writer(body)
    except (ValueError, ArithmeticError, TypeError, AttributeError) as error:  # of numbers that make no sense
        raise LookupError(node.op_type) from error
    inputs = [f"x{k}" for k in range(len(node.input))]
    outputs = [f"y{k}" for k in range(len(results))]
    body.nodes += [helper.make_node("Identity", [a], [b]) for a, b in zip(results, outputs, strict=True)]
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_function("mmcc", node.op_type, inputs, outputs, body.nodes, opsets)


def _writes(name: str) -> Callable[[Writer], Writer]:
    def register(writer: Writer) -> Writer:
        WRITERS[name] = writer
        return writer

    return register


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


@_writes("GridSample")
def _grid_sample(body: Body) -> Sequence[str]:
    """Weighted sums of pixels: taps along each axis, all combinations of them."""
    x, grid = body.shape(0), body.shape(1)
    dims, out, channels = x[2:], grid[1:-1], x[1]
    padding = body.attributes.get("padding_mode", b"zeros").decode()
    mode = body.attributes.get("mode", b"linear").decode().removeprefix("bi")
    aligned = bool(body.attributes.get("align_corners", 0))
    taps: list[list[tuple[str, str]]] = []  # of each axis: index and weight
    for axis, extent in enumerate(dims):
        at = len(dims) - 1 - axis
        place = body.add("Gather", "x1", _ints(at), axis=len(grid) - 1)
        place = body.add("Reshape", place, _ints(grid[0], *out))
        ones = np.ones((grid[0], *out), np.float32)
        taps.append(_taps(body, place, extent, mode, padding, aligned, ones))
    last = (0, *range(2, len(x)), 1)
    pixels = body.add("Transpose", "x0", perm=last)
    pixels = body.add("Reshape", pixels, _ints(x[0] * prod(dims), channels))
    image = np.arange(x[0], dtype=np.int64).reshape(-1, *(1 for _ in out)) * prod(dims)
    if prod(map(len, taps)) > MOST_TAPS:
        raise LookupError("too many taps")
    total = ""
    for chosen in product(*taps):
        index, weight = "", ""
        for (place, share), extent in zip(chosen, dims, strict=True):
            index = body.add("Add", body.add("Mul", index, _ints(extent)), place) if index else place
            weight = body.add("Mul", weight, share) if weight else share
        if x[0] > 1:
            index = body.add("Add", index, image)
        value = body.add("Gather", pixels, index, axis=0)
        value = body.add("Mul", value, body.add("Unsqueeze", weight, _ints(-1)))
        total = body.add("Add", total, value) if total else value
    first = (0, len(x) - 1, *range(1, len(x) - 1))
    return [body.add("Transpose", total, perm=first)]


def _taps(
    body: Body,
    place: str,
    extent: int,
    mode: str,
    padding: str,
    aligned: bool,
    ones: NDArray[np.float32],
) -> list[tuple[str, str]]:
    """Along one axis: the indices of the pixels that count, and how much each does. `place` is in -1 to 1."""
    low, high = (0.0, extent - 1.0) if aligned else (-0.5, extent - 0.5)
    place = body.add("Add", place, 1.0)
    if aligned:
        place = body.add("Mul", place, (extent - 1) / 2)
    else:
        place = body.add("Mul", body.add("Sub", body.add("Mul", place, float(extent)), 1.0), 0.5)
    place = body.add("Round", place) if mode == "nearest" else place
    if padding != "zeros":
        beside = body.add("Or", body.add("Less", place, low), body.add("Greater", place, high))
        inside = _inside(body, place, extent, padding, low, high)
        place = body.add("Where", beside, inside, place)
    if mode == "nearest":
        return [_tap(body, place, body.constant(ones), extent, padding, low, high)]
    if mode not in ("linear", "cubic"):
        raise LookupError(mode)
    first = body.add("Floor", place)
    part = body.add("Sub", place, first)
    weights = _linear(body, part) if mode == "linear" else _cubic(body, part)
    begin = 0 if mode == "linear" else -1
    places = [body.add("Add", first, float(begin + k)) for k in range(len(weights))]
    return [_tap(body, p, w, extent, padding, low, high) for p, w in zip(places, weights, strict=True)]


def _tap(
    body: Body, place: str, weight: str, extent: int, padding: str, low: float, high: float
) -> tuple[str, str]:
    """A pixel at a whole place, which may be beside the image: its index, and its weight."""
    if padding == "zeros":
        after, before = body.add("GreaterOrEqual", place, 0.0), body.add("Less", place, float(extent))
        there = body.add("And", after, before)
        weight = body.add("Where", there, weight, 0.0)
    else:
        place = _inside(body, place, extent, padding, low, high)
    index = body.add("Clip", place, 0.0, extent - 1.0)
    return body.add("Cast", index, to=7), weight


def _inside(body: Body, place: str, extent: int, padding: str, low: float, high: float) -> str:
    """A place on the image for any: the nearest one, or reflected at the borders until it is within them."""
    span = high - low
    if padding == "border" or span == 0:
        return body.add("Clip", place, 0.0, extent - 1.0)
    away = body.add("Abs", body.add("Sub", place, low))
    away = body.add("Mod", away, 2 * span, fmod=1)
    back = body.add("Sub", 2 * span, away)
    return body.add("Add", body.add("Min", away, back), low)


def _linear(body: Body, part: str) -> list[str]:
    return [body.add("Sub", 1.0, part), part]


def _cubic(body: Body, part: str) -> list[str]:
    """Weights of the four pixels around, by the distance from each."""
    other = body.add("Sub", 1.0, part)
    return [
        _far(body, body.add("Add", part, 1.0)),
        _near(body, part),
        _near(body, other),
        _far(body, body.add("Add", other, 1.0)),
    ]


def _near(body: Body, d: str) -> str:
    """(a + 2) d^3 - (a + 3) d^2 + 1."""
    slope = body.add("Sub", body.add("Mul", d, CUBIC + 2), CUBIC + 3)
    return body.add("Add", body.add("Mul", body.add("Mul", slope, d), d), 1.0)


def _far(body: Body, d: str) -> str:
    """a d^3 - 5 a d^2 + 8 a d - 4 a."""
    inner = body.add("Sub", body.add("Mul", d, CUBIC), 5 * CUBIC)
    inner = body.add("Add", body.add("Mul", inner, d), 8 * CUBIC)
    return body.add("Sub", body.add("Mul", inner, d), 4 * CUBIC)


@_writes("ReverseSequence")
def _reverse_sequence(body: Body) -> Sequence[str]:
    """Each sequence read from its end; what is behind its length stays."""
    shape = body.shape(0)
    time, batch = (int(body.attributes.get(f"{name}_axis", k)) for k, name in enumerate(("time", "batch")))
    steps = np.arange(shape[time], dtype=np.int64)
    along = [shape[time] if k == time else 1 for k in range(len(shape))]
    across = [shape[batch] if k == batch else 1 for k in range(len(shape))]
    lengths = body.add("Reshape", "x1", _ints(*across))
    step = body.constant(steps.reshape(along))
    back = body.add("Sub", body.add("Sub", lengths, _ints(1)), step)
    index = body.add("Where", body.add("Less", step, lengths), back, step)
    return [body.add("GatherElements", "x0", body.add("Expand", index, _ints(*shape)), axis=time)]


@_writes("MaxUnpool")
def _max_unpool(body: Body) -> Sequence[str]:
    """Values where MaxPool found them, zeros elsewhere."""
    x, kernel = body.shape(0), body.attributes["kernel_shape"]
    strides = body.attributes.get("strides", [1] * len(kernel))
    pads = body.attributes.get("pads", [0] * (2 * len(kernel)))
    both = [a + b for a, b in zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)]
    spatial = [(n - 1) * s - p + k for n, s, p, k in zip(x[2:], strides, both, kernel, strict=True)]
    whole = [*x[:2], *spatial]
    if min(whole) < 1 or prod(whole) > MOST_CONSTANT:
        raise LookupError("no such output")
    zeros = np.zeros(prod(whole), np.float32)
    flat = [body.add("Reshape", name, _ints(-1)) for name in ("x1", "x0")]
    made = body.add("Reshape", body.add("ScatterElements", zeros, *flat, axis=0), _ints(*whole))
    if len(body.shapes) > 2:
        wanted = body.ints(2)
        if any(a < b for a, b in zip(wanted, whole, strict=True)):
            raise LookupError("a smaller output")
        behind = [a - b for a, b in zip(wanted, whole, strict=True)]
        made = body.add("Pad", made, _ints(*([0] * len(whole)), *behind))
    return [made]


@_writes("Col2Im")
def _col2im(body: Body) -> Sequence[str]:
    """A transposed convolution in which each column has a filter of its own, with a single 1."""
    x, image, block = body.shape(0), body.ints(1), body.ints(2)
    rank, taps = len(block), prod(block)
    strides = body.attributes.get("strides", [1] * rank)
    dilations = body.attributes.get("dilations", [1] * rank)
    pads = body.attributes.get("pads", [0] * (2 * rank))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, block, strict=True)]
    whole = [n + a + b for n, a, b in zip(image, pads[:rank], pads[rank:], strict=True)]
    places = [(n - r) // s + 1 for n, r, s in zip(whole, reach, strides, strict=True)]
    channels = x[1] // taps
    if taps < 1 or channels * taps != x[1] or x[1] * taps > MOST_CONSTANT:
        raise LookupError("no such columns")
    spare = [n - r - (p - 1) * s for n, r, p, s in zip(whole, reach, places, strides, strict=True)]
    ones = np.tile(np.eye(taps, dtype=np.float32), (channels, 1)).reshape(channels * taps, 1, *block)
    columns = body.add("Reshape", "x0", _ints(x[0], x[1], *places))
    made = body.add(
        "ConvTranspose",
        columns,
        ones,
        group=channels,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=spare,
    )
    return [made]


@_writes("AffineGrid")
def _affine_grid(body: Body) -> Sequence[str]:
    """Constant places of all pixels, times each matrix. ONNX's own function is wrong for one sample."""
    size, aligned = body.ints(1), bool(body.attributes.get("align_corners", 0))
    count, dims = size[0], size[2:]
    rank = len(dims)
    if body.shape(0) != (count, rank, rank + 1) or min(dims) < 1 or (aligned and 1 in dims):
        raise LookupError("no such grid")  # the ends of an axis of one pixel are at no one place
    if prod(dims) * (rank + 1) > MOST_CONSTANT:
        raise LookupError("too large")
    steps = [(np.arange(n) * 2 / (n - 1) if aligned else (2 * np.arange(n) + 1) / n) - 1 for n in dims]
    places = [*np.meshgrid(*steps, indexing="ij")][::-1]  # x first
    base = np.stack([*places, np.ones(dims)], -1).reshape(-1, rank + 1).astype(np.float32)
    turned = body.add("Transpose", "x0", perm=(0, 2, 1))
    return [body.add("Reshape", body.add("MatMul", base, turned), _ints(count, *dims, rank))]


@_writes("Det")
def _determinant(body: Body) -> Sequence[str]:
    """The sum over all permutations of columns: of small matrices only, as it grows with the factorial."""
    shape = body.shape(0)
    rows = shape[-1]
    if not 1 <= rows == shape[-2] <= MOST_ROWS:
        raise LookupError("too large")
    columns = np.array([*permutations(range(rows))], np.int64)
    signs = np.linalg.det(np.eye(rows)[columns]).round().astype(np.float32)
    flat = body.add("Reshape", "x0", _ints(-1, rows * rows))
    terms = body.constant(signs)
    for row in range(rows):
        terms = body.add("Mul", terms, body.add("Gather", flat, row * rows + columns[:, row], axis=1))
    total = body.add("ReduceSum", terms, _ints(1), keepdims=0)
    return [body.add("Reshape", total, _ints(*shape[:-2]))]
