# SPDX-License-Identifier: Apache-2.0
"""C text as clang-format would write it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def would_change(files: list[Path]) -> str:
    """What clang-format says of them; empty if they are as it would write them."""
    program = Path(sys.executable).parent / "clang-format"  # the version that pyproject.toml names
    command = [program, f"--style=file:{ROOT / '.clang-format'}", "--dry-run", *files]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr
