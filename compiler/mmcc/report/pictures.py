# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report as specifications in Vega-Lite, which a library draws, in a page or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from mmcc.errors import NAME_COLUMNS, printable

Spec = dict[str, Any]
Row = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
BAR = 14  # height of a bar, in pixels
MOST_TICKS = 16  # of steps: as many as a phone has room for
MOST_BUFFERS = 400  # of which overlaps are looked for: each pair is compared
ACCENT, SECOND, STRONG = "#3b7dd8", "#e0912f", "#d0453e"  # seen on white and on black


def arena_spec(entry: Mapping[str, Any], region: str) -> Spec:
    """The arena of one memory over the steps of an entry: a rectangle a buffer, overlaps, the peak."""
    plan = entry["plan"]
    buffers = [_rectangle(b) for b in plan["buffers"] if b["region"] == region]
    peak = max((b["end"] for b in buffers), default=0)
    at = next((b["from"] for b in buffers if b["end"] == peak), 0)
    count = len(plan["groups"])
    steps = list(range(0, count + 1, max(1, -(-count // MOST_TICKS))))
    width: Spec = {"type": "quantitative", "scale": {"domain": [0, count], "nice": False}}
    height: Spec = {"type": "quantitative", "scale": {"domain": [0, max(1, peak)]}}
    tips = ["name", "kind", "offset", "size", "first step", "last step"]
    place = {
        "x": {"field": "from", "title": "step", "axis": {"values": steps, "format": "d"}, **width},
        "x2": {"field": "to"},
        "y": {"field": "offset", "title": f"bytes of {region}", **height},
        "y2": {"field": "end"},
    }
    said = f"most: {peak:,} bytes, in step {at}"
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": 360,
        "layer": [
            {
                "data": {"values": buffers},
                "mark": {"type": "rect", "fillOpacity": 0.55, "strokeWidth": 1, "strokeOpacity": 0.9},
                "encoding": {
                    **place,
                    "color": {"field": "kind", "type": "nominal", "legend": {"orient": "top"}, "title": None},
                    "stroke": {"field": "kind", "type": "nominal", "legend": None},
                    "tooltip": [_tip(name) for name in tips],
                },
            },
            {
                "data": {"values": overlaps(buffers)},
                "mark": {"type": "rect", "fill": STRONG, "fillOpacity": 0.45},
                "encoding": {**place, "tooltip": [_tip("both"), _tip("shared")]},
            },
            {
                "data": {"values": [{"peak": peak, "text": said}]},
                "mark": {"type": "rule", "color": STRONG, "strokeDash": [4, 3]},
                "encoding": {"y": {"field": "peak", **height}},
            },
            {
                "data": {"values": [{"peak": peak, "text": said}]},
                "mark": {"type": "text", "align": "left", "dy": -8, "x": 4, "color": STRONG},
                "encoding": {"y": {"field": "peak", **height}, "text": {"field": "text"}},
            },
        ],
    }


def _rectangle(buffer: Mapping[str, Any]) -> Row:
    return {
        "name": printable(buffer["name"], NAME_COLUMNS),
        "kind": buffer["kind"],
        "offset": buffer["offset"],
        "size": buffer["size"],
        "end": buffer["offset"] + buffer["size"],
        "from": buffer["first_step"],
        "to": buffer["last_step"] + 1,
        "first step": buffer["first_step"],
        "last step": buffer["last_step"],
    }


def overlaps(buffers: Sequence[Row]) -> list[Row]:
    """What two rectangles have in common: bytes that one may write while the other is still read, safely."""
    found: list[Row] = []
    for a, b in combinations(buffers[:MOST_BUFFERS], 2):
        low, high = max(a["offset"], b["offset"]), min(a["end"], b["end"])
        first, last = max(a["from"], b["from"]), min(a["to"], b["to"])
        if low < high and first < last:
            both = f"{a['name']} and {b['name']}"
            shared = f"{high - low:,} bytes at once: each is read before it is written over"
            found.append(
                {"offset": low, "end": high, "from": first, "to": last, "both": both, "shared": shared}
            )
    return found


def bars_spec(rows: Sequence[Row], field: str) -> Spec:
    """A bar a node of what `field` counts."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": {"step": BAR},
        "data": {"values": list(rows)},
        "mark": {"type": "bar", "color": ACCENT},
        "encoding": {
            "y": {
                "field": "node",
                "type": "nominal",
                "sort": None,
                "title": None,
                "axis": {"labelLimit": 130},
            },
            "x": {
                "field": field,
                "type": "quantitative",
                "title": field,
                "axis": {"tickCount": 4, "format": "~s"},
            },
            "href": {"field": "link"},
            "tooltip": [_tip("node"), _tip("of the model"), _tip(field)],
        },
    }


def frontier_spec(analysis: Mapping[str, Any], title: str, *, width: int | str) -> Spec:
    """Bytes of arena against predicted work: the frontier, and the least with each of the other options."""
    main = [_point(p, "as it is") for p in analysis["frontier"]]
    points = main + _together([_point(p, p["options"]) for p in analysis["other"]])
    spread = [max(p[k] for p in points) / max(1e-9, min(p[k] for p in points)) for k in ("arena", "work")]
    x: Spec = {"field": "arena", "type": "quantitative", "title": "bytes of arena"}
    x |= {
        "scale": _axis([p["arena"] for p in points], log=spread[0] > 4),
        "axis": {"format": "~s", "tickCount": 8},
    }
    y: Spec = {
        "field": "work",
        "type": "quantitative",
        "title": "predicted work, relative",
    }
    y |= {"scale": _axis([p["work"] for p in points], log=spread[1] > 4), "axis": {"format": "~g"}}
    tips = ["options", "bytes", "predicted work", "work", "proved", "bound by"]
    dot: Spec = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
        "encoding": {
            "x": x,
            "y": y,
            "color": {"field": "options", "type": "nominal", "sort": None, "title": None, "legend": _LEGEND},
            "shape": {"field": "options", "type": "nominal", "sort": None, "title": None, "legend": _LEGEND},
            "tooltip": [_tip(name) for name in tips],
        },
    }
    labelled = _labelled(main, spread[0] > 4)
    return {
        "$schema": SCHEMA,
        "title": {"text": title, "anchor": "start"},
        "width": width,
        "height": 340,
        "layer": [
            {
                "data": {"values": main},
                "mark": {"type": "line", "color": ACCENT, "interpolate": "step-before"},
                "encoding": {"x": x, "y": y},
            },
            {"data": {"values": points}, **dot},
            {
                "data": {"values": labelled},
                "mark": {"type": "text", "align": "left", "dx": 6, "dy": -9, "fontSize": 11},
                "encoding": {"x": x, "y": y, "text": {"field": "bytes"}},
            },
        ],
    }


def points_spec(points: Sequence[Row]) -> Spec:
    """Bytes of RAM against predicted work: a colour a model, a shape a target."""
    fields = ("bytes of RAM", "predicted work")
    spread = [max(p[k] for p in points) / max(1e-9, min(p[k] for p in points)) for k in fields]
    x, y = (
        {
            "field": field,
            "type": "quantitative",
            "axis": {"format": "~s", "tickCount": 8},
            "scale": _axis([p[field] for p in points], log=wide > 4),
        }
        for field, wide in zip(fields, spread, strict=True)
    )
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": 380,
        "data": {"values": list(points)},
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.8},
        "encoding": {
            "x": x,
            "y": y,
            "color": {"field": "model", "type": "nominal", "title": None, "legend": _LEGEND},
            "shape": {"field": "target", "type": "nominal", "title": None, "legend": _LEGEND},
            "tooltip": [_tip(name) for name in ("model", "target", "options", *fields)],
        },
    }


_LEGEND: Spec = {"orient": "bottom", "columns": 2, "labelLimit": 300, "symbolLimit": 0}


def _axis(values: Sequence[float], *, log: bool) -> Spec:
    """A scale over all values with some room; logarithmic where they differ by much."""
    low, high = min(values), max(values)
    if log:
        return {"type": "log", "domain": [low / 1.15, high * 1.25], "nice": False}
    room = max(0.06 * (high - low), 0.02 * high)
    return {"zero": False, "domain": [max(0, low - room), high + 2 * room], "nice": False}


def _point(point: Mapping[str, Any], options: str) -> Row:
    return {
        "arena": point["arena"],
        "work": point["cost_ratio"],
        "options": options,
        "bytes": f"{point['arena']:,}",
        "predicted work": f"{point['cost']:,.0f}",
        "proved": "least" if point["proved"] else f"none below {point['bound']:,}",
        "bound by": printable(point["binding"], NAME_COLUMNS),
    }


def _together(points: Sequence[Row]) -> list[Row]:
    """Options that come to the same are one point, so that none hides another."""
    found: dict[tuple[int, float], Row] = {}
    for p in points:
        at = (p["arena"], p["work"])
        found[at] = {**p, "options": f"{found[at]['options']}, or {p['options']}"} if at in found else p
    return list(found.values())


def _labelled(points: Sequence[Row], log: bool) -> list[Row]:
    """Points whose label has room: each a tenth of the width from the one before, the least always."""
    from math import log as ln

    def where(p: Row) -> float:
        return ln(p["arena"]) if log else p["arena"]

    ordered = sorted(points, key=lambda p: p["arena"])
    width = max(1e-9, where(ordered[-1]) - where(ordered[0]))
    kept = ordered[:1]
    for p in ordered[1:]:
        if (where(p) - where(kept[-1])) / width > 0.1:
            kept.append(p)
    return kept


def _tip(field: str) -> Spec:
    return {"field": field, "title": field}
