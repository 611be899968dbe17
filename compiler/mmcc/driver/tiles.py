# SPDX-License-Identifier: Apache-2.0
"""A plan of the graph with inverted bottlenecks in tiles, and last layers in slices of channels.

Both are done where the largest group of the best plan so far has such nodes, as long as that needs less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mmcc.driver.laid import Ask, Laid, limited
from mmcc.ir.graph import nest_of
from mmcc.passes.slice_channels import sliceable
from mmcc.passes.tile_convs import Chain, chains
from mmcc.passes.tiling import AS_IT_IS, Tiling
from mmcc.planner.api import best_plan
from mmcc.planner.bounds.bound import trivial_bound
from mmcc.report.model import count_macs

MOST_SLICES = 16


def with_tiles(found: Laid, ask: Ask) -> Laid:
    """The best plan of a graph, or of it in tiles and slices, if groups are searched and no limit is kept.

    Tiles compute what is expanded again: only as far as `--recompute` goes. Slices compute nothing again.

    `ask` says what kernels promise of another graph. A graph stays as it is where there are states, staged
    constants, several memories or functions of the user's.
    """
    graph, request = found.graph, found.request
    if not request.fuse or request.by_region or request.staging is not None:
        return found
    if graph.states or any(node.handoff for node in graph.nodes):
        return found
    bottlenecks: Mapping[str, Chain] = chains(graph) if request.recompute > 1 else {}
    least, most = trivial_bound(graph, request), request.recompute * count_macs(graph)
    best, tiling, seconds = found, AS_IT_IS, found.plan.seconds
    while least < request.peak(best.plan) and not _within(best):
        tried = _next(best, tiling, bottlenecks)
        if tried == tiling:
            break
        other = tried.of(graph)
        share = most / max(1, sum(nest_of(other, node).macs for node in other.nodes))
        if tried.results and share < 1:
            break
        asked = replace(limited(ask(other), request), recompute=max(1.0, share))
        made = replace(found, graph=other, request=asked, plan=best_plan(other, asked), tiling=tried)
        seconds += made.plan.seconds
        if request.peak(made.plan) >= request.peak(best.plan):
            break
        best, tiling = made, tried
    if best is found:
        return found
    # other tiles or more slices may need less: nothing is known of them
    peak = request.peak(best.plan)
    plan = replace(best.plan, bound=least, proved_optimal=peak == least, cheapest=False, least_cost=0.0)
    return replace(best, plan=replace(plan, seconds=seconds))


def _next(laid: Laid, tiling: Tiling, bottlenecks: Mapping[str, Chain]) -> Tiling:
    """Twice as many slices, and more tiles, where groups need them that need as many bytes as the plan."""
    inside = _largest(laid)
    pairs = sliceable(laid.graph).items()
    cut = any(name in inside or maker.output in inside for name, maker in pairs)
    more = [
        name
        for name, chain in bottlenecks.items()
        if name not in tiling.results and any(node.output in inside for node in chain)
    ]
    return Tiling(min(MOST_SLICES, 2 * tiling.slices) if cut else tiling.slices, (*tiling.results, *more))


def _largest(laid: Laid) -> set[str]:
    """Results of the nodes in groups that reach up to the peak, and may need that many bytes: what is alive
    then, without what shares bytes, is no less."""
    plan, found = laid.plan, set[str]()
    peak = laid.request.peak(plan)
    for step, group in enumerate(plan.groups):
        alive = [b for b in plan.buffers if b.live.lo <= step < b.live.hi]
        inside = [(b.size, plan.places[b.name]) for b in alive]
        inside = [(size, place.offset) for size, place in inside if place.region in laid.request.regions]
        reaches = any(size + offset == peak for size, offset in inside)
        if reaches and sum(size for size, _ in inside) >= peak:
            found.update(name for k in group.nodes for name in laid.graph.nodes[k].outputs)
    return found


def _within(laid: Laid) -> bool:
    limit = laid.request.limit
    return limit is not None and laid.request.peak(laid.plan) <= limit
