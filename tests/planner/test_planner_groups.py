# SPDX-License-Identifier: Apache-2.0
"""Groups: rings are as short as they can be, everything replays, and faults in them are convicted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_calls import KernelCall, kernel_calls
from mmcc.checker.plan import check_plan
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, Place, Plan
from mmcc.ir.regions import SRAM
from mmcc.ops.conv_gradient import WeightGradient
from mmcc.ops.elementwise import Unary
from mmcc.ops.resize import ResizeNearest
from mmcc.ops.window import Window
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.api import best_plan
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.group import GroupMemory
from mmcc.planner.fusion.schedule import fit
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.request import PlanRequest
from planner_graphs import Build, kws, mobilenetv2, vww
from planner_random import graphs, requests, usable

pytestmark = pytest.mark.quick
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def chain() -> Graph:
    """An inverted residual between two convolutions."""
    b = Build("chain")
    x = b.conv(b.input(12, 10, 2), 8, 3, 2)
    y = b.conv(b.depthwise(b.conv(x, 16, 1), 3), 8, 1)
    return b.graph(b.conv(b.sum(x, y), 4, 3))


def space_of(graph: Graph, request: PlanRequest) -> Space:
    choice = best_layout(graph, request).choice
    return Space(graph, choice.layout, choice.model, choice.ordering.order, request)


@st.composite
def cascades(draw: st.DrawFn) -> Graph:
    """Chains with residuals, branches that meet in an Add, pools and growth of rows: no views."""
    b = Build("cascade")
    pool = [b.input(draw(st.integers(4, 9)), draw(st.integers(3, 6)), 2)]
    for _ in range(draw(st.integers(2, 7))):
        x = draw(st.sampled_from(pool[-3:]))
        h, w, _ = b.shape(x)
        peers = [n for n in pool if b.shape(n) == b.shape(x) and n != x]
        kind = draw(st.sampled_from(["conv", "conv", "depthwise", "unary", "pool", "grow", "sum"]))
        if kind == "conv":
            kernel, stride = draw(st.sampled_from([1, 3, (5, 1)])), draw(st.sampled_from([1, 2]))
            pool.append(b.conv(x, draw(st.sampled_from([2, 4])), kernel, stride))
        elif kind == "depthwise":
            pool.append(b.depthwise(x, 3, draw(st.sampled_from([1, 2]))))
        elif kind == "pool" and min(h, w) >= 2:
            pool.append(b.max_pool(x, 2, draw(st.sampled_from([1, 2]))))
        elif kind == "grow" and h < 10:
            taken = tuple(k // 2 for k in range(2 * h))
            pool.append(b.add(ResizeNearest(taken, tuple(range(w))), x))
        elif kind == "sum" and peers:
            pool.append(b.sum(x, draw(st.sampled_from(peers))))
        else:
            pool.append(b.add(Unary("abs"), x))
    read = {name for node in b.nodes for name in node.inputs}
    return b.graph(*[node.output for node in b.nodes if node.output not in read])


def rows_alive(graph: Graph, group: Group, names: set[str]) -> int:
    """By brute force: rows of some tensors from the oldest still needed to the newest, at most."""
    calls = list(kernel_calls(graph, group))
    needs: list[list[Span]] = [[_needed(graph, call, name) for name in names] for call in calls]
    most = 0
    for now, call in enumerate(calls):
        if graph.nodes[call.node].output not in names:
            continue
        later = [span.lo for spans in needs[now + 1 :] for span in spans if len(span)]
        most = max(most, call.end - min([*later, call.end - 1]))
    return most


def _needed(graph: Graph, call: KernelCall, name: str) -> Span:
    node = graph.nodes[call.node]
    nest, need = nest_of(graph, node), Span(0, 0)
    for read, access in enumerate(nest.reads):
        if node.inputs[access.operand] == name:
            need = need.join(nest.rows_needed(read, call.begin))
    return need


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(graph=cascades())
def test_every_ring_of_every_candidate_is_as_brute_force_has_it(graph: Graph) -> None:
    space = space_of(graph, PlanRequest())
    for candidate in space.candidates(2**40):
        group = space.footprint(candidate).group
        if len(group.kernels) == 1 or group.drained:
            continue
        nodes = tuple(sorted(space.model.kernels[k].node for k in group.kernels))
        for store in group.stores:
            if group.inside >> store.allocation & 1:
                names = {space.model.allocations[allocation].name for allocation in store.allocations}
                height = space.rows.allocations[store.allocation].height
                found = rows_alive(graph, Group(nodes, tile_rows=1), names)
                assert min(found, height) == (store.depth or height), (nodes, names)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(graph=graphs(9), request=requests)
def test_plans_with_groups_of_random_graphs_are_sound(graph: Graph, request: PlanRequest) -> None:
    made = best_plan(graph, usable(graph, request))
    assert check_plan(graph, made) == [], f"{graph}\n{made}"
    assert made.peak(SRAM) >= made.bound
    alone = best_plan(graph, replace(usable(graph, request), fuse=False))
    assert made.peak(SRAM) <= alone.peak(SRAM)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(graph=cascades(), again=st.booleans(), align=st.sampled_from([1, 4]))
def test_strips_and_rows_that_arrive_are_sound(graph: Graph, again: bool, align: int) -> None:
    outside = PlanRequest(external_inputs=True, external_outputs=True, recompute=3.0, align=align)
    for changed in (graph, stream_ports(graph, again=again)):
        made = best_plan(changed, outside)
        assert check_plan(changed, made) == [], f"{changed}\n{made}"
        assert made.peak(SRAM) <= best_plan(changed, replace(outside, recompute=1.0)).peak(SRAM)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(graph=cascades())
def test_no_group_can_be_placed_below_its_bound(graph: Graph) -> None:
    """The bound of a whole plan is its largest group's, and what is placed is never below it."""
    space = space_of(graph, PlanRequest(align=1))
    for candidate in space.candidates(2**40):
        footprint = space.footprint(candidate)
        assert candidate.least <= footprint.tight <= total(space, footprint.group)


