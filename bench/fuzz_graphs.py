# SPDX-License-Identifier: Apache-2.0
"""Random ONNX models of floats: the shapes of real networks, in sizes that take seconds to compile.

Blocks that networks are made of (residuals, dense blocks, gates, U-shapes) are grown as a whole, since it is
their reuse of tensors that plans differ by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from fuzz_layers import IR, Value, joins
from fuzz_operators import Operators
from onnx import TensorProto, helper, numpy_helper


class Grower(Operators):
    """A model that grows by layers and blocks; `usual`: of those of networks for images alone."""

    def __init__(self, seed: int | Sequence[int], usual: bool) -> None:
        super().__init__(seed)
        self.usual = usual

    # ---- blocks of networks

    def residual(self, x: Value) -> Value:
        y = self.same(self.act(self.same(x, self.draw(0, 4, 8))), x.shape[1])
        skip = x if y.shape == x.shape else self.same(x, y.shape[1])
        return self.act(self.one("Add", y, skip))

    def dense_block(self, x: Value) -> Value:
        """Each layer reads all before it; some values from outside join, too."""
        parts = [x]
        for _ in range(self.between(2, 3)):
            joined = self.one("Concat", *parts, axis=1) if len(parts) > 1 else x
            parts.append(self.act(self.same(joined, self.draw(2, 4))))
        outside = [v for v in self.pool if joins(v, x, 1)]
        parts += [self.draw(*outside)] if outside and self.chance(0.4) else []
        return self.one("Concat", *parts, axis=1)

    def inception(self, x: Value) -> Value:
        branches = [self.act(self.same(x, self.draw(2, 3, 4))) for _ in range(self.between(2, 4))]
        branches += [x] if self.chance(0.4) else []
        branches += [
            self.one("MaxPool", x, kernel_shape=[3] * (len(x.shape) - 2), pads=[1] * 2 * (len(x.shape) - 2))
        ]
        return self.one("Concat", *branches, axis=1)

    def gated(self, x: Value) -> Value:
        """Squeeze and excitation, on a pooled copy of the tensor."""
        ones = [1] * (len(x.shape) - 2)
        s = self.act(self.conv(self.one("GlobalAveragePool", x), self.draw(2, 4), kernel_shape=ones))
        gate = self.one("Sigmoid", self.conv(s, x.shape[1], kernel_shape=ones))
        return self.one("Mul", x, gate) if gate.shape[1] == x.shape[1] else gate

    def u_shape(self, x: Value) -> Value:
        """Down, a layer, up again, and together with what was there before."""
        space = len(x.shape) - 2
        if min(x.shape[2:]) < 2:
            raise ValueError("nothing to halve")
        down = self.act(self.same(self.one("MaxPool", x, kernel_shape=[2] * space, strides=[2] * space)))
        to = self.constant(np.array([*down.shape[:2], *x.shape[2:]], np.int64))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.same(
            self.one("Concat", self.one("Resize", down, None, None, to, **how), x, axis=1), self.draw(4, 8)
        )

    def act(self, x: Value) -> Value:
        return self.unary(x) if self.chance(0.7) else x

    # ---- a whole model

    def grow(self) -> None:
        """One layer or block on a value of the pool, mostly a recent one."""
        late = self.chance(0.7)
        x = self.pool[-1] if late else self.draw(*self.pool)
        space: list[Callable[[Value], Value]] = [self.conv] * 4 + [self.same] * 2 + [self.pool_layer] * 2
        space += [self.residual] * 2 + [self.dense_block, self.inception, self.gated, self.u_shape]
        space += [self.resize, self.up_conv, self.norm]
        space += [self.blocks] if len(x.shape) == 4 else []
        anywhere = [self.unary, self.arithmetic, self.arithmetic]
        if x.shape:
            anywhere += [self.concat, self.concat, self.cut, self.split, self.top_k, self.pad]
            anywhere += [self.reshape, self.reduce, self.soft]
        anywhere += [self.transpose, self.gather, self.by_row, self.dense] if len(x.shape) > 1 else []
        seldom = [self.function, self.positive, self.several, self.divided, self.prelu, self.where]
        seldom += [self.attention, self.attention, self.computed_product, self.gemm, self.einsum]
        seldom += [self.recurrent, self.recurrent, self.volume, self.auto_padded, self.transposed_conv]
        seldom += [self.any_resize, self.any_resize, self.channel_norm]
        if x.shape:
            seldom += [self.reduction, self.extremum, self.running_sum, self.layer_norm, self.any_pad]
            seldom += [self.uneven_split, self.backward_slice, self.repeated, self.triangle]
            seldom += [self.gathered, self.scattered]
        usual = space if x.spatial and self.chance(0.65) else anywhere
        layer = self.draw(*(seldom if not self.usual and self.chance(0.3) else usual))
        before = len(self.nodes), len(self.pool)
        try:
            y = layer(x)
        except ValueError:  # it does not suit the shape: what was begun is taken back
            del self.nodes[before[0] :], self.pool[before[1] :]
            return
        self.pool.append(y)
        if isinstance(y, Value) and layer == self.cut and self.chance(0.4):
            self.asked.append(y)

    def model(self, nodes: int) -> onnx.ModelProto:
        """The model with all that was not read as outputs, up to four, and those that were asked for."""
        while len(self.nodes) < nodes:
            self.grow()
        read = {name for node in self.nodes for name in node.input}
        left = [v for v in self.pool if v.name not in read and v not in self.inputs]
        outputs = list(dict.fromkeys([*left[-3:], *self.asked[-1:]])) or self.pool[-1:]
        if self.chance(0.2):
            inner = [v for v in self.pool if v not in self.inputs and v not in outputs]
            outputs += inner[-1:]
        return self._pruned(outputs)

    def _pruned(self, outputs: Sequence[Value]) -> onnx.ModelProto:
        wanted = {v.name for v in outputs}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                nodes.insert(0, node)
                wanted.update(node.input)
        inputs = [v for v in self.inputs if v.name in wanted]
        graph = helper.make_graph(
            nodes,
            "fuzz",
            [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in inputs],
            [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in outputs],
            [numpy_helper.from_array(a, n) for n, a in self.constants.items() if n in wanted],
        )
        return helper.make_model(graph, opset_imports=[self.opset], ir_version=IR)


def float_model(seed: int | Sequence[int], most: int, usual: bool) -> onnx.ModelProto:
    """A random model of floats with one to three inputs and about so many layers at most."""
    grower = Grower(seed, usual)
    batch = grower.draw(1, 1, 1, 1, 2, 3)
    for _ in range(grower.draw(1, 1, 2, 3)):
        channels = grower.draw(1, 2, 3, 4, 8)
        match grower.between(0, 9):
            case 0:
                grower.input(batch, grower.between(4, 40))
            case 1:
                grower.input(batch, grower.between(2, 12), grower.between(3, 12))
            case 2:
                grower.input(batch, channels, grower.between(6, 60))
            case _:
                height, width = (
                    grower.pool[-1].shape[2:]
                    if grower.pool and len(grower.pool[-1].shape) == 4
                    else (
                        grower.between(4, 20),
                        grower.between(4, 20),
                    )
                )
                grower.input(batch, channels, height, width)
    return grower.model(grower.between(min(3, most), most))
