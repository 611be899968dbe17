# SPDX-License-Identifier: Apache-2.0
"""Which values of residual networks are made again: the estimate ranks choices, so few need be planned."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver import recompute
from mmcc.driver.ask import plan_request
from mmcc.driver.choice_plan import Asked
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.driver.recompute import KeptValues
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.regions import SRAM
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.fusion import lazy
from mmcc.planner.fusion.best_first import FoundPath, LeastSearch
from mmcc.planner.placing import Placer
from mmcc.target import load_target
from mmcc.training.module import training_module
from mmcc.training.options import TrainOptions
from mmcc.training.recompute import SavedValues
from mmcc.training.stretches import LEAST_ROWS, Stretches
from onnx import helper

CHANNELS, ROWS, COLS = 4, 24, 5


def residual(folder: Path, blocks: int) -> SavedValues:
    """Blocks of two convolutions 3x3 and a sum with what goes in; behind them a layer for three classes."""
    rng = np.random.default_rng(2)
    constants, nodes, name = dict[str, np.ndarray](), [], "x"
    for k in range(blocks):
        for part in "ab":
            constants[f"w{part}{k}"] = rng.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        nodes += [
            helper.make_node("Conv", [name, f"wa{k}"], [f"c{k}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{k}"], [f"inner{k}"]),
            helper.make_node("Conv", [f"inner{k}", f"wb{k}"], [f"d{k}"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [f"d{k}", name], [f"s{k}"]),
            helper.make_node("Relu", [f"s{k}"], [f"end{k}"]),
        ]
        name = f"end{k}"
    constants["w"] = rng.standard_normal((3, CHANNELS)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    inputs = {"x": np.zeros((1, CHANNELS, ROWS, COLS), np.float32)}
    graph = load_graph(save(model_of(nodes, inputs, ["y"], constants), folder), CompileOptions())
    step = training_module(graph, TrainOptions(accumulate=2)).entries[1].graph
    return SavedValues(step, {name for node in graph.nodes for name in node.outputs})


LEAST = Asked()


def planned(graph: Graph, asked_for: Asked = LEAST, *, fuse: bool = False) -> tuple[Plan, int]:
    separate = separate_states(graph)
    asked = plan_request(CompileOptions("host", recompute=1.0), separate, load_target("host"), silent)
    asked = replace(asked_for.of(asked), effort=0.1, fuse=fuse)
    plan = best_plan(separate, asked)
    return plan, asked.peak(plan)


in_groups = partial(planned, fuse=True)


def test_the_search_is_no_worse_than_block_ends_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it may plan but two choices besides that which keeps everything."""
    saved = residual(tmp_path, 3)
    names = {value.name for value in saved.values}
    ends = {name for name in names if not name.startswith("inner")}
    assert len(ends) < len(names)
    _, by_hand = planned(saved.recomputed(ends))
    monkeypatch.setattr(recompute, "MOST_PLANS", 2)
    found = KeptValues(saved, planned, 1.3).least()
    assert found is not None
    assert found[1].arena <= by_hand


def test_a_choice_that_cannot_be_better_is_not_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search finds the same with every choice placed; of one that its bound excludes, it asks no more."""
    saved = residual(tmp_path, 3)
    every = KeptValues(saved, lambda graph, _: in_groups(graph), 1.3).least()
    found = KeptValues(saved, in_groups, 1.3).least()
    assert every is not None
    assert found is not None
    assert found[1] == every[1]
    step = saved.recomputed(())
    plan, arena = in_groups(step)
    assert in_groups(step, Asked(arena + 1))[0].groups == plan.groups
    monkeypatch.setattr(Placer, "least", None)  # whoever calls it fails
    other, more = in_groups(step, Asked(1))
    assert 0 < other.bound <= plan.bound <= arena < more


def test_a_plan_that_is_only_compared_is_found_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large graph, without a search that looks at all groups of each level, and nearly as good."""
    monkeypatch.setattr(lazy, "MOST_KERNELS", 10)
    step, exact = residual(tmp_path, 3).recomputed(()), list[bool]()
    run = LeastSearch.run

    def seen(search: LeastSearch, *most: float) -> FoundPath | None:
        exact.append(search.exact)
        return run(search, *most)

    monkeypatch.setattr(LeastSearch, "run", seen)
    _, best = in_groups(step)
    assert any(exact)
    exact.clear()
    plan, arena = in_groups(step, Asked(rough=True))
    assert exact
    assert not any(exact)
    assert plan.bound < best <= arena <= 1.05 * best
    told, _ = in_groups(step, Asked(at_least=best, rough=True))
    assert told.bound == best == told.peak(SRAM), "what none is below is known from elsewhere"


