# SPDX-License-Identifier: Apache-2.0
"""A sample of the differential fuzzing, and the models it found something with; `make fuzz` runs more."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from toolchains import ready

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import fuzz_differential
from fuzz_differential import check_model, made_up, make_model, runs
from fuzz_forms import FORMS
from fuzz_options import check_drawn, drawn_model
from fuzz_outcome import Finding, Outcome, in_process
from fuzz_programs import Model, compile_trial, first_trials

SEED, GRAPHS, PARTS = 20, 50, 10  # 160 s of CPU; the campaign has thousands
LAYERS = 1  # drawn for a model: smaller than in the campaign
FOUND = sorted((Path(__file__).resolve().parents[1] / "found").glob("*.onnx"))


def problems(model: onnx.ModelProto, seed: tuple[int, int]) -> list[str]:
    outcome = check_model(model, seed)
    # How long a graph took is the campaign's to judge: on a busy machine even CPU seconds are more.
    judged = [f for f in outcome.findings if not (f.kind == "slow" and f.text.endswith("s of CPU"))]
    return [f"seed {seed}: [{f.kind}] {f.words}: {f.text}" for f in judged]


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_what_was_found_is_right(path: Path) -> None:
    ready("host")
    assert problems(onnx.load(path), (0, 0)) == []


@pytest.mark.parametrize("part", range(PARTS))
def test_random_models_agree_under_all_plans(part: int) -> None:
    ready("host")
    for number in range(part, GRAPHS, PARTS):
        assert problems(make_model((SEED, number), LAYERS), (SEED, number)) == []


def test_the_campaign_draws_models_of_the_layers_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ready("host")
    drawn: list[onnx.ModelProto] = []

    def checked(model: onnx.ModelProto, seed: tuple[int, int], boards: bool) -> Outcome:
        drawn.append(model)
        return Outcome(kind="float")

    monkeypatch.setattr(fuzz_differential, "check_model", checked)
    words = ["--graphs", "3", "--seed", str(SEED)]
    assert fuzz_differential.main([*words, "--layers", str(LAYERS)]) == 0
    assert drawn == [make_model((SEED, k), LAYERS) for k in range(3)]
    drawn.clear()
    assert fuzz_differential.main(words) == 0
    assert drawn == [make_model((SEED, k), fuzz_differential.LAYERS) for k in range(3)]
    with pytest.raises(SystemExit):
        fuzz_differential.main([*words, "--layers", "0"])


def test_behaviour_that_is_undefined_traps_and_is_told(tmp_path: Path) -> None:
    ready("host")
    model = make_model((SEED, 0), LAYERS)
    onnx.save(model, tmp_path / "model.onnx")
    samples = made_up(model, 1, np.random.default_rng(0))
    built = compile_trial(Model(tmp_path / "model.onnx"), tmp_path, first_trials()[0])
    source = tmp_path / "p10" / "p10.c"
    planted = "    volatile int32_t most = INT32_MAX;\n    most = most + 1;\n"
    source.write_text(re.sub(r"(p10_run\([^;{]*\)\n\{\n)", rf"\1{planted}", source.read_text(), count=1))
    assert planted in source.read_text()
    outcome = Outcome()
    ended = [words for words, *_ in runs([built], samples, np.random.default_rng(0), tmp_path, outcome)]
    assert not any("sanitize" in words for words in ended)
    assert "signed integer overflow" in outcome.findings[0].text


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_of_models_with_other_options(form: str) -> None:
    """A sample of `bench/fuzz_options.py`, a model of each form."""
    ready("host")
    drawn, seed = next((m, s) for k in range(100) if (m := drawn_model(s := (SEED, k), 1)).form == form)
    outcome = check_drawn(drawn, seed)
    assert [f for f in outcome.findings if f.kind != "slow"] == []


def test_long_findings_come_whole_out_of_their_process() -> None:
    """More than a pipe holds at once."""
    long = [Finding("run", f"--ram {k}", "x" * 4000) for k in range(100)]
    assert in_process(lambda: Outcome(long), 60).findings == long
