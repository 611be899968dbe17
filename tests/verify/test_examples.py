# SPDX-License-Identifier: Apache-2.0
"""What `make demo-llm` and `make demo-stream` show, and that their models are trained by gradients."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mmcc.verification.oracle import Oracle
from toolchains import ready

Weights = dict[str, np.ndarray]

EXAMPLES = Path(__file__).parents[2] / "examples"


def script(monkeypatch: pytest.MonkeyPatch, example: str, name: str) -> ModuleType:
    """A script of an example, which imports those beside it by their names."""
    monkeypatch.syspath_prepend(str(EXAMPLES / example))
    spec = importlib.util.spec_from_file_location(f"{example}_{name}", EXAMPLES / example / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_language_model_writes_stories(tmp_path, monkeypatch):
    ready("cortex-m4")
    write = script(monkeypatch, "tiny_llm", "write")
    prompts = [write.PROMPTS[1], write.Prompt("once", 0.7, 4)]
    board = write.demonstrate(prompts, tmp_path)
    assert [write.faults(words) for words in board.stories] == [[], []]
    assert board.stories[0] == write.by_onnx_runtime(prompts[:1])[0]
    assert len(board.instructions) == sum(len(words) - 1 for words in board.stories)
    assert max(board.instructions) < 200_000


def test_the_language_model_is_trained_by_gradients(monkeypatch):
    """In float64, against central differences."""
    train = script(monkeypatch, "tiny_llm", "train")
    rng = np.random.default_rng(0)
    weights = {name: w.astype(np.float64) for name, w in train.initial_weights(rng, 20).items()}
    tokens, counts = rng.integers(0, 20, (2, 7)), np.ones((2, 6))
    counts[1, 4:] = 0
    _, found = train.gradients(weights, tokens, counts)
    found["embedding"] = found["embedding"][tokens[0, 2:3]]
    rows = {"embedding": tokens[0, 2]}
    _differ(lambda moved: train.gradients(moved, tokens, counts)[0], weights, found, rows)


def _differ(loss: Callable[[Weights], float], weights: Weights, found: Weights, rows: dict[str, int]) -> None:
    """Hold an element of each gradient to central differences; `rows` are those that `found` has of some."""
    rng = np.random.default_rng(1)
    for name, w in weights.items():
        at = tuple(rng.integers(extent) for extent in found[name].shape)
        place = (rows[name], *at[1:]) if name in rows else at
        losses = []
        for step in (1e-5, -1e-5):
            moved = {**weights, name: w.copy()}
            moved[name][place] += step
            losses.append(loss(moved))
        assert found[name][at] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-8), name


def test_sounds_are_heard_in_a_stream(tmp_path, monkeypatch):
    ready("cortex-m4")
    listen = script(monkeypatch, "keyword_stream", "listen")
    heard, said = listen.demonstrate(tmp_path, 12.0)
    right, wrong = listen.matched(heard, said)
    assert len(heard) >= 8
    assert [sound for sound, _ in right] == heard
    assert wrong == []
    assert len(said.instructions) == 12 * listen.RATE // listen.HOP
    assert max(said.instructions) < 95_000


def test_the_listening_network_is_trained_by_gradients(monkeypatch):
    train = script(monkeypatch, "keyword_stream", "train")
    rng = np.random.default_rng(0)
    weights = {name: w.astype(np.float64) for name, w in train.initial_weights(rng).items()}
    x, classes = rng.normal(0, 1, (2, 24, train.BANDS)), rng.integers(0, 6, (2, 24))
    counts = rng.choice([0.0, 0.3, 1.0], (2, 24))
    _, found = train.gradients(weights, x, classes, counts)
    _differ(lambda moved: train.gradients(moved, x, classes, counts)[0], weights, found, {})


def test_the_listening_network_has_the_features_it_was_trained_with(monkeypatch):
    """What training computes of samples is what the model does, up to the first trained layer."""
    train = script(monkeypatch, "keyword_stream", "train")
    audio, _ = train.recording(np.random.default_rng(7), 100 * train.HOP / train.RATE)
    oracle = Oracle(EXAMPLES / "keyword_stream" / "keyword_stream.onnx", ["x"])
    (got,) = oracle.run({"audio": audio.reshape(-1, train.HOP).T[None]})
    np.testing.assert_allclose(got[0].T, train.features(audio), atol=1e-4)
