# SPDX-License-Identifier: Apache-2.0
"""The papers' benchmarks: forced plans, their timing, and the tables, on small models."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from mmcc.checker.plan import check_plan
from mmcc.driver import recompute
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.planner.request import PlanRequest
from shared_models import model_path, needs_shared

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import bench_papers
import papers_mafat
import papers_mmcnn
import papers_training
from forced_plans import Chain, Part, heads, parts_of, spelled, two_groups

YOLO = "gen_yolov2_first8_160"


@pytest.mark.quick
def test_groups_are_spelled() -> None:
    assert spelled((Part(2), Part(2), Part(7, 4), Part(1))) == "2x2 7/4 1"


@pytest.mark.quick
def test_the_ways_to_cut_are_each_there_once() -> None:
    assert sorted(set(two_groups(2, (1, 2)))) == sorted(two_groups(2, (1, 2)))
    assert set(two_groups(2, (1,))) == {(Part(2),), (Part(1), Part(1))}
    assert {spelled(parts) for parts in heads(3)} == {"1x3", "1 2", "2 1", "3"}
    assert all(sum(part.nodes for part in parts) == 5 for parts in (*two_groups(5, (1, 2)), *heads(5)))


@needs_shared
@pytest.mark.quick
@pytest.mark.parametrize("parts", [(Part(8),), (Part(3), Part(5, 2)), (Part(2), *[Part(1)] * 6)])
def test_a_forced_plan_is_a_plan(parts: tuple[Part, ...]) -> None:
    graph = load_graph(model_path(YOLO), CompileOptions())
    chain = Chain(graph, PlanRequest(recompute=2.0), strips=(1, 2))
    assert chain.possible(parts)
    assert not chain.possible(parts[1:])
    plan = chain.plan(parts)
    assert parts_of(plan) == parts
    assert check_plan(graph, plan) == []


@needs_shared
@pytest.mark.slow
def test_the_sweep_times_plans_and_compares_their_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [(Part(8),), (Part(2), Part(6, 2)), (Part(1), Part(7))]
    monkeypatch.setattr(papers_mafat, "swept", lambda _: few)
    monkeypatch.setattr(papers_mafat, "model_file", model_path)
    monkeypatch.setattr(papers_mafat, "FINAL", 1)
    limit = 1 << 20
    unlimited, within, least = papers_mafat.sweep(YOLO, [limit], 60.0, tmp_path)
    assert unlimited.arena > limit >= within.ram > least.ram
    assert unlimited.fitting >= 4  # the three, and what was chosen
    assert within.fitting < unlimited.fitting
    assert all(row.ms >= row.best_ms > 0 for row in (unlimited, within, least))
    assert least.best == least.groups == "4 2x2"


@needs_shared
@pytest.mark.slow
def test_staged_weights_are_compared_with_all_in_memory(tmp_path: Path) -> None:
    row = papers_mmcnn.within(YOLO, model_path(YOLO), 1 << 20, tmp_path)
    assert row.arena < row.total <= row.limit < row.unlimited
    assert row.read >= row.file > 4 * 175_000  # its parameters


@needs_shared
@pytest.mark.quick
def test_placements_beside_a_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "papers.json"
    names = "hello_world_fp32,ic_resnet8_fp32"
    assert bench_papers.main(["--only", "sekiyama", "--networks", names, "--json", str(file)]) == 0
    assert "49.5%" in capsys.readouterr().out
    rows = json.loads(file.read_text())["sekiyama"]["rows"]
    assert [row["name"] for row in rows] == [
        f"{name}, {kind}" for name in names.split(",") for kind in ("inference", "training")
    ]
    for row in rows:
        assert row["ours"] <= row["best_fit"] <= row["no_reuse"]
        assert row["ours"] <= row["pool"] <= row["no_reuse"]


@pytest.mark.slow
def test_steps_of_training_in_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made again saves memory for the time that is allowed; no less is possible than is said."""
    monkeypatch.setattr(recompute, "MOST_PLANS", 1)
    kept = papers_training.Setting(
        "kept", "resnet18 8", 3, papers_training.M4_SD, papers_training.SUMS, 2, rows=False
    )
    again = dataclasses.replace(kept, share=1.2, goal=1e6)
    first, second = papers_training.run((kept, again))
    assert first.more_time == pytest.approx(0, abs=1e-3)
    assert first.bound == first.arena > second.arena >= second.bound > 0
    assert 0 < second.more_time <= 0.2
    assert first.total - second.total == 3 * (first.arena - second.arena)
    assert second.again
    assert not second.paged
    assert not second.reached


@pytest.mark.quick
def test_papers_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_papers.main(["--only", "nobody"])
    assert "nobody" in capsys.readouterr().err
