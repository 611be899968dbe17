# SPDX-License-Identifier: Apache-2.0
"""Plans with every node alone: choose views and an order, place the buffers, and say what was proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Buffer, Group, Overlap, Place, Plan, Slot
from mmcc.ir.traits import Alias
from mmcc.planner.bounds.bound import layout_bound, value_floor
from mmcc.planner.memory.allocations import MemoryModel, make_buffers, make_model
from mmcc.planner.memory.layout import Layout, Operand, make_layout, slot_of
from mmcc.planner.memory.order import Ordering, best_order
from mmcc.planner.memory.overlap import SafeOffset, all_safe_offsets
from mmcc.planner.memory.placement import place
from mmcc.planner.request import PlanRequest

TRIALS = 400  # layouts tried at most
FEW = 4  # operands of one node of which every subset is tried
BOUND_STATES = 20_000  # of the search for an order when views cost nothing
HARD_STATES = 500  # of the search for an order of further layouts, if 20,000 did not do for the first
KERNELS_RUN = 400_000  # in searches for orders: then no further layouts are tried
ALL_LAYOUTS = 6  # up to this many operands, every choice of what to copy is tried


@dataclass(frozen=True, slots=True)
class LayoutChoice:
    """One layout with its best order."""

    layout: Layout
    model: MemoryModel
    ordering: Ordering

    @property
    def rank(self) -> tuple[list[int], int]:
        """Less is better: bytes of the steps, the largest first, then operands copied."""
        steps = sorted(self.model.profile(self.ordering.order), reverse=True)
        return [self.ordering.peak, *steps], -len(self.layout.in_place)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The layout and order with the least bytes alive if every node runs alone, and a bound on them."""

    choice: LayoutChoice
    bound: int
    only_layout: bool


def best_layout(graph: Graph, request: PlanRequest) -> Chosen:
    """Try layouts and orders."""
    search = _Search(graph, request)
    choice, bound = search.best()
    return Chosen(choice, bound, search.only_layout)


def plan_alone(graph: Graph, request: PlanRequest, chosen: Chosen) -> Plan:
    """The plan of a layout and order, every node on its own."""
    choice, bound = chosen.choice, chosen.bound
    model, layout, order = choice.model, choice.layout, choice.ordering.order
    buffers, overlaps, scratch = make_buffers(model, order, request)
    inside = [b for b in buffers if b.regions == request.regions]
    request.say(f"order with {choice.ordering.peak} bytes alive; placing {len(inside)} buffers")
    placement = place(inside, overlaps, effort=request.effort, seed=request.seed, progress=request.progress)
    backward = _backward(buffers, overlaps, placement.offsets)
    if choice.ordering.forced and chosen.only_layout:
        bound = max(bound, placement.bound)  # there is no other order or layout that it might not hold for
    places = {b.name: Place(b.regions[0], placement.offsets.get(b.name, 0)) for b in buffers}
    return Plan(
        groups=tuple(
            Group(
                (model.kernels[k].node,),
                backward=step in backward or request.runs_backward(model.kernels[k].node),
            )
            for step, k in enumerate(order)
        ),
        aliases=layout.aliases,
        buffers=buffers,
        slots=_slots(graph, layout),
        places=places,
        overlaps=overlaps,
        scratch=scratch,
        proved_optimal=placement.peak == bound,
        bound=min(bound, placement.peak),
        copied=layout.copied,
    )


def _backward(buffers: Sequence[Buffer], overlaps: Sequence[Overlap], offsets: Mapping[str, int]) -> set[int]:
    """Steps at which an output was placed over its input so that rows must be made backward."""
    size = {b.name: b.size for b in buffers}
    return {
        o.step
        for o in overlaps
        if offsets[o.input] - o.distance < offsets[o.output] < offsets[o.input] + size[o.input]
    }


def _slots(graph: Graph, layout: Layout) -> dict[str, Slot]:
    slots: dict[str, Slot] = {}
    for name, view in layout.views.items():
        slot = slot_of(view, graph.tensors[name])
        assert slot is not None, f"the layout keeps only views that are slots, and {name} is none"
        slots[name] = slot
    return slots


