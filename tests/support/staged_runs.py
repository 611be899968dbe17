# SPDX-License-Identifier: Apache-2.0
"""Plans with staged weights, and their C run on this machine."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from fused_c import NAME, add, conv, filled, request, staging
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower, weights_file
from mmcc.codegen.render import render
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.host import HostModel, build_shared
from mmcc.toolchain.qemu import run_firmware
from planner_graphs import Build

HOST = load_target("host")


def staged_request(graph: Graph, limit: int | None = None, **more: object) -> PlanRequest:
    blocks = staging(graph, HOST, 1 << 20)
    return replace(request(graph), staging=blocks, limit=limit, effort=2.0, **more)


def run_staged(
    graph: Graph, plan: Plan, folder: Path, samples: list[list[np.ndarray]] | None = None
) -> tuple[list[bytes], int]:
    """Outputs of the generated C for some inputs, those that `run` takes if none are given, and the bytes of
    weights a run read."""
    package, adapter = _written(graph, plan, folder)
    dtypes = [graph.tensors[port.tensor].dtype.numpy for port in graph.outputs]
    model = HostModel(build_shared(package, adapter, NAME, folder / "work"), dtypes)
    found, samples = list[bytes](), samples or some_samples(graph)
    for inputs in samples:
        found += [np.ascontiguousarray(y).tobytes() for y in model.run(inputs)]
    assert model.weights_read() % len(samples) == 0
    return found, model.weights_read() // len(samples)


def run_sanitized(graph: Graph, plan: Plan, folder: Path) -> bytes:
    """Outputs of a program with sanitizers for the inputs that `run` takes; arenas are on the heap, apart."""
    package, adapter = _written(graph, plan, folder)
    (folder / "adapter.c").write_text(adapter)
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1"]
    host = replace(HOST, flags=(*HOST.flags, *flags))
    sources = [*sorted(package.glob("*.c")), folder / "adapter.c"]
    program = build_firmware(host, sources, [package], folder / "build")
    raw = [b"".join(x.tobytes() for x in inputs) for inputs in some_samples(graph)]
    return run_firmware(program, HOST, b"".join(raw), len(raw[0]), folder / "run").outputs


def some_samples(graph: Graph) -> list[list[np.ndarray]]:
    """The inputs that `run` takes."""
    rng = np.random.default_rng(0)
    return [
        [
            rng.standard_normal(t.shape).astype(np.float32)
            if t.dtype.is_float
            else rng.integers(-128, 128, t.shape).astype(np.int8)
            for t in (graph.tensors[port.tensor] for port in graph.inputs)
        ]
        for _ in range(3)
    ]


def _written(graph: Graph, plan: Plan, folder: Path) -> tuple[Path, str]:
    """The package in a folder, the file of its weights beside it, and the text of its adapter."""
    package = folder / "package"
    package.mkdir(parents=True)
    module, memory = Module.of(graph), MemoryPlan.of(plan)
    made = emit(module, lower(module, memory, NAME, HOST), EmitOptions(NAME), HOST)
    for name, text in made.files.items():
        (package / name).write_text(text)
    path = folder / "weights.bin"
    path.write_bytes(b"".join(weights_file(module, memory, HOST)))
    assert path.stat().st_size == made.weights.size
    define = f"#define MMCC_WEIGHTS_FILE {json.dumps(str(path))}\n"
    return package, define + render("adapter.c.j2", on_heap=True, **made.values)


def random_net(seed: int, *, floats: bool) -> Graph:
    """Layers with enough channels for several blocks; residuals, pools, joins, a dense layer at the end."""
    draw = random.Random(seed)
    b = Build("random")
    x = b.input(
        draw.randint(8, 15), draw.randint(5, 9), 3, dtype=ElementType.F32 if floats else ElementType.I8
    )
    for _ in range(draw.randint(3, 6)):
        h, w, c = b.shape(x)
        kind = draw.choice(["conv", "conv", "conv", "residual", "pool", "concat", "depthwise"])
        if kind == "pool" and min(h, w) >= 4:
            x = b.max_pool(x, 2, draw.choice([1, 2]))
        elif kind == "residual":
            x = add(b, x, conv(b, x, c, 3, floats=floats), floats=floats)
        elif kind == "concat":
            x = b.concat(2, conv(b, x, 16, 1, floats=floats), conv(b, x, 24, 3, floats=floats))
        elif kind == "depthwise" and not floats:
            x = b.depthwise(x, 3, draw.choice([1, 2]))
        else:
            x = conv(
                b, x, draw.choice([16, 24, 33]), draw.choice([1, 3]), draw.choice([1, 1, 2]), floats=floats
            )
    if not floats and draw.random() < 0.5:
        mean = b.mean(x)
        x = b.dense(b.reshape(mean, b.shape(mean)[-1]), 20)
    return filled(b.graph(x), seed)
