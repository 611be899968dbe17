# SPDX-License-Identifier: Apache-2.0
"""Plan level: which nodes run together, when each buffer lives, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from mmcc.ir.module import RUN
from mmcc.ir.nest import Span
from mmcc.ir.regions import FILE, SLOW, External, Move, Place, Region


class BufferKind(Enum):
    """Why the bytes are needed; reports group by it, the solver does not look at it."""

    INPUT = "input"  # holds a model input (at least)
    OUTPUT = "output"  # holds a model output (at least)
    TENSOR = "tensor"  # a whole tensor, between groups
    RING = "ring"  # the newest rows of a tensor inside a group
    SCRATCH = "scratch"  # workspace of one kernel call
    STATE = "state"  # lives from run to run
    STAGED = "staged"  # constants copied in from a slower memory
    PAGED = "paged"  # in slow memory, until it is read back
    FETCHED = "fetched"  # a node's constants, copied out of the weights for one step


@dataclass(frozen=True, slots=True)
class Strip:
    """Columns [lo, hi) of the group's last output; one strip is the whole width."""

    columns: Span


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes (indices into the graph's nodes) that run as one loop over rows of the last one's output.

    Nodes that are `accumulating` take in the rows of their input one by one, in a buffer of their own
    (`Plan.accumulators`), or in their result, where nothing else lies while they sum. `riding` are some of
    these that nobody in the group reads, each with its host: the node before whose rows they take in the rows
    that it reads. Nodes that are `drained` are read outside the group, and rows of theirs that it did not
    demand are made at its end, as an epilogue.

    Where it is `batched`, each node makes in one call all rows that a tile iteration needs of it, instead of
    one row just before it is needed: rings are deeper, but constants that are staged are read once an
    iteration.
    """

    nodes: tuple[int, ...]
    tile_rows: int = 0  # 0: all rows in one tile iteration
    strips: tuple[Strip, ...] = ()  # empty: the whole width at once
    backward: bool = False  # rows from the last to the first; only where the group is one node
    accumulating: tuple[int, ...] = ()
    drained: tuple[int, ...] = ()
    riding: tuple[tuple[int, int], ...] = ()
    batched: bool = False


FILLED = -1  # stands for a step before all moves
BLOCK_ALIGN = 16  # of a block of constants, in slow memory and in the arena


def aligned(size: int) -> int:
    """Bytes of a block with what alignment adds."""
    return -(-size // BLOCK_ALIGN) * BLOCK_ALIGN


@dataclass(frozen=True, slots=True, order=True)
class Blocks:
    """A node's constants in slow memory: `count` blocks, read and used one by one.

    Each is for `channels` output channels (the last for what is left), of `bytes` bytes (the last: `last`).
    """

    channels: int
    count: int
    bytes: int
    last: int

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return (self.count - 1) * self.bytes + self.last


@dataclass(frozen=True, slots=True)
class Staged:
    """Where a node's constants are moved to before use: one buffer that they stay in while the group runs, or
    two (perhaps the same) that blocks come to in turn, each time that the node is called."""

    blocks: Blocks
    buffers: tuple[str, ...]

    @property
    def resident(self) -> bool:
        """True if the constants are read once, as the group begins."""
        return len(self.buffers) == 1


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes with a lifetime in steps (= positions of groups): a rectangle for the packing problem."""

    name: str
    kind: BufferKind
    size: int
    live: Span  # steps; half-open
    regions: tuple[Region | External, ...]  # where it may be, best first
    align: int = 4


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one tensor is: in-place ops, Reshape and Concat put several tensors in one buffer.

    Strides and offset in bytes. `rows` is the ring length; the whole tensor if it equals its rows.
    """

    buffer: str
    offset: int
    row_stride: int
    col_stride: int
    rows: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """A move of a whole buffer. It is started before the group of step `start` runs, and complete before that
    of step `wait` does; a step as many as there are groups is the end. If it blocks, both are one step."""

    move: Move
    start: int
    wait: int


@dataclass(frozen=True, slots=True)
class Stay:
    """A buffer at one place: nodes of the steps `used` find it there.

    Its bytes there are not free in the steps `taken`: these begin as the move there starts, and end as the
    move away is complete.
    """

    place: Place
    taken: Span
    used: Span


@dataclass(frozen=True, slots=True)
class Useful:
    """Bytes to work in with which a node has a faster kernel, where they happen to be free.

    `grows` are bytes by which its constants are then larger. With `alone`, the kernel is for a node that
    makes all its rows before another makes any. `cycles` are what it saves over the next kernel, about.
    `less_stack` says that it takes less stack than the kernel that works in none.
    """

    bytes: int
    grows: int = 0
    alone: bool = False
    cycles: int = 0
    less_stack: bool = False


class Along(Enum):
    """The axis of a kernel's output that is cut."""

    ROWS = "rows"
    COLUMNS = "columns"
    CHANNELS = "channels"


PART = 16  # chunks of channels begin at a multiple: kernels pack weights in blocks of so many, or of fewer


@dataclass(frozen=True, slots=True)
class Chunks:
    """Parts of a kernel's output that may be made in any order, or at the same time: chunk k is rows (or
    columns, or channels, which have kernels of their own) [cuts[k], cuts[k + 1])."""

    cuts: tuple[int, ...]
    along: Along = Along.ROWS

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple(map(Span, self.cuts, self.cuts[1:]))


@dataclass(frozen=True, slots=True)
class Overlap:
    """At `step`, `output` may be written over `input`, which is read for the last time then: its offset is at
    most that of `input` minus `distance` (or they are apart). Both are buffer names.

    With `backward`, its offset may also be that of `input` plus `backward` or more, if the group runs from
    the last row to the first."""

    step: int
    output: str
    input: str
    distance: int
    backward: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The planner's answer. Complete: code generation decides nothing about memory.

    `groups` are in execution order; a step is a position in it. `aliases` are nodes that need no code (a
    Reshape, or a Concat whose inputs were made in place) and are in no group. A Concat that is in a group
    copies only the operands `copied` names; the others were made in place. An external input or output
    is a buffer in the caller's memory for it. `places` is where each buffer is first; `transfers` take some
    elsewhere, in the order in which they are started. Buffers that are `fetched` are first among the weights.
    `bound` is the least peak that the solver could not rule out (if proved, the peak without what is `lent`).
    No plan with groups within the limit costs less than `least_cost`, whether this is `cheapest` or not; 0 if
    nothing is known. With several regions `cost` is the predicted cost, accesses included, and no plan within
    their sizes costs less than `least_cost`; `bounds` has, for regions that were to be least, what no plan is
    below; `traffic` has the bytes that a run is predicted to read and to write in each.
    """

    groups: tuple[Group, ...]
    aliases: frozenset[int]  # indices of nodes that need no code
    buffers: tuple[Buffer, ...]
    slots: dict[str, Slot]  # by tensor
    places: dict[str, Place]  # by buffer
    transfers: tuple[Transfer, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    scratch: dict[int, str] | None = None  # by node: the buffer its kernel works in
    accumulators: dict[int, str] = field(default_factory=dict[int, str])  # by node: the buffer of its sums
    pixels: dict[int, int] = field(default_factory=dict[int, int])  # by node: made at a time, left to right
    copied: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])  # by Concat node
    staged: dict[int, Staged] = field(default_factory=dict[int, Staged])  # by node; empty: all in fast memory
    fetched: dict[int, str] = field(default_factory=dict[int, str])  # by node: the buffer of its constants
    states: dict[str, Region] = field(default_factory=dict[str, Region])  # by `begin`: the memory chosen
    chunks: dict[int, Chunks] = field(default_factory=dict[int, Chunks])  # by node that runs in several
    in_ram: frozenset[int] = frozenset()  # nodes whose constants are copied to RAM once, by init
    proved_optimal: bool = False
    bound: int = 0
    over_groups: bool = False  # `bound` is below plans with groups of several nodes too
    cheapest: bool = False  # no plan within the limit has a lower predicted cost
    for_caches: bool = False  # every node alone would keep the limit; groups cost less in caches
    cost: float = 0.0
    least_cost: float = 0.0
    bounds: dict[str, int] = field(default_factory=dict[str, int])
    traffic: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    lent: int = 0  # bytes by which the peak is larger only because kernels are faster with them
    grown: int = 0  # bytes by which constants are larger only for such kernels
    seconds: float = 0.0

    @property
    def staged_bytes(self) -> int:
        """Bytes of constants in slow memory."""
        return sum(staged.blocks.total for staged in self.staged.values())

    def peak(self, region: Region) -> int:
        """Bytes the arena of `region` must have."""
        first = ((b, self.places[b.name]) for b in self.buffers)
        size = {b.name: b for b in self.buffers} if self.transfers else {}
        later = ((size[t.move.buffer], t.move.target) for t in self.transfers)
        inside = (place.offset + b.size for b, place in (*first, *later) if place.region == region)
        return max(inside, default=0)

    def regions(self) -> dict[Region, int]:
        """Bytes of the arena of each region that a buffer lies in, in the order that buffers prefer them."""
        preferred = dict.fromkeys(region for b in self.buffers for region in b.regions)
        places = (*self.places.values(), *(transfer.move.target for transfer in self.transfers))
        used = {place.region for place in places}
        arenas = (r for r in preferred if isinstance(r, Region) and r.write_cost is not None and r != SLOW)
        return {r: self.peak(r) for r in arenas if r in used}

    def stays(self) -> dict[str, tuple[Stay, ...]]:
        """Where each buffer is, one place after the other."""
        moved: dict[str, list[Transfer]] = {}
        for transfer in self.transfers:
            moved.setdefault(transfer.move.buffer, []).append(transfer)
        return {b.name: _stays(self.places[b.name], b.live, moved.get(b.name, ())) for b in self.buffers}

    def place_at(self, buffer: str, step: int) -> Place:
        """Where the nodes of a step find a buffer; for a step behind all groups, where it is at the end. The
        caller has filled inputs where they are at `FILLED`."""
        moved = [t.move.target for t in self.transfers if t.move.buffer == buffer and t.wait <= step]
        return moved[-1] if moved else self.places[buffer]

    def block_moves(self, index: int) -> tuple[tuple[Move, ...], ...]:
        """Of a node whose constants are staged: for each block, the moves that may bring it, one a buffer.

        The blocks of all nodes lie one behind the other in the file, by node.
        """
        blocks, buffers = self.staged[index].blocks, self.staged[index].buffers
        begin = sum(staged.blocks.total for other, staged in self.staged.items() if other < index)
        return tuple(
            tuple(
                Move(name, Place(FILE, begin + k * blocks.bytes), self.places[name], asynchronous=True)
                for name in buffers
            )
            for k in range(blocks.count)
        )

    def __str__(self) -> str:
        lines = [f"plan: {len(self.groups)} groups, bound {self.bound}, proved {self.proved_optimal}"]
        for b in sorted(self.buffers, key=lambda b: (b.live.lo, b.name)):
            place = self.places[b.name]
            lines.append(
                f"  {place.region}+{place.offset:<8} {b.size:>8} bytes, steps [{b.live.lo}, {b.live.hi}), "
                f"{b.kind.value} {b.name}"
            )
        lines += [f"  steps [{t.start}, {t.wait}): {t.move}" for t in self.transfers]
        return "\n".join(lines)


def _stays(first: Place, live: Span, moved: Sequence[Transfer]) -> tuple[Stay, ...]:
    """The places of a buffer that transfers move from one to the next."""
    places = (first, *(t.move.target for t in moved))
    came, found = (live.lo, *(t.start for t in moved)), (live.lo, *(t.wait for t in moved))
    left = (*(t.wait for t in moved), live.hi)
    return tuple(
        Stay(place, Span(lo, hi), Span(use, hi))
        for place, lo, use, hi in zip(places, came, found, left, strict=True)
    )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The plans of a module's entries, which use the same memory one after the other, or parts of it.

    An arena holds nothing from one call to the next but what a call returned. `states` says where states
    are, by `begin`, and `state_bytes` how many bytes their memories have, one for each region of the target
    that some are in. `begins` says where the parts of entries begin of which some may run at the same time,
    and `parts_proved` that parts of their sizes, apart where they must be, cannot take less together.
    """

    entries: dict[str, Plan]  # by name
    states: dict[str, Place] = field(default_factory=dict[str, Place])
    state_bytes: dict[Region, int] = field(default_factory=dict[Region, int])
    begins: dict[str, int] = field(default_factory=dict[str, int])
    parts_proved: bool = True

    @staticmethod
    def of(plan: Plan) -> MemoryPlan:
        """The plan of a module whose one entry is `run`, without states."""
        return MemoryPlan({RUN: plan})

    def regions(self) -> dict[Region, int]:
        """Bytes of each region, those of states last.

        States lie in RAM beside arenas, with no gap: then each is a multiple of its alignment.
        """
        found: dict[Region, int] = {}
        for plan in self.entries.values():
            for region, size in plan.regions().items():
                if not region.keeps:
                    found[region] = max(size, found.get(region, 0))
        if not self.state_bytes:
            return found
        found |= self.state_bytes
        return {region: -(-size // region.align) * region.align for region, size in found.items()}

    def __str__(self) -> str:
        return "\n\n".join(f"entry {name}:\n{plan}" for name, plan in self.entries.items())
