# SPDX-License-Identifier: Apache-2.0
"""Bytes of the arena that nothing needs during a step, lent to kernels that are faster with some to work in.

Nothing is moved for it, so what was proved of the plan holds. Where there is no limit, the arena may grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, Plan, Useful
from mmcc.ir.regions import Place, Region
from mmcc.planner.request import PlanRequest


def lend(plan: Plan, request: PlanRequest) -> Plan:
    """The plan with buffers for kernels that may use some: in each step as large as there is room for. Those
    that are cut into chunks for threads get none.

    First come kernels whose constants are larger, the ones that save most cycles a byte, as long as all
    together grow by no more than `request.growth`.
    """
    if not request.useful or plan.transfers:
        return plan
    region = request.regions[0]
    peak = plan.peak(region)
    most = request.limit if request.limit is not None else peak if request.fuse else None
    buffers, places, scratch = list(plan.buffers), dict(plan.places), dict(plan.scratch or {})
    grown = 0
    for step, wanted, growth in _offers(plan, request):
        wanted = {node: size for node, size in wanted.items() if node not in scratch}
        found = _largest(wanted, _taken(plan, step, region), most, region.align)
        if found is None or grown + growth > request.growth:
            continue
        place, size = found
        name = _free_name(f"work{step}", places)
        buffers.append(Buffer(name, BufferKind.SCRATCH, size, Span(step, step + 1), (region,), region.align))
        places[name] = Place(region, place)
        scratch |= {node: name for node, bytes_ in wanted.items() if bytes_ <= size}
        grown += growth
    lent = replace(plan, buffers=tuple(buffers), places=places, scratch=scratch or None, grown=grown)
    return replace(lent, lent=lent.peak(region) - peak)


def _offers(plan: Plan, request: PlanRequest) -> Iterator[tuple[int, dict[int, int], int]]:
    """Steps with the bytes that their nodes may use, and by how many bytes constants then grow."""
    larger = ((step, node, each) for step, node, each in _useful(plan, request) if each.grows)
    for step, node, each in sorted(larger, key=lambda offer: -offer[2].cycles / offer[2].grows):
        if not each.alone or _alone(plan.groups[step]):
            yield step, {node: each.bytes}, each.grows
    plain: dict[int, dict[int, int]] = {}
    for step, node, each in _useful(plan, request):
        if not each.grows:
            plain.setdefault(step, {})[node] = each.bytes
    for step, wanted in plain.items():
        yield step, wanted, 0


def _useful(plan: Plan, request: PlanRequest) -> Iterator[tuple[int, int, Useful]]:
    for step, group in enumerate(plan.groups):
        for node in (k for k in group.nodes if k not in plan.chunks):
            for each in request.useful.get(node, ()):
                yield step, node, each


def _alone(group: Group) -> bool:
    """True if a node makes all its rows in one call, or backward."""
    return len(group.nodes) == 1 and not (group.strips or group.batched or group.accumulating)


def _taken(plan: Plan, step: int, region: Region) -> list[Span]:
    """Bytes that buffers take during a step, lowest first."""
    there = ((b, plan.places[b.name]) for b in plan.buffers if b.live.lo <= step < b.live.hi)
    spans = (Span(place.offset, place.offset + b.size) for b, place in there if place.region == region)
    return sorted(spans, key=lambda span: (span.lo, span.hi))


def _largest(
    wanted: Mapping[int, int], taken: Iterable[Span], most: int | None, align: int
) -> tuple[int, int] | None:
    """Offset and bytes of the largest of the wanted pieces that there is room for below `most`."""
    taken = list(taken)
    for size in sorted(set(wanted.values()), reverse=True):
        at = 0
        for span in taken:
            if at + size <= span.lo:
                break
            at = max(at, -(-span.hi // align) * align)
        if most is None or at + size <= most:
            return at, size
    return None


def _free_name(name: str, names: Iterable[str]) -> str:
    taken = set(names)
    while name in taken:
        name += "_"
    return name
