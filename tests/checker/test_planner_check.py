# SPDX-License-Identifier: Apache-2.0
"""The plan checker against planted faults: each is convicted in a sentence that names what it hits."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from mmcc.checker import replay
from mmcc.checker.plan import check_plan
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, Place, Plan, Slot
from mmcc.ir.regions import SRAM, Region
from mmcc.ops.conv import ConvInt8
from mmcc.ops.window import Window
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from planned_alone import planned_alone
from planner_graphs import Build, kws
from stateful import BY_HAND

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def chain() -> tuple[Graph, Plan]:
    graph = kws()
    return graph, planned_alone(graph)


@pytest.fixture(scope="module")
def joined() -> tuple[Graph, Plan]:
    """Two convolutions made in the columns and channels of a Concat, which a third one reads."""
    b = Build("joined")
    x = b.input(8, 8, 4)
    both = b.concat(2, b.conv(x, 4, 3), b.conv(x, 8, 3))
    graph = b.graph(b.conv(both, 4, 3))
    return graph, planned_alone(graph)


def moved(made: Plan, buffer: str, offset: int) -> Plan:
    return replace(made, places=made.places | {buffer: Place(SRAM, offset)})


def buffer_of(made: Plan, name: str) -> Buffer:
    return next(b for b in made.buffers if b.name == name)


def changed(made: Plan, buffer: Buffer) -> Plan:
    return replace(made, buffers=tuple(buffer if b.name == buffer.name else b for b in made.buffers))


def test_sound_plans_pass(chain: tuple[Graph, Plan], joined: tuple[Graph, Plan]) -> None:
    assert check_plan(*chain) == []
    assert check_plan(*joined) == []
    assert joined[1].aliases == {2}


def test_columns_that_only_lie_between_padding_and_the_first_one_read() -> None:
    """Columns -2, 1, 4, 7, 10, 13 are read, all at once: the first is padding, and column 0 is free."""
    b = Build("gap")
    x = b.input(2, 13, 8)
    weights = b.constant(np.zeros((8, 1, 1, 8), np.int8))
    y = b.add(ConvInt8(Window((1, 1), (2, 3), (1, 1), (0, 2, 0, 2)), 0, 0), x, weights, *b._scales(8))
    graph = b.graph(y)
    made = replace(planned_alone(graph), pixels={0: 8})
    room = 48
    for gap, right in ((room, True), (room - 8, True), (room - 16, False)):
        assert (check_plan(graph, moved(moved(made, y, 0), x, gap)) == []) == right, gap


def test_live_range_one_step_short(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    b = buffer_of(made, "t1")
    short = changed(made, replace(b, live=Span(b.live.lo, b.live.hi - 1)))
    assert any(
        "node 2 " in text and '"t1"' in text and "lives in steps [1, 2)" in text
        for text in check_plan(graph, short)
    )


def test_an_overlap_one_byte_less_than_its_distance(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    for o in made.overlaps:
        out, in_ = made.places[o.output].offset, made.places[o.input].offset
        at = in_ - o.distance + 1 if out <= in_ - o.distance else in_ + (o.backward or 0) - 1
        size = buffer_of(made, o.output).size
        if at < 0 or at + 1 >= in_ + buffer_of(made, o.input).size or at + size <= in_:
            continue
        wrong = check_plan(graph, moved(made, o.output, at))
        index = made.groups[o.step].nodes[0]
        told = f'overwritten by tensor "{o.output}"'
        assert any(told in text and f"node {index} " in text for text in wrong), (o, at)


def test_rows_in_the_wrong_direction(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    step = next(k for k, group in enumerate(made.groups) if group.backward)
    groups = [replace(g, backward=False) if k == step else g for k, g in enumerate(made.groups)]
    wrong = check_plan(graph, replace(made, groups=tuple(groups)))
    assert any("was overwritten by" in text for text in wrong)


def test_two_buffers_that_collide(joined: tuple[Graph, Plan]) -> None:
    graph, made = joined
    other = made.slots["t0"].buffer
    wrong = check_plan(graph, moved(made, "x0", made.places[other].offset + 4))
    assert any('"x0"' in text and f'"{other}"' in text and "share bytes" in text for text in wrong)
    assert any('tensor "x0"' in text and "node 0 " in text for text in wrong)


def test_groups_that_are_none(chain: tuple[Graph, Plan]) -> None:
    """No nodes, nodes that do not exist, no rows in an iteration, and sums of nodes that are elsewhere."""
    graph, made = chain
    first, *others = made.groups
    faults = {
        "has the nodes ()": replace(first, nodes=()),
        "has the nodes (99,)": replace(first, nodes=(99,)),
        "makes 0 rows": replace(first, batched=True, tile_rows=0),
        "makes -1 rows": replace(first, tile_rows=-1),
        "knows of others, [1]": replace(first, accumulating=(1,)),
        "knows of others, [2]": replace(first, riding=((0, 2),)),
        "knows of others, [3]": replace(first, drained=(3,)),
    }
    for told, group in faults.items():
        wrong = check_plan(graph, replace(made, groups=(group, *others)))
        assert any(told in text for text in wrong), (told, wrong)


def test_sums_in_a_buffer_that_does_not_exist(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    wrong = check_plan(graph, replace(made, accumulators={0: "sums0"}))
    assert any('"sums0", for sums or to work in, does not exist' in text for text in wrong)


def test_a_wrong_stride_of_a_slot(joined: tuple[Graph, Plan]) -> None:
    graph, made = joined
    slot = made.slots["t1"]
    wrong = check_plan(graph, replace(made, slots=made.slots | {"t1": replace(slot, col_stride=8)}))
    assert any("node 3 " in text for text in wrong)


def test_slots_that_share_bytes(joined: tuple[Graph, Plan]) -> None:
    graph, made = joined
    slot = made.slots["t1"]
    wrong = check_plan(graph, replace(made, slots=made.slots | {"t1": replace(slot, offset=slot.offset - 1)}))
    assert any('tensor "t2"' in text and '"t' in text for text in wrong)


def test_misaligned(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    place = made.places["t0"]
    assert any(
        '"t0"' in text and "not aligned to 4" in text
        for text in check_plan(graph, moved(made, "t0", place.offset + 1))
    )


def test_memory_that_begins_anywhere(chain: tuple[Graph, Plan]) -> None:
    """A place that is a multiple of what a buffer needs, in an arena that is not."""
    graph, made = chain
    wrong = check_plan(graph, changed(made, replace(buffer_of(made, "x0"), align=2 * SRAM.align)))
    assert any(f'"x0" must be aligned to {2 * SRAM.align}' in text for text in wrong)


def test_outside_the_arena(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    small = Region("sram", size=made.peak(SRAM) - 1)
    buffers = tuple(replace(b, regions=(small,)) for b in made.buffers)
    places = {name: replace(place, region=small) for name, place in made.places.items()}
    wrong = check_plan(graph, replace(made, buffers=buffers, places=places))
    assert any("outside sram" in text for text in wrong)
    assert any("outside sram" in text for text in check_plan(graph, moved(made, "t0", -4)))


def test_a_slot_beyond_its_buffer(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    slot = replace(made.slots["t0"], offset=4)
    wrong = check_plan(graph, replace(made, slots=made.slots | {"t0": slot}))
    assert any('tensor "t0" is outside its buffer' in text for text in wrong)


def test_an_order_that_reads_too_early(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    groups = (made.groups[1], made.groups[0], *made.groups[2:])
    assert any('"t0"' in text for text in check_plan(graph, replace(made, groups=groups)))


def test_a_node_that_never_runs(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    wrong = check_plan(graph, replace(made, groups=made.groups[:-1]))
    assert any("is in 0 groups" in text for text in wrong)


def test_a_computation_that_is_called_an_alias(chain: tuple[Graph, Plan]) -> None:
    graph, made = chain
    wrong = check_plan(graph, replace(made, groups=made.groups[1:], aliases=made.aliases | {0}))
    assert any("computes something" in text for text in wrong)


def test_scratch_over_a_living_tensor() -> None:
    graph = kws()
    made = planned_alone(graph, PlanRequest(scratch={1: 64}))
    assert made.scratch is not None
    wrong = check_plan(graph, moved(made, made.scratch[1], made.places["t0"].offset))
    assert any("scratch" in text and 'tensor "t0"' in text for text in wrong)


def cascade(rows: int) -> tuple[Graph, Plan]:
    """Two 3x3 convolutions as one group, the tensor between them in a ring."""
    b = Build("cascade")
    graph = b.graph(b.conv(b.conv(b.input(12, 4, 4), 4, 3), 4, 3))
    live = Span(0, 1)
    buffers = (
        Buffer("x0", BufferKind.INPUT, 192, live, (SRAM,)),
        Buffer("t0", BufferKind.RING, 16 * rows, live, (SRAM,)),
        Buffer("t1", BufferKind.OUTPUT, 192, live, (SRAM,)),
    )
    slots = {name: Slot(name, 0, 16, 4, 12 if name != "t0" else rows) for name in ("x0", "t0", "t1")}
    places = {"x0": Place(SRAM, 0), "t0": Place(SRAM, 192), "t1": Place(SRAM, 192 + 16 * rows)}
    return graph, Plan((Group((0, 1), tile_rows=1),), frozenset(), buffers, slots, places)


def test_a_ring_holds_just_the_rows_it_must() -> None:
    assert check_plan(*cascade(3)) == []
    wrong = check_plan(*cascade(2))
    assert any('tensor "t0"' in text and "node 1 " in text and "other elements" in text for text in wrong)


def test_views_of_whole_tensors_are_asked_once() -> None:
    """Each row of a reader behind a Reshape needs all rows: what that is may not be worked out row by row."""
    b = Build("views")
    x = b.input(400, 4, 16)
    for _ in range(3):
        x = b.conv(b.reshape(b.reshape(x, 1600, 16), 400, 4, 16), 16, 1)
    graph = b.graph(x)
    made = planned_alone(graph)
    asked = 0
    kind = type(graph.nodes[0].op.nest(graph.tensors["x0"].shape))
    original = kind.rows_needed

    def counted(nest: object, read: int, row: int) -> Span:
        nonlocal asked
        asked += 1
        return original(nest, read, row)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "rows_needed", counted)
        assert check_plan(graph, made) == []
    assert asked < 10 * 1600


def test_large_tensors_take_little_memory() -> None:
    """What every size divides by is remembered once, not for each element; views of whole pixels, too."""
    b = Build("large")
    x = b.input(256, 256, 128)
    graph = b.graph(b.concat(2, b.conv(x, 128, 1), b.conv(x, 128, 3)))
    made = planned_alone(graph)
    assert made.aliases or made.copied
    assert made.peak(SRAM) > 2**24
    tracemalloc.start()
    try:
        assert check_plan(graph, made) == []
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_what_cannot_be_remembered_is_said_before() -> None:
    """A plan of single bytes that is larger than this machine's memory may be."""
    b = Build("huge")
    graph = b.graph(b.conv(b.input(20_000, 20_000, 1), 1, 3))
    with pytest.raises(CompileError, match=r"\d+ bytes of this machine's memory; [\d,]+ are allowed") as told:
        check_plan(graph, planned_alone(graph))
    assert told.value.code == "MM901"


def test_parameters_are_remembered_beside_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as the values that states begin with, which were read into this machine's memory."""
    graph = separate_states(BY_HAND["accumulator"]())
    plan = best_plan(graph, PlanRequest())
    values = sum(state.initial.nbytes for state in graph.states)
    monkeypatch.setattr(replay, "MOST_BYTES", -values)
    with pytest.raises(CompileError) as told:
        check_plan(graph, plan)
    needed = int(re.findall(r"takes ([\d,]+) bytes", told.value.message)[0].replace(",", ""))
    assert 0 < needed < values
    monkeypatch.setattr(replay, "MOST_BYTES", needed - values)
    assert check_plan(graph, plan) == []
