# SPDX-License-Identifier: Apache-2.0
"""The placement benchmark runs on a small instance and checks what it measures."""

from __future__ import annotations

import sys
from math import inf
from pathlib import Path

import numpy as np
import pytest
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.ports import Port
from mmcc.ir.regions import SRAM
from mmcc.ir.types import Tensor
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
from mmcc.planner.memory.cpsat import search
from mmcc.planner.memory.problem import Item, Problem, peak_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import bench_placement as bench
from live_ranges import inference, no_reuse, pooled, training

INSTANCE = "id,lower,upper,size\na,0,2,4\nb,0,1,2\nc,1,3,2\nd,2,3,4\ne,1,2,1\n"


@pytest.mark.quick
def test_the_benchmark_solves_a_small_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.csv").write_text(INSTANCE)
    assert bench.main([str(tmp_path), "--capacity", "7", "--networks", "none"]) == 0
    assert "1 of 1 within 7" in capsys.readouterr().out
    assert bench.main([str(tmp_path), "--capacity", "6", "--networks", "none"]) == 1


@pytest.mark.quick
def test_the_benchmark_does_not_trust_the_solver() -> None:
    text = INSTANCE.splitlines()
    assert text[0] == "id,lower,upper,size"
    buffers = [bench.Buffer("a", bench.BufferKind.TENSOR, 4, bench.Span(0, 2), (SRAM,), 1)] * 2
    with pytest.raises(ValueError, match="overlap"):
        bench.check(buffers, {"a": 0})


@pytest.mark.quick
def test_a_placement_within_a_capacity_is_no_proof() -> None:
    """Where the solver was asked for 8 bytes, it has not ruled out 7."""
    problem = Problem((Item(4, 1, 0, 2), Item(4, 1, 2, 4)))
    offsets, bound = search(problem, [0, 8], bound=4, goal=8, effort=5.0, seed=0)
    assert peak_of(problem, offsets) <= 8
    assert bound == 4


RELU, PLUS = Unary("clamp", (0.0, inf)), Binary("add")


def small_graph() -> Graph:
    """Relu of the input, a dense layer of that, and the sum of both."""
    tensors = {name: Tensor(name, (2,)) for name in ("x", "a", "b", "y")} | {"w": Tensor("w", (2, 2))}
    nodes = (
        Node(RELU, ("x",), ("a",)),
        Node(Dense(), ("a", "w"), ("b",)),
        Node(PLUS, ("a", "b"), ("y",)),
    )
    port = [Port(name, name, (1, 2), ElementType.F32, (None, 0)) for name in ("x", "y")]
    return Graph("small", tensors, {"w": np.zeros((2, 2), np.float32)}, nodes, (port[0],), (port[1],))


@pytest.mark.quick
def test_live_ranges_of_an_inference() -> None:
    lives = {b.name: (b.live.lo, b.live.hi) for b in inference(small_graph())}
    assert lives == {"x": (0, 1), "a": (0, 3), "b": (1, 3), "y": (2, 3)}


@pytest.mark.quick
def test_live_ranges_of_a_training_step() -> None:
    """Backward: the sum at step 3, the dense layer at 4, the Relu at 5."""
    lives = {b.name: (b.live.lo, b.live.hi) for b in training(small_graph())}
    assert lives == {
        "x": (0, 1),
        "a": (0, 6),  # the Relu's own backward step reads its output
        "b": (1, 3),
        "y": (2, 4),
        "gradient of y": (3, 4),
        "gradient of b": (3, 5),
        "gradient of a": (3, 6),
    }


@pytest.mark.quick
def test_a_pool_reuses_chunks_it_has() -> None:
    def buffer(name: str, size: int, lo: int, hi: int) -> bench.Buffer:
        return bench.Buffer(name, bench.BufferKind.TENSOR, size, bench.Span(lo, hi), (SRAM,), 1)

    first, second = buffer("a", 6, 0, 1), buffer("b", 4, 0, 1)
    assert pooled([first, second, buffer("c", 4, 1, 2)]) == 10  # exactly b's
    assert pooled([first, buffer("c", 4, 1, 3), buffer("d", 2, 2, 3)]) == 6  # d in what c left of a's
    assert pooled([first, second, buffer("c", 8, 1, 2)]) == 18  # two blocks are not one
    assert no_reuse([first, second]) == 10
