# SPDX-License-Identifier: Apache-2.0
"""Files of the compiler have one job each, so they are short."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import mmcc
import pytest

pytestmark = pytest.mark.quick

PACKAGE = Path(mmcc.__file__).parent
MOST, LONG, TYPICAL = 400, 300, 130  # lines


def test_files_of_the_compiler_are_short() -> None:
    """None above 400 lines, nine of ten up to 300, and half of them up to 130."""
    paths = [path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts]
    lines = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in paths}
    assert {name: count for name, count in lines.items() if count > MOST} == {}
    long = {name: count for name, count in lines.items() if count > LONG}
    assert 10 * len(long) <= len(lines), long
    assert median(lines.values()) <= TYPICAL
