# SPDX-License-Identifier: Apache-2.0
"""Operators of random ONNX models beside those that networks for images are made of.

Each method draws a node or a few, with attributes that exporters seldom write. Left out is what ONNX Runtime
and ONNX differ in, and what is undefined: a Cast to integers of what they cannot hold.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from fuzz_layers import Layers, Value, broadcasts

FUNCTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Exp", {}),
    ("Erf", {}),
    ("Ceil", {}),
    ("Floor", {}),
    ("Round", {}),
    ("Sign", {}),
    ("Sin", {}),
    ("Cos", {}),
    ("Atan", {}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("Mish", {}),
    ("Celu", {"alpha": 0.7}),
    ("Selu", {}),
    ("Softsign", {}),
    ("ThresholdedRelu", {"alpha": 0.3}),
    ("Shrink", {"lambd": 0.4, "bias": 0.1}),
    ("LogSoftmax", {"axis": -1}),
    ("Hardmax", {"axis": -1}),
)
REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare", "ReduceMin", "ReduceProd")
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OF_CELLS = {"LSTM": 3, "GRU": 2, "RNN": 1}  # functions of a direction


class Operators(Layers):
    """Draws of operators; a ValueError says that one does not suit the value."""

    def integers(self, *values: int) -> Value:
        return self.constant(np.array(values, np.int64))

    def normal(self, *shape: int, width: float = 1.0) -> Value:
        return self.constant(self.rng.normal(0, width, shape))

    def axis(self, x: Value) -> int:
        """An axis, the batch's only where there is no other."""
        return self.between(min(1, len(x.shape) - 1), len(x.shape) - 1)

    def either(self, axis: int, x: Value) -> int:
        """The axis counted from the first or from the last."""
        return self.draw(axis, axis - len(x.shape))

    def other(self, x: Value) -> Value:
        """A second operand: a constant of any shape that broadcasts, or another value."""
        match self.between(0, 3):
            case 0:
                return self.normal(*(n if self.chance(0.4) else 1 for n in x.shape))
            case 1:
                return self.constant(np.float32(self.rng.normal()))
            case 2:
                return self.normal(*x.shape[self.between(0, len(x.shape)) :])
            case _:
                return self.draw(*[v for v in self.pool if broadcasts(v, x)] or [x])

    # ---- elements

    def function(self, x: Value) -> Value:
        kind, attributes = self.draw(*FUNCTIONS)
        return self.one(kind, x, **attributes)

    def positive(self, x: Value) -> Value:
        """Functions of what is above 0."""
        above = self.one("Add", self.one("Abs", x), self.constant(np.float32(0.1)))
        if self.chance(0.4):
            power = self.constant(np.float32(self.draw(2, 3, 0.5, 1.7, -1)))
            return self.one("Pow", above, power)
        return self.one(self.draw("Sqrt", "Log", "Reciprocal"), above)

    def several(self, x: Value) -> Value:
        others = [self.other(x) for _ in range(self.between(0, 2))]
        return self.one(self.draw("Mean", "Sum", "Max", "Min"), *others, x)

    def divided(self, x: Value) -> Value:
        if self.chance(0.3):
            return self.one("Mod", x, self.constant(np.float32(0.75)), fmod=1)
        return self.one("Div", x, self.constant(0.5 + self.rng.random(x.shape[-1:])))

    def prelu(self, x: Value) -> Value:
        shape = [n if k == 1 or self.chance(0.2) else 1 for k, n in enumerate(x.shape)]
        return self.one("PRelu", x, self.normal(*shape, width=0.5))

    def where(self, x: Value) -> Value:
        """One of two values by comparisons."""
        kind = self.draw("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
        chosen = self.one(kind, x, self.other(x))
        if self.chance(0.3):
            chosen = self.one("Not", chosen)
        if self.chance(0.3):
            low = self.one("Less", x, self.constant(np.float32(0.3)))
            chosen = self.one(self.draw("And", "Or", "Xor"), chosen, low)
        return self.one("Where", chosen, self.draw(x, self.other(x)), self.other(x))

    # ---- sums, and what is normalized by them

    def reduction(self, x: Value) -> Value:
        rank = len(x.shape)
        chosen = sorted({self.axis(x) for _ in range(self.between(1, 3))})
        axes = [a - rank if self.chance(0.3) else a for a in chosen]
        kind = self.draw(*REDUCTIONS)
        if kind == "ReduceProd" and prod(x.shape[a] for a in chosen) > 32:
            raise ValueError("a product of that many is more than a float in one order, and 0 in another")
        return self.one(kind, x, self.integers(*axes), keepdims=self.draw(0, 1))

    def extremum(self, x: Value) -> Value:
        """Where the largest or least is, as floats."""
        where = {"axis": self.either(self.axis(x), x), "keepdims": self.draw(0, 1)}
        kind = self.draw("ArgMax", "ArgMin")
        return self.one("Cast", self.one(kind, x, select_last_index=self.draw(0, 1), **where), to=1)

    def running_sum(self, x: Value) -> Value:
        axis = self.constant(np.array(self.axis(x), np.int64))
        return self.one("CumSum", x, axis, exclusive=self.draw(0, 1), reverse=self.draw(0, 1))

    def layer_norm(self, x: Value) -> Value:
        axis = self.either(self.axis(x), x)
        shape = x.shape[axis:]
        scale = self.constant(1 + 0.2 * self.rng.normal(size=shape))
        bias = self.normal(*shape, width=0.2) if self.chance(0.7) else None
        return self.one("LayerNormalization", x, scale, bias, axis=axis, epsilon=self.draw(1e-5, 1e-3, 0.1))

    def channel_norm(self, x: Value) -> Value:
        if len(x.shape) < 3:
            raise ValueError("no space to normalize over")
        channels = x.shape[1]
        terms = self.constant(1 + 0.2 * self.rng.normal(size=channels)), self.normal(channels, width=0.2)
        match self.between(0, 2):
            case 0:
                return self.one("InstanceNormalization", x, *terms, epsilon=1e-3)
            case 1:
                groups = self.draw(*(k for k in range(1, channels + 1) if channels % k == 0))
                return self.one("GroupNormalization", x, *terms, num_groups=groups, epsilon=1e-3)
            case _:
                if len(x.shape) != 4:
                    raise ValueError("ONNX Runtime has LRN of images only")
                return self.one("LRN", x, size=self.draw(1, 3, 5), alpha=0.1, beta=0.75, bias=1.0)

    # ---- products

    def attention(self, x: Value) -> Value:
        """Heads of a sequence [batch, tokens, channels], with a causal mask or without."""
        if len(x.shape) != 3:
            raise ValueError("no sequence")
        batch, tokens, wide = x.shape
        heads = self.draw(*(k for k in (1, 2, 3, 4) if wide % k == 0))
        each = wide // heads
        split = self.integers(batch, tokens, heads, each)

        def projected(y: Value) -> Value:
            return self.one("MatMul", y, self.normal(wide, wide, width=wide**-0.5))

        q, k, v = (self.one("Reshape", projected(x), split) for _ in range(3))
        q, v = (self.one("Transpose", y, perm=[0, 2, 1, 3]) for y in (q, v))
        scores = self.one("MatMul", q, self.one("Transpose", k, perm=[0, 2, 3, 1]))
        scores = self.one("Mul", scores, self.constant(np.float32(each**-0.5)))
        if self.chance(0.4):
            scores = self.one("Add", scores, self.constant(np.where(np.tri(tokens) > 0, 0.0, -1e9)))
        mixed = self.one("MatMul", self.one("Softmax", scores, axis=-1), v)
        joined = self.one(
            "Reshape", self.one("Transpose", mixed, perm=[0, 2, 1, 3]), self.integers(batch, tokens, wide)
        )
        return self.one("Add", projected(joined), x) if self.chance(0.5) else joined

    def computed_product(self, x: Value) -> Value:
        """A product of two values, or with the constant first."""
        if len(x.shape) < 2:
            raise ValueError("no matrix")
        if self.chance(0.4):
            return self.one("MatMul", self.normal(self.between(1, 5), x.shape[-2]), x)
        swapped = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
        return self.one("MatMul", x, self.one("Transpose", self.unary(x), perm=swapped))

    def gemm(self, x: Value) -> Value:
        if len(x.shape) != 2:
            raise ValueError("no matrix")
        rows, wide = x.shape
        out, turned = self.between(1, 6), self.draw(0, 1)
        w = self.normal(*((out, wide) if turned else (wide, out)), width=wide**-0.5)
        c = self.normal(*self.draw((out,), (1,), (1, out), (rows, 1), (rows, out), ()))
        return self.one("Gemm", x, w, c, alpha=self.draw(1.0, 0.5), beta=self.draw(1.0, 2.0), transB=turned)

    def einsum(self, x: Value) -> Value:
        if len(x.shape) != 3:
            raise ValueError("no sequence")
        _, tokens, wide = x.shape
        match self.between(0, 2):
            case 0:
                return self.one(
                    "Einsum", x, self.normal(wide, 2, 3, width=wide**-0.5), equation="btd,dhe->bhte"
                )
            case 1:
                return self.one("Einsum", x, x, equation="bid,bjd->bij")
            case _:
                return self.one("Einsum", x, self.normal(tokens), equation="btd,t->bd")

    def recurrent(self, x: Value) -> Value:
        """LSTM, GRU or RNN with any of their operands, over sequences of several lengths."""
        if len(x.shape) != 3:
            raise ValueError("no sequence")
        kind, direction = self.draw(*GATES), self.draw("forward", "reverse", "bidirectional")
        steps, batch, wide = (y := self.one("Transpose", x, perm=[1, 0, 2])).shape
        ways, hidden = 1 + (direction == "bidirectional"), self.between(1, 6)
        rows = GATES[kind] * hidden
        operands = [y, self.normal(ways, rows, wide, width=0.5), self.normal(ways, rows, hidden, width=0.5)]
        operands += [self.normal(ways, 2 * rows, width=0.3) if self.chance(0.7) else None]
        lengths = self.constant(self.rng.integers(1, steps + 1, batch).astype(np.int32))
        operands += [lengths if self.chance(0.3) else None]
        operands += [self.normal(ways, batch, hidden) if self.chance(0.4) else None]
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
        if kind == "LSTM":
            operands += [self.normal(ways, batch, hidden) if self.chance(0.4) else None]
            operands += [self.normal(ways, 3 * hidden, width=0.3) if self.chance(0.4) else None]
        if kind == "GRU":
            attributes["linear_before_reset"] = self.draw(0, 1)
        if self.chance(0.3):
            attributes["clip"] = 0.8
        if self.chance(0.3):
            functions = [
                self.draw("Tanh", "Sigmoid", "Relu", "HardSigmoid", "Softsign") for _ in range(OF_CELLS[kind])
            ]
            attributes["activations"] = functions * ways
        every, *last = self.node(kind, *operands, outputs=3 if kind == "LSTM" else 2, **attributes)
        self.pool.extend(last)
        rows_first = self.one("Transpose", every, perm=[2, 0, 1, 3])
        return self.one("Reshape", rows_first, self.integers(batch, steps, ways * hidden))

    # ---- windows

    def volume(self, x: Value) -> Value:
        """A layer or two over three axes of space."""
        if len(x.shape) != 4:
            raise ValueError("no image")
        y = self.one("Unsqueeze", x, self.integers(2))
        if self.chance(0.5):
            y = self.one("Reshape", x, self.integers(x.shape[0], 1, *x.shape[1:]))
        y = self.draw(self.conv, self.pool_layer, self.up_conv)(y)
        return self.draw(self.conv, self.pool_layer, self.norm, self.unary)(y)

    def auto_padded(self, x: Value) -> Value:
        """Windows that say their pads by a word, as long as strides pass over nothing."""
        if not x.spatial:
            raise ValueError("no space")
        kernel = [min(self.draw(2, 3), n) for n in x.shape[2:]]
        window = {
            "kernel_shape": kernel,
            "strides": [self.between(1, k) for k in kernel],
            "auto_pad": self.draw("SAME_UPPER", "SAME_LOWER", "VALID"),
        }
        if self.chance(0.4):
            return self.one("Conv", x, self.weights(4, x.shape[1], *kernel), **window)
        if self.chance(0.3):
            return self.one("LpPool", x, p=self.draw(1, 2), **window)
        return self.one(self.draw("MaxPool", "AveragePool"), x, **window)

    def transposed_conv(self, x: Value) -> Value:
        """Groups, strides, dilations and pads of each axis apart."""
        if not x.spatial:
            raise ValueError("no space")
        space = len(x.shape) - 2
        kernel = [self.between(1, 4) for _ in range(space)]
        strides = [self.between(1, 3) for _ in range(space)]
        dilations = [self.draw(1, 1, 2) for _ in range(space)]
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        groups = self.draw(*(g for g in (1, 2, 3, x.shape[1]) if x.shape[1] % g == 0))
        filters = self.between(1, 3)
        more: dict[str, Any] = {}
        if self.chance(0.4):
            more["pads"] = [self.between(0, r) for r in (*reach, *reach)]
        elif self.chance(0.5):
            more["output_padding"] = [self.between(0, stride - 1) for stride in strides]
        w = self.weights(x.shape[1], filters, *kernel)
        b = self.normal(groups * filters, width=0.2) if self.chance(0.5) else None
        window = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": groups}
        return self.one("ConvTranspose", x, w, b, **window, **more)

    def any_resize(self, x: Value) -> Value:
        """All modes, by scales or to sizes, of some axes."""
        if not x.spatial:
            raise ValueError("no space")
        rank = len(x.shape)
        mode = self.draw("nearest", "linear", "cubic")
        if mode == "cubic" and rank != 4:
            raise ValueError("ONNX Runtime has cubic for images only")
        places = ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
        given: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": self.draw(*places)}
        if mode == "nearest":
            given["nearest_mode"] = self.draw("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        if mode == "cubic":
            given |= {"cubic_coeff_a": self.draw(-0.75, -0.5), "exclude_outside": self.draw(0, 1)}
        axes = range(2, rank)
        given["axes"] = [self.either(a, x) for a in axes]
        if self.chance(0.5):
            sizes = [self.draw(x.shape[a] * 2, self.between(1, x.shape[a] + 6)) for a in axes]
            return self.one("Resize", x, None, None, self.integers(*sizes), **given)
        scales = [self.draw(1.0, 2.0, 0.5, float(self.rng.uniform(0.3, 2.5))) for _ in axes]
        if all(int(x.shape[a] * s) == x.shape[a] for a, s in zip(axes, scales, strict=True)):
            raise ValueError("ONNX Runtime copies what ONNX moves")
        return self.one("Resize", x, None, self.constant(np.array(scales)), **given)

    # ---- movement

    def any_pad(self, x: Value) -> Value:
        """All modes, of some axes; elements are taken away as well."""
        mode = self.draw("constant", "edge", "reflect", "wrap")
        chosen = sorted({self.axis(x) for _ in range(2)})
        most = [{"reflect": x.shape[a] - 1, "wrap": x.shape[a]}.get(mode, 4) for a in chosen]
        least = [-min(2, x.shape[a] // 3) for a in chosen]
        pads = [self.between(a, min(4, b)) for _ in (0, 1) for a, b in zip(least, most, strict=True)]
        if mode != "constant" and min(pads) < 0:
            raise ValueError("which elements are repeated is for ONNX Runtime to say")
        value = self.constant(np.float32(self.draw(0, 1.5, -3))) if mode == "constant" else None
        axes = self.integers(*(self.either(a, x) for a in chosen))
        return self.one("Pad", x, self.integers(*pads), value, axes, mode=mode)

    def uneven_split(self, x: Value) -> Value:
        axis = self.axis(x)
        extent = x.shape[axis]
        if extent < 3:
            raise ValueError("too few to split")
        if self.chance(0.5):
            parts = self.between(2, min(extent, 4))
            made = self.node("Split", x, outputs=parts, axis=self.either(axis, x), num_outputs=parts)
        else:
            cuts = np.sort(self.rng.choice(np.arange(1, extent), 2, replace=False))
            sizes = np.diff([0, *cuts.tolist(), extent]).tolist()
            made = self.node("Split", x, self.integers(*sizes), outputs=3, axis=self.either(axis, x))
        self.pool.extend(made)
        return made[-1]

    def backward_slice(self, x: Value) -> Value:
        """Steps of any sign, with starts and ends far outside."""
        axis, step = self.axis(x), self.draw(-1, -2, 1, 2, 3)
        extent = x.shape[axis]
        if step < 0:
            start, end = self.draw(-1, extent - 1, extent + 5), self.draw(-1000, 0, -extent - 1)
        else:
            start, end = self.draw(0, -extent, -1000, 1), self.draw(extent, 2**62, -1)
        numbers = (start, end, self.either(axis, x), step)
        return self.one("Slice", x, *(self.integers(n) for n in numbers))

    def repeated(self, x: Value) -> Value:
        keep = len(x.shape) > 1  # the batch
        if self.chance(0.5):
            repeats = [1 if keep and k == 0 else self.draw(1, 1, 2, 3) for k in range(len(x.shape))]
            return self.one("Tile", x, self.integers(*repeats))
        shape = [n if n > 1 or (keep and k == 0) else self.between(1, 4) for k, n in enumerate(x.shape)]
        return self.one("Expand", x, self.integers(*shape))

    def triangle(self, x: Value) -> Value:
        if len(x.shape) < 2:
            raise ValueError("no matrix")
        return self.one("Trilu", x, self.constant(np.array(self.between(-2, 2))), upper=self.draw(0, 1))

    def gathered(self, x: Value) -> Value:
        """By constant indices, counted from either end."""
        axis, rank = self.axis(x), len(x.shape)
        extent = x.shape[axis]
        if rank > 1 and self.chance(0.3):
            many = self.between(1, rank - 1)
            index = [self.rng.integers(0, n, (x.shape[0], 3)) for n in x.shape[1 : 1 + many]]
            return self.one("GatherND", x, self.constant(np.stack(index, -1)), batch_dims=1)
        if self.chance(0.5):
            shape = [self.between(1, 4) if k == axis else n for k, n in enumerate(x.shape)]
            return self.one(
                "GatherElements", x, self.constant(self.rng.integers(-extent, extent, shape)), axis=axis
            )
        shape = [self.between(1, 3) for _ in range(self.between(0, 2))]
        index = self.constant(np.array(self.rng.integers(-extent, extent, shape)))
        return self.one("Gather", x, index, axis=self.either(axis, x))

    def scattered(self, x: Value) -> Value:
        """Lines at indices that come once; at any where they are added up or compared."""
        axis, how = self.axis(x), self.draw("none", "add", "mul", "max", "min")
        extent, shape = x.shape[axis], list(x.shape)
        shape[axis] = self.between(1, extent)
        index = self.rng.integers(0, extent, shape)
        if how == "none":
            lines = [self.rng.permutation(extent)[: shape[axis]] for _ in range(prod(shape) // shape[axis])]
            index = np.moveaxis(
                np.reshape(lines, [*(n for k, n in enumerate(shape) if k != axis), -1]), -1, axis
            )
        updates = self.normal(*shape)
        return self.one("ScatterElements", x, self.constant(index), updates, axis=axis, reduction=how)
