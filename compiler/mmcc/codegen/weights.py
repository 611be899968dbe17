# SPDX-License-Identifier: Apache-2.0
"""All constants of a model as one structure: offsets, bytes, and C text.

One block keeps every weight reachable by an offset, so that it may lie in flash, in an external memory or in
a file. Equal arrays are stored once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import Constant, ProgramNode
from mmcc.kernels.blocks import constants_of, pack_block

ALIGN = 16
STAMP_BYTES = 16  # at the end of a file of weights


@dataclass(frozen=True, slots=True)
class WeightArray:
    """One member of the structure."""

    constant: Constant
    offset: int

    @property
    def ctype(self) -> str:
        return ctype_of(self.constant.data)

    @property
    def count(self) -> int:
        return self.constant.data.size


@dataclass(frozen=True, slots=True)
class Weights:
    """Where each constant is, and the size of the whole in bytes."""

    arrays: tuple[WeightArray, ...]
    offsets: dict[str, int]  # by constant name, duplicates included; in the arena that it comes to, if any
    size: int
    in_ram: int = 0  # the first so many bytes, which init copies

    def to_bytes(self) -> bytes:
        """The block as it lies in a little-endian memory."""
        block = bytearray(self.size)
        for array in self.arrays:
            data = array.constant.data
            raw = data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes()
            block[array.offset : array.offset + len(raw)] = raw
        return bytes(block)


def weights_stamp(blocks: Iterable[bytes]) -> bytes:
    """What a file of weights with these bytes ends with: `init` knows its file by it."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.digest()[:STAMP_BYTES]


def lay_out(nodes: Sequence[ProgramNode], states: Iterable[Constant] = ()) -> Weights:
    """Place the constants of all nodes one behind the other, in order of use, then what states begin with;
    big alignment is kept.

    Those of nodes that fetch them are first, each node's as one block where the plan has it, in whatever
    order nodes run; these nodes find them in an arena. Or those come first that init copies to RAM, where
    they have the same offsets.
    """
    block = _Block()
    found: dict[str, int] = {}
    fetching = [(node, node.fetched) for node in nodes if node.fetched is not None]
    for node, fetched in sorted(fetching, key=lambda each: each[1].source):
        packed = pack_block(node.use)
        assert packed.size <= fetched.bytes, f"{node.label} has {packed.size} bytes of constants"
        for constant in packed.constants:
            at = packed.offsets[constant.name]
            block.put(constant, fetched.source + at)
            found[constant.name] = fetched.target.offset + at
        block.fill(fetched.source + fetched.bytes)
    for constant in _constants(node for node in nodes if node.in_ram):
        found[constant.name] = block.find(constant)
    in_ram = -(-block.end // ALIGN) * ALIGN if any(node.in_ram for node in nodes) else 0
    block.fill(max(block.end, in_ram))
    others = (node for node in nodes if node.fetched is None and not node.in_ram)
    for constant in (*_constants(others), *states):
        found[constant.name] = block.find(constant)
    return Weights(tuple(block.arrays), found, -(-block.end // ALIGN) * ALIGN, in_ram)


@dataclass(slots=True)
class _Block:
    """What is in the structure so far."""

    arrays: list[WeightArray] = field(default_factory=list[WeightArray])
    end: int = 0
    seen: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def put(self, constant: Constant, offset: int) -> None:
        """A constant at an offset; C alone would leave less room before it than a block may need."""
        size = constant.data.dtype.itemsize
        if -(-self.end // size) * size != offset:
            self.fill(offset)
        self.arrays.append(WeightArray(constant, offset))
        self.seen.setdefault(_digest(constant.data), offset)
        self.end = offset + constant.data.nbytes

    def fill(self, offset: int) -> None:
        """Nothing up to an offset."""
        assert self.end <= offset, f"blocks of constants meet at byte {offset}"
        if self.end < offset:
            nothing = np.zeros(offset - self.end, np.uint8)
            self.arrays.append(WeightArray(Constant(f"nothing_{self.end}", nothing, 1), self.end))
        self.end = offset

    def find(self, constant: Constant) -> int:
        """Where an equal constant is, or where this one is now."""
        key = _digest(constant.data)
        if key not in self.seen or self.seen[key] % constant.align:
            offset = -(-self.end // constant.align) * constant.align
            self.put(constant, offset)
            self.seen[key] = offset
        return self.seen[key]


def _digest(data: NDArray[Any]) -> bytes:
    """The same for equal elements of one type, and no copy of them."""
    digest = hashlib.sha256(data.dtype.str.encode())
    digest.update(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
    return digest.digest()


def _constants(nodes: Iterable[ProgramNode]) -> Iterator[Constant]:
    for node in nodes:
        for _, use in node.uses:
            yield from constants_of(use)


def ctype_of(data: NDArray[Any]) -> str:
    """The C type of an array's elements."""
    return ElementType.of(data).ctype


PER_LINE = {1: 16, 2: 14, 4: 6, 8: 3}  # values by their bytes: the longest of them fill a line


def c_values(constant: Constant) -> Iterator[str]:
    """The array as lines of C initializers."""
    flat = ElementType.of(constant.data).cells(constant.data).reshape(-1)
    per_line = PER_LINE[flat.itemsize]
    text = [float_literal(v) for v in flat.tolist()] if flat.dtype == np.float32 else _integers(flat)
    for start in range(0, len(text), per_line):
        yield ", ".join(text[start : start + per_line])


def _integers(flat: np.ndarray[tuple[int], np.dtype[np.integer]]) -> list[str]:
    least = np.iinfo(flat.dtype).min if flat.dtype != np.bool_ else 0
    suffix = {"i8": "LL", "u4": "U", "u8": "ULL"}.get(flat.dtype.str[1:], "")
    if flat.dtype.itemsize >= 4 and least < 0:  # C has no literal for the least integer
        return [f"({v + 1}{suffix} - 1)" if v == least else f"{v}{suffix}" for v in flat.tolist()]
    return [f"{int(v)}{suffix}" for v in flat.tolist()]


def float_literal(value: float) -> str:
    """A C99 float constant that reads back as the same bits."""
    if value != value:
        return "(0.0f / 0.0f)"
    if value in (float("inf"), float("-inf")):
        return f"({'-' if value < 0 else ''}1.0f / 0.0f)"
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")
