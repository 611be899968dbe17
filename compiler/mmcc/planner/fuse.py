"""Plans with groups: choose how to cut the graph, place what that leaves, and say what was proved.

Every group's bytes are known from a bound before anything is placed. The largest on a path is a bound for the
path; the path with the least such bound is found exactly, and placed. Only where the placement does not reach
the bound do candidates and offsets go into one model for the solver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, Overlap, Place, Plan, Slot, Strip
from mmcc.planner.cost import NodeCost, node_cost
from mmcc.planner.footprint import Footprint, Store
from mmcc.planner.model import bits
from mmcc.planner.placement import Placement, place
from mmcc.planner.request import EXTERNAL, PlanRequest
from mmcc.planner.solve import Chosen, best_layout, plan_alone
from mmcc.planner.space import Candidate, Space

Path = tuple[Candidate, ...]
PLACING = 0.1  # of the effort for placing one path; the rest is for groups and offsets together


def best_plan(graph: Graph, request: PlanRequest) -> Plan:
    """The plan with the least cost within `request.limit`, or with the least peak if there is no limit.

    If nothing fits, the plan with the least peak that was found.
    """
    start = time.perf_counter()
    chosen = best_layout(graph, request)
    alone = plan_alone(graph, request, chosen)
    fits = request.limit is not None and _peak(alone, request) <= request.limit
    if not request.fuse or fits or not graph.nodes:
        return replace(alone, seconds=time.perf_counter() - start)
    found = _Search(graph, request, chosen, alone).run()
    return replace(found, seconds=time.perf_counter() - start)


def _peak(plan: Plan, request: PlanRequest) -> int:
    return max((plan.peak(tier) for tier in request.tiers), default=0)


@dataclass(frozen=True, slots=True)
class Placed:
    """A path with the buffers of all its groups, and where they are."""

    path: Path
    buffers: tuple[Buffer, ...]
    overlaps: tuple[Overlap, ...]
    placement: Placement


class _Search:
    def __init__(self, graph: Graph, request: PlanRequest, chosen: Chosen, alone: Plan) -> None:
        self._graph, self._request, self._alone = graph, request, alone
        choice = chosen.choice
        self._space = Space(graph, choice.layout, choice.model, choice.ordering.order, request)
        self._costs = [node_cost(graph, graph.nodes[u.node], request.cost) for u in choice.model.units]

    def run(self) -> Plan:
        """The best plan there is, by bound first and then by placement."""
        most = _peak(self._alone, self._request)
        table = Table(self._space, self._costs, most)
        most_macs = table.all_macs * self._request.recompute
        bound = table.least(most_macs)
        goal = bound if self._request.limit is None else max(bound, self._request.limit)
        placed = self._place(table.cheapest(goal, most_macs), goal)
        if placed.placement.peak > goal:
            placed, bound = self._together(table, placed, bound)
        return self._plan(placed, bound)

    def _together(self, table: Table, placed: Placed, bound: int) -> tuple[Placed, int]:
        """Groups and offsets in one model; the bound it proves."""
        from mmcc.planner.joint import choose  # imports the solver

        goal = max(bound, self._request.limit or 0)
        found, proved = choose(self._space, table, goal, placed.placement.peak, self._request)
        if found is None:
            return placed, min(proved, placed.placement.peak)
        path, offsets = found
        builder = Builder(self._space, path)
        buffers, overlaps = builder.buffers()
        peak = max(offsets[b.name] + b.size for b in buffers if b.tiers == self._request.tiers)
        return Placed(path, buffers, overlaps, Placement(offsets, peak, proved)), proved

    def _place(self, path: Path, goal: int) -> Placed:
        builder = Builder(self._space, path)
        buffers, overlaps = builder.buffers()
        inside = [b for b in buffers if b.tiers == self._request.tiers]
        self._request.say(f"{len(path)} groups within {goal} bytes; placing {len(inside)} buffers")
        placement = place(
            inside,
            overlaps,
            goal,
            effort=self._request.effort * PLACING,
            seed=self._request.seed,
            progress=self._request.progress,
        )
        return Placed(path, buffers, overlaps, placement)

    def _plan(self, placed: Placed, bound: int) -> Plan:
        builder = Builder(self._space, placed.path)
        return builder.plan(placed, bound)


class Table:
    """Candidates by the set they lead to; their bounds get better where that matters."""

    def __init__(self, space: Space, costs: Sequence[NodeCost], most: int) -> None:
        self._space, self._costs = space, costs
        self._into: dict[int, list[Candidate]] = {}
        self._exact: set[Candidate] = set()
        for candidate in space.candidates(most):
            self._into.setdefault(candidate.after, []).append(candidate)
        self.all_macs = float(sum(cost.macs for cost in costs))

    def below(self, most: int) -> list[Candidate]:
        """Candidates that need less than `most`, on paths of such candidates, smallest sets first."""
        found = [c for k in self._space.sets for c in self._into.get(k, ()) if c.least < most]
        reached = {0}
        for c in found:
            if c.before in reached:
                reached.add(c.after)
        left = {self._space.all}
        for c in reversed(found):
            if c.after in left:
                left.add(c.before)
        return [c for c in found if c.before in reached and c.after in left]

    def least(self, most_macs: float) -> int:
        """The least bytes that the largest group of a path needs, with so much work at most."""
        while True:
            path = self._path(lambda so_far, c: max(so_far, c.least), None)
            assert path, "every unit alone is a path"
            bound = max(c.least for c in path)
            if self._macs(path) > most_macs:
                path, bound = self._least_within(bound, most_macs)
            if not self._refine(path):
                return bound

    def _least_within(self, low: int, most_macs: float) -> tuple[Path, int]:
        """By bisection: the path of least work within so many bytes does more work the fewer they are."""
        levels = sorted({c.least for cs in self._into.values() for c in cs if c.least >= low})
        first, last = 0, len(levels) - 1
        while first < last:
            middle = (first + last) // 2
            path = self._path(lambda so_far, c: so_far + self.macs(c), levels[middle])
            if path and self._macs(path) <= most_macs:
                last = middle
            else:
                first = middle + 1
        return self._path(lambda so_far, c: so_far + self.macs(c), levels[first]), levels[first]

    def _macs(self, path: Path) -> float:
        return sum(map(self.macs, path))

    def cheapest(self, limit: int, most_macs: float) -> Path:
        """The path of least cost whose groups need no more than `limit`; of least work if that does too much."""
        while True:
            path = self._path(lambda so_far, c: so_far + self.cost(c), limit)
            if self._macs(path) > most_macs:
                path = self._path(lambda so_far, c: so_far + self.macs(c), limit)
            if not self._refine(path):
                return path

    def _refine(self, path: Iterable[Candidate]) -> bool:
        """Replace bounds that looked at some moments only by exact ones; True if one has changed."""
        changed = False
        for candidate in list(path):
            if candidate not in self._exact:
                exact = replace(candidate, least=self._space.footprint(candidate).tight)
                others = self._into[candidate.after]
                others[others.index(candidate)] = exact
                self._exact.add(exact)
                changed = changed or exact.least != candidate.least
        return changed

    def _path(self, worth_of: Callable[[float, Candidate], float], limit: int | None) -> Path:
        """The path of least worth, of groups within the limit; empty if there is none."""
        best: dict[int, tuple[float, Candidate | None]] = {0: (0.0, None)}
        for after in self._space.sets[1:]:
            for candidate in self._into.get(after, ()):
                if candidate.before not in best or (limit is not None and candidate.least > limit):
                    continue
                so_far = best[candidate.before][0]
                worth = worth_of(so_far, candidate)
                if after not in best or worth < best[after][0]:
                    best[after] = (worth, candidate)
        path: list[Candidate] = []
        at = self._space.all
        while at:
            if at not in best:
                return ()
            candidate = best[at][1]
            assert candidate is not None
            path.append(candidate)
            at = candidate.before
        return tuple(reversed(path))

    def cost(self, candidate: Candidate) -> float:
        """Predicted instructions of a group."""
        units = bits(candidate.after & ~candidate.before)
        rows, strips = self._space.rows.units, candidate.strips
        cut = self._space.strips.cut(candidate.last, strips) if strips > 1 else None
        total = 0.0
        for k in units:
            share = cut.share(k, self._space.strips.widths[k]) if cut else 1.0
            calls = 1 if len(units) == 1 else rows[k].steps
            total += self._costs[k].total(rows[k].steps, calls, strips, share)
        return total

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of a group, those at seams counted again."""
        cut = self._space.strips.cut(candidate.last, candidate.strips) if candidate.strips > 1 else None
        return sum(
            self._costs[k].macs * (cut.share(k, self._space.strips.widths[k]) if cut else 1.0)
            for k in bits(candidate.after & ~candidate.before)
        )


