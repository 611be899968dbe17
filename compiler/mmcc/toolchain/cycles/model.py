# SPDX-License-Identifier: Apache-2.0
"""Cycles of what was executed: those of the core, block by block, and those that flash makes it wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from mmcc.boards import BoardModel
from mmcc.errors import CompileError, Exit
from mmcc.target import Target
from mmcc.toolchain.counting import Block, CacheReads, Executed, Reads
from mmcc.toolchain.cycles.decode import Instruction, Kind, decode
from mmcc.toolchain.cycles.dual_issue import DualIssue
from mmcc.toolchain.cycles.single_issue import SingleIssue
from mmcc.toolchain.stack.listing import Listing
from mmcc.toolchain.stack.walk import read_listing

# Armv6-M: the Cortex-M0+ manual's table of instructions, with the multiplier of one cycle.
_M0PLUS = SingleIssue(
    load=2,
    store=2,
    several=1,
    long_multiply=1,
    accumulate=0,
    divide=1,
    refill=1,
    unaligned=0,
    call=3,
    jump=2,
    table=2,
)
# The Cortex-M3 and Cortex-M4 manuals: tables of instructions, and how loads and stores are paired. Three
# cycles of pipeline are refilled at most; one, where the target is known early and is fetched at once.
_M4 = SingleIssue(
    load=2,
    store=1,
    several=1,
    long_multiply=1,
    accumulate=0,
    divide=7,
    refill=1,
    unaligned=1,
    call=2,
    jump=3,
    table=3,
    pipelined=True,
    address_stall=True,
)
_M3 = replace(_M4, long_multiply=4, accumulate=1)
# The Cortex-M33 manual has no table. Taken from its pipeline: results of loads and products are forwarded to
# the instruction after the next; several registers take a cycle each.
_M33 = SingleIssue(
    load=1,
    store=1,
    several=0,
    long_multiply=1,
    accumulate=0,
    divide=7,
    refill=1,
    unaligned=0,
    call=2,
    jump=2,
    table=3,
    forwards=True,
    float_mac=3,
)
CORES: Mapping[str, SingleIssue | DualIssue] = {
    "cortex-m0plus": _M0PLUS,
    "cortex-m3": _M3,
    "cortex-m4": _M4,
    "cortex-m33": _M33,
    "cortex-m7": DualIssue(wrong=4, table=4),
}

HOOK = "mmcc_adapter_step"  # of the test bench: what it takes is no node's


@dataclass(frozen=True, slots=True)
class Cycles:
    """Cycles of what was executed on a board."""

    core: float
    code_waits: float
    data_waits: float
    functions: Mapping[str, float]  # without waits; most first
    kinds: Mapping[str, int]  # executed instructions

    @property
    def total(self) -> float:
        return self.core + self.code_waits + self.data_waits


def core_of(board: BoardModel) -> SingleIssue | DualIssue:
    """The model of a board's core; a user error if there is none."""
    if board.core not in CORES:
        hint = f"cycles are modelled for {', '.join(CORES)}"
        raise CompileError("MM002", f"no cycle model of {board.core}", exit=Exit.USAGE, hint=hint)
    return CORES[board.core]


def cycles(executed: Executed, target: Target, board: BoardModel) -> Cycles:
    """What a program took on a board; a user error if its core has no model."""
    core = core_of(board)
    walk = _Walk(read_listing(executed.elf, target), core)
    return _of_blocks(walk, board, executed.blocks, executed.reads)


def cycles_by_node(executed: Executed, target: Target, board: BoardModel) -> dict[int, Cycles]:
    """What each node, or group of nodes, took on a board, of a program with hooks, without these."""
    core = core_of(board)
    walk = _Walk(read_listing(executed.elf, target), core)
    blocks: dict[int, list[Block]] = {}
    reads: dict[int, list[Reads]] = {}
    for lap in executed.laps:
        there = (block for block in lap.blocks if walk.function(block) != HOOK)
        blocks.setdefault(lap.node, []).extend(there)
        reads.setdefault(lap.node, []).append(lap.reads)
    return {node: _of_blocks(walk, board, blocks[node], _sum(reads[node])) for node in blocks}


def _sum(reads: Sequence[Reads]) -> Reads:
    """All that was read in several laps."""

    def of(parts: Sequence[CacheReads]) -> CacheReads:
        return CacheReads(*map(sum, zip(*map(astuple, parts), strict=True)))

    return Reads(of([each.code for each in reads]), of([each.data for each in reads]))


def _of_blocks(walk: _Walk, board: BoardModel, blocks: Iterable[Block], reads: Reads) -> Cycles:
    functions: dict[str, float] = {}
    kinds: Counter[str] = Counter()
    for block in blocks:
        code = walk.code(block)
        if code:
            name = walk.function(block)
            functions[name] = functions.get(name, 0.0) + walk.spent(block, code)
            for one in code:
                kinds[one.kind.name.lower()] += block.count
    code_waits, data_waits = (
        cache.in_a_row * found.in_a_row + cache.miss * (found.misses - found.in_a_row)
        for cache, found in ((board.code, reads.code), (board.data, reads.data))
    )
    most_first = dict(sorted(functions.items(), key=lambda item: -item[1]))
    total = sum(functions.values())
    return Cycles(total, code_waits, data_waits, most_first, dict(kinds.most_common()))


class _Walk:
    """The blocks of a program as decoded instructions."""

    def __init__(self, listing: Listing, core: SingleIssue | DualIssue) -> None:
        self.listing, self._core = listing, core
        self._addresses = sorted(listing.lines)
        self._place = {address: k for k, address in enumerate(self._addresses)}
        self._decoded: dict[int, Instruction] = {}

    def _at(self, address: int) -> Instruction:
        if address not in self._decoded:
            self._decoded[address] = decode(self.listing.lines[address], address)
        return self._decoded[address]

    def function(self, block: Block) -> str:
        """The function that a block is in; nothing, if the disassembly does not have it."""
        line = self.listing.lines.get(block.address)
        return line.function if line is not None else ""

    def code(self, block: Block) -> list[Instruction]:
        """What is in a block; nothing, if the disassembly does not have it."""
        first = self._place.get(block.address)
        there = self._addresses[first : first + block.instructions] if first is not None else []
        return [self._at(address) for address in there]

    def spent(self, block: Block, code: list[Instruction]) -> float:
        """Cycles of all times that a block ran."""
        last = code[-1]
        spent = block.count * self._core.block(code)
        if last.kind is Kind.BRANCH:
            target = self._at(last.target) if last.target in self._place else None
            spent += block.taken * self._core.taken(last, target)
            if last.mnemonic != "b":
                spent += self._core.missed(block.taken, block.count - block.taken)
        return spent
