# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN between quantized values: one integer operator, which agrees with ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frontend_models import onnx_runtime, save
from graphs import ops
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate
from mmcc.ops.recurrent_int8 import ONE, RecurrentInt8, sigmoid_gate, tanh_gate
from mmcc.passes import optimize
from mmcc.verification.agreement import Agreement
from mmcc.verification.tally import RECURRENT_RATE, Tally, allowed
from recurrent_models import quantized_layer

pytestmark = pytest.mark.quick

FORMS = {
    "plain": {},
    "tensor_scales": {"by_rows": False},
    "backward": {"direction": "reverse"},
    "both": {"both": True},
    "sequences": {"sequences": 3},
    "begun": {"initial": 0.9},
    "begun_both": {"initial": 0.9, "both": True, "sequences": 2},
    "last": {"results": ("Y_h",)},
}


def compared(op: str, folder: Path, seed: int = 1, **form) -> tuple[Graph, np.ndarray]:
    """The optimized graph of a model, and by how many steps each output is off from ONNX Runtime's."""
    model, feeds = quantized_layer(op, seed, **form)
    graph = optimize(import_model(save(model, folder)))
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for _ in range(4):
        given = {"x": rng.normal(0, 1, feeds["x"].shape).astype(np.float32)}
        mine, theirs = evaluate(graph, given), onnx_runtime(model, given)
        found += [np.abs(mine[name] - theirs[name]).reshape(-1) * 128 for name in mine]
    return graph, np.concatenate(found)


def computing(graph: Graph) -> list[str]:
    """The operators that compute something."""
    return [kind for kind in ops(graph) if kind not in ("Concat", "Slice", "Reshape")]


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_agree_with_onnx_runtime(op, form, tmp_path):
    """At most 0.5 % of the outputs are one step off, and none more."""
    graph, off = compared(op, tmp_path, **FORMS[form])
    assert set(computing(graph)) == {"RecurrentInt8"}
    assert off.max() <= 1.01
    assert np.count_nonzero(off > 0.5) <= allowed(off.size, RECURRENT_RATE)


@pytest.mark.parametrize("seed", range(3))
def test_gru_that_resets_after_its_product(seed, tmp_path):
    graph, off = compared("GRU", tmp_path, seed, linear_before_reset=1, steps=100)
    assert all(node.op.after for node in graph.nodes if isinstance(node.op, RecurrentInt8))
    assert computing(graph) == ["RecurrentInt8"]
    assert off.max() <= 1.01
    assert np.mean(off > 0.5) <= RECURRENT_RATE


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_long_sequences_do_not_drift(op, tmp_path):
    """What is lost in a step is forgotten: the rate stays that of short sequences."""
    _, off = compared(op, tmp_path, steps=400, units=24)
    assert off.max() <= 1.01
    assert np.mean(off > 0.5) <= RECURRENT_RATE


def test_verify_judges_it_by_a_rate_of_its_own(tmp_path):
    """0.5 % of one step; scales that are 2 % too large are found."""
    model, feeds = quantized_layer("LSTM", 7, results=("Y",))
    path = save(model, tmp_path)
    graph = optimize(import_model(path))
    right = agreed(graph, path, feeds)
    assert right.recurrent
    assert right.mismatches > 0
    assert right.ok(integer=True)
    (name,) = (name for name in graph.constants if "numbers" in name)
    numbers = graph.constants[name] * np.array([[1.02], [1.02], [1]])
    wrong = replace(graph, constants=graph.constants | {name: numbers.astype(np.int32)})
    assert not agreed(wrong, path, feeds).ok(integer=True)


def agreed(graph: Graph, path: Path, feeds: dict[str, np.ndarray]) -> Tally:
    """The layer's outputs beside ONNX Runtime's."""
    agreement = Agreement(graph, path, {})
    agreement.run([*feeds.values()])
    return next(each for each in agreement.tallies.values() if each.recurrent)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"clip": 0.5}, "it clips its gates, or couples them"),
        ({"activations": ["Sigmoid", "Relu", "Tanh"]}, "its activations are not the usual ones"),
        ({"input_forget": 1}, "it clips its gates, or couples them"),
    ],
)
def test_what_has_no_integer_form_says_why(form, reason, tmp_path):
    model, _ = quantized_layer("LSTM", 0, **form)
    graph = optimize(import_model(save(model, tmp_path)))
    assert computing(graph) == ["DenseInt8ToFloat", "Recurrent", "Quantize"]
    assert reason in graph.reasons.values()


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_what_h_has_no_bits_for_stays_float(op, tmp_path):
    """An initial h is any number; what a layer makes of it is between -1 and 1."""
    graph, off = compared(op, tmp_path, initial=1.5, steps=4)
    assert "Recurrent" in ops(graph)
    assert "RecurrentInt8" not in ops(graph)
    assert any("its initial h goes up to 1." in reason for reason in graph.reasons.values())
    assert off.max() <= 1.01


def test_functions_of_gates_are_within_a_step():
    """Of 2^-15, rounding included, over all that differs from 0 and 1, and at their ends beyond."""
    values = np.arange(-(12 << 16), (12 << 16) + 1, 7, dtype=np.int64)
    real = values / 2.0**16
    assert np.abs(tanh_gate(values) - np.tanh(real) * ONE).max() < 1.4
    assert np.abs(sigmoid_gate(values) - ONE / (1 + np.exp(-real))).max() < 1
    ends = np.array([-(2**30), 2**30])
    assert tanh_gate(ends).tolist() == [-ONE, ONE - 1]
    assert sigmoid_gate(ends).tolist() == [0, ONE]
