# SPDX-License-Identifier: Apache-2.0
"""A self-test for the target: made-up inputs, and the outputs that the numpy references give for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.emit import Package
from mmcc.codegen.render import render_c
from mmcc.codegen.weights import c_values, float_literal
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.program import Constant
from mmcc.ir.types import Tensor

SEED = 0x2545F491
MOST_VALUES = 256  # checked of an output
MOST_MACS = 100_000_000  # of a model whose outputs numpy can compute while one waits
FLOAT_TOLERANCE = 1e-4  # of the output's largest magnitude


@dataclass(frozen=True, slots=True)
class Vector:
    """Some elements of one output, and how near they must be reached."""

    index: int
    symbol: str  # what C calls the output
    ctype: str
    step: int
    count: int
    rows: tuple[str, ...]
    tolerance: str
    external: bool


def self_test(graph: Graph, package: Package) -> dict[str, str]:
    """The files of the self-test."""
    inputs = made_inputs([graph.tensors[port.tensor] for port in graph.inputs])
    named = {port.tensor: array for port, array in zip(graph.inputs, inputs, strict=True)}
    tensors = evaluate_tensors(graph, named)
    values: Mapping[str, Any] = package.values
    vectors = [
        _vector(text.index, text.symbol, tensors[port.tensor], text.external)
        for text, port in zip(values["outputs"], graph.outputs, strict=True)
    ]
    name = values["p"]
    return {
        f"{name}_selftest.c": render_c("selftest.c.j2", vectors=vectors, seed=SEED, **values),
        f"{name}_selftest.h": render_c("selftest.h.j2", **values),
    }


def made_inputs(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """The inputs that selftest.c.j2 makes, one behind the other from one stream of numbers."""
    state = SEED
    arrays: list[NDArray[Any]] = []
    for tensor in tensors:
        count = prod(tensor.shape)
        numbers = np.empty(count, np.uint32)
        for i in range(count):
            state ^= state << 13 & 0xFFFFFFFF
            state ^= state >> 17
            state ^= state << 5 & 0xFFFFFFFF
            numbers[i] = state
        arrays.append(_as(tensor.dtype, numbers).reshape(tensor.shape))
    return arrays


def _as(dtype: ElementType, numbers: NDArray[np.uint32]) -> NDArray[Any]:
    if dtype == ElementType.F32:
        return (numbers >> 8).astype(np.float32) / np.float32(8388608) - np.float32(1)
    if dtype == ElementType.BOOL:
        return numbers >> 31 != 0
    if dtype == ElementType.U8:
        return (numbers >> 24).astype(np.uint8)
    return ((numbers >> 24).astype(np.int64) - 128).astype(dtype.numpy)


def _vector(index: int, symbol: str, output: NDArray[Any], external: bool) -> Vector:
    flat = np.ascontiguousarray(output).reshape(-1)
    step = -(-flat.size // MOST_VALUES)
    picked = np.ascontiguousarray(flat[::step])
    tolerance = FLOAT_TOLERANCE * float(np.abs(flat).max(initial=0)) + 1e-6 if flat.dtype.kind == "f" else 0.0
    rows = tuple(c_values(Constant("", picked)))
    ctype = ElementType.of(flat).ctype
    return Vector(
        index, symbol, ctype, step, picked.size, rows, float_literal(float(np.float32(tolerance))), external
    )
