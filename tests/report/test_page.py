# SPDX-License-Identifier: Apache-2.0
"""report.html: one file without anything from elsewhere, drawn by a real browser."""

from __future__ import annotations

import html
import json
import re

import pytest
from browser import needs_browser, page_in_browser
from cli_runs import MODEL, run
from frontend_models import model_of, save
from hint_runs import FLOATS, X, node
from mmcc.report.html import render_html
from mmcc.report.pictures import frontier_spec, overlaps

EVIL = '</script><script>alert("&1")</script>'


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "out"
    result = run("compile", MODEL, "-t", "cortex-m4", "--stack", "1K", "-o", out)
    assert result.exit_code == 0, result.output
    return out


def data_in(page):
    """What the pictures of a page are drawn from."""
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]


@pytest.mark.quick
def test_a_page_needs_nothing_from_elsewhere_and_has_what_the_report_has(package):
    page, report = (package / "report.html").read_text(), json.loads((package / "report.json").read_text())
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page.split('<script id="pictures"')[0]) == []
    for part in ("total", "arena", "stack"):
        assert f"{report['ram'][part]:,}" in page
    arena, *bars, graph = data_in(page)
    drawn = {row["name"]: row["size"] for row in arena["layer"][0]["data"]["values"]}
    assert drawn == {b["name"]: b["size"] for b in report["plan"]["buffers"]}
    peak = arena["layer"][2]["data"]["values"][0]["peak"]
    assert peak == report["ram"]["arena"]
    macs = next(spec for spec in bars if spec["encoding"]["x"]["field"] == "multiply-accumulates")
    assert sum(row["multiply-accumulates"] for row in macs["data"]["values"]) == report["model"]["macs"]
    alive = [row["bytes alive"] for row in macs["data"]["values"]]
    assert max(alive) == report["ram"]["arena"]
    rows = set(re.findall(r'<tr id="([^"]+)">', page))
    assert {n["href"][1:] for n in graph["nodes"]} == rows
    assert len(graph["edges"]) >= len(graph["nodes"]) - 1


@pytest.mark.quick
def test_overlaps_are_those_in_bytes_and_in_time():
    def buffer(name, offset, end, first, last):
        return {"name": name, "offset": offset, "end": end, "from": first, "to": last}

    a, b = buffer("a", 0, 10, 0, 2), buffer("b", 4, 20, 1, 3)
    assert [(o["offset"], o["end"], o["from"], o["to"]) for o in overlaps([a, b])] == [(4, 10, 1, 2)]
    assert overlaps([a, buffer("c", 10, 20, 0, 2), buffer("d", 0, 10, 2, 3)]) == []


@pytest.mark.quick
def test_names_of_a_model_are_text(tmp_path):
    model = model_of([node("Conv", ["x", "w"], ["y"], name=EVIL)], X, ["y"], {"w": FLOATS})
    model.graph.name = EVIL
    path = save(model, tmp_path)
    assert run("compile", path, "--stack", "1K", "--no-self-check", "-o", tmp_path / "out").exit_code == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert EVIL not in page
    assert html.escape(EVIL, quote=False)[:20] in page.replace("&#34;", '"')
    assert any("alert" in json.dumps(data) for data in data_in(page))


@pytest.mark.quick
def test_far_apart_values_get_logarithmic_axes_and_labels_keep_apart():
    def point(arena, work):
        known = {"cost": 1e6 * work, "proved": True, "bound": arena, "binding": "conv"}
        return {"arena": arena, "cost_ratio": work, **known}

    near = [point(1000 + k, 1 + k / 1e3) for k in range(5)]
    spec = frontier_spec({"frontier": near, "other": []}, "t", width=600)
    x = spec["layer"][0]["encoding"]["x"]
    assert x["scale"].get("type") != "log"
    far = {
        "frontier": [*near, point(100_000, 9.0)],
        "other": [{"options": "--io rows", **point(90_000, 9.0)}],
    }
    spec = frontier_spec(far, "t", width=600)
    x, y = (spec["layer"][0]["encoding"][axis] for axis in "xy")
    assert (x["scale"]["type"], y["scale"]["type"]) == ("log", "log")
    labels = [row["arena"] for row in spec["layer"][2]["data"]["values"]]
    assert labels == [1000, 100_000]


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)], ids=["light", "phone, dark"])
def test_a_browser_draws_all_pictures(package, width, dark):
    given = data_in((package / "report.html").read_text())
    page = page_in_browser(package / "report.html", width, dark=dark)
    assert "data-failed" not in page.split(">", 2)[1]
    assert f'data-drawn="{len(given)}"' in page
    widths = [int(text) for text in re.findall(r'<svg[^>]* class="marks" width="(\d+)', page)]
    assert len(widths) == len(given)
    assert max(widths[:-1]) <= width
    marks = len(re.findall(r'role="graphics-symbol"[^>]*aria-roledescription="rect mark"', page))
    assert marks >= len(given[0]["layer"][0]["data"]["values"])


@needs_browser
def test_a_page_with_frontier_and_counts(package, tmp_path):
    """Of a package whose report is extended afterwards."""
    report = json.loads((package / "report.json").read_text())
    found = json.loads(
        run("analyze", MODEL, "-t", "cortex-m4", "--json", "--html", tmp_path / "a.html").stdout
    )
    counts = {"instructions": 7, "per_node": [{"index": report["nodes"][0]["index"], "instructions": 7}]}
    (tmp_path / "r.html").write_text(render_html(report, {"run": found}, {"run": counts}))
    assert 'data-drawn="1"' in page_in_browser(tmp_path / "a.html")
    page = page_in_browser(tmp_path / "r.html")
    assert f'data-drawn="{len(data_in((tmp_path / "r.html").read_text()))}"' in page
    assert all(f"{row['arena']:,}" in page for row in (*found["frontier"], *found["other"]))


@pytest.mark.quick
def test_the_command_writes_the_page_elsewhere(package, tmp_path):
    result = run("report", package, "-o", tmp_path / "p.html")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.html").read_text() == (package / "report.html").read_text()
