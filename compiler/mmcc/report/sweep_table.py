# SPDX-License-Identifier: Apache-2.0
"""The rows of a sweep as a table: CSV, or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcc.errors import CompileError, Exit


def csv_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """CSV of all rows; what a row does not have is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def need_parquet() -> None:
    """CompileError (MM801) if the library that writes Parquet is not there."""
    try:
        import pyarrow.parquet  # noqa: F401  # pyright: ignore
    except ImportError:
        what = "--parquet needs pyarrow, which is not installed"
        hint = "pip install 'mmcc[parquet]', or table.csv, which is written anyway"
        raise CompileError("MM801", what, exit=Exit.TOOL_MISSING, hint=hint) from None


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """All rows as a Parquet file; what a row does not have is null."""
    import pyarrow
    from pyarrow import parquet

    arrow: Any = pyarrow
    writer: Any = parquet
    table = arrow.table({name: [row.get(name) for row in rows] for name in columns})
    writer.write_table(table, path)
