# SPDX-License-Identifier: Apache-2.0
"""What the report says of a model that is run hop by hop."""

from __future__ import annotations

from typing import Any

from mmcc.errors import NAME_COLUMNS, printable
from mmcc.ir.streaming import StreamedOutput, Streaming
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
            {
                "name": each.name,
                "axis": each.axis,
                "hop": each.hop,
                "latency": each.lag,
                "rows_at_end": _rows_at_end(streaming, each),
                "rows_by_flush": each.tail,
            }
            for each in streaming.outputs
        ],
        "no_flush": streaming.no_flush,
    }


def _rows_at_end(streaming: Streaming, output: StreamedOutput) -> int:
    """Rows that the whole model gives of its own sequence, and its hops do not: they see where it ends."""
    given = streaming.rows // streaming.hop * output.hop - output.lag
    return max(0, output.rows - given) if output.hop else 0


def stream_text(stream: dict[str, Any]) -> str:
    """The same in one line."""
    outputs = [
        f"{_rows(each['hop'])} of {printable(each['name'], NAME_COLUMNS)}"
        + _remarks(each, stream["no_flush"])
        for each in stream["outputs"]
        if each["hop"]
    ]
    if stream["window"]:
        outputs.append(f"the newest {stream['window']} rows seen")
    return (
        f"a hop of {_rows(stream['hop'])} gives {', '.join(outputs)}; "
        f"{stream['state_bytes']:,} bytes of states, {stream['macs']:,} multiply-accumulates a hop"
    )


def _remarks(output: dict[str, Any], no_flush: str) -> str:
    late, at_end, flushed = output["latency"], output["rows_at_end"], output["rows_by_flush"]
    remarks = [f"{_rows(late)} late"] if late else []
    if flushed:
        remarks.append(f"the last {_rows(flushed)} by flush")
    elif at_end:
        why = f": {printable(no_flush, 120)}" if no_flush else ""
        remarks.append(f"not the last {_rows(at_end)} of the model's own sequence{why}")
    return f" ({', '.join(remarks)})" if remarks else ""


def _rows(count: int) -> str:
    return f"{count} row{'s' if count != 1 else ''}"
