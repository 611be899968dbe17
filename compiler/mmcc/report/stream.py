# SPDX-License-Identifier: Apache-2.0
"""What the report says of a model that is run hop by hop."""

from __future__ import annotations

from typing import Any

from mmcc.errors import NAME_COLUMNS, printable
from mmcc.ir.streaming import Streaming
from mmcc.report.model import Report


def stream_entry(streaming: Streaming, report: Report) -> dict[str, Any]:
    """Plain values: rows of a hop and how far outputs lag behind, bytes of states, work of a hop."""
    return {
        "input": streaming.input,
        "axis": streaming.axis,
        "hop": streaming.hop,
        "window": streaming.window,
        "latency": streaming.latency,
        "state_bytes": report["ram"]["state"],
        "macs": report["plan"]["macs"],
        "outputs": [
            {"name": each.name, "axis": each.axis, "hop": each.hop, "latency": each.lag}
            for each in streaming.outputs
        ],
    }


def stream_text(stream: dict[str, Any]) -> str:
    """The same in one line."""
    outputs = [
        f"{_rows(each['hop'])} of {printable(each['name'], NAME_COLUMNS)}"
        + (f" ({_rows(each['latency'])} late)" if each["latency"] else "")
        for each in stream["outputs"]
        if each["hop"]
    ]
    if stream["window"]:
        outputs.append(f"the newest {stream['window']} rows seen")
    return (
        f"a hop of {_rows(stream['hop'])} gives {', '.join(outputs)}; "
        f"{stream['state_bytes']:,} bytes of states, {stream['macs']:,} multiply-accumulates a hop"
    )


def _rows(count: int) -> str:
    return f"{count} row{'s' if count != 1 else ''}"
