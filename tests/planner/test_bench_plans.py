# SPDX-License-Identifier: Apache-2.0
"""The table of plans: figures that are kept, and the deep nets that it makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from bench_plans import Kept, Planned, Row, source_trees
from deep_networks import KINDS, deep

ROW = Row(3, 128, {"least": Planned(96, 0, 0.25, False, 1.5)}, 70)


def never() -> Row:
    raise AssertionError("made again")


@pytest.mark.quick
def test_figures_are_kept_for_the_same_model_of_the_same_sources(tmp_path: Path) -> None:
    model, kept = tmp_path / "a.onnx", tmp_path / "kept"
    model.write_bytes(b"one")
    assert Kept(kept, ["tree", 300]).row(model, lambda: ROW) == ROW
    assert Kept(kept, ["tree", 300]).row(model, never) == ROW
    assert Kept(kept, ["another tree", 300]).row(model, lambda: "too long") == "too long"
    assert Kept(kept, ["another tree", 300]).row(model, never) == "too long"
    model.write_bytes(b"two")
    with pytest.raises(AssertionError, match="made again"):
        Kept(kept, ["tree", 300]).row(model, never)


@pytest.mark.quick
def test_figures_are_of_the_compiler_and_of_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs, and what may lie where, come from the files of targets."""
    said = {"status": "", "rev-parse": "one\ntwo\n"}
    asked: list[list[str]] = []

    def git(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[4:])
        return subprocess.CompletedProcess(command, 0, said[command[3]])

    monkeypatch.setattr(subprocess, "run", git)
    assert source_trees() == ["one", "two"]
    assert asked == [["--porcelain", "compiler", "targets"], ["HEAD:compiler", "HEAD:targets"]]
    said["status"] = " M targets/cortex-m4.toml\n"
    with pytest.raises(SystemExit, match="commit what changed in compiler/ or targets/"):
        source_trees()


@pytest.mark.quick
def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    model = tmp_path / "a.onnx"
    model.write_bytes(b"one")
    kept = Kept(None, [])
    assert kept.row(model, lambda: "too long") == "too long"
    assert kept.row(model, lambda: ROW) == ROW


@pytest.mark.quick
@pytest.mark.parametrize("kind", list(KINDS))
def test_deep_nets_are_models_of_about_as_many_nodes(kind: str) -> None:
    made = deep(kind, 40)
    onnx.checker.check_model(made, full_check=True)
    assert 40 <= len(made.graph.node) < 80
