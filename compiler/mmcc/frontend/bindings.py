# SPDX-License-Identifier: Apache-2.0
"""Inputs that the user gives a value to: they are constants of the compiled model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ValueInfoProto
from onnx.helper import tensor_dtype_to_np_dtype

from mmcc.errors import CompileError, Exit, did_you_mean, printable
from mmcc.frontend.load import Source
from mmcc.frontend.tensors import DTYPES, WIDENED, type_name


def bound_inputs(source: Source, values: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """The values by input, in the types and shapes that the model declares.

    CompileError MM112 for a name that is no input's, and for a value that its input cannot have.
    """
    inputs = {info.name: info for info in source.inputs}
    for name in values:
        if name not in inputs:
            guess = did_you_mean(name, inputs)
            known = ", ".join(printable(known, 60) for known in list(inputs)[:20])
            what = f'the model has no input "{printable(name)}"'
            raise CompileError("MM112", what, exit=Exit.USAGE, hint=f"{guess}one of: {known}")
    return {name: _value(inputs[name], value) for name, value in values.items()}


def _value(info: ValueInfoProto, value: ArrayLike) -> NDArray[Any]:
    kind = info.type.tensor_type
    if kind.elem_type not in DTYPES and kind.elem_type not in WIDENED:
        raise _cannot(info, f"is of type {type_name(kind.elem_type)}")
    dtype = DTYPES[kind.elem_type].numpy if kind.elem_type in DTYPES else np.dtype(np.float32)
    try:
        given = np.asarray(value)
        array = given.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        raise _cannot(info, "takes an array of numbers") from None
    exact = dtype.kind == "f" or np.array_equal(array, given)
    if given.dtype.kind not in "fiub" or not exact:
        declared = np.dtype(tensor_dtype_to_np_dtype(kind.elem_type)).name
        raise _cannot(info, f"is {declared}, which cannot hold {printable(str(given), 60)}")
    if not kind.HasField("shape"):
        return array
    extents = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if array.size == 1 and all(extent in (1, None) for extent in extents):
        return array.reshape((1,) * len(extents))
    fits = len(extents) == array.ndim and all(
        extent in (n, None) for extent, n in zip(extents, array.shape, strict=True)
    )
    if not fits:
        shown = [extent if extent is not None else "?" for extent in extents]
        value = f"has shape {list(array.shape)}" if array.ndim else "is one number"
        raise _cannot(info, f"has shape {shown}, and the value {value}")
    return array


def _cannot(info: ValueInfoProto, what: str) -> CompileError:
    hint = "--bind NAME=NUMBER, NAME=[list, of, numbers] or NAME=array.npy"
    return CompileError("MM112", f'input "{printable(info.name)}" {what}', exit=Exit.USAGE, hint=hint)
