# SPDX-License-Identifier: Apache-2.0
"""From a path of groups to buffers with their lives, and to the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, Overlap, Place, Plan, Slot, Staged, Strip
from mmcc.ir.regions import External, Region
from mmcc.planner.fusion.distances import Apart
from mmcc.planner.fusion.group import GroupMemory, Item
from mmcc.planner.fusion.paths import Path
from mmcc.planner.fusion.space import Space
from mmcc.planner.fusion.stores import Store
from mmcc.planner.memory.placement import Placement

SCRATCH = Item(-1, -1, 0, 1)


@dataclass(frozen=True, slots=True)
class Placed:
    """A path with the buffers of all its groups, and where they are.

    A buffer that `homes` does not name is in the first region that it may be in. Overlaps are of buffers in
    one region. `moved` is what holds bytes besides, buffers that were moved, and where.
    """

    path: Path
    buffers: tuple[Buffer, ...]
    overlaps: tuple[Overlap, ...]
    placement: Placement
    homes: Mapping[str, Region] = field(default_factory=dict[str, Region])
    moved: tuple[tuple[Buffer, Place], ...] = ()


class Builder:
    """Buffers, slots and the plan for one path."""

    def __init__(self, space: Space, path: Path) -> None:
        self._space, self._path = space, path
        self._footprints = [space.footprint(candidate) for candidate in path]
        self._groups = [footprint.group for footprint in self._footprints]
        self._taken = {allocation.name for allocation in space.model.allocations}
        self._names: dict[tuple[int, int, BufferKind], str] = {}

    def buffers(self) -> tuple[tuple[Buffer, ...], tuple[Overlap, ...]]:
        """Whole tensors with their lives, what groups hold inside, and what may share bytes."""
        buffers = list(self._whole())
        overlaps: list[Overlap] = []
        for step, footprint in enumerate(self._footprints):
            group, apart = footprint.group, footprint.apart
            names = [self._name(step, item) for item in group.items]
            for item, name in zip(group.items, names, strict=True):
                if item.allocation < 0 or group.inside >> item.allocation & 1:
                    kind = item.kind if item.allocation < 0 else BufferKind.RING
                    live = Span(step, step + 1)
                    buffers.append(
                        Buffer(name, kind, item.size, live, self._space.request.regions, item.align)
                    )
            first: dict[tuple[int, int], Apart] = {}
            for pair in apart:
                first.setdefault((pair.lower, pair.upper), pair)
            seen: set[tuple[int, int]] = set()
            for pair in apart:
                if (pair.upper, pair.lower) in seen:
                    continue
                seen.add((pair.lower, pair.upper))
                other = first.get((pair.upper, pair.lower))
                back = other.distance if other else pair.backward
                overlaps.append(Overlap(step, names[pair.lower], names[pair.upper], pair.distance, back))
        return tuple(buffers), tuple(overlaps)

    def _whole(self) -> Iterable[Buffer]:
        """Allocations that are seen outside a group, from the step that fills them to the last reader."""
        model, request = self._space.model, self._space.request
        sets = [0, *(c.after for c in self._path)]
        alive = [self._space.alive(done) for done in sets]
        for k, own in enumerate(model.allocations):
            at = [step for step, mask in enumerate(alive) if mask >> k & 1]
            if not at:
                continue
            lo, hi = (0 if at[0] == 0 else at[0] - 1), min(at[-1] + 1, len(self._path))
            regions = (External(own.name),) if own.external else request.regions
            yield Buffer(own.name, own.kind, own.bytes, Span(lo, max(hi, lo + 1)), regions, own.align)

    def names(self) -> list[list[str]]:
        """The buffers of the items of each group."""
        return [[self._name(step, item) for item in group.items] for step, group in enumerate(self._groups)]

    def _name(self, step: int, item: Item) -> str:
        """The buffer of something in a group: an allocation's name, or one of our own."""
        if item.allocation >= 0:
            return self._space.model.allocations[item.allocation].name
        key = (step, item.kernel, item.kind)
        if key not in self._names:
            staged, own = item.kind is BufferKind.STAGED, item.kernel >= 0
            what = ("weights" if own else "slot") if staged else "sums" if own else "scratch"
            node = self._space.model.kernels[item.kernel].node if own else step
            name = f"{what}{node}{'b' if staged and item.kernel == -2 else ''}"
            while name in self._taken:
                name += "_"
            self._taken.add(name)
            self._names[key] = name
        return self._names[key]

    def plan(self, placed: Placed, bound: int) -> Plan:
        """The complete plan."""
        request, layout, offsets = self._space.request, self._space.layout, placed.placement.offsets
        places = {
            b.name: Place(placed.homes.get(b.name, b.regions[0]), offsets.get(b.name, 0))
            for b in placed.buffers
        }
        used = used_overlaps(placed.overlaps, placed.buffers, offsets)
        peak = placed.placement.peak
        bound = min(bound, peak)
        staged = self._staged()
        return Plan(
            groups=tuple(self._group(step, group, used) for step, group in enumerate(self._groups)),
            aliases=layout.aliases,
            buffers=begun_early(placed.buffers, places, self._first_read(), placed.moved),
            slots=self._slots(),
            places=places,
            overlaps=used,
            scratch=self._scratch(),
            accumulators=self._accumulators(),
            copied=layout.copied,
            pixels=dict(request.pixels),
            staged=staged,
            proved_optimal=peak == bound,
            bound=bound,
        )

    def _staged(self) -> dict[int, Staged]:
        """Where the constants of nodes come to."""
        found: dict[int, Staged] = {}
        for step, group in enumerate(self._groups):
            if group.streaming is not None:
                name = {item.kernel: self._name(step, item) for item in group.own_constants}
                for kernel, blocks in group.streaming.resident:
                    found[self._space.model.kernels[kernel].node] = Staged(blocks, (name[kernel],))
                for kernel, blocks in group.streaming.streamed:
                    found[self._space.model.kernels[kernel].node] = Staged(
                        blocks, (name[-1], name.get(-2, name[-1]))
                    )
        return found

    def _first_read(self) -> dict[int, str]:
        """By step, the buffer that the first constants of its group come to."""
        found: dict[int, str] = {}
        for step, group in enumerate(self._groups):
            if group.own_constants:
                found[step] = self._name(step, group.own_constants[0])
        return found

    def _group(self, step: int, group: GroupMemory, overlaps: Sequence[Overlap]) -> Group:
        kernels = self._space.model.kernels
        nodes = tuple(sorted(kernels[k].node for k in group.kernels))
        alone, tile = len(nodes) == 1, self._path[step].tile
        strips = group.cut.strips if group.cut else ()
        return Group(
            nodes,
            tile_rows=tile or (0 if alone else 1),
            strips=tuple(Strip(columns) for columns in strips),
            backward=alone
            and (
                self._space.request.runs_backward(nodes[0])
                or any(o.step == step and o.backward is not None for o in overlaps)
            ),
            accumulating=tuple(
                kernels[k].node for k in group.kernels if group.rows[k].accumulates is not None
            ),
            drained=tuple(kernels[k].node for k in group.drained),
            riding=tuple(
                (rider, host)
                for host, riders in self._space.request.riders.items()
                for rider in riders
                if host in nodes and rider in nodes
            ),
            batched=tile > 0,
        )

    def _slots(self) -> dict[str, Slot]:
        """Whole tensors where the layout has them; rings, and what is computed in place in one."""
        space = self._space
        slots = dict(space.rows.slots)
        for group in self._groups:
            for store in (*group.stores, *group.through):
                for allocation in store.allocations:
                    for name, view in space.layout.views.items():
                        if view.allocation == space.model.allocations[allocation].name:
                            slots[name] = self._slot(group, store, allocation, slots[name])
        return slots

    def _slot(self, group: GroupMemory, store: Store, allocation: int, whole: Slot) -> Slot:
        space = self._space
        while allocation != store.allocation:
            reader = space.shared.merges[allocation]
            whole = space.rows.slots[space.graph.nodes[space.model.kernels[reader].node].output]
            allocation = group.merged[allocation]
        name = space.model.allocations[store.allocation].name
        line = store.line if group.cut and group.inside >> allocation & 1 else whole.row_stride
        return replace(whole, buffer=name, rows=store.depth or whole.rows, row_stride=line)

    def _scratch(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for step, group in enumerate(self._groups):
            own = {k for k, _ in group.keepers if not group.rows[k].accumulates}
            for k in group.kernels:
                if self._space.model.kernels[k].scratch:
                    item = Item(-1, k, 0, 1) if k in own else SCRATCH
                    found[self._space.model.kernels[k].node] = self._name(step, item)
        return found

    def _accumulators(self) -> dict[int, str]:
        return {
            self._space.model.kernels[k].node: self._name(step, Item(-1, k, 0, 1))
            for step, group in enumerate(self._groups)
            for k, _ in group.keepers
            if group.rows[k].accumulates
        }


def begun_early(
    buffers: Sequence[Buffer],
    places: Mapping[str, Place],
    first: Mapping[int, str],
    moved: Sequence[tuple[Buffer, Place]] = (),
) -> tuple[Buffer, ...]:
    """The buffers, those that a group's first constants come to alive one step sooner where their bytes are
    free: then the read can go on while the step before computes. `moved` holds bytes besides."""
    found = list(buffers)
    for step, name in first.items():
        k = next(k for k, b in enumerate(found) if b.name == name)
        own, at = found[k], places[name]
        others = [(b, places[b.name]) for b in found if b is not own] + [*moved]
        alive = [(b, place) for b, place in others if b.live.lo < step <= b.live.hi]
        if step and not any(_meet(own, at, other, place) for other, place in alive):
            found[k] = replace(own, live=Span(step - 1, own.live.hi))
    return tuple(found)


def _meet(one: Buffer, at: Place, other: Buffer, there: Place) -> bool:
    if at.region != there.region:
        return False
    return at.offset < there.offset + other.size and there.offset < at.offset + one.size


def used_overlaps(
    overlaps: Sequence[Overlap], buffers: Sequence[Buffer], offsets: dict[str, int]
) -> tuple[Overlap, ...]:
    """The overlaps that a placement makes use of; `backward` stays only on those that need it."""
    size = {b.name: b.size for b in buffers}
    found: list[Overlap] = []
    for o in overlaps:
        out, into = offsets[o.output], offsets[o.input]
        if out + size[o.output] <= into or into + size[o.input] <= out:
            continue
        if into - out >= o.distance:
            found.append(replace(o, backward=None))
        else:
            found.append(o)
    return tuple(found)
