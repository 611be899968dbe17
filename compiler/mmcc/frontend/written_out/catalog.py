# SPDX-License-Identifier: Apache-2.0
"""Imports every writer, so that the registry is complete."""

# pyright: reportUnusedImport=false

from __future__ import annotations

from mmcc.frontend.written_out import counting, moves, rounding, sampling, sums  # noqa: F401
from mmcc.frontend.written_out.body import WRITERS, written_out

__all__ = ["WRITERS", "written_out"]
