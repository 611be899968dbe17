# SPDX-License-Identifier: Apache-2.0
"""Makes a model smaller for as long as it stays wrong: cut off at earlier values, fed at later ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx.utils import Extractor

MOST = 24  # models tried


def shrink(model: onnx.ModelProto, still: Callable[[onnx.ModelProto], bool]) -> onnx.ModelProto:
    """The smallest model found for which `still` holds; it holds for `model`."""
    tries = MOST
    progress = True
    while progress and tries > 0:
        progress = False
        for smaller in _smaller(model):
            tries -= 1
            if still(smaller):
                model, progress = smaller, True
                break
            if tries <= 0:
                break
    return model


def _smaller(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Parts of the model with fewer nodes, smallest first within each way to cut."""
    try:
        full = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return
    graph = full.graph
    known = (
        {v.name for v in graph.value_info} | {v.name for v in graph.output} | {v.name for v in graph.input}
    )
    inputs = [v.name for v in graph.input]
    outputs = [v.name for v in graph.output]
    made = [name for node in graph.node for name in node.output if name in known]
    extractor = Extractor(full)
    count = len(graph.node)
    ends = [made[len(made) * k // 8] for k in range(1, 8)] if len(made) > 8 else made[:-1]
    seen: set[int] = set()
    for cut in [[e] for e in ends] + [[o] for o in outputs if len(outputs) > 1]:
        yield from _part(extractor, inputs, cut, count, seen)
    for start in [made[len(made) * k // 8] for k in range(7, 0, -1)] if len(made) > 8 else made[::-1]:
        if start not in outputs:
            yield from _part(extractor, [*inputs, start], outputs, count, seen)


def _part(
    extractor: Extractor, inputs: list[str], outputs: list[str], below: int, seen: set[int]
) -> Iterator[onnx.ModelProto]:
    try:
        part = extractor.extract_model(inputs, outputs)
    except Exception:  # a cut that leaves no model
        return
    read = {name for node in part.graph.node for name in node.input}
    kept = [v for v in part.graph.input if v.name in read]
    del part.graph.input[:], part.graph.value_info[:]
    part.graph.input.extend(kept)
    if 0 < len(part.graph.node) < below and kept:
        yield part
