# SPDX-License-Identifier: Apache-2.0
"""How a group gets constants that lie in slow memory: which stay while it runs, and how large a block is.

A node's constants are either resident, read once as the group begins, or they come block after block each
time the node is called, into a double buffer, so that one half can be filled while the other is used. A
single buffer takes less RAM, and nothing is read while the node computes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import inf

from mmcc.ir.plan import Blocks, aligned

FEW = 5  # kernels of which every set to stay is tried
SHARES = (1, 2, 4, 8)  # a group may have all the room there is for constants, or a half, ...


@dataclass(frozen=True, slots=True)
class WeightStreaming:
    """The constants of one group, by kernel; `read` is how many bytes of them an inference reads."""

    resident: tuple[tuple[int, Blocks], ...]
    streamed: tuple[tuple[int, Blocks], ...]
    read: int
    buffers: int = 2  # for those that are streamed: a double buffer, or a single one

    @property
    def buffer_bytes(self) -> int:
        """Bytes of each buffer for those that are streamed."""
        return max((aligned(blocks.bytes) for _, blocks in self.streamed), default=0)

    @property
    def bytes(self) -> int:
        """Bytes of the arena that all of it takes."""
        return sum(aligned(blocks.bytes) for _, blocks in self.resident) + self.buffers * self.buffer_bytes

    def blocks(self, kernel: int) -> int:
        """How many blocks each call of a kernel goes through."""
        return next((blocks.count for k, blocks in self.streamed if k == kernel), 1)


@dataclass(frozen=True, slots=True)
class Price:
    """What blocks cost, in predicted work."""

    byte: float  # read from slow memory; twice that if nothing is computed meanwhile
    block: Mapping[int, float]  # by kernel, each block more: its rows are gone over again


def all_resident(tilings: Mapping[int, tuple[Blocks, ...]]) -> WeightStreaming | None:
    """Every kernel's constants whole; None if some cannot be held."""
    whole = tuple((kernel, blocks[-1]) for kernel, blocks in tilings.items())
    if any(blocks.count > 1 for _, blocks in whole):
        return None
    return WeightStreaming(whole, (), sum(blocks.total for _, blocks in whole))


class StreamingChoices:
    """The ways in which a group whose kernels are called so often may get its constants."""

    def __init__(
        self, tilings: Mapping[int, tuple[Blocks, ...]], calls: Mapping[int, int], price: Price
    ) -> None:
        self._tilings, self._calls, self._price = tilings, calls, price
        self._orders = tuple(_orders(tilings, calls))
        self._few = sum(some[-1].count == 1 for some in tilings.values()) <= FEW

    def within(self, room: int) -> Iterator[WeightStreaming]:
        """The cheapest with all of `room` bytes and with less."""
        seen: set[WeightStreaming] = set()
        least = None
        for share in SHARES:
            found = self.cheapest(room // share)
            if found is None:
                break
            if found not in seen:
                seen.add(found)
                yield found
            least = found
        if least is not None:
            smallest = self.cheapest(_smallest(self._tilings))
            if smallest is not None and smallest not in seen and smallest.bytes < least.bytes:
                yield smallest

    def within_each(self, rooms: Sequence[int]) -> Iterator[WeightStreaming]:
        """The same for each of some rooms, none twice."""
        yield from dict.fromkeys(way for room in rooms for way in self.within(room))

    def cheapest(self, room: int) -> WeightStreaming | None:
        """The cheapest within `room` bytes; None if there is none.

        Every size that a buffer may have is tried. What it leaves goes to the constants that save most when
        they stay: all choices are tried if they are few, else a byte goes where it saves most.
        """
        if self._few:
            at = bisect_right(self._listed, room, key=lambda one: one[0].bytes)
            return self._listed[at - 1][0] if at else None
        return min(self._ways(room), key=lambda one: one[1], default=(None, 0.0))[0]

    @cached_property
    def _listed(self) -> list[tuple[WeightStreaming, float]]:
        """Of all ways those of which none in as few bytes is cheaper, the fewest bytes first."""
        found: list[tuple[WeightStreaming, float]] = []
        for way, cost in sorted(self._ways(inf), key=lambda one: (one[0].bytes, one[1])):
            if not found or cost < found[-1][1]:
                found.append((way, cost))
        return found

    def _ways(self, room: float) -> Iterator[tuple[WeightStreaming, float]]:
        """Ways within `room` bytes, with what they cost."""
        tilings, price = self._tilings, self._price
        for buffer in sorted({0} | {aligned(blocks.bytes) for some in tilings.values() for blocks in some}):
            if buffer > room:
                return  # smaller blocks than that are found with their own size, which leaves more to stay
            fitting = {u: _largest(some, buffer) for u, some in tilings.items()}
            for buffers, wanted in product((2, 1), self._orders):
                left = room - buffers * buffer
                way = (
                    _with_buffers(tilings, self._calls, left, fitting, buffers, wanted) if left >= 0 else None
                )
                if way is not None and way.bytes <= room:
                    cost = price.byte * way.read * (2 if way.streamed and buffers == 1 else 1)
                    yield way, cost + sum((some.count - 1) * price.block[k] for k, some in way.streamed)


def _smallest(tilings: Mapping[int, tuple[Blocks, ...]]) -> int:
    """Bytes of the smallest buffer that serves all kernels."""
    return max(aligned(blocks[0].bytes) for blocks in tilings.values())


def _orders(tilings: Mapping[int, tuple[Blocks, ...]], calls: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
    """Kernels whose constants should stay, those first that should most."""
    kernels = [u for u in tilings if tilings[u][-1].count == 1]
    ordered = sorted(kernels, key=lambda u: (-calls[u], -tilings[u][-1].bytes))
    yield tuple(ordered)
    if len(kernels) <= FEW:
        for count in range(len(ordered)):
            yield from combinations(ordered, count)


def _largest(some: Sequence[Blocks], buffer_bytes: int) -> Blocks | None:
    """The largest blocks of which a buffer holds one; None if there are none."""
    return next((blocks for blocks in reversed(some) if aligned(blocks.bytes) <= buffer_bytes), None)


def _with_buffers(
    tilings: Mapping[int, tuple[Blocks, ...]],
    calls: Mapping[int, int],
    left: float,
    fitting: Mapping[int, Blocks | None],
    buffers: int,
    wanted: Sequence[int],
) -> WeightStreaming | None:
    """Streaming of blocks that fit their buffers, which leave so many bytes for what stays."""
    resident: list[tuple[int, Blocks]] = []
    streamed: list[tuple[int, Blocks]] = []
    for kernel in (*wanted, *(u for u in tilings if u not in wanted)):
        whole, small = tilings[kernel][-1], fitting[kernel]
        stays = kernel in wanted and (calls[kernel] > 1 or small is None)
        if stays and aligned(whole.bytes) <= left:
            left -= aligned(whole.bytes)
            resident.append((kernel, whole))
        elif small is not None:
            streamed.append((kernel, small))
        else:
            return None
    if len(streamed) == 1 and streamed[0][1].count == 1:  # it would be the only one to come to its buffer
        resident, streamed = [*resident, *streamed], []
    read = sum(blocks.total for _, blocks in resident)
    read += sum(blocks.total * calls[kernel] for kernel, blocks in streamed)
    return WeightStreaming(tuple(sorted(resident)), tuple(sorted(streamed)), read, buffers)