class _Search:
    """Layouts tried so far. Few choices are tried all, many one change of operand or Concat at a time."""

    def __init__(self, graph: Graph, request: PlanRequest) -> None:
        self._graph, self._request = graph, request
        self._external = request.external(graph)
        self._safe_offset: Mapping[int, Mapping[str, SafeOffset]] = all_safe_offsets(graph, request.apart)
        self._tried: dict[frozenset[Operand], LayoutChoice] = {}  # by operands to copy
        self._made: dict[frozenset[Operand], LayoutChoice] = {}  # by operands that are in place
        self._states = self._most_states = max(HARD_STATES, int(BOUND_STATES * request.budget))
        self._kernels_left = KERNELS_RUN * request.budget
        self._limit = max(8, min(TRIALS, 100_000 // (1 + len(graph.nodes))))

    def best(self) -> tuple[LayoutChoice, int]:
        """The best candidate found, and a bound on the bytes alive with any layout and order."""
        self._try(frozenset())
        choices = choices_of(self._graph, self._external)
        if len(choices) <= ALL_LAYOUTS:
            for n in range(1, len(choices) + 1):
                for copied in combinations(choices, n):
                    self._try(frozenset(copied))
            best = min(self._tried.values(), key=lambda c: (c.ordering.peak, c.rank[1]))
            return best, min(c.ordering.bound for c in self._tried.values())
        floor = max(
            value_floor(self._graph, self._request, self._safe_offset),
            layout_bound(self._graph, self._request, self._safe_offset, self._most_states),
        )
        copied = self._descend(frozenset(), choices, floor)
        for operand in sorted(copied):  # what did not help is not worth its code
            if self._try(copied - {operand}).ordering.peak <= self._try(copied).ordering.peak:
                copied -= {operand}
        return self._try(copied), min(floor, self._try(copied).ordering.peak)

    @property
    def only_layout(self) -> bool:
        """True if there was nothing to choose."""
        return len(self._tried) == 1 and not choices_of(self._graph, self._external)

    def _descend(
        self, copied: frozenset[Operand], choices: tuple[Operand, ...], floor: int
    ) -> frozenset[Operand]:
        """Take every change that helps, until none does or the trials are used up."""
        better = True
        while better:
            better, best = False, self._try(copied)
            for move in _moves(self._graph, best, copied, choices):
                used_up = len(self._tried) >= self._limit or self._kernels_left < 0
                if best.ordering.peak <= floor or used_up:
                    return copied
                if move not in self._tried and self._try(move).rank < best.rank:
                    better, copied = True, move
                    break
        return copied

    def _try(self, copied: frozenset[Operand]) -> LayoutChoice:
        if copied not in self._tried:
            layout = make_layout(self._graph, self._external, copied)
            same = self._made.get(layout.in_place)
            if same is not None:  # an operand that strides cannot express is copied in any case
                self._tried[copied] = same
                return same
            model = make_model(self._graph, layout, self._request, self._safe_offset)
            ordering = best_order(model, self._states)
            self._kernels_left -= ordering.looked_at
            if ordering.bound < ordering.peak:
                self._states = HARD_STATES
            self._request.say(f"layout {len(self._tried) + 1}: {ordering.peak} bytes alive")
            self._tried[copied] = self._made[layout.in_place] = LayoutChoice(layout, model, ordering)
        return self._tried[copied]


def choices_of(graph: Graph, external: frozenset[str]) -> tuple[Operand, ...]:
    """Operands that could be left in place or copied. A Reshape's are not: its bytes are just as many."""
    return tuple(
        (index, operand)
        for index, node in enumerate(graph.nodes)
        if node.op.traits.alias in (Alias.JOIN, Alias.PART)
        for operand, name in enumerate(node.inputs)
        if not graph.is_constant(name) and not (node.op.traits.alias is Alias.JOIN and name in external)
    )


def _moves(
    graph: Graph, best: LayoutChoice, copied: frozenset[Operand], choices: tuple[Operand, ...]
) -> list[frozenset[Operand]]:
    """Other choices at one node that touches a buffer alive at the first peak.

    All of them where it has few operands; else one operand, or all of them, changed.
    """
    model, order = best.model, best.ordering.order
    if not order:  # nothing runs
        return []
    profile = model.profile(order)
    alive, unfinished = model.alive(order, profile.index(max(profile)))
    allocation = {name: view.allocation for name, view in best.layout.views.items()}
    # A buffer that is still to be filled lives only because a part of it was made in place: try these first.
    indices = sorted(
        dict.fromkeys(n for n, _ in choices),
        key=lambda n: allocation[graph.nodes[n].output] not in unfinished,
    )
    moves: list[frozenset[Operand]] = []
    for index in indices:
        node, mine = graph.nodes[index], [o for o in choices if o[0] == index]
        if not any(allocation[n] in alive for n in (*node.outputs, *graph.activations(node))):
            continue
        some = range(1, len(mine) + 1) if len(mine) <= FEW else (1, len(mine))
        moves += [copied ^ frozenset(flip) for n in some for flip in combinations(mine, n)]
    return moves
