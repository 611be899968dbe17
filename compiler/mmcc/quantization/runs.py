# SPDX-License-Identifier: Apache-2.0
"""A model in ONNX Runtime on many samples, and how far one model's outputs are from another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feed = Mapping[str, Array]


def outputs_of(model: Any, feeds: Sequence[Feed], values: Sequence[str] | None = None) -> list[list[Array]]:
    """What a ModelProto gives for each sample: all its outputs, or values within it by name."""
    import onnx
    import onnxruntime

    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    names = [output.name for output in model.graph.output]
    asked = list(values) if values is not None else names
    if inner := [name for name in asked if name not in names]:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
        model = exposed
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(asked, dict(feed)) for feed in feeds]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a model is: `decibels` of signal over noise against the float model; what it gets right."""

    decibels: float
    same_top1: float
    accuracy: float | None  # of the labels, if there are any

    @property
    def score(self) -> float:
        """Higher is better: percent of labels, or decibels where there are none."""
        return self.decibels if self.accuracy is None else 100 * self.accuracy

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        decibels = None if np.isinf(self.decibels) else round(self.decibels, 2)
        return {"snr_db": decibels, "same_top1": self.same_top1, "accuracy": self.accuracy}


def decibels(true: Sequence[Array], found: Sequence[Array]) -> float:
    """Signal over noise; infinite where there is no difference."""
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(true, found, strict=True)]
    signal = sum(float((a * a).sum()) for a, _ in pairs)
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-30) / noise))


def quality(
    true: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]], labels: Array | None
) -> Quality:
    """Of the outputs of all samples; classes are the largest of the first output."""
    flat = [[array for sample in outputs for array in sample] for outputs in (true, found)]
    tops = [np.array([np.asarray(sample[0]).argmax() for sample in outputs]) for outputs in (true, found)]
    known = labels is not None and (labels >= 0).any()
    right = float((tops[1] == labels)[labels >= 0].mean()) if known and labels is not None else None
    return Quality(decibels(*flat), float((tops[0] == tops[1]).mean()), right)
