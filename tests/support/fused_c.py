# SPDX-License-Identifier: Apache-2.0
"""Graphs that are planned in groups, and the C that is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower
from mmcc.codegen.render import render
from mmcc.driver.promised import request_from
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.kernels.contract import contracts
from mmcc.ops.conv import Conv
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.window import Window
from mmcc.planner.request import PlanRequest, Staging
from mmcc.target import Target, load_target
from mmcc.toolchain.host import HostModel, build_shared
from planner_graphs import Build

NAME = "net"


def filled(graph: Graph, seed: int) -> Graph:
    """The same with weights, biases and scales that are not zero."""
    rng = np.random.default_rng(seed)
    for name, array in graph.constants.items():
        shape = array.shape
        if array.dtype == np.float32:
            graph.constants[name] = (0.3 * rng.standard_normal(shape)).astype(np.float32)
        elif array.dtype == np.int8:
            weights = len(shape) > 1
            graph.constants[name] = rng.integers(*((-127, 128) if weights else (37, 39)), shape).astype(
                np.int8
            )
        elif (array == 0).all():
            graph.constants[name] = rng.integers(-2000, 2000, shape).astype(np.int32)
        else:
            graph.constants[name] = rng.integers(2**30, 2**31, shape).astype(np.int32)
    return graph


def conv(b: Build, x: str, channels: int, kernel: int, stride: int = 1, *, floats: bool) -> str:
    if not floats:
        return b.conv(x, channels, kernel, stride)
    weights = b.constant(np.zeros((channels, kernel, kernel, b.shape(x)[2]), np.float32))
    bias = b.constant(np.zeros(channels, np.float32))
    pad = kernel // 2
    window = Window((kernel, kernel), (stride, stride), (1, 1), (pad, pad, pad, pad))
    return b.add(Unary("clamp", (-4.0, 6.0)), b.add(Conv(window), x, weights, bias))


def add(b: Build, x: str, y: str, *, floats: bool) -> str:
    return b.add(Binary("add"), x, y) if floats else b.sum(x, y)


def run(graph: Graph, plan: Plan, folder: Path, port: str = "") -> list[bytes]:
    """Outputs of the generated C for a few inputs; `port` is the text of a header of the firmware's."""
    target = load_target("host")
    package = folder / "package"
    package.mkdir(parents=True)
    made = emit(
        Module.of(graph),
        lower(Module.of(graph), MemoryPlan.of(plan), NAME, target),
        EmitOptions(NAME),
        target,
    )
    for name, text in made.files.items():
        (package / name).write_text(text)
    (package / "mmcc_moves.h").write_text(port + made.files.get("mmcc_moves.h", ""))
    adapter = render("adapter.c.j2", on_heap=True, **made.values)
    tensors = [graph.tensors[port.tensor] for port in graph.outputs]
    model = HostModel(build_shared(package, adapter, NAME, folder / "work"), [t.dtype.numpy for t in tensors])
    rng = np.random.default_rng(0)
    found: list[bytes] = []
    for _ in range(3):
        shapes = [graph.tensors[port.tensor] for port in graph.inputs]
        inputs = [
            rng.standard_normal(t.shape).astype(np.float32)
            if t.dtype.is_float
            else rng.integers(-128, 128, t.shape).astype(np.int8)
            for t in shapes
        ]
        found += [np.ascontiguousarray(y).tobytes() for y in model.run(inputs)]
    return found


def request(graph: Graph, *, external: bool = False, **more: float) -> PlanRequest:
    promised = request_from(contracts(graph, load_target("host")))
    return replace(promised, external_inputs=external, external_outputs=external, **more)


def staging(graph: Graph, target: Target, most: int) -> Staging:
    """How weights in slow memory can be cut, in blocks of at most so many bytes."""
    found = request_from(contracts(graph, target, most), staged=True).staging
    assert found is not None
    return found
