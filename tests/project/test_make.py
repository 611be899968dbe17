# SPDX-License-Identifier: Apache-2.0
"""What the Makefile runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_bench_runs_what_wants_no_arguments():
    """It ends at the first that fails."""
    printed = subprocess.run(["make", "-n", "bench"], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = re.compile(r'add_argument\("[a-z]\w*",(?!.*nargs="[*?]")')
    alone = {path for path in ROOT.glob("bench/bench_*.py") if not wanted.search(path.read_text())}
    assert {ROOT / name for name in re.findall(r"bench/bench_\w+\.py", printed.stdout)} == alone
