# SPDX-License-Identifier: Apache-2.0
"""What the user asks of the planner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mmcc.ir.graph import Graph
from mmcc.ir.nest import LoopKind
from mmcc.ir.plan import Blocks, Place, Plan, Useful
from mmcc.ir.regions import SRAM, Cache, Region


@dataclass(frozen=True, slots=True)
class Staging:
    """Constants that lie in slow memory: by node that has any, its tilings into blocks of output channels.

    The tiling with the fewest channels first; the last is one block, if it is small enough to be held.
    `passes` says about how often a run reads all of a node's constants, where they have come to.
    Where buffers may be in several regions, `rooms` are bytes that the constants of a group may have at most:
    ways within each of them are looked at.
    """

    tilings: Mapping[int, tuple[Blocks, ...]]
    passes: Mapping[int, float] = field(default_factory=dict[int, float])
    rooms: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Constants:
    """A node's constants as its kernel has them: bytes, a multiple of 16, and how often a run reads all."""

    bytes: int
    passes: float


@dataclass(frozen=True, slots=True)
class KeptTogether:
    """States that are in one memory, by `begin`: the parameters of a model that is trained, or one state.

    `bytes` are those of all with what alignment adds. `read` and `written` are bytes that entries other than
    the one that is planned read and write of them, each called once.
    """

    begins: tuple[str, ...]
    bytes: int
    read: float = 0.0
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """How the arena is to be planned.

    States are in memory of their own, at `states`, which are the same for every entry of a module. Without
    any the planner chooses: in one memory they are one behind the other, in several where they cost least;
    `kept` then says which lie together, and what they are to other entries.
    A model input is read for the last time at some step; from then on its bytes may be written over, so
    the caller fills every input before every run. External inputs and outputs are in memory of the
    caller's: inputs are not written, outputs may be written and read at any time during a run.
    """

    limit: int | None = None  # bytes of arena; None: as few as possible
    external_inputs: bool = False
    external_outputs: bool = False
    align: int = 4  # of every buffer; elements larger than this align to themselves
    scratch: Mapping[int, int] = field(default_factory=dict[int, int])  # by node: bytes its kernel works in
    # by node: what makes it faster; if several, first that of the fastest kernel
    useful: Mapping[int, tuple[Useful, ...]] = field(default_factory=dict[int, tuple[Useful, ...]])
    growth: int = 0  # bytes by which constants may become larger for faster kernels
    # by node whose rows come in an order: its scratch holds what one row hands on to the next
    ordered: Mapping[int, LoopKind] = field(default_factory=dict[int, LoopKind])
    pixels: Mapping[int, int] = field(
        default_factory=dict[int, int]
    )  # by node: made at a time, left to right
    accumulators: Mapping[int, int] = field(default_factory=dict[int, int])  # by node that can: bytes of it
    # by node: those that take in the rows of an operand of its before it does, and nobody waits for
    riders: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    one_of_several: bool = False  # there are other entries over the same arena: ports stay where they are
    # bytes of arena: where groups need as many in any case, any plan does, if what none is below is right
    below: int | None = None
    at_least: int = 0  # bytes of arena that no plan has fewer than, as far as whoever asks knows
    fuse: bool = True  # nodes may run together, row by row
    recompute: float = 1.0  # work at most, in multiples of the model's; above 1 groups may use strips
    cost: Mapping[str, float] = field(default_factory=dict[str, float])  # of work; see cost.py
    caches: tuple[Cache, ...] = ()  # that bytes beyond cost more; see caches.py
    backward: bool = True  # nodes may make their rows from the last to the first, where that saves bytes
    staging: Staging | None = None  # constants are copied into the arena before use
    regions: tuple[Region, ...] = (SRAM,)  # where buffers may be, best first
    background: bool = False  # buffers may be moved while the model computes, by functions of the caller's
    by_region: bool = False  # each region has a limit, its size, and of all plans the cheapest is asked for
    threads: int = 1  # that kernels in chunks are for
    parts: frozenset[int] = frozenset()  # nodes that kernels can make some output channels of
    apart: frozenset[int] = frozenset()  # nodes whose output is to be apart from what they read
    spread: frozenset[int] = frozenset()  # nodes that are faster so, but not worth a larger arena
    least: tuple[str, ...] = ()  # then regions to take as few bytes of as possible, the first before the next
    # by name of a region, bytes that may be taken of it, where these are fewer than its size
    within: Mapping[str, int] = field(default_factory=dict[str, int])
    loads: Mapping[int, float] = field(default_factory=dict[int, float])  # by node: see regions/traffic.py
    # by node, where it may be worth while to copy constants to a region, and what a byte costs where they are
    fetchable: Mapping[int, Constants] = field(default_factory=dict[int, Constants])
    constants_cost: float = 0.0
    slow_cycles: float = 0.0  # that a byte takes to slow memory or back, where values are paged
    states: Mapping[str, Place] = field(default_factory=dict[str, Place])  # by `begin`: see `state_places`
    kept: tuple[KeptTogether, ...] = ()  # see regions/states.py; empty: the states of the graph, each apart
    effort: float = 20.0  # about seconds for the exact placement, counted so that builds reproduce
    budget: float = 1.0  # of searches for layouts, orders and groups: part of what they may look at
    seed: int = 0
    # other graphs are compared with this: paths that are soon found, and the first of them that are placed,
    # are good enough
    rough: bool = False
    progress: Callable[[str], None] | None = None

    def external(self, graph: Graph) -> frozenset[str]:
        """Tensors that are outside the arena."""
        inputs = graph.input_names if self.external_inputs else frozenset[str]()
        outputs = graph.output_names if self.external_outputs else frozenset[str]()
        states = {name for state in graph.states for name in (state.begin, state.end)}
        elsewhere = inputs | outputs | states | graph.paged
        return frozenset(name for name in elsewhere if not graph.is_constant(name))

    def runs_backward(self, node: int) -> bool:
        """True of a node whose rows can only be made from the last to the first."""
        return self.ordered.get(node) is LoopKind.BACKWARD

    def may_run_backward(self, node: int) -> bool:
        """True of a node that may make its rows from the last to the first, alone."""
        return self.backward or self.runs_backward(node)

    def peak(self, plan: Plan) -> int:
        """Bytes of the largest arena that a plan has."""
        return max((plan.peak(region) for region in self.regions), default=0)

    def say(self, text: str) -> None:
        """Tell whoever waits how far the planner is."""
        if self.progress is not None:
            self.progress(text)
