# SPDX-License-Identifier: Apache-2.0
"""Executed instructions, from the plugin of QEMU that counts them: by sample, by lap, by function."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mmcc.errors import CompileError, Exit
from mmcc.resources import data_dir
from mmcc.target import Target, load_target
from mmcc.toolchain.build import find_tool, run_tool

OUTSIDE = -1  # the node of a lap before the first call of the hook

_BEGIN, _END, _LAP, _CALIBRATE = 5, 6, 7, 8  # markers, as in port.h
_MARKER, _CALL = 1, 1  # instructions between begin and end that are not the model's

_PLUGIN_FLAGS = ("-O2", "-shared", "-fPIC")


@dataclass(frozen=True, slots=True)
class Lap:
    """What was executed from one call of the hook to the next."""

    node: int
    instructions: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Executed instructions over all samples."""

    functions: Mapping[str, int]  # most first
    mnemonics: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that ran one after the other: how often, and how often not what follows them ran next."""

    address: int
    instructions: int
    count: int
    taken: int


@dataclass(frozen=True, slots=True)
class CacheReads:
    """Lines that were looked for in a cache, those not there, and of these the ones behind the last."""

    accesses: int
    misses: int
    in_a_row: int


@dataclass(frozen=True, slots=True)
class Reads:
    """What was read from flash in the first sample, through the caches of a board."""

    code: CacheReads
    data: CacheReads


@dataclass(frozen=True, slots=True)
class LapBlocks:
    """The way from one call of the hook to the next."""

    node: int
    blocks: tuple[Block, ...]
    reads: Reads


@dataclass(frozen=True, slots=True)
class Executed:
    """The way through a program, and what it read from flash."""

    elf: Path
    blocks: tuple[Block, ...]
    reads: Reads
    laps: tuple[LapBlocks, ...] = ()  # of the first sample, in order; only with hooks


def counting_plugin() -> Path:
    """The counting plugin, compiled once for each version of its source."""
    source = data_dir("runtime_c") / "firmware" / "mmcount.c"
    key = hashlib.sha256(source.read_bytes() + " ".join(_PLUGIN_FLAGS).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmcc"
    made = cache / f"mmcount-{key}.so"
    if not made.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cache / f"{made.name}.{os.getpid()}"
        compiler = find_tool("cc", load_target("host"))
        done = subprocess.run(
            [compiler, *_PLUGIN_FLAGS, "-o", str(fresh), str(source)], capture_output=True, text=True
        )
        if done.returncode:
            raise CompileError("MM805", f"the QEMU plugin: {done.stderr}", exit=Exit.INTERNAL)
        fresh.replace(made)  # in one step: others may be building it too
    return made


def read_log(log: Path) -> list[tuple[int, int]]:
    """(marker, instructions executed before it), in order."""
    lines = re.finditer(r"^mark (\d+) pc \S+ insns (\d+)", log.read_text(), re.MULTILINE)
    return [(int(line[1]), int(line[2])) for line in lines]


def read_ranges(log: Path, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Bytes loaded from and stored to each range in the first sample, by the names of the ranges."""
    found: dict[str, tuple[int, int]] = {}
    for line in re.finditer(r"^range (\d+) loaded (\d+) stored (\d+)$", log.read_text(), re.MULTILINE):
        found.setdefault(names[int(line[1])], (int(line[2]), int(line[3])))
    return found


def read_caches(log: Path) -> Reads:
    """What was read through caches in the first sample."""
    line = re.search(r"^cache code (.*) data (.*)$", log.read_text(), re.MULTILINE)
    assert line is not None, "the plugin did not say what it read through caches"
    code, data = (CacheReads(*map(int, re.findall(r"\d+", part))) for part in line.groups())
    return Reads(code, data)


def read_blocks(path: Path) -> list[Block]:
    """The blocks that ran."""
    return [_block(line) for line in path.read_text().splitlines()]


def read_laps(path: Path, nodes: Sequence[int]) -> tuple[LapBlocks, ...]:
    """The blocks that ran in each lap of the first sample, and what was read through caches in it."""
    heads: list[list[int]] = [[0] * 6]
    blocks: list[list[Block]] = []
    for line in path.read_text().splitlines():
        if line.startswith("lap "):
            heads.append([int(number) for number in line.split()[1:]])
            blocks.append([])
        else:
            blocks[-1].append(_block(line))
    assert len(blocks) == len(nodes) + 1, "the log of laps and the markers disagree"
    found: list[LapBlocks] = []
    for node, (before, after), there in zip((OUTSIDE, *nodes), pairwise(heads), blocks, strict=True):
        more = [b - a for a, b in zip(before, after, strict=True)]
        reads = Reads(CacheReads(*more[:3]), CacheReads(*more[3:]))
        found.append(LapBlocks(node, tuple(there), reads))
    return tuple(found)


def _block(line: str) -> Block:
    """A line of the plugin's: address, instructions, bytes, how often it ran, and how often it was left."""
    start, n, _, times, taken = line.split()
    return Block(int(start, 16), int(n), int(times), int(taken))


def count(marks: Sequence[tuple[int, int]], nodes: Sequence[int]) -> tuple[tuple[int, ...], tuple[Lap, ...]]:
    """Instructions of each sample and the laps of the first, what the hook itself costs taken off."""
    cost = _hook_cost(marks)
    begins = [i for i, (kind, _) in enumerate(marks) if kind == _BEGIN]
    ends = [i for i, (kind, _) in enumerate(marks) if kind == _END]
    totals: list[int] = []
    for begin, end in zip(begins, ends, strict=True):
        calls = end - begin - 1
        totals.append(marks[end][1] - marks[begin][1] - _MARKER - _CALL - calls * cost)
    if not nodes:
        return tuple(totals), ()
    at = [count for _, count in marks[begins[0] : ends[0] + 1]]
    spans = [b - a - cost for a, b in pairwise(at)]
    spans[0] += cost - _MARKER - _CALL  # no call of the hook has ended yet
    assert len(spans) == len(nodes) + 1, "the log of laps and the markers disagree"
    laps = tuple(Lap(node, span) for node, span in zip((OUTSIDE, *nodes), spans, strict=True))
    return tuple(totals), laps


def _hook_cost(marks: Sequence[tuple[int, int]]) -> int:
    """Instructions from one marker of the hook to the next with nothing between two calls; 0 without one."""
    at = next((i for i, (kind, _) in enumerate(marks) if kind == _CALIBRATE), None)
    if at is None:
        return 0
    (first, one), (second, two) = marks[at + 1 : at + 3]
    assert first == second == _LAP, "the calibration has no laps"
    return two - one


def read_profile(elf: Path, target: Target, path: Path) -> Profile:
    """Join how often each block ran with what is in it."""
    listing = run_tool([find_tool(target.objdump, target), "-d", "--no-show-raw-insn", elf], target)
    code: list[tuple[int, str, str]] = []
    function = ""
    for line in listing.splitlines():
        if heading := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            function = heading[1]
        elif found := re.match(r"\s*([0-9a-f]+):\t(\S+)", line):
            code.append((int(found[1], 16), function, re.sub(r"\.[nw]$", "", found[2])))
    place = {address: i for i, (address, _, _) in enumerate(code)}
    functions: Counter[str] = Counter()
    mnemonics: Counter[str] = Counter()
    for block in read_blocks(path):
        first = place.get(block.address)
        executed = code[first : first + block.instructions] if first is not None else []
        for _, name, mnemonic in executed:
            functions[name] += block.count
            mnemonics[mnemonic] += block.count
    return Profile(dict(functions.most_common()), dict(mnemonics.most_common()))
