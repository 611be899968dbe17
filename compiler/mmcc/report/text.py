# SPDX-License-Identifier: Apache-2.0
"""The report for people: report.txt, and the lines of it that a compile prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmcc.codegen.names import escape
from mmcc.codegen.ports import shifted
from mmcc.codegen.render import render
from mmcc.errors import LONGEST_WARNING, NAME_COLUMNS, printable
from mmcc.passes.read_apart import AGAIN
from mmcc.report.memories import copies_text, cost_text, least_text, regions_text
from mmcc.report.model import Report
from mmcc.report.stream import stream_text
from mmcc.sizes import readable

PICTURE_COLUMNS = 64


def parts_of(ram: Mapping[str, Any]) -> tuple[str, ...]:
    """What RAM is taken by, of which the total is the sum."""
    states, workers = (("state",) if ram["state"] else ()), (("workers",) if ram["workers"] else ())
    return ("arena", *states, "context", "static", "stack", *workers)


def static_text(ram: Mapping[str, Any]) -> str:
    """Bytes of static data, and what is in them."""
    weights = f"  ({ram['weights']:,} of them weights that init copies)" if ram["weights"] else ""
    return f"{ram['static']:,}{weights}"


def render_text(report: Report) -> str:
    """The report for people. What belongs to one entry is said of each, if there are several."""
    ram, entries = report["ram"], [report, *report["entries"]]
    limit = f" of {readable(ram['limit'])}" if ram["limit"] else ""
    names = parts_of(ram)
    parts = ", ".join(f"{part} {ram[part]:,}" for part in names)
    figures = [
        ("RAM", f"{readable(ram['total'], ' bytes')}{limit}: {parts}"),
        ("flash", flash_text(report)),
    ]
    if ram["weights"]:
        nodes = sum(node["in_ram"] for entry in entries for node in entry["nodes"])
        figures.append(("in RAM", f"weights of {nodes} nodes, {ram['weights']:,} bytes, which init copies"))
    if report["stream"]:
        figures.append(("stream", stream_text(report["stream"])))
    for entry in entries:
        named = f" of {entry['entry']}" if len(entries) > 1 else ""
        figures += [(what + named, text) for what, text in _entry_figures(report, entry)]
    figures += _changes(report)
    if ram["concurrent"]:
        figures.append(("arena", arena_text(ram).removeprefix("arena ")))
        stacks = ", ".join(f"{name} {size:,}" for name, size in ram["stacks"].items())
        figures += (
            [("stacks", f"{stacks}; {ram['stack']:,} for all that may run at the same time")]
            if stacks
            else []
        )
    if len(ram["regions"]) > 1:
        figures.append(("regions", regions_text(report)))
    figures.append(("plan check", f"replayed row by row in {report['plan_check']['seconds']:.2f} s"))
    figures.append(("self-check", self_check_text(report["self_check"])))
    return render(
        "report.txt.j2",
        prefix=report["prefix"],
        name=escape(report["model"]["name"], NAME_COLUMNS),
        target=report["target"],
        figures=figures,
        warnings=[printable(warning, LONGEST_WARNING) for warning in report["warnings"]],
        states=[_state_line(state, named=len(ram["regions"]) > 1) for state in ram["states"]],
        entries=[_entry_parts(entry, len(ram["regions"]) > 1) for entry in entries],
    )


def _changes(report: Report) -> list[tuple[str, str]]:
    """What was done to the graph so that it needs less, a line each."""
    figures: list[tuple[str, str]] = []
    if report["other_rows"]:
        figures.append(
            ("rows", "columns of images are gone over as rows: that needs less; ports stay as they are")
        )
    if report["apart"]:
        text = "layers make what is read row by row apart from what is read as a whole: that needs less"
        again = "; norms before them are computed twice" if report["apart"] == AGAIN else ""
        figures.append(("layers", text + again))
    if report["row_copies"]:
        figures.append(("copies", copies_text(len(report["row_copies"]))))
    return figures + [("tiles", text) for text in tiling_texts(report["tiling"])]


def _entry_figures(report: Report, entry: dict[str, Any]) -> list[tuple[str, str]]:
    """What is said of one entry in a line each."""
    plan, several = entry["plan"], bool(report["entries"])
    bytes_of = f"{plan['arena']:,} bytes, " if several else ""
    parameters = "" if several else f", {report['model']['params']:,} parameters"
    proof = proof_text(entry, report["ram"])
    figures = [
        ("arena", f"{bytes_of}{proof}; planned in {plan['seconds']:.2f} s"),
        ("work", f"{work_text(plan)}{parameters}"),
    ]
    figures += [("cost", cost_text(plan, len(report["row_copies"])))] if plan["cost"] else []
    figures += [("saved", saved_text(entry["saved"]))] if entry["saved"] else []
    if entry["dead_channels"]["nodes"]:
        figures.append(("left out", dead_text(entry["dead_channels"])))
    return figures + ([("weights", staged_text(entry["weights"]))] if entry["weights"] else [])


def _entry_parts(entry: dict[str, Any], named: bool) -> dict[str, Any]:
    """The lists of one entry: `named` says that buffers may be in several regions."""
    plan = entry["plan"]
    return {
        "name": entry["entry"],
        "ports": [_port_line(kind, port) for kind in ("inputs", "outputs") for port in entry[kind]],
        "arena": f"{plan['arena']:,}",
        "picture": _picture(plan["buffers"], len(plan["groups"]), named=named),
        "nodes": _node_lines(entry["nodes"]),
    }


def proof_text(entry: dict[str, Any], ram: dict[str, Any]) -> str:
    """What is known of the arena's size: over plans with groups too, or over those layer by layer only; of a
    step of training that makes some values again, for the choice of these."""
    plan, saved = entry["plan"], entry.get("saved")
    if plan["bounds"]:
        return least_text(plan, len(entry.get("row_copies", ())))
    if plan["cost"]:
        return "in several memories: see cost"
    fused = any(len(group) > 1 for group in plan["groups"])
    if plan["for_caches"]:
        return "fused so that caches hold what is read next; --ram min may need less"
    if fused and not ram["least"]:
        sure = "nothing cheaper keeps it" if plan["cheapest"] else "something cheaper may keep it"
        kept = "the limit" if ram["limit"] else f"{ram['regions'][0]['name']}'s size"
        return f"fused to keep {kept}: {sure}; --ram min may need less"
    none = f", none below {plan['bound']:,}" if plan["bound"] else ""
    proof = "proved least" if plan["proved_optimal"] else f"best found{none}"
    proof += "" if plan["over_groups"] else " layer by layer"
    proof += " with these values kept" if saved and (saved["limit"] or not saved["proved"]) else ""
    if plan["lent"]:
        proof += f", but for {plan['lent']:,} lent to kernels, which are faster with them"
    return proof if plan["over_groups"] else f"{proof}; --ram min may need less"


def shared_proof_text(report: Report) -> str:
    """What is known of the size of an arena that entries use one after the other: that of the one which needs
    most."""
    entries = [report, *report["entries"]]
    largest = max(entries, key=lambda entry: entry["plan"]["arena"])
    of = f"{largest['entry']}: " if len(entries) > 1 else ""
    return of + proof_text(largest, report["ram"])


def tiling_texts(tiling: Mapping[str, Any]) -> list[str]:
    """What is made in tiles and in slices, and what for; nothing where neither is."""
    found: list[str] = []
    if tiling["results"]:
        count = len(tiling["results"])
        what = "1 inverted bottleneck" if count == 1 else f"{count} inverted bottlenecks"
        found.append(f"{what} pixel by pixel, with what is expanded made again for each row: that needs less")
    if tiling["slices"] > 1:
        found.append(f"the layer before a mean in {tiling['slices']} slices of channels: that needs less")
    return found


def arena_text(ram: dict[str, Any]) -> str:
    """The arena of several entries, and how they share it."""
    if not ram["concurrent"]:
        return f"arena {ram['arena']:,}, the largest of all"
    sets = "; ".join(" and ".join(names) for names in ram["concurrent"])
    proof = "" if ram["parts_proved"] else ", not proved to be the shortest"
    return f"arena {ram['arena']:,}, apart for what may run at the same time ({sets}){proof}"


def flash_text(report: Report) -> str:
    """What lies in flash, in bytes."""
    flash = report["flash"]
    total = readable(flash["total"], " bytes")
    grown = report["plan"]["grown"]
    more = f", {grown:,} of them so that kernels multiply less" if grown else ""
    return f"{total}: weights {flash['weights']:,}{more}, code {flash['code']:,}"


def dead_text(dead: dict[str, Any]) -> str:
    """What is not computed since no output needs it."""
    return (
        f"{dead['channels']:,} channels in {dead['nodes']} nodes, constant, equal to others or read by none: "
        f"{dead['macs']:,} multiply-accumulates and {dead['weight_bytes']:,} bytes of weights less"
    )


def staged_text(weights: dict[str, int]) -> str:
    """What is read from slow memory."""
    return (
        f"{weights['file']:,} bytes in slow memory; an inference reads {weights['read']:,} in blocks of at "
        f"most {weights['largest_block']:,}; at most {weights['most_in_arena']:,} are in the arena at a time"
    )


def saved_text(saved: dict[str, Any]) -> str:
    """What a training step keeps of its forward pass, what it makes again, and what others would need."""
    kept, again = (sum(value["bytes"] for value in saved[what]) for what in ("kept", "again"))
    text = (
        f"{kept:,} bytes in {len(saved['kept'])} values kept for backward layers, {again:,} in "
        f"{len(saved['again'])} made again"
    )
    if saved["paged"]:
        paged = sum(value["bytes"] for value in saved["paged"])
        share = 100 * saved["stalls_predicted"] / max(1, saved["predicted"])
        text += (
            f", {paged:,} in {len(saved['paged'])} paged to {saved['slow_bytes']:,} bytes of slow memory: "
            f"{saved['bytes_moved']:,} bytes are copied in a step, of whose time {share:.1f} % is waiting "
            "for them, as predicted"
        )
    of = f"{saved['planned']} of {saved['choices']:,} choices planned"
    if saved["proved"]:
        least = "no other needs as little work" if saved["limit"] else "no other needs a smaller arena"
        return f"{text}; {of}, {least} over the same rows (proved)"
    if saved["bound"] and not saved["limit"]:
        return f"{text}; {of}, none needs less than {saved['bound']:,} bytes of arena over the same rows"
    return f"{text}; {of}, others may be better"


def self_check_text(check: dict[str, Any]) -> str:
    """Whether the generated C was run before it was written."""
    if not check["done"]:
        return str(check["reason"])
    return f"the C gave its references' values on this machine, in {check['nodes']} nodes"


def work_text(plan: dict[str, Any]) -> str:
    """Multiply-accumulates, and how many more for what is computed again to need less RAM."""
    text, again = f"{plan['macs']:,} multiply-accumulates", plan["macs_recomputed"]
    return f"{text} and {again:,} again" if again else text


def _state_line(state: dict[str, Any], *, named: bool) -> str:
    place = f"{state['memory']}+{state['offset']}" if named else state["offset"]
    return f"{place:>9} +{state['bytes']:<9} {escape(state['name'], NAME_COLUMNS)}"


def _port_line(kind: str, port: dict[str, Any]) -> str:
    shape = "x".join(map(str, port["shape"])) or "scalar"
    real = f", real = {port['scale']:.9g} * {shifted(port['zero_point'])}" if port["scale"] else ""
    where = f" at {port['offset']}" if port["offset"] is not None else ""
    return f"{kind[:-1]:<6} {port['dtype']} {shape}{where}: {escape(port['name'])}{real}"


def _picture(buffers: Sequence[dict[str, Any]], steps: int, *, named: bool) -> list[str]:
    """One line for each buffer at a place; with the region if it is `named`."""
    columns = max(1, min(PICTURE_COLUMNS, steps))
    lines: list[str] = []
    for b in buffers:
        first = b["first_step"] * columns // max(1, steps)
        last = max(first, b["last_step"] * columns // max(1, steps))
        bar = "." * first + "#" * (min(last, columns - 1) - first + 1)
        name = escape(b["name"], NAME_COLUMNS)
        where = f"{b['region'] or '':>9} {b['offset']:>9}" if named else f"{b['offset']:>9}"
        lines.append(f"{bar:.<{columns}} {where} +{b['size']:<9} {b['kind']:<8} {name}")
    return lines


def _node_lines(nodes: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{'index':>5} {'op':<18} {'output':<18} {'MACs':>13} {'weights':>10}  from"]
    for node in nodes:
        shape = "x".join(map(str, node["out_shape"])) or "1"
        figures = f"{node['macs']:>13,} {node['weights']:>10,}"
        by = f", computed by {node['handoff']}" if node["handoff"] else ""
        copied = ", constants in RAM" if node["in_ram"] else ""
        origin = _origin(node["from"]) + by + copied
        lines.append(f"{node['index']:>5} {node['op']:<18} {shape:<18} {figures}  {origin}")
    return lines


def _origin(places: Sequence[dict[str, Any]]) -> str:
    """Where a node comes from: a node of the model, and the operators that were merged into it."""
    if not places:
        return ""
    first, ops = places[0], Counter(escape(place["op"], 24) for place in places[1:])
    name = f' "{escape(first["name"], NAME_COLUMNS)}"' if first["name"] else ""
    more = [f" + {op}" if count == 1 else f" + {count} {op}" for op, count in ops.items()]
    return f"node {first['node']} ({escape(first['op'], 24)}){name}{''.join(more)}"
