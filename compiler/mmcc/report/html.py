# SPDX-License-Identifier: Apache-2.0
"""The report as one page that needs nothing from anywhere else: report.html."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from mmcc.codegen.render import render
from mmcc.errors import NAME_COLUMNS, printable
from mmcc.report.memories import cost_text
from mmcc.report.model import Report
from mmcc.report.pictures import arena_spec, bars_spec, frontier_spec
from mmcc.report.text import (
    arena_text,
    dead_text,
    flash_text,
    parts_of,
    proof_text,
    saved_text,
    self_check_text,
    static_text,
    work_text,
)
from mmcc.resources import data_dir
from mmcc.sizes import readable

STACK_FROM = {
    "call graph": "the worst case over the call graph of the linked code",
    "stated": "as stated with --stack: not measured",
    "assumed": "assumed: not all of the code could be read",
}
BARS = ("bytes alive", "multiply-accumulates", "predicted work", "instructions", "bytes of constants")


def render_html(
    report: Report,
    analyses: Mapping[str, Mapping[str, Any]] | None = None,
    measured: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The page of a report; with frontiers of `mmcc analyze` and counts of `mmcc bench`, by entry."""
    analyses, measured = analyses or {}, measured or {}
    entries = [
        _entry(report, entry, measured.get(entry["entry"], {})) for entry in (report, *report["entries"])
    ]
    title = printable(report["model"]["name"] or report["prefix"], NAME_COLUMNS)
    return render_page(
        title=title,
        prefix=report["prefix"],
        target=report["target"],
        cards=_cards(report, measured),
        proved=_proved(report, measured),
        warnings=[printable(warning, 500) for warning in report["warnings"]],
        entries=entries,
        parts=[
            frontier_part(found, f"{title}, {name}" if len(analyses) > 1 else title)
            for name, found in analyses.items()
        ],
    )


def render_page(*, title: str, target: str, parts: Sequence[Mapping[str, Any]], **more: Any) -> str:
    """A page with parts, each a picture and a table; what a report has besides is in `more`."""
    nothing: dict[str, Any] = {"prefix": "", "cards": [], "proved": [], "warnings": [], "entries": []}
    return render(
        "report.html.j2",
        title=title,
        target=target,
        parts=parts,
        pictures=pictures_js(),
        licences=(data_dir("templates") / "page" / "LICENSES.txt").read_text(),
        **(nothing | more),
    )


