# SPDX-License-Identifier: Apache-2.0
"""What `examples/mobilenetv2` shows: the last blocks of a larger network learn on this machine."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from pathlib import Path

import pytest

FINETUNE = Path(__file__).parents[2] / "examples" / "mobilenetv2" / "finetune.py"


def test_the_last_blocks_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("mobilenetv2_finetune", FINETUNE)
    assert spec is not None
    assert spec.loader is not None
    finetune = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(finetune)
    assert finetune.main(["--epochs", "4", "--images", "40", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", said)]
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True), said
    assert losses[-1] < math.log(10), "no better than to guess"
