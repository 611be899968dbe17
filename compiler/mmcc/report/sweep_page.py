# SPDX-License-Identifier: Apache-2.0
"""A sweep as a page: RAM against predicted work of every case that fits, and the table of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcc.errors import NAME_COLUMNS, printable
from mmcc.report.html import as_script, render_page
from mmcc.report.pictures import points_spec

Row = Mapping[str, Any]
HEAD = ("model", "target", "io", "bytes of RAM", "predicted work", "bytes of flash", "proved")


def render_sweep(rows: Sequence[Row], best: Sequence[Row]) -> str:
    """The page of a sweep; `best` are those of `rows` that nothing beats."""
    points = [
        {
            "model": printable(Path(row["model"]).parent.name + "/" + Path(row["model"]).stem, NAME_COLUMNS),
            "target": row["target"],
            "options": f"{row['io']}, {row['ram'] or 'min'}",
            "bytes of RAM": row["total"],
            "predicted work": row["predicted"],
        }
        for row in rows
        if row["fits"]
    ]
    shown = [
        (
            printable(row["model"], NAME_COLUMNS),
            row["target"],
            row["io"],
            f"{row['total']:,}",
            f"{row['predicted']:,}",
            f"{row['flash']:,}",
            "least" if row["proved"] else "",
        )
        for row in best
    ]
    part = {
        "title": "RAM against predicted work",
        "note": f"{len(rows)} cases, {len(points)} fit. The table has those that no other beats in both.",
        "spec": as_script(points_spec(points)) if points else "",
        "head": HEAD,
        "rows": shown,
    }
    return render_page(title="Sweep", target="several targets", parts=[part])
