# SPDX-License-Identifier: Apache-2.0
"""Packages that run hop by hop: a sample is a whole sequence, which is fed in hops from a reset on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.module import FLUSH
from mmcc.ir.ports import Port
from mmcc.ir.streaming import Streaming
from mmcc.package.record import Package

Array = NDArray[Any]
Sample = list[Array]


def whole_inputs(package: Package) -> tuple[Port, ...]:
    """The inputs as the model has them."""
    stream = package.stream
    if stream is None:
        return package.inputs
    return tuple(
        _long(port, stream.axis, stream.rows) if port.onnx_name == stream.input else port
        for port in package.inputs
    )


def whole_outputs(package: Package) -> tuple[Port, ...]:
    """The outputs as the model has them."""
    stream = package.stream
    if stream is None:
        return package.outputs
    ports = zip(package.outputs, stream.outputs, strict=True)
    return tuple(_long(port, output.axis, output.rows) if output.hop else port for port, output in ports)


def _long(port: Port, axis: int, rows: int) -> Port:
    shape = tuple(rows if k == axis else extent for k, extent in enumerate(port.onnx_shape))
    return replace(port, onnx_shape=shape)


def hops_of(stream: Streaming) -> int:
    """How many whole hops the model's own sequence has."""
    return stream.rows // stream.hop


def hops(package: Package, stream: Streaming, sample: Sample) -> list[Sample]:
    """A sequence as the inputs of one hop after the other; rows that fill none are left out."""
    return [
        [
            _cut(array, stream.axis, k * stream.hop, stream.hop) if port.onnx_name == stream.input else array
            for port, array in zip(package.inputs, sample, strict=True)
        ]
        for k in range(hops_of(stream))
    ]


def flush_of(package: Package, stream: Streaming) -> Package | None:
    """The package looked at as what gives the rows at the end of a sequence, if it has that."""
    return package.of([entry.name for entry in package.entries].index(FLUSH)) if stream.flushes else None


def joined(stream: Streaming, outputs: Sequence[Sample], last: Sample) -> Sample:
    """What all hops gave as one sequence, from row 0 on, with what a flush gave; of outputs without rows the
    last."""
    found: Sample = []
    ends = iter(last)
    for output, arrays in zip(stream.outputs, zip(*outputs, strict=True), strict=True):
        if output.hop:
            every = np.concatenate([*arrays, *([next(ends)] if output.tail else [])], output.axis)
            found.append(_cut(every, output.axis, output.lag, every.shape[output.axis] - output.lag))
        else:
            found.append(arrays[-1])
    return found


def as_far(package: Package, whole: Sample) -> Sample:
    """Of the outputs of a whole sequence the rows that its hops and a flush give."""
    stream = package.stream
    if stream is None:
        return whole
    count = hops_of(stream)
    return [
        _cut(array, output.axis, 0, count * output.hop - output.lag + output.tail) if output.hop else array
        for output, array in zip(stream.outputs, whole, strict=True)
    ]


def _cut(array: Array, axis: int, begin: int, rows: int) -> Array:
    return array[(slice(None),) * axis + (slice(begin, begin + rows),)]
