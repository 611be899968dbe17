# SPDX-License-Identifier: Apache-2.0
"""What `make demo-train` shows: a board learns inverted digits in 40 KiB, and keeps what it learned."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from toolchains import ready

LEARN = Path(__file__).parents[2] / "examples" / "digits" / "learn.py"


def test_the_digits_are_learned(tmp_path: Path) -> None:
    ready("cortex-m4")
    spec = importlib.util.spec_from_file_location("digits_learn", LEARN)
    assert spec is not None
    assert spec.loader is not None
    learn = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(learn)
    board, again = learn.demonstrate(["inverted"], tmp_path)["inverted"]
    assert len(board.right) == 1 + learn.EPOCHS
    assert board.right[0] < 0.25 * 180
    assert board.right[-1] >= 0.8 * 180
    assert board.losses[-1] < 0.2 * board.losses[0]
    assert again.right == board.right[-1:], "the parameters that were kept"
