# SPDX-License-Identifier: Apache-2.0
"""Random graphs so small that every plan of them can be tried: chains, residuals, joins, batches, views."""

from __future__ import annotations

from random import Random

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ops.elementwise import Cast, Unary
from mmcc.ops.movement import Slice, Transpose
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.resize import ResizeNearest
from planner_graphs import Build

KINDS = ("chain", "residual", "join", "batch", "views", "any")


def tiny_graph(seed: int) -> Graph:
    """The graph of a seed; seeds that follow each other go through the kinds."""
    random = Random(seed)
    kind = KINDS[seed % len(KINDS)]
    b = Build(f"tiny {kind} {seed}")
    if kind == "batch":
        return _batch(b, random)
    pool = [_input(b, random) for _ in range(1 if kind == "chain" else random.randint(1, 2))]
    for _ in range(random.randint(2, 6 if kind in ("chain", "residual") else 5)):
        _grow(b, random, pool, kind)
    read = {name for node in b.nodes for name in node.inputs}
    ends = [node.output for node in b.nodes if node.output not in read]
    extra = [random.choice(b.nodes).output] if random.random() < 0.15 else []
    return b.graph(*dict.fromkeys([*ends, *extra]))


def strips_graph(seed: int) -> Graph:
    """A chain of windows over an image of few rows and more columns, perhaps with a residual or a join."""
    random = Random(seed)
    b = Build(f"strips {seed}")
    pool = [b.input(random.randint(2, 5), random.randint(4, 9), random.randint(1, 3))]
    for _ in range(random.randint(2, 4)):
        h, w, _ = b.shape(pool[-1])
        peers = [n for n in pool[:-1] if b.shape(n) == b.shape(pool[-1])]
        beside = [n for n in pool[:-1] if b.shape(n)[:2] == (h, w)]
        match random.choice(
            ["conv", "conv", "depthwise", "grow", "sum", "concat", "unary", "pool", "narrow"]
        ):
            case "depthwise":
                pool.append(b.depthwise(pool[-1], random.choice([3, (1, 3)]), random.choice([1, 1, 2])))
            case "sum" if peers:
                pool.append(b.sum(pool[-1], random.choice(peers)))
            case "concat" if beside:
                pool.append(b.concat(2, pool[-1], random.choice(beside)))
            case "unary":
                pool.append(b.add(Unary("abs"), pool[-1]))
            case "pool" if min(h, w) >= 2:
                pool.append(b.max_pool(pool[-1], 2, random.choice([1, 2])))
            case "grow":
                pool.append(b.conv(pool[-1], random.randint(3, 8), random.choice([1, 1, 3])))
            case "narrow":
                pool.append(b.conv(pool[-1], 1, 1))
            case _:
                pool.append(b.conv(pool[-1], random.randint(1, 4), random.choice([3, (1, 3), (3, 1)])))
    read = {name for node in b.nodes for name in node.inputs}
    return b.graph(*(node.output for node in b.nodes if node.output not in read))


def sums_graph(seed: int) -> Graph:
    """Means over rows, or over rows and columns, of what layers make: at the end, or read by others."""
    random = Random(seed)
    b = Build(f"sums {seed}")
    pool = [b.input(random.randint(2, 5), random.randint(1, 3), random.randint(1, 4))]
    for _ in range(random.randint(2, 5)):
        x = pool[-1] if random.random() < 0.7 else random.choice(pool)
        h, w, _ = b.shape(x)
        match random.choice(["conv", "conv", "unary", "mean", "mean", "pool", "join"]):
            case "mean" if h > 1:
                pool.append(b.add(MeanInt8(random.choice([(0, 1), (0,)]), 0, 0, 1, 1), x))
            case "pool" if h > 1:
                pool.append(b.pool(x, (h, w)))
            case "join":
                others = [n for n in pool if n != x and b.shape(n)[:2] == (h, w)]
                pool.append(b.concat(2, x, random.choice(others)) if others else b.add(Unary("abs"), x))
            case "unary":
                pool.append(b.add(Unary("abs"), x))
            case _:
                pool.append(b.conv(x, random.randint(1, 6), random.choice([1, 3])))
    read = {name for node in b.nodes for name in node.inputs}
    return b.graph(*(node.output for node in b.nodes if node.output not in read))


def _input(b: Build, random: Random) -> str:
    dtype = ElementType.F32 if random.random() < 0.1 else ElementType.I8
    return b.input(random.randint(2, 5), random.randint(1, 3), random.randint(1, 3), dtype=dtype)


def _batch(b: Build, random: Random) -> Graph:
    """Images of a batch one by one, and put together again; perhaps twice, with a step between."""
    count = random.choice([2, 2, 3])
    x = b.input(count, random.randint(2, 4), random.randint(1, 3), random.randint(1, 2))
    for _ in range(1 if count == 3 else random.choice([1, 1, 2])):
        images: list[str] = []
        kind, channels = random.choice(["conv", "stride", "pool", "unary"]), random.randint(1, 3)
        for n in range(count):
            _, h, w, c = b.shape(x)
            y = b.reshape(b.slice(x, (n, 0, 0, 0), (1, h, w, c)), h, w, c)
            y = _image(b, y, kind, channels)
            images.append(b.reshape(y, 1, *b.shape(y)))
        x = b.concat(0, *images)
        if random.random() < 0.4:
            x = b.add(Unary("abs"), x)
    return b.graph(x)


