# SPDX-License-Identifier: Apache-2.0
"""Random graphs so small that every plan of them can be tried, with nodes whose rows come in an order.

Layers of cells hand something on from step to step; sums of gradients take in rows as others read them.
"""

from __future__ import annotations

from random import Random

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ops.bias_gradient import BiasGradient
from mmcc.ops.clamp_bits import ClampBits
from mmcc.ops.conv import Conv
from mmcc.ops.conv_gradient import ConvInputGradient, WeightGradient
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.recurrent import CellFunction, Recurrent
from mmcc.ops.window import Window
from planner_graphs import Build


def cells_graph(seed: int) -> Graph:
    """Layers of cells over a few steps, forward or backward; windows over time, sums and joins around."""
    random = Random(seed)
    b = Build(f"cells {seed}")
    pool = [b.input(random.randint(2, 5), random.randint(1, 2), random.randint(1, 3), dtype=ElementType.F32)]
    for n in range(random.randint(2, 4)):
        x = pool[-1] if random.random() < 0.7 else random.choice(pool)
        peers = [name for name in pool if name != x and b.shape(name) == b.shape(x)]
        beside = [name for name in pool if name != x and b.shape(name)[:2] == b.shape(x)[:2]]
        step = "cell" if n == 1 else random.choice(["cell", "cell", "conv", "unary", "sum", "join"])
        match step:
            case "cell":
                pool.append(_cell(b, x, backward=random.random() < 0.25))
            case "sum" if peers:
                pool.append(b.add(Binary("add"), x, random.choice(peers)))
            case "join" if beside:
                pool.append(b.concat(2, x, random.choice(beside)))
            case "unary":
                pool.append(b.add(Unary("abs"), x))
            case _:
                pool.append(_conv(b, x, random.randint(1, 4), random.choice([1, 3])))
    if random.random() < 0.4:  # often only the last step is of use
        rows, cols, channels = b.shape(pool[-1])
        last = b.slice(pool[-1], (rows - 1, 0, 0), (1, cols, channels))
        pool.append(b.add(Unary("abs"), last))
    return b.graph(*_ends(b))


def gradients_graph(seed: int) -> Graph:
    """The way back through one or two layers: gradients of weights and biases, each read by one more node,
    and of what went in; what a clamp let through is packed on the way forward."""
    random = Random(seed)
    b = Build(f"gradients {seed}")
    h, w = random.randint(2, 5), random.randint(1, 3)
    x = b.input(h, w, random.randint(1, 2), dtype=ElementType.F32)
    if random.random() < 0.5:
        g = b.input(h, w, random.randint(1, 3), dtype=ElementType.F32)
    else:
        y = _conv(b, x, random.randint(1, 3), random.choice([1, 3]))
        if random.random() < 0.4:
            b.add(ClampBits(0.0, 6.0), y)
        g = b.add(Unary("abs"), y)
    for layer in range(random.choice([1, 1, 2])):
        kernel = random.choice([1, 3])
        window = Window((kernel, 1), pads=(kernel // 2, 0, kernel // 2, 0))
        channels = b.shape(x)[2]
        if random.random() < 0.8:
            b.add(BiasGradient(), g)
        if random.random() < 0.6:
            b.add(WeightGradient(window), x if layer == 0 else b.add(Unary("abs"), x), g)
        weights = b.constant(np.zeros((b.shape(g)[2], kernel, 1, channels), np.float32))
        g = b.add(ConvInputGradient(window, (h, w)), g, weights)
        if random.random() < 0.5:
            g = b.add(Unary("abs"), g)
    for made in [node.output for node in b.nodes if isinstance(node.op, BiasGradient | WeightGradient)]:
        b.add(Unary("abs"), made)  # an optimizer's step
    return b.graph(*_ends(b))


def _cell(b: Build, x: str, *, backward: bool) -> str:
    units = b.shape(x)[-1]
    weights = b.constant(np.zeros((units, units), np.float32))
    return b.add(Recurrent("rnn", (CellFunction("tanh"),), backward=backward), x, weights)


def _conv(b: Build, x: str, channels: int, rows: int) -> str:
    """A window over rows, as many of them made as there are."""
    weights = b.constant(np.zeros((channels, rows, 1, b.shape(x)[2]), np.float32))
    bias = b.constant(np.zeros(channels, np.float32))
    return b.add(Conv(Window((rows, 1), pads=(rows // 2, 0, rows // 2, 0))), x, weights, bias)


def _ends(b: Build) -> list[str]:
    read = {name for node in b.nodes for name in node.inputs}
    return [node.output for node in b.nodes if node.output not in read]
