# SPDX-License-Identifier: Apache-2.0
"""What a package takes of each memory, and what is known of its plan where there are several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmcc.ir.regions import Region
from mmcc.sizes import readable


def region_entries(
    used: Mapping[Region, int],
    memories: Sequence[Region],
    limits: Mapping[str, int],
    home: str,
    variables: int,
) -> list[dict[str, Any]]:
    """An entry for each memory that the package may use, with the bytes of its arena, which may be 0, and of
    the states there.

    `besides` are all bytes there that are no arena: in the memory called `home` the states and `variables`
    bytes, which are context, static data and stack.
    """
    arenas = {region.name: (region, size) for region, size in used.items() if not region.keeps}
    every = {region.name: (region, 0) for region in memories} | arenas
    states = {region.states_of or home: size for region, size in used.items() if region.keeps}
    return [
        {
            "name": name,
            "bytes": size,
            "size": region.size,
            "limit": limits.get(name) or None,
            "states": states.get(name, 0),
            "besides": states.get(name, 0) + (variables if name == home else 0),
        }
        for name, (region, size) in every.items()
    ]


def regions_text(report: dict[str, Any]) -> str:
    """Bytes of the arenas by memory, with what else is there if that is limited, and moves between them."""
    parts: list[str] = []
    for region in report["ram"]["regions"]:
        taken = f"{region['bytes']:,}" if region["bytes"] else "not needed"
        if region["besides"] and region["limit"]:
            taken += f" and {region['besides']:,} beside the arena"
            taken += f" ({region['states']:,} of states)" if region["states"] else ""
        elif region["states"]:
            taken += f" and {region['states']:,} of states"
        most = region["limit"] or region["size"]
        parts.append(f"{region['name']} {taken}" + (f", of {readable(most)}" if most else ""))
    count = sum(len(entry["moves"]) for entry in (report, *report["entries"]))
    moves = f"; {count} moves between them" if count else ""
    return "; ".join(parts) + moves


def cost_text(plan: dict[str, Any], copies: int) -> str:
    """The predicted cost of a plan in several memories, and what is proved of it: of plans in which rows of
    the same tensors are copied, so many, and no others."""
    cost, least = plan["cost"], plan["least_cost"]
    text = f"{cost:,.0f} predicted: {plan['cost_unit']}, and bytes by what each memory's cost"
    if least <= 0:
        return f"{text}; nothing is proved"
    graph = "of the graph as it is" if not copies else f"with rows of the same {_tensors(copies)} copied"
    covered = f"of plans {graph} that move at most one tensor a step"
    if plan["cheapest"]:
        return f"{text}; proved least within these memories, {covered}"
    return f"{text}; {covered}, none is below {least:,.0f} ({100 * (cost - least) / cost:.2f} % less)"


def copies_text(copies: int) -> str:
    """What is done with rows of so many tensors in slow memory."""
    return f"rows of {_tensors(copies)} go to faster memory as they are read: that costs less"


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count} tensors"


def least_text(plan: dict[str, Any], copies: int) -> str:
    """What is known of memories of which as little as possible was to be taken. That is of plans without
    copies of rows: one with so many may take less, and takes no more than was found without."""
    of = ", of plans of the graph as it is" if copies else ""
    if not plan["proved_optimal"]:
        parts = (f"{name} none below {low:,}" for name, low in plan["bounds"].items())
        return "best found: " + ", ".join(parts) + of
    if not copies:
        return "proved least of " + ", then of ".join(plan["bounds"])
    parts = (f"{name} ({low:,})" for name, low in plan["bounds"].items())
    return "within what is proved least of " + ", then of ".join(parts) + of
