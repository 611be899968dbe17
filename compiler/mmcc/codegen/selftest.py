# SPDX-License-Identifier: Apache-2.0
"""A self-test for the target: made-up inputs, and the outputs that the numpy references give for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.emit import Package, runtime_headers
from mmcc.codegen.entries import EntryText
from mmcc.codegen.ports import PortText
from mmcc.codegen.render import render_c
from mmcc.codegen.weights import c_values, float_literal
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.module import Entry, Module
from mmcc.ir.program import Constant
from mmcc.ir.types import Tensor
from mmcc.kernels.portable.elementwise_float import decoding
from mmcc.ops.half_layers import has_half_layer
from mmcc.ops.overflow import has_factors, may_overflow, overflows_unseen

SEED = 0x2545F491
MOST_VALUES = 256  # checked of an output
MOST_MACS = 100_000_000  # of a model whose outputs numpy can compute while one waits
FLOAT_TOLERANCE = 1e-4  # of the output's largest magnitude
ROUNDED_SUMS = 2.0**-5  # of it, where sums are float16 on the target: numpy's are not
ROUNDINGS = 8  # of a 16-bit float: each node rounds, and one that rounds otherwise is seen behind it


@dataclass(frozen=True, slots=True)
class Vector:
    """Some elements of one output, and how near they must be reached."""

    name: str  # behind `expected_`
    index: int
    symbol: str  # what C calls the output
    ctype: str
    decoding: str | None  # of 16-bit floats: what `mmcc_of_narrow` is given beside a code
    step: int
    count: int
    rows: tuple[str, ...]
    tolerance: str  # "" for integers
    external: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """An entry that the self-test runs, and what its outputs must be. `undecided` names those that nothing is
    known of: a sum on the way is more than a float holds, in some order of its terms."""

    entry: EntryText
    vectors: tuple[Vector, ...]
    undecided: tuple[str, ...]


def checked_entries(module: Module) -> tuple[Entry, ...]:
    """Those that the self-test runs: the first, and others that no call before them changes."""
    first, *others = module.entries
    return (first, *(entry for entry in others if not entry.graph.states))


def self_test(module: Module, package: Package) -> dict[str, str]:
    """The files of the self-test."""
    values: Mapping[str, Any] = package.values
    texts = {text.name: text for text in values["entries"]}
    entries = checked_entries(module)
    checks = [_checked(entry.graph, texts[entry.name], len(entries) > 1) for entry in entries]
    vectors = [vector for check in checks for vector in check.vectors]
    name = values["p"]
    files = {
        f"{name}_selftest.c": render_c("selftest.c.j2", checks=checks, vectors=vectors, seed=SEED, **values),
        f"{name}_selftest.h": render_c("selftest.h.j2", **values),
    }
    return runtime_headers("".join(files.values())) | files


def _checked(graph: Graph, text: EntryText, of_several: bool) -> Checked:
    """What the references give for made-up inputs."""
    inputs = made_inputs([graph.tensors[port.tensor] for port in graph.inputs])
    named = {port.tensor: array for port, array in zip(graph.inputs, inputs, strict=True)}
    tensors = evaluate_tensors(graph, named)
    begin = f"{text.name}_" if of_several else ""
    unknown = _undecided(graph, tensors)
    outputs = [(text, port.tensor) for text, port in zip(text.outputs, graph.outputs, strict=True)]
    least_share = ROUNDED_SUMS if has_half_layer(graph) else 0.0
    vectors = (
        _vector(f"{begin}{output.index}", output, tensors[name], least_share)
        for output, name in outputs
        if name not in unknown
    )
    return Checked(text, tuple(vectors), tuple(output.symbol for output, name in outputs if name in unknown))


def _undecided(graph: Graph, tensors: Mapping[str, NDArray[Any]]) -> set[str]:
    """The tensors that hang on the order in which sums are made, on other machines another."""
    found = set[str]()
    for node in graph.nodes:
        operands = [tensors[name] for name in node.inputs]
        results = [tensors[name] for name in node.outputs]
        if not found.isdisjoint(node.inputs) or _overflows(node, operands, results):
            found.update(node.outputs)
    return found


def _overflows(node: Node, operands: Sequence[NDArray[Any]], results: Sequence[NDArray[Any]]) -> bool:
    """Whether a sum or product within a node overflows, seen or unseen. Infinities it reads are no sums."""
    floats = [array for array in (*operands, *results) if array.dtype.kind == "f"]
    finite = [array for array in floats if np.isfinite(array).all()]
    if not (may_overflow(finite) or has_factors(node.op, operands)):
        return False
    seen = len(finite) < len(floats)
    return seen or bool(overflows_unseen(node.op, operands, results[0].size).any())


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
    if dtype.code is not None and dtype.bits == 16:  # a sign, an exponent of -1 to 2, any fraction
        code = dtype.code
        exponents = code.bias - 1 + (numbers >> 29 & 3)
        cells = numbers >> 31 << 15 | exponents << code.fraction | numbers >> 8 & (1 << code.fraction) - 1
        return dtype.elements(cells.astype(np.uint16), cells.shape)
    if dtype.code is not None:  # any code
        return dtype.elements((numbers >> 24 & (2 << dtype.code.sign) - 1).astype(np.uint8), numbers.shape)
    if dtype == ElementType.U8:
        return (numbers >> 24).astype(np.uint8)
    return ((numbers >> 24).astype(np.int64) - 128).astype(dtype.numpy)


def _vector(name: str, port: PortText, output: NDArray[Any], least_share: float) -> Vector:
    flat = np.ascontiguousarray(output).reshape(-1)
    step = -(-flat.size // MOST_VALUES)
    picked = np.ascontiguousarray(flat[::step])
    dtype = ElementType.of(flat)
    halves = dtype.bits == 16 and dtype.code is not None
    share = ROUNDINGS * 2.0**-dtype.code.fraction if halves and dtype.code else FLOAT_TOLERANCE
    floats = dtype == ElementType.F32 or halves
    largest = float(np.abs(flat[np.isfinite(flat)]).max(initial=0)) if floats else 0.0
    tolerance = max(share, least_share) * largest + 1e-6
    rows = tuple(c_values(Constant("", picked)))
    shown = float_literal(float(np.float32(tolerance))) if floats else ""
    decoded = decoding(dtype) if halves else None
    return Vector(
        name,
        port.index,
        port.symbol,
        dtype.ctype,
        decoded,
        step,
        picked.size,
        rows,
        shown,
        port.external,
    )
