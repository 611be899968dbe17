# SPDX-License-Identifier: Apache-2.0
"""Folders for work in progress vanish, and packages stay, whenever a signal comes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import mmcc
import pytest

PROGRAM = """
import os, signal, sys
from pathlib import Path
from mmcc.scratch import ScratchFolder, end_by

def told_after(change, times=2):
    def changed(*args, **named):
        done = change(*args, **named)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGTERM)
        return done
    return changed

def leave(number):
    raise SystemExit(128 + number)

end_by(signal.SIGTERM, leave)
"""
MADE = """
os.mkdir = told_after(os.mkdir)
with ScratchFolder(".mmcc-", Path(sys.argv[1])):
    print("not reached")
"""
REMOVED = """
with ScratchFolder(".mmcc-", Path(sys.argv[1])) as folder:
    (Path(folder) / "a").mkdir()
    (Path(folder) / "b").mkdir()
    os.rmdir = told_after(os.rmdir)
print("not reached")
"""
IN_USE = """
with ScratchFolder(".mmcc-", Path(sys.argv[1])) as folder:
    (Path(folder) / "a").write_text("")
    os.kill(os.getpid(), signal.SIGTERM)
    print("not reached")
"""
SWAPPED = """
from mmcc.package.folder import replace_folder
out = Path(sys.argv[1]) / "out"
with ScratchFolder(".mmcc-", Path(sys.argv[1])) as folder:
    made = Path(folder) / "package"
    made.mkdir()
    (made / "new.c").write_text("new")
    Path.rename = told_after(Path.rename)
    replace_folder(made, out)
print("not reached")
"""


@pytest.mark.quick
@pytest.mark.skipif(sys.platform != "linux", reason="needs signals")
@pytest.mark.parametrize("moment", [MADE, REMOVED, IN_USE], ids=["made", "removed", "in use"])
def test_nothing_stays(moment, tmp_path):
    done = ended(moment, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.quick
@pytest.mark.skipif(sys.platform != "linux", reason="needs signals")
def test_what_is_replaced_is_there_whole(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.c").write_text("mine")
    done = ended(SWAPPED, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.c", "new.c"]


def ended(moment: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A program that signals of SIGTERM reach at `moment`."""
    command = [sys.executable, "-c", PROGRAM + moment, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=False)


@pytest.mark.quick
def test_all_use_these_folders():
    """And none of tempfile's own, which stay behind if a signal comes just after they are made."""
    root = Path(mmcc.__file__).parent
    found = {
        path.name
        for path in root.rglob("*.py")
        if re.search(r"tempfile\.\w|from tempfile", path.read_text(encoding="utf-8"))
    }
    assert found == {"scratch.py"}
