# SPDX-License-Identifier: Apache-2.0
"""Samples for a package: read from .npz, or made up, and turned into what the C code takes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor

Array = NDArray[Any]
Sample = list[Array]  # one array a port


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file; CompileError if it is none."""
    shown = printable(str(path))
    if not path.is_file():
        raise _no_arrays(
            f"there is no file {shown}" if not path.exists() else f"{shown} is a folder, not an .npz file"
        )
    if not is_zipfile(path):  # what an .npz file is
        raise _no_arrays(f"{shown} is not an .npz file")
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise _no_arrays(f"{shown} is damaged, or holds something else than arrays of numbers") from error


def _no_arrays(message: str) -> CompileError:
    hint = "numpy.savez(path, input_0=array, ...) writes one; samples are stacked along a first axis"
    return CompileError("MM007", message, exit=Exit.USAGE, hint=hint)


def samples_of(ports: Sequence[Port], arrays: Mapping[str, Array], kind: str, path: Path) -> list[Sample]:
    """One list of arrays in ONNX's shapes for each sample.

    Arrays are named `input_0` ... (or as in the model) and have a leading sample axis, either in front of the
    model's shape or in place of a batch axis of 1; an array of just the model's shape is one sample.
    """
    stacked = [_stack(port, _find(port, index, arrays, kind, path), path) for index, port in enumerate(ports)]
    counts = {len(array) for array in stacked}
    if len(counts) > 1:
        message = f"{path}: the arrays hold different numbers of samples: {sorted(counts)}"
        raise CompileError("MM007", message, exit=Exit.USAGE)
    # indexing a stack of scalars gives numpy scalars, which are no arrays
    return [[np.asarray(array[k]) for array in stacked] for k in range(counts.pop() if counts else 1)]


def labels_of(arrays: Mapping[str, Array], count: int, path: Path) -> Array | None:
    """The labels of so many samples, if there are any: classes, -1 where unknown. CompileError (MM007)."""
    labels = arrays.get("labels")
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != (count,)):
        message = f"{path}: labels are {labels.dtype}{list(labels.shape)} for {count} samples"
        raise CompileError("MM007", message, exit=Exit.USAGE, hint=f"{count} integers, -1 if unknown")
    return labels


def _find(port: Port, index: int, arrays: Mapping[str, Array], kind: str, path: Path) -> Array:
    for name in (f"{kind}_{index}", port.onnx_name):
        if name in arrays:
            return arrays[name]
    raise CompileError(
        "MM007",
        f'{path} has no array "{kind}_{index}" for {kind} {index}, "{port.onnx_name}"',
        exit=Exit.USAGE,
        hint=f"it holds: {', '.join(sorted(arrays)) or 'nothing'}",
    )


def _stack(port: Port, array: Array, path: Path) -> Array:
    shape = port.onnx_shape
    if array.shape == shape:
        array = array[None]
    elif shape and shape[0] == 1 and array.shape[1:] == shape[1:]:
        array = array[:, None]
    if array.shape[1:] != shape or len(array) == 0:
        raise CompileError(
            "MM007",
            f'{path}: "{port.onnx_name}" has shape {list(array.shape)}; the model takes {list(shape)}',
            exit=Exit.USAGE,
            hint=f"samples stacked in front: [N, {', '.join(map(str, shape))}]",
        )
    wanted = port.onnx_dtype.numpy
    if array.dtype != wanted and not (port.onnx_dtype.is_float and array.dtype.kind == "f"):
        message = f'{path}: "{port.onnx_name}" is {array.dtype}; the model takes {wanted}'
        raise CompileError("MM007", message, exit=Exit.USAGE)
    return array.astype(wanted, copy=False)


def made_up(ports: Sequence[Port], count: int) -> list[Sample]:
    """Deterministic samples: standard normal floats, integers over their whole range."""
    rng = np.random.default_rng(20)
    return [[_random(port, rng) for port in ports] for _ in range(count)]


def _random(port: Port, rng: np.random.Generator) -> Array:
    kind, dtype = port.onnx_dtype, port.onnx_dtype.numpy
    if kind.is_float:
        return rng.standard_normal(port.onnx_shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, port.onnx_shape).astype(dtype)
    low, high = max(int(kind.least), -(2**15)), min(int(kind.most), 2**15)
    return rng.integers(low, high, port.onnx_shape, endpoint=True).astype(dtype)


def picked_inside(ports: Sequence[Port], extents: Mapping[str, int], samples: list[Sample]) -> list[Sample]:
    """The samples with indices counted from 0 within what they pick from."""

    def inside(port: Port, array: Any) -> Any:
        extent = extents.get(port.onnx_name)
        return array if extent is None else np.mod(array, extent).astype(array.dtype)

    return [[inside(port, array) for port, array in zip(ports, sample, strict=True)] for sample in samples]


def to_c(ports: Sequence[Port], tensors: Mapping[str, Tensor], sample: Sample) -> Sample:
    """One sample as the C code takes it."""
    return [port.to_c(array, tensors[port.tensor]) for port, array in zip(ports, sample, strict=True)]


def from_c(ports: Sequence[Port], tensors: Mapping[str, Tensor], sample: Sample) -> Sample:
    """One sample of outputs in ONNX's shapes and types."""
    return [port.from_c(array, tensors[port.tensor]) for port, array in zip(ports, sample, strict=True)]
