# SPDX-License-Identifier: Apache-2.0
"""Arenas as the generated C shows them: the caller gives one in each region of memory that the plan uses."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.ir.program import Program
from mmcc.ir.regions import STATE, Region


@dataclass(frozen=True, slots=True)
class ArenaText:
    """What the generated C says about the arena of one region."""

    memory: str  # name of the region
    macro: str  # behind the prefix: ..._SIZE, ..._ALIGN, ..._ATTRIBUTE are made of it
    argument: str  # of the functions that get its address
    words: str  # for comments
    size: int
    align: int
    attribute: str  # that it is declared with unless the project says otherwise


def arena_texts(program: Program) -> tuple[ArenaText, ...]:
    """One text for each region, with its bytes. Regions are named only where there are several.

    The states of a model that is trained are its parameters, and what belongs to them.
    """
    regions, trains = program.regions, program.saved is not None
    several = sum(region != STATE for region in regions) > 1
    return tuple(_text(region, size, several, trains) for region, size in regions.items())


def _text(region: Region, size: int, several: bool, trains: bool) -> ArenaText:
    argument, words = "arena", "the arena"
    if region == STATE and trains:
        argument, words = "parameters", "memory for the parameters"
    elif region == STATE:
        argument, words = "states", "memory for the states"
    elif several:
        argument, words = f"{region.name}_arena", f"the arena in {region.name}"
    attribute = f'__attribute__((section("{region.section}")))' if region.section else ""
    return ArenaText(region.name, argument.upper(), argument, words, max(1, size), region.align, attribute)
