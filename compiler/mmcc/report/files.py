# SPDX-License-Identifier: Apache-2.0
"""The report as files: report.json, report.txt and report.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from mmcc.report.html import render_html
from mmcc.report.model import Report
from mmcc.report.text import render_text


def write_report(made: Path, report: Report) -> None:
    """Write all of them into the folder `made`."""
    (made / "report.json").write_text(_json(report))
    (made / "report.txt").write_text(render_text(report))
    (made / "report.html").write_text(render_html(report))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    return cast(Any, value).item() if isinstance(value, np.generic) else str(value)
