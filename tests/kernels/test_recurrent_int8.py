# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers in integers: whole packages, streams, and what a step costs on boards."""

from __future__ import annotations

from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import save
from mmcc.verification.tally import RECURRENT_RATE
from op_cases_recurrent_int8 import cells, recurrent_int8_cases
from qemu_bench import QemuBench
from recurrent_models import behind_convolution, quantized_layer
from toolchains import ready

PLANS = {
    "layers": {},
    "rows": {"ram": "min", "io": "rows"},
    "staged": {"weights": "staged"},
}
# instructions for each multiply-accumulate of one step, by inputs and units; a little above the counts
MOST = {
    "cortex-m4": {(64, 64): 1.38, (128, 128): 1.175, (28, 20): 2.17},
    "cortex-m55": {(64, 64): 0.369, (128, 128): 0.28, (28, 20): 0.815},
}


def sample(given: dict[str, np.ndarray], folder: Path) -> Path:
    np.savez(folder / "inputs.npz", **{f"input_{k}": value[None] for k, value in enumerate(given.values())})
    return folder / "inputs.npz"


@pytest.mark.parametrize(("plan", "op"), [*zip(PLANS, ("LSTM", "GRU", "LSTM"), strict=True)])
def test_every_plan_gives_the_references_values(plan, op, tmp_path):
    """compile runs the C against the references by itself; verify asks ONNX Runtime."""
    model, given = quantized_layer(op, 3, both=op == "GRU")
    path = save(model, tmp_path)
    mmcc.compile_model(path, tmp_path / "m", **PLANS[plan])
    found = mmcc.verify(tmp_path / "m", data=sample(given, tmp_path), per_node=True)
    assert found["ok"]
    assert found["mismatch_rate"] <= 2 * RECURRENT_RATE


@pytest.mark.parametrize(
    ("op", "taps", "target"), [("LSTM", 0, "cortex-m55"), ("GRU", 0, "host"), ("LSTM", 7, "host")]
)
def test_streamed_is_whole(op, taps, target, tmp_path):
    """h of 16 bits and c of 32 are what a hop hands on: the outputs are those of the whole, to the bit.

    Behind a convolution that looks ahead, too, whose first rows come before the sequence. Vectors keep the
    bytes of h apart while they work, and hand it on whole.
    """
    model, given = quantized_layer(op, 5, initial=True)
    path = save(behind_convolution(model, taps) if taps else model, tmp_path)
    mmcc.compile_model(path, tmp_path / "whole")
    streamed = mmcc.compile_model(path, tmp_path / "streamed", stream="x:0", target=target)
    held = [state["bytes"] for state in streamed.report["ram"]["states"]]
    assert held[-2:] == ([2 * 16, 4 * 16] if op == "LSTM" else [2 * 16]) or taps
    assert streamed.report["stream"]["outputs"][0]["latency"] == taps // 2
    kept = {}
    for name, on in (("whole", "host"), ("streamed", "host" if target == "host" else "qemu")):
        to = tmp_path / f"{name}.npz"
        assert mmcc.verify(tmp_path / name, data=sample(given, tmp_path), save_outputs=to, on=on)["ok"]
        kept[name] = np.load(to)
    assert len(kept["whole"].files) > 0
    for key in kept["whole"]:
        np.testing.assert_array_equal(kept["whole"][key], kept["streamed"][key])


@pytest.mark.parametrize("target", MOST)
def test_what_a_step_costs(target):
    bench = QemuBench([cells(f"{k}_{h}", 1, k, "lstm", h) for k, h in MOST[target]], ready(target))
    bench.check_all()
    for (inputs, units), most in MOST[target].items():
        products = 4 * units * (inputs + units)
        assert bench.instructions(f"{inputs}_{units}") <= most * products


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "rv32imac"])
def test_every_case_on_boards_without_vectors(target):
    QemuBench(recurrent_int8_cases(), ready(target)).check_all()
