# SPDX-License-Identifier: Apache-2.0
"""Entries that may run at the same time: their parts of the arena, how they share a limit, planted faults."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mmcc.checker.memory_plan import check_memory_plan
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.module import Entry, Module, check_module
from mmcc.ir.parse import parse_module
from mmcc.ir.regions import SRAM
from mmcc.ops import OPS
from mmcc.ops.elementwise import Binary, Unary
from mmcc.planner.api import plan_module
from mmcc.planner.concurrent import ALIGN, moved_up, place_parts
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from stateful import accumulator

pytestmark = pytest.mark.quick


def wide(rows: int) -> Graph:
    """Made row from row: it needs three whole tensors, and row by row little besides the ends."""
    b = Build("wide")
    x = b.input(rows, 5, 4, dtype=ElementType.F32)
    y = b.add(Unary("tanh"), x)
    z = b.add(Binary("mul"), b.add(Unary("exp"), y), y)
    return b.graph(b.add(Binary("add"), z, y))


def module(*concurrent: tuple[str, ...], rows: tuple[int, ...] = (6, 9, 12)) -> Module:
    names = "abcdefgh"
    return Module("m", tuple(Entry(names[k], wide(count)) for k, count in enumerate(rows)), concurrent)


def least(of: Module, sizes: dict[str, int]) -> int:
    """The shortest arena by brute force: every part at every place of a grid."""
    names = list(sizes)
    pairs = [pair for pair in itertools.combinations(names, 2) if of.may_meet(*pair)]
    for total in range(max(sizes.values()), sum(sizes.values()) + 1, ALIGN):
        for begins in itertools.product(*(range(0, total - sizes[name] + 1, ALIGN) for name in names)):
            at = dict(zip(names, begins, strict=True))
            if all(at[a] + sizes[a] <= at[b] or at[b] + sizes[b] <= at[a] for a, b in pairs):
                return total
    raise AssertionError


@pytest.mark.parametrize("seed", range(12))
def test_no_arena_is_shorter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [pair for pair in itertools.combinations("abcd", 2) if rng.random() < 0.5]
    of = module(*pairs, rows=(1, 2, 3, 4))
    sizes = {name: int(rng.integers(1, 5)) * ALIGN for name in "abcd"}
    found = place_parts(of, sizes)
    assert found.proved
    assert found.size == least(of, sizes)


def test_more_than_those_that_all_meet() -> None:
    """In a ring of five any two neighbours meet, and no three; two parts are not enough all the same."""
    ring = tuple(zip("abcde", "bcdea", strict=True))
    found = place_parts(module(*ring, rows=(1, 2, 3, 4, 5)), dict.fromkeys("abcde", ALIGN))
    assert found.size == 3 * ALIGN
    assert found.proved


def test_the_largest_sets_that_meet() -> None:
    assert module(("a", "b"), ("b", "c")).cliques == (("a", "b"), ("b", "c"))
    assert module(("a", "b"), ("b", "c"), ("a", "c")).cliques == (("a", "b", "c"),)
    assert module().cliques == (("a",), ("b",), ("c",))


def requests(of: Module, **given: Any) -> dict[str, PlanRequest]:
    return {entry.name: PlanRequest(**given) for entry in of.entries}


def test_a_limit_is_shared() -> None:
    of = module(("a", "c"))
    alone = plan_module(replace(of, concurrent=()), requests(of, fuse=False)).entries
    wanted = {name: plan.peak(SRAM) for name, plan in alone.items()}
    free = plan_module(of, requests(of, fuse=False))
    assert max(free.regions().values()) == max(wanted["b"], wanted["a"] + wanted["c"])
    limit = max(free.regions().values()) - 200
    within = plan_module(of, requests(of, limit=limit))
    assert max(within.regions().values()) <= limit
    assert check_memory_plan(of, within) == []
    assert plan_module(of, requests(of, limit=100)).regions() == plan_module(of, requests(of)).regions()


def test_entries_after_one_that_does_not_fit_may_have_as_much() -> None:
    """No search for less is in vain: the arena is as large as the largest."""
    of = module(rows=(12, 6))
    entries = plan_module(of, requests(of, limit=1)).entries
    assert entries["a"].over_groups, "the least there is"
    largest = entries["a"].peak(SRAM)
    alone = plan_module(of, requests(of, limit=largest)).entries["b"]
    assert entries["b"].groups == alone.groups
    assert len(alone.groups) > len(
        plan_module(module(rows=(6,)), {"a": PlanRequest(limit=1)}).entries["a"].groups
    )


def test_bytes_that_two_would_use_are_found() -> None:
    of = module(("a", "c"))
    plan = plan_module(of, requests(of))
    assert check_memory_plan(of, plan) == []
    assert plan.begins["b"] == 0
    upper = "a" if plan.begins["a"] else "c"
    lower = replace(plan, entries=plan.entries | {upper: moved_up(plan.entries[upper], -ALIGN)})
    assert any("share bytes of sram" in fault for fault in check_memory_plan(of, lower))


def test_the_text_says_which_meet() -> None:
    of = module(("a", "b"), ("b", "c"))
    assert parse_module(str(of), OPS).concurrent == of.concurrent


def test_what_makes_no_sense_is_refused() -> None:
    assert 'there is no entry "x" to run at the same time' in check_module(module(("a", "x")))
    assert "a are no two entries or more" in check_module(module(("a",)))
    counts = Module("m", (Entry("a", accumulator()), Entry("b", wide(3))), (("a", "b"),))
    assert 'entry "a" has states, and may not run beside others' in check_module(counts)
