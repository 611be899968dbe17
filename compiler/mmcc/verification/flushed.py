# SPDX-License-Identifier: Apache-2.0
"""Are the rows that a flush gave right? They are judged by themselves: nodes are traced in hops only."""

from __future__ import annotations

from collections.abc import Sequence

from mmcc.driver.load import Loaded
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import FLUSH, STEP
from mmcc.package.record import Package
from mmcc.verification.difference import Difference, compare
from mmcc.verification.samples import Sample, from_c, to_c
from mmcc.verification.streams import flush_of, hops


def flushed_difference(
    package: Package, loaded: Loaded, samples: Sequence[Sample], outputs: Sequence[Sample]
) -> Difference:
    """Of the last rows in `outputs` to those that the references of all nodes make of the same samples."""
    stream = package.stream
    end = None if stream is None else flush_of(package, stream)
    if stream is None or end is None:
        return Difference(())
    interpreter, step = Interpreter(loaded.module), loaded.graph
    got: list[Sample] = []
    want: list[Sample] = []
    for sample, made in zip(samples, outputs, strict=True):
        interpreter.reset()
        for hop in hops(package, stream, sample):
            fed = to_c(package.inputs, package.tensors, hop)
            interpreter.call(STEP, {port.tensor: array for port, array in zip(step.inputs, fed, strict=True)})
        arrays = interpreter.call(FLUSH, {})
        assert loaded.flush is not None
        want.append(from_c(end.outputs, end.tensors, [arrays[port.tensor] for port in loaded.flush.outputs]))
        got.append(
            [
                array[(slice(None),) * each.axis + (slice(array.shape[each.axis] - each.tail, None),)]
                for each, array in zip(stream.outputs, made, strict=True)
                if each.tail
            ]
        )
    return compare(end, got, want)
