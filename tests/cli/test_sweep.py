# SPDX-License-Identifier: Apache-2.0
"""Sweeps: every combination once, whatever ends them or dies in the middle."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import onnx
import pytest
from cli_runs import MODEL, run
from mmcc.cli.sweep import limits_of
from mmcc.driver.estimate import estimate
from mmcc.driver.sweep import RESULTS, pareto, sweep
from mmcc.driver.sweep_cases import Case
from mmcc.errors import CompileError

CASES = [Case("m", "t", "arena", ram) for ram in range(6)]


def counted(case: Case) -> dict:
    """Stands in for planning: leaves a mark, and dies for one case the first time, for another always."""
    marks = Path(os.environ["SWEEP_MARKS"])
    with (marks / str(case.ram)).open("a") as stream:
        stream.write("x")
    if case.ram == 5 or (case.ram == 2 and (marks / "2").read_text() == "x"):
        os._exit(9)
    row = {"model": "m", "target": "t", "io": "arena", "ram": case.ram}
    return {**row, "fits": True, "error": "", "total": case.ram, "predicted": 9 - case.ram}


def test_a_process_that_dies_loses_nothing_and_nothing_is_done_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_MARKS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    rows = sweep(CASES, tmp_path / "out", jobs=2, work=counted)
    assert [row["fits"] for row in rows] == [True] * 5 + [False]
    assert "ended without a word" in rows[5]["error"]
    lines = (tmp_path / "out" / RESULTS).read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 6
    before = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert sweep(CASES, tmp_path / "out", jobs=2, work=counted) == rows
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.quick
def test_a_sweep_that_was_ended_goes_on(tmp_path):
    args = ("sweep", MODEL, "--targets", "cortex-m4,stm32f411re", "-j", 1, "-o", tmp_path / "s")
    first = json.loads(run(*args, "--ram", "min", "--json").stdout)["rows"]
    found = estimate(MODEL, "cortex-m4")
    assert (first[0]["arena"], first[0]["total"]) == (found.least_arena, found.least_ram)
    assert first[1]["arena"] == first[0]["arena"]
    file = tmp_path / "s" / RESULTS
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])  # as if it had been ended while a line was written
    again = json.loads(run(*args, "--ram", "min,4K:16K", "--json").stdout)
    assert [row for row in again["rows"] if row["ram"] == 0] == first
    assert whole.splitlines()[0] in file.read_bytes()
    assert len(file.read_bytes().splitlines()) == len(again["rows"]) == 8
    assert all(row["total"] <= row["ram"] for row in again["rows"] if row["ram"] and row["fits"])
    table = list(csv.DictReader((tmp_path / "s" / "table.csv").open()))
    assert [int(row["arena"]) for row in table] == [row["arena"] for row in again["rows"]]
    assert (tmp_path / "s" / "sweep.html").read_text().count("data-spec>") == 1


@pytest.mark.quick
def test_models_that_cannot_be_planned_are_rows_too(tmp_path):
    (tmp_path / "x.onnx").write_text("no model")
    result = run(
        "sweep", tmp_path / "x.onnx", tmp_path / "absent.onnx", "-j", 1, "-o", tmp_path / "s", "--json"
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["error"][:3] for row in rows] == ["MM1", "MM1"]
    assert json.loads(result.stdout)["pareto"] == []


@pytest.mark.quick
def test_limits_and_pareto():
    assert limits_of("min,8K:32K,8K,100") == [0, 8192, 16384, 32768, 100]
    rows = [
        {"model": "m", "target": "t", "io": "arena", "fits": fits, "total": ram, "predicted": work}
        for ram, work, fits in ((1, 9, True), (2, 8, True), (3, 8, True), (1, 9, True), (0, 0, False))
    ]
    assert pareto(rows) == rows[:2]


@pytest.mark.quick
def test_a_range_of_limits_goes_up() -> None:
    with pytest.raises(CompileError, match="from more to less"):
        limits_of("4K:1K")


def counted_by_model(case: Case) -> dict:
    """Stands in for planning: says how large the target's file is now."""
    row = {"model": case.model, "target": case.target, "io": "arena", "ram": 0, "fits": True, "error": ""}
    return {**row, "total": len(Path(case.target).read_text()), "predicted": 1}


def test_what_a_result_is_of_is_measured_again_when_it_has_changed(tmp_path, monkeypatch):
    """A target's file, and the external data of a model, as well as the model."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    target, weights, model = (tmp_path / name for name in ("t.toml", "w.bin", "m.onnx"))
    target.write_text("1")
    weights.write_bytes(bytes(4))
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    onnx.save(onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="g", initializer=[tensor])), model)
    cases = [Case(str(model), str(target), "arena", 0)]

    def measured() -> int:
        sweep(cases, tmp_path / "out", jobs=1, work=counted_by_model)
        return len((tmp_path / "out" / RESULTS).read_text().splitlines())

    assert [measured(), measured()] == [1, 1]
    target.write_text("22")
    assert measured() == 2
    weights.write_bytes(bytes(3) + b"x")
    assert measured() == 3


@pytest.fixture
def cluster(monkeypatch):
    """Two workers, processes of their own; a nanny each, which starts it again if it dies."""
    if os.environ.get("CI") != "true":
        pytest.importorskip("distributed")
    import dask
    from distributed import LocalCluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    settings = {"distributed.scheduler.allowed-failures": 2, "distributed.worker.memory.terminate": False}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as there,
    ):
        yield there.scheduler_address.replace("tcp://", "dask://")


def test_workers_of_a_cluster_that_die_lose_nothing(cluster, tmp_path, monkeypatch):
    """One dies in the middle, once; one case kills each that it comes to."""
    (tmp_path / "marks").mkdir()
    monkeypatch.setenv("SWEEP_MARKS", str(tmp_path / "marks"))
    cases = [Case(str(tmp_path / "marks"), "t", "arena", ram) for ram in range(6)]
    rows = sweep(cases, tmp_path / "out", executor=cluster, work=counted_there)
    assert [row["fits"] for row in rows] == [True] * 5 + [False]
    assert "ended without a word" in rows[5]["error"]
    lines = (tmp_path / "out" / RESULTS).read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 6
    assert (tmp_path / "marks" / "2").read_text() == "xx"
    before = {path.name: path.read_text() for path in (tmp_path / "marks").iterdir()}
    assert sweep(cases, tmp_path / "out", executor=cluster, work=counted_there) == rows
    assert {path.name: path.read_text() for path in (tmp_path / "marks").iterdir()} == before
    # models and targets go there with the cases
    own = tmp_path / "own.toml"
    own.write_text('same_as = "cortex-m4"\n')
    args = ("sweep", MODEL, "--targets", f"cortex-m4,{own}", "--json")
    found = json.loads(run(*args, "--executor", cluster, "--parquet", "-o", tmp_path / "s").stdout)["rows"]
    assert found == json.loads(run(*args, "-j", 1, "-o", tmp_path / "l").stdout)["rows"]
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "s" / "table.parquet")
    assert parquet.column("arena").to_pylist() == [row["arena"] for row in found]


def counted_there(case: Case) -> dict:
    """As `counted`, on a worker that was started before the test knew its folder: the case has it."""
    os.environ["SWEEP_MARKS"] = case.model
    return counted(case)
