# SPDX-License-Identifier: Apache-2.0
"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


DOCS = ROOT / "docs"


DIGITS = ROOT / "examples" / "digits"


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Fenced blocks of a page: language and text."""
    for found in re.finditer(r"^```(\S*)[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        yield found[1], found[2]
