# SPDX-License-Identifier: Apache-2.0
"""What `make demo-llm` shows, and that what its model is trained by are gradients."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from toolchains import ready

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
    assert max(board.instructions) < 280_000


def test_the_language_model_is_trained_by_gradients(monkeypatch):
    """In float64, against central differences."""
    train = script(monkeypatch, "tiny_llm", "train")
    rng = np.random.default_rng(0)
    weights = {name: w.astype(np.float64) for name, w in train.initial_weights(rng, 20).items()}
    tokens, counts = rng.integers(0, 20, (2, 7)), np.ones((2, 6))
    counts[1, 4:] = 0
    _, found = train.gradients(weights, tokens, counts)
    for name, w in weights.items():
        at = tuple(rng.integers(extent) for extent in w.shape)
        at = (tokens[0, 2], at[1]) if name == "embedding" else at
        losses = []
        for step in (1e-5, -1e-5):
            moved = {**weights, name: w.copy()}
            moved[name][at] += step
            losses.append(train.gradients(moved, tokens, counts)[0])
        assert found[name][at] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-8), name