@pytest.mark.quick
def test_choices_that_are_alike_are_not_all_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes little difference which of equal layers a choice keeps: others are planned before."""
    monkeypatch.setattr(recompute, "FEW", 0)
    monkeypatch.setattr(recompute, "MOST_PLANS", 6)
    saved, tried = residual(tmp_path, 5), list[tuple[int, int]]()
    sizes = {value.name: value.bytes for value in saved.values}

    def seen(graph: Graph, _: Asked) -> tuple[Plan, int]:
        again = [name.removesuffix("_again") for name in graph.producer if name.endswith("_again")]
        work = sum(saved.macs(name) for name in again if not name.endswith("_later"))
        tried.append((sum(sizes.values()) - sum(sizes.get(name, 0) for name in again), work))
        return Plan((), frozenset(), (), {}, {}, bound=0), 10_000_000

    KeptValues(saved, seen, 1.2).least()
    assert len(tried) > 4
    assert len(set(tried)) == len(tried)


def test_ends_of_blocks_alone_are_always_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the search comes by no other choice; from which end on is for the estimate to say, and behind
    which end all before it is made once more."""
    monkeypatch.setattr(recompute, "FEW", 0)
    monkeypatch.setattr(recompute, "BEAM", 0)
    monkeypatch.setattr(recompute, "MOST_PLANS", 0)
    saved = residual(tmp_path, 3)
    assert saved.ends == ("inner0", "end0", "end1", "mean", "y")  # the input is there in any case
    tried = list[Graph]()

    def seen(graph: Graph, asked: Asked) -> tuple[Plan, int]:
        tried.append(graph)
        return planned(graph, asked)

    found = KeptValues(saved, seen, 1.6).least()
    assert found is not None
    once, twice = tried  # the choice that keeps all cannot be below these: it is not planned
    again = {name.removesuffix("_again") for name in once.producer if name.endswith("_again")}
    assert {"inner1", "inner2"} <= again
    assert not any(name.endswith("_later") for name in once.producer)
    later = {name.removesuffix("_again_later") for name in twice.producer if name.endswith("_later")}
    assert "inner0" in later
    assert later < {name.removesuffix("_again") for name in twice.producer if name.endswith("_again")}
    assert found[1].arena < planned(saved.graph)[1]


@pytest.mark.quick
def test_halos_add_up_along_a_stretch_and_back(tmp_path: Path) -> None:
    """The first value waits for all halos behind it twice; values that do not read each other are apart."""
    saved = residual(tmp_path, 3)
    parts = Stretches(saved.graph)
    row = 4 * COLS * CHANNELS
    assert parts.bytes_held(["end0"]) == LEAST_ROWS * row
    one_block = ["end0", "inner1"]
    assert parts.bytes_held(one_block) == ((LEAST_ROWS + 2) + LEAST_ROWS) * row
    assert parts.of(["inner0", "inner1"]) == [["inner0"], ["inner1"]]
    assert parts.of(one_block) == [one_block]
    names = [name for node in saved.graph.nodes for name in node.outputs]
    whole = [name for name in names if name[:-1] in {"c", "inner", "d", "s", "end"}]
    assert parts.bytes_held(whole) <= len(whole) * ROWS * row
    lags = [parts.bytes_held(whole[:count]) for count in range(1, len(whole) + 1)]
    assert lags == sorted(lags)


CHOICES = """
import sys
from pathlib import Path
from mmcc.driver.recompute import KeptValues, SlowMemory
from test_stretches import planned, residual
kept = KeptValues(residual(Path(sys.argv[1]), 4), planned, 1.3, SlowMemory(100_000, 0.5))
for choice in kept._choices:
    print(sorted(choice.kept), sorted(choice.paged), choice.cut, choice.cost.hex(), choice.estimate)
"""


def test_choices_are_the_same_in_each_process(tmp_path: Path) -> None:
    """Where not all are looked at: which of equal layers' values are kept, and the last bits of costs."""
    command = [sys.executable, "-c", CHOICES, str(tmp_path)]
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    printed = {
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert printed.pop().count("\n") > 100