def frontier_part(analysis: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What the page shows of `mmcc analyze`: a picture and the rows of its table."""
    rows = [("", p) for p in analysis["frontier"]] + [(p["options"], p) for p in analysis["other"]]
    named = f"{title}: RAM against work, {analysis['target']}"
    where = f" The arena is in {analysis['memory']} alone." if analysis["memory"] else ""
    return {
        "title": printable(named),
        "note": f"The least work for each size of arena, and the least arena with other options.{where}",
        "head": (
            "options",
            "bytes of arena",
            "predicted work",
            "MACs",
            "proved",
            "bound by, or what it means",
        ),
        "spec": as_script(frontier_spec(analysis, "", width="container")),
        "rows": [
            (
                options or "as it is",
                f"{p['arena']:,}",
                f"{p['cost_ratio']:.3f}x",
                f"{p['macs_ratio']:.2f}x",
                "least" if p["proved"] else f"none below {p['bound']:,}",
                p.get("meaning") or printable(p["binding"], NAME_COLUMNS),
            )
            for options, p in rows
        ],
    }


def render_analysis(analysis: Mapping[str, Any], title: str) -> str:
    """A page with nothing but what `mmcc analyze` found."""
    title = printable(title, NAME_COLUMNS)
    return render_page(title=title, target=analysis["target"], parts=[frontier_part(analysis, title)])


@cache
def pictures_js() -> str:
    """The libraries that draw, compressed, in base64."""
    return base64.b64encode((data_dir("templates") / "page" / "pictures.js.gz").read_bytes()).decode()


def as_script(value: Any) -> str:
    """JSON that may stand in a script element, whatever names a model has."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _cards(report: Report, measured: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    ram, flash = report["ram"], report["flash"]
    limit = f"of {readable(ram['limit'])}" if ram["limit"] else "everything included"
    linked = any(entry["source"]["sha256"] for entry in report["entries"])
    of_all = ", of all models" if linked else ""
    cards = [
        ("RAM", f"{ram['total']:,}", f"bytes, {limit}"),
        ("arena", f"{ram['arena']:,}", "bytes of tensors and scratch"),
        ("stack", f"{ram['stack']:,}", "bytes at most"),
        ("flash", f"{flash['total']:,}", f"bytes, weights {flash['weights']:,}"),
        ("work", f"{report['model']['macs']:,}", f"multiply-accumulates{of_all}"),
    ]
    for name, counts in measured.items():
        of = f" of {name}" if len(measured) > 1 else ""
        if counts.get("instructions"):
            cards.append(
                (f"instructions{of}", f"{counts['instructions']:,}", "an inference, counted in QEMU")
            )
        if "board" in counts:
            found = counts["board"]
            time, cycles = f"{found['milliseconds']:.3g} ms", f"{found['cycles']:,}"
            cards.append((f"time{of}", time, f"{cycles} cycles at {found['clock_mhz']:g} MHz, modelled"))
    return cards


def _proved(report: Report, measured: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What is known, and how: claim and reason."""
    ram = report["ram"]
    names = parts_of(ram)
    rows = [("RAM", " + ".join(f"{name} {ram[name]:,}" for name in names) + f" = {ram['total']:,} bytes")]
    if ram["concurrent"]:
        rows.append(("arena", arena_text(ram).removeprefix("arena ")))
    for entry in (report, *report["entries"]):
        of = f" of {entry['entry']}" if report["entries"] else ""
        rows.append((f"arena{of}", proof_text(entry, ram)))
        rows.append((f"work{of}", work_text(entry["plan"])))
        if entry["saved"]:
            rows.append((f"saved{of}", saved_text(entry["saved"])))
        if entry["dead_channels"]["nodes"]:
            rows.append((f"left out{of}", dead_text(entry["dead_channels"])))
        if entry["plan"]["cost"]:
            rows.append((f"cost{of}", cost_text(entry["plan"], len(report["row_copies"]))))
    if ram["weights"]:
        rows.append(("static", static_text(ram)))
    rows += [
        ("stack", STACK_FROM[ram["stack_from"]]),
        ("flash", flash_text(report)),
        ("plan", f"replayed row by row by a checker of its own in {report['plan_check']['seconds']:.2f} s"),
        ("results", self_check_text(report["self_check"])),
    ]
    board = next((counts["board"] for counts in measured.values() if "board" in counts), None)
    if board:
        rows.append(("time", f"a model of {board['description']}: {board['error']}"))
    return rows


def _entry(report: Report, entry: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Pictures and tables of one entry."""
    regions = [r["name"] for r in report["ram"]["regions"] if r["bytes"]]
    used = {b["region"] for b in entry["plan"]["buffers"]}
    rows = _bar_rows(entry, measured)
    drawn = [field for field in BARS if any(row.get(field) for row in rows)]
    return {
        "name": entry["entry"],
        "arenas": [(name, as_script(arena_spec(entry, name))) for name in regions if name in used],
        "bars": [(field, as_script(bars_spec(rows, field))) for field in drawn],
        "graph": as_script(_graph(entry)),
        "nodes": [_node(entry, node) for node in entry["nodes"]],
    }


def _bar_rows(entry: Mapping[str, Any], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    counted = {row["index"]: row for row in measured.get("per_node", ())}
    alive = _alive(entry["plan"])
    first, groups = entry["first_node"], entry["plan"]["groups"]
    step_of = {first + node: step for step, group in enumerate(groups) for node in group}
    return [
        {
            "node": f"{node['index']} {node['op']}",
            "link": f"#{entry['entry']}-{node['index']}",
            "of the model": printable(node["name"], NAME_COLUMNS),
            "bytes alive": alive[step_of[node["index"]]],
            "multiply-accumulates": node["macs"],
            "predicted work": node["predicted"],
            "instructions": counted[node["index"]]["instructions"] if node["index"] in counted else 0,
            "bytes of constants": node["constant_bytes"],
        }
        for node in entry["nodes"]
    ]


def _alive(plan: Mapping[str, Any]) -> dict[int, int]:
    """Bytes in use in each step, those that two buffers share counted once."""
    found: dict[int, int] = {}
    for step in range(len(plan["groups"])):
        spans = sorted(
            (b["region"], b["offset"], b["offset"] + b["size"])
            for b in plan["buffers"]
            if b["region"] and b["first_step"] <= step <= b["last_step"]
        )
        total, region, end = 0, "", 0
        for name, low, high in spans:
            end = end if name == region else 0
            region = name
            total += max(0, high - max(low, end))
            end = max(end, high)
        found[step] = total
    return found


def _graph(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Nodes and edges, for the library that lays them out."""
    nodes = [
        {
            "id": str(node["index"]),
            "label": f"{node['index']} {node['op']}",
            "shape": "x".join(map(str, node["out_shape"])) or "scalar",
            "name": printable(node["name"], NAME_COLUMNS),
            "href": f"#{entry['entry']}-{node['index']}",
        }
        for node in entry["nodes"]
    ]
    edges = [(str(maker), str(node["index"])) for node in entry["nodes"] for maker in node["reads"]]
    return {"nodes": nodes, "edges": sorted(set(edges))}


def _node(entry: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    places: Sequence[Mapping[str, Any]] = node["from"]
    more = Counter(printable(place["op"], 24) for place in places[1:])
    return {
        "id": f"{entry['entry']}-{node['index']}",
        "index": node["index"],
        "op": node["op"],
        "shape": "x".join(map(str, node["out_shape"])) or "scalar",
        "macs": f"{node['macs']:,}",
        "weights": f"{node['weights']:,}",
        "first": f"node {places[0]['node']} ({printable(places[0]['op'], 24)})" if places else "",
        "name": printable(places[0]["name"], NAME_COLUMNS) if places else "",
        "more": ", ".join(f"{count} {op}" if count > 1 else op for op, count in more.items()),
    }