class Builder:
    """Buffers, slots and the plan for one path."""

    def __init__(self, space: Space, path: Path) -> None:
        self._space, self._path = space, path
        self._footprints = [space.footprint(candidate) for candidate in path]
        self._taken = {root.name for root in space.model.roots}
        self._names: dict[tuple[int, int, int], str] = {}

    def buffers(self) -> tuple[tuple[Buffer, ...], tuple[Overlap, ...]]:
        """Whole tensors with their lives, what groups hold inside, and what may share bytes."""
        buffers = list(self._whole())
        overlaps: list[Overlap] = []
        for step, footprint in enumerate(self._footprints):
            items, apart = footprint.items
            names = [self._name(step, item.root, item.unit) for item in items]
            for item, name in zip(items, names, strict=True):
                if item.root < 0 or footprint.inside >> item.root & 1:
                    kind = BufferKind.SCRATCH if item.root < 0 else BufferKind.RING
                    live = Span(step, step + 1)
                    buffers.append(
                        Buffer(name, kind, item.size, live, self._space.request.tiers, item.align)
                    )
            seen: set[tuple[int, int]] = set()
            for pair in apart:
                if (pair.upper, pair.lower) in seen:
                    continue
                seen.add((pair.lower, pair.upper))
                other = next(
                    (p for p in apart if (p.lower, p.upper) == (pair.upper, pair.lower)), None
                )
                back = other.distance if other else pair.backward
                overlaps.append(Overlap(step, names[pair.lower], names[pair.upper], pair.distance, back))
        return tuple(buffers), tuple(overlaps)

    def _whole(self) -> Iterable[Buffer]:
        """Roots that are seen outside a group, from the step that fills them to the last that reads them."""
        model, request = self._space.model, self._space.request
        sets = [0, *(c.after for c in self._path)]
        alive = [self._space.alive(done) for done in sets]
        for k, root in enumerate(model.roots):
            at = [step for step, mask in enumerate(alive) if mask >> k & 1]
            if not at:
                continue
            lo, hi = (0 if at[0] == 0 else at[0] - 1), min(at[-1] + 1, len(self._path))
            tiers = (EXTERNAL + root.name,) if root.external else request.tiers
            yield Buffer(root.name, root.kind, root.bytes, Span(lo, max(hi, lo + 1)), tiers, root.align)

    def names(self) -> list[list[str]]:
        """The buffers of the items of each group."""
        return [
            [self._name(step, item.root, item.unit) for item in footprint.items[0]]
            for step, footprint in enumerate(self._footprints)
        ]

    def _name(self, step: int, root: int, unit: int) -> str:
        """The buffer of something in a group: a root's name, or one of our own."""
        if root >= 0:
            return self._space.model.roots[root].name
        key = (step, root, unit)
        if key not in self._names:
            node = self._space.model.units[unit].node if unit >= 0 else step
            name = f"{'sums' if unit >= 0 else 'scratch'}{node}"
            while name in self._taken:
                name += "_"
            self._taken.add(name)
            self._names[key] = name
        return self._names[key]

    def plan(self, placed: Placed, bound: int) -> Plan:
        """The complete plan."""
        request, layout, offsets = self._space.request, self._space.layout, placed.placement.offsets
        places = {b.name: Place(b.tiers[0], offsets.get(b.name, 0)) for b in placed.buffers}
        used = _used(placed.overlaps, placed.buffers, offsets)
        peak = placed.placement.peak
        bound = min(bound, peak)
        return Plan(
            groups=tuple(
                self._group(step, footprint, used) for step, footprint in enumerate(self._footprints)
            ),
            aliases=layout.aliases,
            buffers=placed.buffers,
            slots=self._slots(),
            places=places,
            overlaps=used,
            scratch=self._scratch(),
            accumulators=self._accumulators(),
            copied=layout.copied,
            pixels=dict(request.pixels),
            proved_optimal=peak == bound and self._space.complete and request.limit is None,
            bound=bound,
        )

    def _group(self, step: int, footprint: Footprint, overlaps: Sequence[Overlap]) -> Group:
        units = self._space.model.units
        nodes = tuple(sorted(units[k].node for k in footprint.units))
        alone = len(nodes) == 1
        strips = footprint.cut.strips if footprint.cut else ()
        return Group(
            nodes,
            tile_rows=0 if alone else 1,
            strips=tuple(Strip(columns) for columns in strips),
            backward=alone and any(o.step == step and o.backward is not None for o in overlaps),
            accumulating=tuple(units[k].node for k in footprint.accumulators),
            completed=tuple(units[k].node for k in footprint.completed),
        )

    def _slots(self) -> dict[str, Slot]:
        """Whole tensors where the layout has them; rings, and what is computed in place in one."""
        space = self._space
        slots = dict(space.rows.slots)
        for footprint in self._footprints:
            for store in footprint.stores:
                for root in store.roots:
                    for name, view in space.layout.views.items():
                        if view.root == space.model.roots[root].name:
                            slots[name] = self._slot(footprint, store, root, slots[name])
        return slots

    def _slot(self, footprint: Footprint, store: Store, root: int, whole: Slot) -> Slot:
        space = self._space
        while root != store.root:
            reader = space.shared.merges[root]
            whole = space.rows.slots[space.graph.nodes[space.model.units[reader].node].output]
            root = footprint.merged[root]
        name = space.model.roots[store.root].name
        line = store.line if footprint.cut and footprint.inside >> root & 1 else whole.row_stride
        return replace(whole, buffer=name, rows=store.depth or whole.rows, row_stride=line)

    def _scratch(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for step, footprint in enumerate(self._footprints):
            for k in footprint.units:
                if self._space.model.units[k].scratch:
                    found[self._space.model.units[k].node] = self._name(step, -1, -1)
        return found

    def _accumulators(self) -> dict[int, str]:
        return {
            self._space.model.units[k].node: self._name(step, -1, k)
            for step, footprint in enumerate(self._footprints)
            for k in footprint.accumulators
        }


def _used(
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
