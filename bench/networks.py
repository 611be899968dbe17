# SPDX-License-Identifier: Apache-2.0
"""The model set beside the project, for benchmarks: names, files, and a line of progress."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SHARED = Path(os.environ.get("MMCC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
MODELS = SHARED / "models"
QUANTIZE = """
import sys; sys.path.insert(0, {models!r}); sys.argv = ["quantize_gen", {out!r}]
import quantize_gen as Q
Q.q({name!r}, {made!r}, Q.D, Q.U, Q.S, True, {samples})
"""
SAMPLES = 8  # random ones, that ranges are taken from


def names() -> list[str]:
    """All networks: those whose file is kept, and those that the generator makes."""
    return sorted(folder.name for folder in MODELS.glob("*") if (folder / "meta.json").is_file())


def model_file(name: str) -> Path:
    """The ONNX file of a network; a generated one is made on first use, in a folder of this process."""
    kept = MODELS / name / "model.onnx"
    if kept.is_file():
        return kept
    bare, out = name.removeprefix("gen_"), _scratch().name
    made = Path(out) / f"{bare}.onnx"
    if not made.is_file():
        if bare == "mobilenetv2_100_224_qdq_u8s8":  # the one that is made by quantizing another
            return quantized("mobilenetv2_100_224", bare, Path(out))
        command = [str(MODELS / "make_models.py"), "--out", out, bare]
        subprocess.run([sys.executable, *command], check=False, capture_output=True)
    if not made.is_file():
        raise SystemExit(
            f"there is no {kept}, and make_models.py did not make {bare}; MMCC_SHARED says where"
        )
    return made


def quantized(name: str, made: str, folder: Path, samples: int = SAMPLES) -> Path:
    """A generated network as `made` in the folder, by ONNX Runtime: weights int8, a scale a filter,
    activations uint8. SystemExit with what it said if it made none."""
    program = QUANTIZE.format(models=str(MODELS), out=str(folder), name=name, made=made, samples=samples)
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{name} could not be quantized (MMCC_SHARED says where models are): {done.stderr[-500:]}"
        )
    return folder / f"{made}.onnx"


def progress(text: str) -> None:
    """One line on stderr that the next one replaces; nothing if nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mmcc-bench-")