def total(space: Space, group: GroupMemory) -> int:
    """Everything of a group side by side."""
    return space.shared.bytes(group.live_through) + sum(item.size for item in group.items)


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ([3, 5, 7, 9, 9], (2, 3, 1)),
        ([1, 1, 2, 2, 3, 3], (1, 2, 2)),
        ([4, 4, 4], (0, 4, 1)),
        ([2], (0, 2, 1)),
        ([1, 5, 6, 20], None),
    ],
)
def test_bounds_of_loops_in_short(counts: list[int], found: tuple[int, int, int] | None) -> None:
    assert fit(counts) == found


# ---- planted faults


@pytest.fixture(scope="module")
def fused() -> tuple[Graph, Plan]:
    graph = chain()
    made = best_plan(graph, PlanRequest(align=1))
    assert check_plan(graph, made) == []
    assert any(len(group.nodes) > 1 for group in made.groups)
    return graph, made


def grown(made: Plan, name: str, size: int) -> Plan:
    """The plan with a buffer of another size moved beyond all others."""
    end = made.peak(SRAM)
    buffers = tuple(replace(b, size=size) if b.name == name else b for b in made.buffers)
    return replace(made, buffers=buffers, places=made.places | {name: Place(SRAM, end)})


def test_a_ring_one_row_short(fused: tuple[Graph, Plan]) -> None:
    graph, made = fused
    rings = [b for b in made.buffers if b.kind is BufferKind.RING and made.slots[b.name].rows > 1]
    assert rings
    for ring in rings:
        inside = {n: s for n, s in made.slots.items() if s.buffer == ring.name}
        short = {n: replace(s, rows=s.rows - 1) for n, s in inside.items()}
        wrong = check_plan(graph, replace(grown(made, ring.name, ring.size), slots=made.slots | short))
        assert any("was overwritten" in text or "other elements" in text for text in wrong), ring


def test_an_overlap_one_byte_less(fused: tuple[Graph, Plan]) -> None:
    graph, made = fused
    assert made.overlaps
    for o in made.overlaps:
        if o.backward is not None:
            continue
        at = made.places[o.input].offset - o.distance + 1
        moved = replace(made, places=made.places | {o.output: Place(SRAM, at)})
        assert check_plan(graph, moved) != [], o


def test_a_live_range_one_step_short(fused: tuple[Graph, Plan]) -> None:
    graph, made = fused
    for b in made.buffers:
        if b.kind is BufferKind.RING or len(b.live) < 2:
            continue
        buffers = tuple(
            replace(c, live=Span(c.live.lo, c.live.hi - 1)) if c == b else c for c in made.buffers
        )
        assert any("live" in text for text in check_plan(graph, replace(made, buffers=buffers))), b


def test_a_seam_one_column_short() -> None:
    graph = vww()
    made = best_plan(graph, PlanRequest(external_inputs=True, external_outputs=True, recompute=1.3))
    assert check_plan(graph, made) == []
    step, group = next((k, g) for k, g in enumerate(made.groups) if len(g.strips) > 1)
    rings = [b for b in made.buffers if b.kind is BufferKind.RING and b.live.lo == step]
    convicted = 0
    for ring in rings:
        slots = {
            name: replace(slot, row_stride=slot.row_stride - slot.col_stride)
            for name, slot in made.slots.items()
            if slot.buffer == ring.name
        }
        convicted += check_plan(graph, replace(made, slots=made.slots | slots)) != []
    assert convicted >= len(rings) // 2  # rings of one row need no stride
    columns = group.strips[0].columns
    short = replace(group.strips[0], columns=Span(columns.lo, columns.hi - 1))
    groups = list(made.groups)
    groups[step] = replace(group, strips=(short, *group.strips[1:]))
    assert any("was never written" in text for text in check_plan(graph, replace(made, groups=tuple(groups))))


def test_sums_that_another_buffer_overwrites() -> None:
    graph = kws()
    pool = next(k for k, node in enumerate(graph.nodes) if type(node.op).__name__ == "AveragePoolInt8")
    made = best_plan(graph, PlanRequest(accumulators={pool: 256}))
    assert check_plan(graph, made) == []
    sums = made.accumulators[pool]
    ring = next(b for b in made.buffers if b.kind is BufferKind.RING)
    moved = replace(made, places=made.places | {sums: made.places[ring.name]})
    wrong = check_plan(graph, moved)
    assert any("sums" in text for text in wrong)


@pytest.mark.parametrize("image", [3, 6, 14])
def test_a_sum_of_more_rows_than_it_takes_in_is_whole(image: int) -> None:
    """The gradient of 12 filters, which is added up over an image's rows, and read row by row."""
    b = Build("gradient")
    x, g = (b.input(image, 5, channels, dtype=ElementType.F32) for channels in (2, 12))
    made = b.add(WeightGradient(Window((3, 3), pads=(1, 1, 1, 1))), b.add(Unary("abs"), x), g)
    graph = b.graph(b.add(Unary("abs"), b.add(Unary("neg"), made)))
    (node,) = (k for k, each in enumerate(graph.nodes) if isinstance(each.op, WeightGradient))
    space = space_of(graph, PlanRequest(accumulators={node: 0}))
    of_sums = [k for k, kernel in enumerate(space.model.kernels) if kernel.node >= node]
    members = sum(1 << k for k in of_sums)
    before = space.all & ~members
    memory = space.footprint(Candidate(before, space.all, of_sums[-1], 0)).group
    depths = {space.model.allocations[store.allocation].name: store.depth for store in memory.stores}
    assert depths[made] == 0
    assert check_plan(graph, best_plan(graph, PlanRequest(accumulators={node: 0}, fuse=True))) == []


def test_a_group_of_several_cannot_run_backward() -> None:
    graph = mobilenetv2(0.35, 32)
    made = best_plan(graph, PlanRequest())
    step, group = next((k, g) for k, g in enumerate(made.groups) if len(g.nodes) > 1)
    groups = list(made.groups)
    groups[step] = replace(group, backward=True)
    assert any("backward" in text for text in check_plan(graph, replace(made, groups=tuple(groups))))


def test_rings_live_in_one_step(fused: tuple[Graph, Plan]) -> None:
    """Rings live in one step only."""
    _, made = fused
    rings: list[Buffer] = [b for b in made.buffers if b.kind is BufferKind.RING]
    assert rings
    assert all(len(b.live) == 1 for b in rings)
