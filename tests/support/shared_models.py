# SPDX-License-Identifier: Apache-2.0
"""The real models beside the project: where they are, and the ones that a generator makes."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MMCC_SHARED", ROOT.parent / "shared"))
MODELS = SHARED / "models"
needs_shared = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"the shared models are not at {MODELS} (set MMCC_SHARED)"
)

QUANTIZE = """
import sys; sys.path.insert(0, {folder!r}); sys.argv = ["quantize_gen", {out!r}]
import quantize_gen as Q
Q.q("mobilenetv2_100_224", "mobilenetv2_100_224_qdq_u8s8", Q.D, Q.U, Q.S, True)
"""


def kept_models() -> list[str]:
    """Names of models whose file is there."""
    return sorted(p.parent.name for p in MODELS.glob("*/model.onnx"))


def folder_of(name: str) -> Path:
    return MODELS / name


@functools.cache
def _generated() -> Path:
    """One folder for all generated models of this test run."""
    folder = tempfile.TemporaryDirectory(prefix="mmcc-gen-")
    _KEEP.append(folder)
    return Path(folder.name)


_KEEP: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def model_path(name: str) -> Path:
    """The ONNX file of a model; generated ones are made on first use."""
    kept = MODELS / name / "model.onnx"
    if kept.is_file():
        return kept
    bare = name.removeprefix("gen_")
    made = _generated() / f"{bare}.onnx"
    if bare == "mobilenetv2_100_224_qdq_u8s8":
        script = QUANTIZE.format(folder=str(MODELS), out=str(_generated()))
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    else:
        _make(bare)
    return made


def _make(bare: str) -> None:
    script = str(MODELS / "make_models.py")
    out = str(_generated())
    subprocess.run(
        [sys.executable, script, "--out", out, "--inputs", "1", bare], check=True, capture_output=True
    )


@functools.cache
def inputs_path(name: str) -> Path:
    """The .npz of inputs of a model."""
    kept = MODELS / name / "inputs.npz"
    if kept.is_file():
        return kept
    bare = name.removeprefix("gen_")
    made = _generated() / f"{bare}.inputs.npz"
    if not made.is_file():
        _make(bare)
    return made


def outputs_path(name: str) -> Path:
    return MODELS / name / "outputs.npz"


def expected(name: str) -> np.ndarray:
    return np.load(outputs_path(name))["output_0"]
