# SPDX-License-Identifier: Apache-2.0
"""The table of training's figures: what it calls reached, without measuring anything."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from mmcc.training.options import TrainOptions

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import bench_steps
import bench_training

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("bytes_", "again", "reached"), [(1000, 250, True), (1001, 250, False), (1000, 251, False)]
)
def test_an_arena_counts_with_the_work_that_it_takes(monkeypatch, bytes_, again, reached):
    plan, saved = {"arena": bytes_, "bound": 10, "macs": 1000}, {"macs_again": again, "bound": 980}
    monkeypatch.setattr(bench_training, "trained", lambda *_: {"plan": plan, "saved": saved})
    (found,) = bench_training.arena("net", "all layers", TrainOptions(), 1.25, 1000)
    assert (found.reached, found.gap) == (reached, f"{bytes_ / 980 - 1:.1%}")
    assert found.seen.startswith(f"{bytes_:,} at +25.")


def step(**changed):
    same = {"arena": 6_000_000, "bound": 5_900_000, "work": 1.0, "seconds": 2.0, "reported": 8, "copied": 8}
    rest = {"name": "", "waiting": 0.01, "digest": "same bits", "finite": True}
    return bench_steps.Step(**(same | rest | changed))


@pytest.mark.parametrize(
    "changed", [{}, {"digest": "others"}, {"finite": False}, {"copied": 7}, {"seconds": 2.5}]
)
def test_a_step_that_pages_has_the_bits_the_bytes_and_the_time(monkeypatch, changed):
    steps = [step(arena=10_000_000), step(**changed)]
    monkeypatch.setattr(bench_training, "model_file", Path)
    monkeypatch.setattr(bench_steps, "run", lambda *_: iter(steps))
    (found,) = bench_training.spilled()
    assert found.reached == (not changed)


@pytest.mark.parametrize("changed", [{}, {"digest": "others"}, {"bound": 5_000_000}, {"work": 1.2}])
def test_a_step_that_makes_values_again_is_near_what_none_is_below(monkeypatch, changed):
    steps = [step(), *(step(work=share) for share in (1.002, 1.065)), step(**({"work": 1.175} | changed))]
    monkeypatch.setattr(bench_training, "model_file", Path)
    monkeypatch.setattr(bench_steps, "run", lambda *_: iter(steps))
    assert [found.reached for found in bench_training.vgg19()] == [True, True, not changed]


@pytest.mark.parametrize(
    ("right", "again", "reached"),
    [([36, 170, 165], 165, True), ([36, 170, 100], 100, False), ([36, 170, 165], 36, False)],
)
def test_a_board_knows_in_the_end_what_it_learned(monkeypatch, right, again, reached):
    """Epochs before the last do not count: what the board keeps is what the last has made."""
    monkeypatch.syspath_prepend(bench_training.ROOT / "examples" / "digits")
    learn = importlib.import_module("learn")
    boards = {
        name: (learn.Learned(right, [0.1] * 2, 0), learn.Learned([again], [], 0))
        for name in ("inverted", "shifted")
    }
    monkeypatch.setattr(learn, "demonstrate", lambda *_: boards)
    assert [found.reached for found in bench_training.digits()] == [reached] * 2


@pytest.mark.parametrize(
    ("said", "code", "reached"),
    [
        ("3 passed in 1.0s", 0, True),
        ("3 passed, 1 skipped in 1.0s", 0, False),
        ("1 failed in 1.0s", 1, False),
    ],
)
def test_a_test_that_was_skipped_has_shown_nothing(monkeypatch, said, code, reached):
    done = subprocess.CompletedProcess([], code, f"....\n==== {said} ====\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    (found,) = bench_training.passed("tests/training/test_gradients.py", goal="1e-5")
    assert found.reached == reached


def test_lines_can_be_chosen(capsys):
    assert bench_training.main(["--list"]) == 0
    assert set(bench_training.LINES) == {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    with pytest.raises(SystemExit):
        bench_training.main(["--only", "vgg20"])
    assert "vgg20 is none of gradients, " in capsys.readouterr().err
