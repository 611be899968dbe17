"""Plans with groups: choose how to cut the graph, place what that leaves, and say what was proved.

Every group's bytes are known from a bound before anything is placed. The largest on a path is a bound for the
path; the path with the least such bound is found exactly, and placed. Only where the placement does not reach
the bound do candidates and offsets go into one model for the solver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, Overlap, Place, Plan, Slot, Staged, Strip
from mmcc.planner.cost import figure
from mmcc.planner.footprint import Footprint, Item, Store
from mmcc.planner.layout import Operand, make_layout
from mmcc.planner.model import bits, make_model
from mmcc.planner.order import best_order
from mmcc.planner.overlap import distances
from mmcc.planner.placement import Placement, place
from mmcc.planner.request import EXTERNAL, PlanRequest
from mmcc.planner.solve import Candidate as LayoutChoice
from mmcc.planner.solve import Chosen, best_layout, choices_of, plan_alone
from mmcc.planner.space import Candidate, Space
from mmcc.planner.staging import aligned
from mmcc.planner.walk import nest_of

Path = tuple[Candidate, ...]
TRIES = 5  # paths placed at most where the first cannot be placed as its bound has it
FEW_OPERANDS = 6  # up to this many operands of joins, every choice of which to copy is tried
FEW_JOINS = 3  # up to this many joins, every choice of which to copy whole is tried
SCRATCH = Item(-1, -1, 0, 1)
SOME_LAYOUTS = 4  # that many are looked at where it takes many levels to know what one needs
CLOSE = 64  # a level that can be met is searched for up to one part in so many
PLACING = 0.1  # of the effort for placing one path; the rest is for groups and offsets together


def best_plan(graph: Graph, request: PlanRequest) -> Plan:
    """The plan with the least cost within `request.limit`, or with the least peak if there is no limit.

    If nothing fits, the plan with the least peak that was found.
    """
    start = time.perf_counter()
    chosen = best_layout(graph, request)
    if request.staging is not None and graph.nodes:
        found = _Search(graph, request, chosen, None).run()
        return replace(found, seconds=time.perf_counter() - start)
    alone = plan_alone(graph, request, chosen)
    fits = request.limit is not None and _peak(alone, request) <= request.limit
    least = _peak(alone, request) <= trivial_bound(graph, request)
    if not request.fuse or fits or least or not graph.nodes:
        return replace(alone, seconds=time.perf_counter() - start)
    found = _Search(graph, request, chosen, alone).run()
    return replace(found, seconds=time.perf_counter() - start)


def trivial_bound(graph: Graph, request: PlanRequest) -> int:
    """Bytes of all inputs, or of all outputs, whichever is more: they are all there at once."""
    external = request.external(graph) | graph.constants.keys()
    return max(
        sum(graph.tensors[name].bytes for name in names if name not in external)
        for names in (graph.input_names, graph.output_names)
    )


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
    """Tries layouts, and under the best one paths."""

    def __init__(self, graph: Graph, request: PlanRequest, chosen: Chosen, alone: Plan | None) -> None:
        """`alone` is the plan in which every node is a group of its own, if that is known."""
        self._graph, self._request, self._alone = graph, request, alone
        self._layouts = (chosen.choice, *other_layouts(graph, request, chosen.choice))
        self._every_layout = len(choices_of(graph, request.external(graph))) <= FEW_OPERANDS
        self._macs = request.recompute * sum(nest_of(graph, node).macs for node in graph.nodes)

        self._missed: int | None = None  # bytes that are known not to be enough, from levels that were tried

    def run(self) -> Plan:
        """The cheapest plan within the limit; the least if there is no limit or none is within it."""
        limit = self._request.limit
        if limit is not None:
            for choice in self._layouts:
                table = self._table(choice, limit)
                path = table.cheapest(limit, self._macs)
                placed = self._within(table, limit) if path else None
                if placed is not None:
                    return Builder(table.space, placed.path).plan(
                        placed, self._known(table.least(self._macs))
                    )
        table, least = self._least()
        placed, proved = self._place_least(table, least)
        # what the solver proves is about this layout; that no path is below `least` holds for all of them
        bound = proved if len(self._layouts) == 1 else self._known(least)
        if self._missed is not None:
            bound = min(bound, self._known(self._missed + 1))
        peak = self._most()
        if self._alone is not None and placed.placement.peak >= peak:
            return replace(self._alone, proved_optimal=peak <= bound, bound=min(bound, peak))
        return Builder(table.space, placed.path).plan(placed, bound)

    def _most(self) -> int:
        """Bytes that are enough."""
        if self._alone is not None:
            return _peak(self._alone, self._request)
        ways = self._request.staging.ways.values() if self._request.staging else ()
        slots = 2 * max((aligned(blocks[0].bytes) for blocks in ways), default=0)
        return slots + sum(
            tensor.bytes + tensor.dtype.size + self._request.align for tensor in self._graph.tensors.values()
        )

    def _known(self, bound: int) -> int:
        """What a bound that holds for one layout says of all of them: with joins, which may copy any of their
        operands, not every layout was looked at."""
        return bound if self._every_layout else trivial_bound(self._graph, self._request)

    def _table(self, choice: LayoutChoice, most: int) -> Table:
        order = choice.ordering.order
        space = Space(self._graph, choice.layout, choice.model, order, self._request)
        return Table(space, most)

    def _least(self) -> tuple[Table, int]:
        """The layout with the least bound; the table of its groups."""
        if self._request.staging is not None and self._request.limit is not None:
            return self._least_level()
        best: tuple[Table, int] | None = None
        for choice in self._layouts:
            most = self._most() if best is None else best[1] - 1
            table = self._table(choice, most)
            if table.possible:
                bound = table.least(self._macs)
                if best is None or bound < best[1]:
                    best = table, bound
        assert best is not None, "the plan without groups is among the candidates"
        return best

    def _least_level(self) -> tuple[Table, int]:
        """The same where constants may be read again: which groups there are depends on how much they may
        need, so levels are tried until one that is met is close to one that is not."""
        best: tuple[Table, int] | None = None
        missed, most = 0, self._most()
        layouts = self._layouts[:SOME_LAYOUTS]
        while best is None or best[1] > missed + 1 + missed // CLOSE:
            tables = [self._table(choice, most) for choice in layouts]
            found = [(table, table.least(self._macs)) for table in tables if table.possible]
            found = [pair for pair in found if pair[1] <= most]
            if found:
                best = min(found, key=lambda pair: pair[1])
            else:
                missed = most
            assert best is not None, "every node alone is among the candidates"
            most = (missed + best[1]) // 2
        self._missed = missed if len(layouts) == len(self._layouts) else 0
        return best

    def _within(self, table: Table, limit: int) -> Placed | None:
        """The cheapest path that can be placed within the limit."""
        low, level = table.least(self._macs), limit
        path = table.cheapest(level, self._macs)
        placed = self._place(table, path, limit)
        if placed.placement.peak <= limit:
            return placed
        for _ in range(TRIES):  # paths of smaller groups are easier to place
            level = max(low, level - max(1, (limit - low) // TRIES))
            placed = self._place(table, table.cheapest(level, self._macs), limit)
            if placed.placement.peak <= limit:
                return self._cheaper(table, placed, limit)
        together, _ = self._together(table, placed, low)
        return together if together.placement.peak <= limit else None

    def _cheaper(self, table: Table, placed: Placed, limit: int) -> Placed:
        """A cheaper one than that, if the solver finds it."""
        from mmcc.planner.joint import cheapest  # imports the solver

        cost = sum(map(table.cost, placed.path))
        found = cheapest(table.space, table, limit, cost, self._request)
        if found is None or sum(map(table.macs, found[0])) > self._macs:
            return placed
        return self._placed(table, *found)

    def _placed(self, table: Table, path: Path, offsets: dict[str, int]) -> Placed:
        buffers, overlaps = Builder(table.space, path).buffers()
        peak = max(offsets[b.name] + b.size for b in buffers if b.tiers == self._request.tiers)
        return Placed(path, buffers, overlaps, Placement(offsets, peak, 0))

    def _place_least(self, table: Table, bound: int) -> tuple[Placed, int]:
        """A path with the least peak, and what no path is below."""
        best = self._place(table, table.cheapest(bound, self._macs), bound)
        proved = bound
        if best.placement.peak > bound:
            best, proved = self._together(table, best, bound)
        low, high = proved, best.placement.peak
        for _ in range(TRIES):  # where the solver gave up: larger groups' bounds, so that placing is easier
            level = (low + high) // 2
            if level <= low:
                break
            placed = self._place(table, table.cheapest(level, self._macs), level)
            best = min(best, placed, key=lambda p: p.placement.peak)
            low, high = (level, high) if placed.placement.peak > level else (low, placed.placement.peak)
        return best, proved

    def _place(self, table: Table, path: Path, goal: int) -> Placed:
        request = self._request
        buffers, overlaps = Builder(table.space, path).buffers()
        inside = [b for b in buffers if b.tiers == request.tiers]
        request.say(f"{len(path)} groups within {goal} bytes; placing {len(inside)} buffers")
        effort = request.effort * PLACING
        placement = place(inside, overlaps, goal, effort=effort, seed=request.seed, progress=request.progress)
        return Placed(path, buffers, overlaps, placement)

    def _together(self, table: Table, placed: Placed, bound: int) -> tuple[Placed, int]:
        """Groups and offsets in one model; and the bound it proves."""
        from mmcc.planner.joint import choose  # imports the solver

        goal = max(bound, self._request.limit or 0)
        found, proved = choose(table.space, table, goal, placed.placement.peak, self._request)
        if found is None:
            return placed, max(bound, min(proved, placed.placement.peak))
        made = self._placed(table, *found)
        return made, max(bound, min(proved, made.placement.peak))


def other_layouts(graph: Graph, request: PlanRequest, first: LayoutChoice) -> Iterator[LayoutChoice]:
    """Layouts worth a try beside the one that is best when every node runs alone.

    All of them, if there are few operands that could be copied or not; else everything in place, and for
    each of a few joins whether it copies all its operands or none.
    """
    external = request.external(graph)
    operands = choices_of(graph, external)
    joins = list(dict.fromkeys(node for node, _ in operands))
    if len(operands) <= FEW_OPERANDS:
        copies = _subsets([frozenset((operand,)) for operand in operands])
    elif len(joins) <= FEW_JOINS:
        copies = _subsets([frozenset(o for o in operands if o[0] == join) for join in joins])
    else:
        copies = iter((frozenset[Operand](),))
    distance = {k: distances(graph, node) for k, node in enumerate(graph.nodes)}
    seen = {first.layout.in_place}
    for copied in copies:
        layout = make_layout(graph, external, copied)
        if layout.in_place not in seen:
            seen.add(layout.in_place)
            model = make_model(graph, layout, request, distance)
            yield LayoutChoice(layout, model, best_order(model))


def _subsets(parts: list[frozenset[Operand]]) -> Iterator[frozenset[Operand]]:
    for count in range(len(parts) + 1):
        for some in combinations(parts, count):
            yield frozenset[Operand]().union(*some)


class Table:
    """Candidates by the set they lead to; their bounds get better where that matters."""

    def __init__(self, space: Space, most: int) -> None:
        self._space, self._costs, self._most = space, space.costs, most
        self.space = space
        self._into: dict[int, list[Candidate]] = {}
        self._exact: set[Candidate] = set()
        for candidate in space.candidates(most):
            self._into.setdefault(candidate.after, []).append(candidate)
        if space.request.recompute > 1:
            self._cut_to_strips()

    @property
    def possible(self) -> bool:
        """True if there is a path at all."""
        return bool(self._path(lambda so_far, c: max(so_far, c.least), self._most))

    def _cut_to_strips(self) -> None:
        """Add groups in strips where they may be needed: above what a path needs in any case."""
        path = self._path(lambda so_far, c: max(so_far, c.floor), None)
        if not path:
            return
        enough = max(self._space.request.limit or 0, *(c.floor for c in path))
        for found in self._into.values():
            wide = [c for c in found if c.least > enough]
            found += [n for c in wide for n in self._space.narrow(c) if n.least <= self._most]

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

    def cheaper(self, limit: int, most_cost: float) -> list[Candidate]:
        """Candidates within the limit on paths that cost less than `most_cost`, smallest sets first."""
        found = self.below(limit + 1)
        ahead: dict[int, float] = {0: 0.0}
        for c in found:
            cost = ahead[c.before] + self.cost(c)
            ahead[c.after] = min(ahead.get(c.after, cost), cost)
        behind: dict[int, float] = {self._space.all: 0.0}
        for c in reversed(found):
            cost = behind[c.after] + self.cost(c)
            behind[c.before] = min(behind.get(c.before, cost), cost)
        return [c for c in found if ahead[c.before] + self.cost(c) + behind[c.after] < most_cost]

    def least(self, most_macs: float) -> int:
        """The least bytes that the largest group of a path needs, with so much work at most."""
        while True:
            path = self._path(lambda so_far, c: max(so_far, c.least), None)
            if not path:
                return self._most + 1
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
        """The path of least cost whose groups need at most `limit`, or of least work if it works too much."""
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
        cut = self._space.cut(candidate)
        load, turns = candidate.load, {}
        total = figure(self._space.request.cost, "staged_byte") * load.read if load else 0.0
        if candidate.tile:
            turns = self._space.calls(candidate.last, candidate.tile, units)
        for k in units:
            share = cut.share(k, self._space.strips.widths[k]) if cut else 1.0
            calls = turns.get(k, 1 if len(units) == 1 else rows[k].steps)
            blocks = load.blocks(k) if load else 1
            total += self._costs[k].total(rows[k].steps, calls, strips, share, blocks)
        return total

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of a group, those at seams counted again."""
        cut = self._space.cut(candidate)
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
        self._names: dict[tuple[int, int, BufferKind], str] = {}

    def buffers(self) -> tuple[tuple[Buffer, ...], tuple[Overlap, ...]]:
        """Whole tensors with their lives, what groups hold inside, and what may share bytes."""
        buffers = list(self._whole())
        overlaps: list[Overlap] = []
        for step, footprint in enumerate(self._footprints):
            items, apart = footprint.items
            names = [self._name(step, item) for item in items]
            for item, name in zip(items, names, strict=True):
                if item.root < 0 or footprint.inside >> item.root & 1:
                    kind = item.kind if item.root < 0 else BufferKind.RING
                    live = Span(step, step + 1)
                    buffers.append(Buffer(name, kind, item.size, live, self._space.request.tiers, item.align))
            seen: set[tuple[int, int]] = set()
            for pair in apart:
                if (pair.upper, pair.lower) in seen:
                    continue
                seen.add((pair.lower, pair.upper))
                other = next((p for p in apart if (p.lower, p.upper) == (pair.upper, pair.lower)), None)
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
            [self._name(step, item) for item in footprint.items[0]]
            for step, footprint in enumerate(self._footprints)
        ]

    def _name(self, step: int, item: Item) -> str:
        """The buffer of something in a group: a root's name, or one of our own."""
        if item.root >= 0:
            return self._space.model.roots[item.root].name
        key = (step, item.unit, item.kind)
        if key not in self._names:
            staged, own = item.kind is BufferKind.STAGED, item.unit >= 0
            what = ("weights" if own else "slot") if staged else "sums" if own else "scratch"
            node = self._space.model.units[item.unit].node if own else step
            name = f"{what}{node}{'b' if staged and item.unit == -2 else ''}"
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
        if not self._space.complete:  # other orders and longer groups were not looked at
            bound = trivial_bound(self._space.graph, request)
        bound = min(bound, peak)
        staged = self._staged()
        return Plan(
            groups=tuple(
                self._group(step, footprint, used) for step, footprint in enumerate(self._footprints)
            ),
            aliases=layout.aliases,
            buffers=begun_early(placed.buffers, places, self._first_read()),
            slots=self._slots(),
            places=places,
            overlaps=used,
            scratch=self._scratch(),
            accumulators=self._accumulators(),
            copied=layout.copied,
            pixels=dict(request.pixels),
            staged=staged,
            proved_optimal=peak == bound and self._space.complete,
            bound=bound,
        )

    def _staged(self) -> dict[int, Staged]:
        """Where the constants of nodes come to."""
        found: dict[int, Staged] = {}
        for step, footprint in enumerate(self._footprints):
            if footprint.load is not None:
                constants = [i for i in footprint.items[0] if i.kind is BufferKind.STAGED and i.root < 0]
                name = {item.unit: self._name(step, item) for item in constants}
                for unit, blocks in footprint.load.resident:
                    found[self._space.model.units[unit].node] = Staged(blocks, (name[unit],))
                for unit, blocks in footprint.load.streamed:
                    found[self._space.model.units[unit].node] = Staged(blocks, (name[-1], name[-2]))
        return found

    def _first_read(self) -> dict[int, str]:
        """By step, the buffer that the first constants of its group come to."""
        found: dict[int, str] = {}
        for step, footprint in enumerate(self._footprints):
            constants = [i for i in footprint.items[0] if i.kind is BufferKind.STAGED and i.root < 0]
            if constants:
                found[step] = self._name(step, constants[0])
        return found

    def _group(self, step: int, footprint: Footprint, overlaps: Sequence[Overlap]) -> Group:
        units = self._space.model.units
        nodes = tuple(sorted(units[k].node for k in footprint.units))
        alone, tile = len(nodes) == 1, self._path[step].tile
        strips = footprint.cut.strips if footprint.cut else ()
        return Group(
            nodes,
            tile_rows=tile or (0 if alone else 1),
            strips=tuple(Strip(columns) for columns in strips),
            backward=alone and any(o.step == step and o.backward is not None for o in overlaps),
            accumulating=tuple(units[k].node for k in footprint.accumulators),
            completed=tuple(units[k].node for k in footprint.completed),
            batched=tile > 0,
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
                    found[self._space.model.units[k].node] = self._name(step, SCRATCH)
        return found

    def _accumulators(self) -> dict[int, str]:
        return {
            self._space.model.units[k].node: self._name(step, Item(-1, k, 0, 1))
            for step, footprint in enumerate(self._footprints)
            for k in footprint.accumulators
        }


def begun_early(
    buffers: Sequence[Buffer], places: Mapping[str, Place], first: Mapping[int, str]
) -> tuple[Buffer, ...]:
    """The buffers, those that a group's first constants come to alive one step sooner where their bytes are
    free: then the read can go on while the step before computes."""
    found = list(buffers)
    for step, name in first.items():
        k = next(k for k, b in enumerate(found) if b.name == name)
        own = found[k]
        others = [b for b in found if b is not own and b.live.lo < step <= b.live.hi]
        if step and not any(
            _meet(own, other, places) for other in others if places[other.name].tier == places[name].tier
        ):
            found[k] = replace(own, live=Span(step - 1, own.live.hi))
    return tuple(found)


def _meet(one: Buffer, other: Buffer, places: Mapping[str, Place]) -> bool:
    a, b = places[one.name].offset, places[other.name].offset
    return a < b + other.size and b < a + one.size


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
