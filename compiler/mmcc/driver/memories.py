# SPDX-License-Identifier: Apache-2.0
"""Which memories of a target a compile may use, and how much of each: what `--ram` says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit, did_you_mean
from mmcc.ir.regions import Region
from mmcc.sizes import parse_size
from mmcc.target import Target


@dataclass(frozen=True, slots=True)
class Ram:
    """What `--ram` asks for: bytes of all RAM, as few as possible, or bytes by memory (0: as few)."""

    total: int = 0
    least: bool = False
    regions: dict[str, int] = field(default_factory=dict[str, int])


def parse_ram(text: str) -> Ram:
    """The meaning of "64K", "min" or "dtcm=128K,sram=min"; CompileError MM003 for anything else."""
    text = text.strip()
    if text.lower() == "min":
        return Ram(least=True)
    if "=" not in text:
        return Ram(parse_size(text, "--ram"))
    regions: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = (word.strip() for word in part.partition("="))
        if not name or not size or name in regions:
            raise CompileError(
                "MM003",
                f'--ram: "{text}" does not give each memory one size',
                exit=Exit.USAGE,
                hint="NAME=SIZE for each (mmcc targets show), with commas: --ram dtcm=128K,axi=512K",
            )
        regions[name] = 0 if size.lower() == "min" else parse_size(size, f"--ram {name}")
    return Ram(regions=regions)


def regions_of(options: CompileOptions, target: Target) -> tuple[Region, ...]:
    """The target's memories that may be used, with what the options allow of each, in the target's order.

    One size for all RAM is a matter of the first memory alone. Raises CompileError MM010 for a name that the
    target does not have.
    """
    known = [region.name for region in target.memory]
    for name in options.regions:
        if name not in known:
            raise CompileError(
                "MM010",
                f'--ram: target {target.name} has no memory "{name}"',
                exit=Exit.USAGE,
                hint=f"{did_you_mean(name, known)}one of: {', '.join(known)}",
            )
    if not options.regions:
        return target.memory[:1] if options.ram else target.memory
    return tuple(_within(region, options) for region in target.memory if region.name in options.regions)


def _within(region: Region, options: CompileOptions) -> Region:
    allowed = options.regions[region.name]
    sizes = [size for size in (allowed, region.size) if size]
    return replace(region, size=min(sizes)) if sizes else region


def least_of(options: CompileOptions, target: Target) -> tuple[str, ...]:
    """Memories of which as little as possible is to be taken, the most important first: as written, or with
    `--ram min` from the fastest to the slowest."""
    if options.regions:
        return tuple(name for name, size in options.regions.items() if not size)
    if not options.least_ram:
        return ()
    cost = {region.name: region.read_cost + (region.write_cost or 0.0) for region in target.memory}
    return tuple(sorted(cost, key=lambda name: cost[name]))


def home_of(target: Target) -> Region:
    """The memory of variables, where context, static data, states and stack are."""
    return next((region for region in target.memory if not region.section), target.memory[0])


def linked_limit(options: CompileOptions, target: Target) -> int:
    """Bytes that the emulated board's RAM is cut to: what is allowed of the memories that have no window of
    their own there; 0 for no limit."""
    if options.ram or not options.regions:
        return options.ram
    windows = set(target.qemu.memory) if target.qemu else set[str]()
    limits = {name: size for name, size in options.regions.items() if name not in windows}
    return sum(limits.values()) if home_of(target).name in limits and all(limits.values()) else 0
