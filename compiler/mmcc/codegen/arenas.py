# SPDX-License-Identifier: Apache-2.0
"""Arenas as the generated C shows them: the caller gives one in each region of memory that the plan uses."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.ir.program import Program
from mmcc.ir.regions import Region


@dataclass(frozen=True, slots=True)
class ArenaText:
    """What the generated C says about the arena of one region, or about memory for states (`keeps`)."""

    memory: str  # name of the region
    macro: str  # behind the prefix: ..._SIZE, ..._ALIGN, ..._ATTRIBUTE are made of it
    argument: str  # of the functions that get its address
    words: str  # for comments
    size: int
    align: int
    attribute: str  # that it is declared with unless the project says otherwise
    keeps: bool


def arena_texts(program: Program) -> tuple[ArenaText, ...]:
    """One text for each region, with its bytes. Regions are named only where there are several.

    The states of a model that is trained are its parameters, and what belongs to them: they are in the memory
    that the parameters are in, or in others.
    """
    saved = program.saved.memory if program.saved is not None else ""
    named = {
        keeps: sum(region.keeps == keeps and region.name != saved for region in program.regions) > 1
        for keeps in (False, True)
    }
    return tuple(_text(r, size, saved, named=named[r.keeps]) for r, size in program.regions.items())


def _text(region: Region, size: int, saved: str, *, named: bool) -> ArenaText:
    argument, words = "arena", "the arena"
    if region.name == saved:
        argument, words = "parameters", "memory for the parameters"
    elif region.keeps and named:
        argument, words = f"{region.states_of}_states", f"memory for the states in {region.states_of}"
    elif region.keeps:
        argument, words = "states", "memory for the states"
    elif named:
        argument, words = f"{region.name}_arena", f"the arena in {region.name}"
    attribute = f'__attribute__((section("{region.section}")))' if region.section else ""
    return ArenaText(
        *(region.name, argument.upper(), argument, words, size, region.align, attribute), keeps=region.keeps
    )
