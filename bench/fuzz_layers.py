# SPDX-License-Identifier: Apache-2.0
"""Layers of random ONNX models: each method draws one that suits a value's shape.

Every output's shape is asked of ONNX itself, so that a model is valid whatever was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

OPSET, IR = 21, 10
MOST_ELEMENTS = 3000  # of a tensor
UNARY = (
    ("Relu", {}),
    ("Relu", {}),
    ("LeakyRelu", {"alpha": 0.1}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("HardSwish", {}),
    ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    ("Elu", {"alpha": 1.0}),
    ("Abs", {}),
    ("Neg", {}),
    ("Softplus", {}),
    ("Identity", {}),
)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the model: batch first, then channels, then space."""

    name: str
    shape: tuple[int, ...]

    @property
    def spatial(self) -> bool:
        """It has axes of space behind batch and channels."""
        return len(self.shape) in (3, 4)


class Layers:
    """A model under way; `pool` holds the values that a next node may read."""

    def __init__(self, seed: int | Sequence[int]) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.inputs: list[Value] = []
        self.pool: list[Value] = []
        self.asked: list[Value] = []  # values within the model that are to be outputs
        self.types: dict[str, int] = {}  # ONNX's numbers of those of nodes
        self.opset = helper.make_opsetid("", OPSET)

    # ---- drawing

    def chance(self, part: float) -> bool:
        return bool(self.rng.random() < part)

    def draw(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    # ---- building

    def input(self, *shape: int) -> Value:
        value = Value(f"x{len(self.inputs)}", shape)
        self.inputs.append(value)
        self.pool.append(value)
        return value

    def constant(self, data: Any) -> Value:
        array = np.asarray(data)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return Value(name, array.shape)

    def weights(self, *shape: int) -> Value:
        fan = max(1, prod(shape[1:]))
        return self.constant(self.rng.normal(0, 1.2 / np.sqrt(fan), shape))

    def node(self, kind: str, *operands: Value | None, outputs: int = 1, **attributes: Any) -> list[Value]:
        """A node; raises ValueError, and adds nothing, if its outputs would be empty or large."""
        names = [f"t{len(self.nodes)}" if outputs == 1 else f"t{len(self.nodes)}_{k}" for k in range(outputs)]
        node = helper.make_node(kind, [o.name if o else "" for o in operands], names, **attributes)
        kept = {k: v for k, v in self.constants.items() if k in node.input}
        types = {
            o.name: helper.make_tensor_type_proto(
                helper.np_dtype_to_tensor_dtype(kept[o.name].dtype)
                if o.name in kept
                else self.types.get(o.name, TensorProto.FLOAT),
                o.shape,
            )
            for o in operands
            if o
        }
        data = {
            k: numpy_helper.from_array(v, k) for k, v in kept.items() if v.dtype == np.int64 or v.size < 9
        }
        schema = onnx.defs.get_schema(kind, OPSET)
        try:
            made = infer_node_outputs(schema, node, types, data, None, [self.opset], IR)
        except onnx.shape_inference.InferenceError as error:
            raise ValueError(f"{kind}: {error}") from error
        values = [Value(n, tuple(d.dim_value for d in made[n].tensor_type.shape.dim)) for n in names]
        if any(not 0 < prod(v.shape) <= MOST_ELEMENTS for v in values):
            raise ValueError(f"{kind}: {[v.shape for v in values]}")
        self.nodes.append(node)
        self.types |= {n: made[n].tensor_type.elem_type for n in names}
        return values

    def one(self, kind: str, *operands: Value | None, **attributes: Any) -> Value:
        return self.node(kind, *operands, **attributes)[0]

    # ---- layers

    def window(self, x: Value, most: int = 3) -> dict[str, Any]:
        """Kernel, strides, pads and dilations that suit the extents of `x`."""
        space = x.shape[2:]
        kernel = [min(self.draw(1, 2, 3, 3, 3, most), n) for n in space]
        if self.chance(0.7):
            kernel = [min(kernel[0], n) for n in space]
        strides = (
            [self.draw(1, 1, 1, 2)] * len(space) if self.chance(0.8) else [self.between(1, 2) for _ in space]
        )
        dilations = [self.draw(1, 1, 1, 1, 2) for _ in space]
        dilations = [
            d if (k - 1) * d + 1 <= n else 1 for k, d, n in zip(kernel, dilations, space, strict=True)
        ]
        found: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        match self.between(0, 3):
            case 0 | 1:
                found["pads"] = [r // 2 for r in reach] + [r - r // 2 for r in reach]
            case 2:
                found["pads"] = [self.between(0, min(r, 1)) for r in reach] + [
                    self.between(0, r) for r in reach
                ]
            case _:
                pass
        return found

    def conv(self, x: Value, filters: int = 0, **window: Any) -> Value:
        channels = x.shape[1]
        groups = channels if self.chance(0.25) else 2 if channels % 2 == 0 and self.chance(0.1) else 1
        filters = filters or self.draw(channels, 4, 8, 3, 5, 12, 16)
        if filters % groups:
            filters = groups * self.draw(1, 1, 2)
        window = window or self.window(x, 5)
        w = self.weights(filters, channels // groups, *window["kernel_shape"])
        b = self.constant(self.rng.normal(0, 0.2, filters)) if self.chance(0.8) else None
        return self.one("Conv", x, w, *([b] if b else []), group=groups, **window)

    def same(self, x: Value, filters: int = 0) -> Value:
        """A convolution that keeps the extents."""
        size = self.draw(1, 3)
        space = len(x.shape) - 2
        return self.conv(x, filters or x.shape[1], kernel_shape=[size] * space, pads=[size // 2] * 2 * space)

    def up_conv(self, x: Value) -> Value:
        space = len(x.shape) - 2
        size, stride = self.draw(2, 3, 4), self.draw(1, 2, 2)
        more: dict[str, Any] = {"pads": [self.between(0, 1)] * 2 * space} if size > 2 else {}
        if stride == 2 and self.chance(0.3):
            more["output_padding"] = [1] * space
        groups = x.shape[1] if self.chance(0.2) else 1
        filters = self.draw(2, 4, 8)
        w = self.weights(x.shape[1], 1 if groups > 1 else filters, *[size] * space)
        return self.one(
            "ConvTranspose", x, w, group=groups, kernel_shape=[size] * space, strides=[stride] * space, **more
        )

    def pool_layer(self, x: Value) -> Value:
        window = self.window(x)
        if self.chance(0.2):
            return self.one(self.draw("GlobalAveragePool", "GlobalMaxPool"), x)
        window = self._pads_within(window)
        if self.chance(0.5):
            up = self.draw(0, 0, 1)
            if up and _starts_in_pads(x.shape[2:], window):
                raise ValueError("ONNX's shape inference counts such a window, ONNX Runtime and mmcc do not")
            return self.one("MaxPool", x, **window, ceil_mode=up)
        del window["dilations"]
        return self.one("AveragePool", x, **window, count_include_pad=self.draw(0, 1))

    def _pads_within(self, window: dict[str, Any]) -> dict[str, Any]:
        """Pads below the kernel's size, as pools need them."""
        kernel = window["kernel_shape"]
        pads = window.get("pads", [0] * 2 * len(kernel))
        return window | {"pads": [min(p, k - 1) for p, k in zip(pads, [*kernel, *kernel], strict=True)]}

    def resize(self, x: Value) -> Value:
        mode = self.draw("nearest", "nearest", "linear")
        how = self.draw("asymmetric", "half_pixel", "align_corners") if mode == "linear" else "asymmetric"
        more = {"nearest_mode": "floor"} if mode == "nearest" else {}
        sizes = [n * 2 if self.chance(0.7) else self.between(max(1, n - 2), n + 5) for n in x.shape[2:]]
        to = self.constant(np.array([*x.shape[:2], *sizes], np.int64))
        return self.one("Resize", x, None, None, to, mode=mode, coordinate_transformation_mode=how, **more)

    def unary(self, x: Value) -> Value:
        if self.chance(0.15):
            low, high = self.constant(np.float32(0)), self.constant(np.float32(self.draw(1, 6)))
            return self.one("Clip", x, low, high)
        kind, attributes = self.draw(*UNARY)
        return self.one(kind, x, **attributes)

    def dense(self, x: Value) -> Value:
        flat = x if len(x.shape) == 2 else self.one("Flatten", x)
        wide, out = flat.shape[1], self.draw(3, 8, 10, 17)
        if self.chance(0.5):
            bias = self.constant(self.rng.normal(0, 0.2, out))
            return self.one("Gemm", flat, self.weights(out, wide), bias, transB=1)
        return self.one("MatMul", flat, self.constant(self.rng.normal(0, 1 / np.sqrt(wide), (wide, out))))

    def by_row(self, x: Value) -> Value:
        """A product over the last axis, whatever is before it."""
        wide, out = x.shape[-1], self.draw(4, 8, x.shape[-1])
        return self.one("MatMul", x, self.constant(self.rng.normal(0, 1 / np.sqrt(wide), (wide, out))))

    def soft(self, x: Value) -> Value:
        return self.one("Softmax", x, axis=self.draw(-1, 1))

    def norm(self, x: Value) -> Value:
        n = x.shape[1]
        terms = (
            1 + self.rng.random(n),
            self.rng.normal(0, 0.3, n),
            self.rng.normal(0, 0.3, n),
            0.5 + self.rng.random(n),
        )
        return self.one("BatchNormalization", x, *(self.constant(t) for t in terms))

    def reduce(self, x: Value) -> Value:
        axes = (
            sorted(set(self.rng.integers(1, len(x.shape), self.between(1, 2)).tolist()))
            if len(x.shape) > 1
            else [0]
        )
        kind = self.draw("ReduceMean", "ReduceMean", "ReduceMax", "ReduceSum")
        return self.one(kind, x, self.constant(np.array(axes, np.int64)), keepdims=self.draw(0, 1))

    # ---- two operands

    def arithmetic(self, x: Value) -> Value:
        kind = self.draw("Add", "Add", "Add", "Sub", "Mul", "Max", "Min")
        match self.between(0, 3):
            case 0:
                shape = tuple(n if k == 1 or self.chance(0.3) else 1 for k, n in enumerate(x.shape))
                other = self.constant(self.rng.normal(0, 1, shape))
            case 1:
                other = self.constant(np.float32(self.rng.normal(0.5, 1)))
            case _:
                other = self.draw(*[v for v in self.pool if broadcasts(v, x)] or [x])
        return self.one(kind, x, other) if self.chance(0.8) else self.one(kind, other, x)

    def concat(self, x: Value) -> Value:
        axis = self.draw(*[1] * 4, *range(1, len(x.shape))) if len(x.shape) > 1 else 0
        fits = [v for v in self.pool if joins(v, x, axis)]
        parts = [x] + [self.draw(*fits) for _ in range(self.between(1, 4))]
        order = self.rng.permutation(len(parts))
        return self.one("Concat", *(parts[k] for k in order), axis=axis)

    # ---- movement

    def cut(self, x: Value) -> Value:
        """A slice of one or two axes, never the batch."""
        axes = sorted(
            set(self.rng.integers(min(1, len(x.shape) - 1), len(x.shape), self.between(1, 2)).tolist())
        )
        starts = [self.between(0, (x.shape[a] - 1) // 2) for a in axes]
        ends = [self.between(s + 1, x.shape[a]) for s, a in zip(starts, axes, strict=True)]
        steps = [self.draw(1, 1, 1, 2) for _ in axes]
        return self.one(
            "Slice", x, *(self.constant(np.array(v, np.int64)) for v in (starts, ends, axes, steps))
        )

    def split(self, x: Value) -> Value:
        axis = self.draw(1, 1, *range(1, len(x.shape))) if len(x.shape) > 1 else 0
        extent = x.shape[axis]
        first = self.between(1, max(1, extent - 1))
        if first == extent:
            raise ValueError("one element cannot be split")
        sizes = [first, extent - first]
        parts = self.node("Split", x, self.constant(np.array(sizes, np.int64)), outputs=2, axis=axis)
        self.pool.extend(parts)
        return parts[1]

    def top_k(self, x: Value) -> Value:
        """The values; indices may be others where what comes before is a step off."""
        axis = self.between(1, len(x.shape) - 1) if len(x.shape) > 1 else 0
        count = self.constant(np.array([self.between(1, x.shape[axis])], np.int64))
        return self.node("TopK", x, count, outputs=2, axis=axis, largest=self.draw(0, 1))[0]

    def pad(self, x: Value) -> Value:
        rank = len(x.shape)
        pads = np.zeros(2 * rank, np.int64)
        for axis in range(min(1, rank - 1), rank):
            if self.chance(0.5):
                pads[axis], pads[rank + axis] = self.rng.integers(0, 3, 2)
        mode = self.draw("constant", "constant", "edge", "reflect")
        if mode == "reflect":
            pads = np.minimum(pads, np.array([max(0, n - 1) for n in (*x.shape, *x.shape)]))
        return self.one("Pad", x, self.constant(pads), mode=mode)

    def reshape(self, x: Value) -> Value:
        batch, rest = x.shape[0], x.shape[1:]
        size = prod(rest)
        shapes = [(batch, size), (batch, *rest[::-1]), (batch, rest[0] if rest else 1, prod(rest[1:]))]
        shapes += [(batch, 2, size // 2)] if size % 2 == 0 else []
        shapes += [(batch, size // 4, 2, 2)] if size % 4 == 0 else []
        return self.one("Reshape", x, self.constant(np.array(self.draw(*shapes), np.int64)))

    def transpose(self, x: Value) -> Value:
        inner = 1 + self.rng.permutation(len(x.shape) - 1)
        return self.one("Transpose", x, perm=[0, *(int(k) for k in inner)])

    def gather(self, x: Value) -> Value:
        axis = self.between(1, len(x.shape) - 1)
        return self.one(
            "Gather", x, self.constant(self.rng.integers(0, x.shape[axis], self.between(1, 5))), axis=axis
        )

    def blocks(self, x: Value) -> Value:
        kind = self.draw("DepthToSpace", "SpaceToDepth")
        parts = x.shape[1] % 4 if kind == "DepthToSpace" else x.shape[2] % 2 or x.shape[3] % 2
        if parts:  # ONNX's shape inference takes it, and nothing else does
            raise ValueError("no whole blocks")
        if kind == "DepthToSpace":
            return self.one(kind, x, blocksize=2, mode=self.draw("DCR", "CRD"))
        return self.one(kind, x, blocksize=2)


def broadcasts(a: Value, b: Value) -> bool:
    """True if `a` can be an operand of an element-wise node with the shape of `b`."""
    return len(a.shape) == len(b.shape) and all(m in (1, n) for m, n in zip(a.shape, b.shape, strict=True))


def joins(a: Value, b: Value, axis: int) -> bool:
    """True if both can be operands of one Concat."""
    if len(a.shape) != len(b.shape):
        return False
    return all(m == n or k == axis for k, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)))


def _starts_in_pads(space: Sequence[int], window: dict[str, Any]) -> bool:
    """True if, with sizes rounded up, the last window of some axis starts behind the last element."""
    for k, extent in enumerate(space):
        first, last = window["pads"][k], window["pads"][k + len(space)]
        reach = (window["kernel_shape"][k] - 1) * window["dilations"][k] + 1
        steps = -(-(extent + first + last - reach) // window["strides"][k])
        if steps * window["strides"][k] >= extent + first:
            return True
    return False
