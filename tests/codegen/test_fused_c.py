# SPDX-License-Identifier: Apache-2.0
"""The generated C of plans with groups computes the bits of the plan without, on this machine."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from fused_c import add, conv, filled, request, run
from mmcc.checker.plan import check_plan
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ops.pool import AveragePool
from mmcc.ops.reduce import Reduce
from mmcc.ops.resize import ResizeNearest
from mmcc.ops.window import Window
from mmcc.planner.api import best_plan
from planner_graphs import Build, mobilenetv2

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)


def random_graph(seed: int, *, floats: bool) -> Graph:
    """Layers one after another, with residuals, pools, growth, and perhaps a mean over all at the end."""
    draw = random.Random(seed)
    b = Build("random")
    x = b.input(
        draw.randint(6, 14), draw.randint(6, 12), 3, dtype=ElementType.F32 if floats else ElementType.I8
    )
    for _ in range(draw.randint(3, 7)):
        h, w, c = b.shape(x)
        kind = draw.choice(["conv", "conv", "depthwise", "residual", "pool", "grow", "concat"])
        if kind == "pool" and min(h, w) >= 4:
            x = b.max_pool(x, 2, draw.choice([1, 2]))
        elif kind == "grow" and h <= 10:
            x = b.add(ResizeNearest(tuple(k // 2 for k in range(2 * h)), tuple(range(w))), x)
        elif kind == "residual":
            x = add(b, x, conv(b, x, c, 3, floats=floats), floats=floats)
        elif kind == "concat":
            x = b.concat(2, conv(b, x, 4, 1, floats=floats), conv(b, x, 8, 3, floats=floats))
        elif kind == "depthwise" and not floats:
            x = b.depthwise(x, 3, draw.choice([1, 2]))
        else:
            x = conv(b, x, draw.choice([4, 5, 8]), draw.choice([1, 3]), draw.choice([1, 1, 2]), floats=floats)
    h, w, _ = b.shape(x)
    end = draw.choice(["", "mean", "pool", "max"])
    if floats:
        ends = {
            "mean": Reduce("mean", (0, 1)),
            "max": Reduce("max", (0,)),
            "pool": AveragePool(Window((h, w))),
        }
        return b.graph(b.add(ends[end], x) if end else x)
    return b.graph(b.mean(x) if end == "mean" else b.pool(x, (h, w)) if end == "pool" else x)


def compare(graph: Graph, tmp_path: Path) -> tuple[Plan, Plan]:
    """Plans with groups and with strips; both give the bits of the plan without."""
    alone = best_plan(graph, request(graph, fuse=False))
    fused = best_plan(graph, request(graph))
    outside = best_plan(graph, request(graph, external=True, recompute=4.0))
    expected = run(graph, alone, tmp_path / "alone")
    assert len(set(expected)) > 1
    for name, plan in (("fused", fused), ("strips", outside)):
        assert check_plan(graph, plan) == []
        assert run(graph, plan, tmp_path / name) == expected, (name, str(graph), plan.groups)
    return fused, outside


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("floats", [False, True], ids=["int8", "float"])
def test_random_graphs(seed: int, floats: bool, tmp_path: Path) -> None:
    compare(filled(random_graph(seed, floats=floats), seed), tmp_path)


def test_a_mobilenet(tmp_path: Path) -> None:
    """Residuals inside groups, strips, and a pool whose rows are taken in one by one."""
    graph = filled(mobilenetv2(0.35, 64, classes=10), 1)
    fused, outside = compare(graph, tmp_path)
    assert max(len(group.nodes) for group in fused.groups) > 2
    assert max(len(group.strips) for group in outside.groups) > 1


@pytest.mark.parametrize("floats", [False, True], ids=["int8", "float"])
def test_rows_that_are_summed_one_by_one(floats: bool, tmp_path: Path) -> None:
    b = Build("sums")
    x = conv(b, b.input(12, 9, 3, dtype=ElementType.F32 if floats else ElementType.I8), 24, 3, floats=floats)
    y = conv(b, x, 40, 1, floats=floats)
    ends = [b.add(AveragePool(Window((12, 9))), y)] if floats else [b.mean(y)]
    fused, _ = compare(filled(b.graph(*ends), 3), tmp_path)
    assert len(fused.groups) == len(fused.accumulators) == 1
