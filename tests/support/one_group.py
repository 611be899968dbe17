# SPDX-License-Identifier: Apache-2.0
"""Graphs whose nodes have several readers, and plans by hand that run a whole graph as one group."""

from __future__ import annotations

import random
from typing import Any

from fused_c import conv
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, Plan, Slot
from mmcc.ir.regions import Place, Region
from mmcc.ir.types import geometry
from mmcc.target import load_target
from planner_graphs import Build


def one_group(graph: Graph, tile_rows: int = 1, drained: tuple[int, ...] = (), **more: Any) -> Plan:
    """All nodes in one group, each tensor whole and in bytes of its own: no views, nothing saved."""
    region = load_target("host").memory[0]
    assert isinstance(region, Region)
    nodes = tuple(range(len(graph.nodes)))
    buffers: list[Buffer] = []
    slots: dict[str, Slot] = {}
    places: dict[str, Place] = {}
    end = 0
    for name in (*graph.input_names, *(name for node in graph.nodes for name in node.outputs)):
        tensor = graph.tensors[name]
        rows, cols, channels = geometry(tensor.shape)
        pixel = tensor.dtype.bytes(channels)
        kind = BufferKind.INPUT if name in graph.input_names else BufferKind.TENSOR
        buffers.append(Buffer(name, kind, tensor.bytes, Span(0, 1), (region,)))
        slots[name] = Slot(name, 0, cols * pixel, pixel, rows)
        places[name] = Place(region, end)
        end += -(-tensor.bytes // 16) * 16
    group = Group(nodes, tile_rows=tile_rows, drained=drained)
    return Plan((group,), frozenset(), tuple(buffers), slots, places, **more)


def two_halos(count: int, *, floats: bool = False, size: int = 16) -> Graph:
    """Each block is x -> f(x) + g(x) with windows of 3 and 5 rows: both ask for rows of x, one for more."""
    b = Build("two_halos")
    x = b.input(size, size, 4, dtype=ElementType.F32 if floats else ElementType.I8)
    x = conv(b, x, 4, 3, floats=floats)
    for _ in range(count):
        x = b.concat(2, conv(b, x, 3, 3, floats=floats), conv(b, x, 2, 5, floats=floats))
    return b.graph(conv(b, x, 2, 3, floats=floats))


def diamonds(count: int) -> Graph:
    """Each block is x -> f(x) + g(f(x)), as YOLO's activations are."""
    b = Build("diamonds")
    x = b.input(16, 16, 4)
    for _ in range(count):
        left = b.conv(x, 4, 3)
        x = b.sum(left, b.conv(left, 4, 1))
    return b.graph(b.conv(x, 2, 3))


def random_dag(draw: random.Random) -> Graph:
    """Nodes that read any of the few before; all feed the last."""
    b = Build("dag")
    values = [b.conv(b.input(draw.randint(5, 12), 4, 2), 2, 3)]
    for _ in range(draw.randint(3, 12)):
        x, y = draw.choice(values[-4:]), draw.choice(values[-4:])
        kind = draw.choice(["conv", "sum", "sum", "concat"])
        if kind == "sum":
            values.append(b.sum(x, y))
        elif kind == "concat":
            values.append(b.conv(b.concat(2, x, y), 2, draw.choice([1, 3])))
        else:
            values.append(b.conv(x, 2, draw.choice([1, 3, 5])))
    read = {name for node in b.nodes for name in node.inputs}
    x = values[-1]
    for name in values[:-1]:
        x = x if name in read else b.sum(*((x, name) if draw.random() < 0.5 else (name, x)))
    return b.graph(b.max_pool(x, 2, 2) if draw.random() < 0.3 else x)
