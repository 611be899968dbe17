# SPDX-License-Identifier: Apache-2.0
"""What the summary of a package says is proved of its arena, where several entries share it."""

from __future__ import annotations

import copy
from pathlib import Path

import mmcc
import pytest
from mmcc.api import TrainOptions
from mmcc.cli.compile import show_compiled
from mmcc.report.text import saved_text, shared_proof_text
from test_made_again import chain

Report = dict


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    folder = tmp_path_factory.mktemp("proof")
    train = TrainOptions(optimizer="momentum")
    given = {"name": "net", "ram": "min", "recompute": 1.4, "self_check": False}
    return mmcc.compile_training(chain(folder, 2), folder / "net", train, **given).report


def with_plans(report: Report, **proved: bool) -> Report:
    """The report with what is said to be proved of each entry's plan."""
    changed = copy.deepcopy(report)
    for entry in (changed, *changed["entries"]):
        entry["plan"] |= {"proved_optimal": proved[entry["entry"]], "lent": 0}
    return changed


def test_the_arena_is_that_of_the_entry_that_needs_most(report: Report) -> None:
    run, (step,) = report, report["entries"]
    assert step["plan"]["arena"] > run["plan"]["arena"]
    said = shared_proof_text(with_plans(report, run=True, train_step=False))
    assert said.startswith("train_step: best found, none below ")
    assert "proved" not in said
    assert shared_proof_text(with_plans(report, run=False, train_step=True)).startswith("train_step: proved")


def test_a_proof_for_the_values_kept_is_none_for_others(report: Report) -> None:
    said = with_plans(report, run=True, train_step=True)
    (step,) = said["entries"]
    assert step["saved"]["proved"]
    assert shared_proof_text(said) == "train_step: proved least"
    assert saved_text(step["saved"]).endswith("no other needs a smaller arena over the same rows (proved)")
    step["saved"]["proved"] = False
    assert "bytes of arena over the same rows" in saved_text(step["saved"])  # columns were not tried as rows
    assert shared_proof_text(said) == "train_step: proved least with these values kept"


def test_the_summary_has_the_work_of_each_entry(report: Report, capsys) -> None:
    show_compiled("net", report, Path("net_c"))
    printed = capsys.readouterr().out
    assert f"{report['ram']['arena']:,}  (train_step: " in printed
    for entry in (report, *report["entries"]):
        assert f"work      {entry['entry']}: " in printed
    assert "saved     train_step: " in printed