def parts_graph(seed: int) -> Graph:
    """A tensor of which nodes read parts: rows or channels, some in several parts, in any order of axes."""
    random = Random(seed)
    b = Build(f"parts {seed}")
    x = b.input(random.randint(2, 5), random.randint(1, 3), random.randint(2, 4))
    if random.random() < 0.5:
        x = b.conv(x, random.randint(2, 4), 1)
    axis, ends = random.choice([0, 0, 1, 2]), list[str]()
    extent = b.shape(x)[axis]
    for n in range(random.randint(2, 3)):
        begin = random.randint(0, max(0, extent - 2)) if random.random() < 0.5 else min(n, extent - 1)
        end = random.randint(begin + 1, min(extent, begin + 2))
        starts = tuple(begin if k == axis else 0 for k in range(3))
        y = b.slice(x, starts, tuple(end - begin if k == axis else s for k, s in enumerate(b.shape(x))))
        if random.random() < 0.4:
            y = b.add(Transpose((1, 0, 2)), y)
        for _ in range(random.randint(1, 2)):
            y = b.conv(y, random.randint(1, 3), random.choice([1, 3]))
        ends.append(y)
    if random.random() < 0.3:  # somebody reads it whole, too
        ends.append(b.conv(x, 1, 1))
    return b.graph(*ends)


def _image(b: Build, x: str, kind: str, channels: int) -> str:
    h, w, _ = b.shape(x)
    if kind == "pool" and min(h, w) >= 2:
        return b.max_pool(x, 2, 2)
    if kind == "unary":
        return b.add(Unary("abs"), x)
    return b.conv(x, channels, 3, 2 if kind == "stride" else 1)


def _grow(b: Build, random: Random, pool: list[str], kind: str) -> None:
    """One more node."""
    x = pool[-1] if kind == "chain" or random.random() < 0.5 else random.choice(pool)
    steps = ["conv", "conv", "depthwise", "unary", "pool", "grow", "wide"]
    peers = [n for n in pool if b.shape(n) == b.shape(x) and n != x and _kind(b, n) is _kind(b, x)]
    if kind in ("residual", "any") and peers:
        steps += ["sum"] * 3
    if kind in ("join", "any"):
        steps += ["concat"] * 3
    if kind in ("views", "any"):
        steps += ["slice", "reshape", "turn", "slice"]
    step = random.choice(steps)
    if step in ("conv", "depthwise", "sum") and _kind(b, x) != ElementType.I8:
        step = "unary"
    pool.append(_view(b, random, pool, x, step) or _node(b, random, peers, x, step))


def _node(b: Build, random: Random, peers: list[str], x: str, step: str) -> str:
    h, w, _ = b.shape(x)
    match step:
        case "conv":
            size = random.choice([1, 3, (3, 1)])
            made = b.conv(x, random.randint(1, 4), size, random.choice([1, 1, 2]))
        case "depthwise":
            made = b.depthwise(x, 3, random.choice([1, 2]))
        case "sum":
            made = b.sum(x, random.choice(peers))
        case "pool" if min(h, w) >= 2:
            made = b.max_pool(x, 2, random.choice([1, 2]))
        case "grow" if h <= 3:
            made = b.add(ResizeNearest(tuple(k // 2 for k in range(2 * h)), tuple(range(w))), x)
        case "wide":
            made = b.add(Cast(ElementType.I8 if _kind(b, x) == ElementType.F32 else ElementType.F32), x)
        case _:
            made = b.add(Unary("abs"), x)
    return made


def _view(b: Build, random: Random, pool: list[str], x: str, step: str) -> str:
    """A node that only moves elements; "" if the step is no such."""
    h, w, c = b.shape(x)
    match step:
        case "concat":
            axis = random.choice([0, 1, 2, 2])
            rest = [
                n
                for n in pool
                if _kind(b, n) is _kind(b, x)
                and all(b.shape(n)[k] == b.shape(x)[k] for k in range(3) if k != axis)
            ]
            made = b.concat(axis, x, random.choice(rest))
        case "slice":
            starts = tuple(random.randrange(n) for n in (h, w, c))
            ends = [random.randint(s + 1, n) for s, n in zip(starts, (h, w, c), strict=True)]
            step_ = tuple(random.choice([1, 1, 2]) for _ in starts)
            shape = tuple(-(-(e - s) // k) for s, e, k in zip(starts, ends, step_, strict=True))
            made = b.add(Slice(starts, step_, shape), x)
        case "reshape":
            made = b.reshape(x, *random.choice([(h * w, 1, c), (1, h * w, c), (h, w * c, 1), (h, 1, w * c)]))
        case "turn":
            made = b.add(Transpose(random.choice([(1, 0, 2), (0, 2, 1)])), x)
        case _:
            made = ""
    return made


def _kind(b: Build, name: str) -> ElementType:
    return b.tensors[name].dtype
