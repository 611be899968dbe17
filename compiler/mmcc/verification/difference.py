# SPDX-License-Identifier: Apache-2.0
"""How far outputs are from what they should be, each output by its own measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.package.record import Package
from mmcc.verification.samples import Sample

Array = NDArray[Any]
MOST = float(np.finfo(np.float64).max)  # what is no number is this far from one
FLOAT_RELATIVE = 1e-4  # of an output's largest value, end to end; per operator it is 1e-5
FP16_RELATIVE = 2.0**-6  # the same, where sums may be float16 on one side
INT8_RELATIVE = 0.2  # of an output's largest value, end to end, if the decision is the same


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """Of one output of the model, over all samples. `steps` are those of its integers; None for floats."""

    gaps: Array
    steps: Array | None
    quantized: bool
    relative: float  # the largest gap over the largest expected magnitude
    wrong: int  # values that differ by a step, or by more than a float may
    agreeing: int  # samples whose largest value is at the same place
    rounded_sums: bool = False  # those of layers may be float16

    @property
    def same(self) -> bool:
        """One program on two machines: integers are equal, floats as near as their last bits."""
        return self.relative <= FLOAT_RELATIVE if self.steps is None else not self.steps.any()

    @property
    def near(self) -> bool:
        """End to end: floats within rounding, int8 as near as ONNX Runtime to itself, other integers equal.
        Where sums may be float16, floats as near as that makes them.

        One step more or less in a pool, where the exact mean lies between two steps, may become several at
        the output; the true test of int8 is node by node.
        """
        same_top = self.agreeing >= 0.99 * len(self.gaps)
        if self.steps is None and self.rounded_sums:
            return self.relative <= FP16_RELATIVE or (same_top and self.relative <= INT8_RELATIVE)
        if self.steps is None or not self.quantized or not self.steps.size:
            return self.same
        return bool(self.steps.mean() <= 1.0) or (same_top and self.relative <= INT8_RELATIVE)


@dataclass(frozen=True, slots=True)
class Difference:
    """Of all outputs together; `outputs` has each."""

    outputs: tuple[OutputDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether every output is near what it should be."""
        return all(output.near for output in self.outputs)

    @property
    def same(self) -> bool:
        """Whether every output is what one program gives on two machines."""
        return all(output.same for output in self.outputs)

    def worst(self, count: int) -> list[int]:
        """Up to so many samples, in their order: those that differ most, by the sum over outputs of their
        share of the gaps."""
        gaps = [np.minimum(output.gaps, MOST / 2**64) for output in self.outputs]  # whose sums are finite
        shares = [each.sum(axis=1) / max(float(each.sum()), np.finfo(float).tiny) for each in gaps]
        return sorted(np.argsort(-np.sum(shares, axis=0), kind="stable")[:count].tolist())

    @property
    def max_abs(self) -> float:
        """The largest gap."""
        return max((float(output.gaps.max(initial=0)) for output in self.outputs), default=0.0)

    @property
    def max_lsb(self) -> int | None:
        """Of outputs of integers the largest gap in steps; None if there are none."""
        steps = [int(o.steps.max(initial=0)) for o in self.outputs if o.steps is not None]
        return max(steps, default=None)

    @property
    def mean_lsb(self) -> float:
        """The mean gap in steps; outputs of floats count as exact."""
        return sum(float(o.steps.sum()) for o in self.outputs if o.steps is not None) / self._count

    @property
    def mismatch_rate(self) -> float:
        """The share of values that are wrong."""
        return sum(output.wrong for output in self.outputs) / self._count

    @property
    def top1_agreement(self) -> float:
        """The share of samples and outputs whose largest value is at the same place."""
        rows = sum(len(output.gaps) for output in self.outputs)
        return sum(output.agreeing for output in self.outputs) / max(1, rows)

    @property
    def _count(self) -> int:
        return max(1, sum(output.gaps.size for output in self.outputs))


def compare(package: Package, got: Sequence[Sample], want: Sequence[Sample]) -> Difference:
    """All outputs of all samples at once, as arrays of the model's own shapes and types."""
    found: list[OutputDifference] = []
    for k, port in enumerate(package.outputs):
        a, b = _stacked(got, k), _stacked(want, k)
        quant = port.quant or package.tensors[port.tensor].quant
        step = quant.scale if quant and port.onnx_dtype.is_float else 1.0
        gaps, largest = _gaps(a, b), float(np.abs(b[np.isfinite(b)]).max(initial=0))
        worst = float(gaps.max(initial=0))
        agreeing = int((a.argmax(axis=1) == b.argmax(axis=1)).sum()) if a.size else len(a)
        counted = quant is not None or not port.onnx_dtype.is_float
        steps = np.rint(np.minimum(gaps / step, 2.0**62)) if counted else None
        relative = min(worst / largest, MOST) if largest > worst / MOST else worst
        wrong = gaps > FLOAT_RELATIVE * max(largest, 1e-12) if steps is None else steps > 0
        quantized = quant is not None
        found.append(
            OutputDifference(
                gaps, steps, quantized, relative, int(wrong.sum()), agreeing, rounded_sums=package.fp16_math
            )
        )
    return Difference(tuple(found))


def _stacked(samples: Sequence[Sample], k: int) -> Array:
    """Output k, a row a sample."""
    return np.stack([sample[k].astype(np.float64).reshape(-1) for sample in samples])


def _gaps(a: Array, b: Array) -> Array:
    """Equal infinities and two NaN are not apart; one of these and a number are as far as can be."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0, np.nan_to_num(np.abs(a - b), nan=MOST, posinf=MOST))


def rmse(got: Sequence[Sample], want: Sequence[Sample]) -> float:
    """Root of the mean square of all differences, of values that are numbers in both."""
    a, b = _numbers(got, want)
    return float(np.sqrt(np.mean((a - b) ** 2))) if a.size else 0.0


def cosine(got: Sequence[Sample], want: Sequence[Sample]) -> float:
    """The least cosine of the angle between what a sample gave and what it should; 1 where both are 0."""
    a, b = _numbers(got, want)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    along = (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return min(
        float(along[k]) if lengths[k] > 0 else float(np.array_equal(a[k], b[k])) for k in range(len(a))
    )


def _numbers(got: Sequence[Sample], want: Sequence[Sample]) -> tuple[Array, Array]:
    """A row a sample, all its outputs behind each other; 0 in both where either is no number."""
    a, b = (np.concatenate([_stacked(each, k) for k in range(len(each[0]))], axis=1) for each in (got, want))
    both = np.isfinite(a) & np.isfinite(b)
    return np.where(both, a, 0), np.where(both, b, 0)


def accuracy(outputs: Sequence[Sample], labels: Array) -> dict[str, int]:
    """How many samples have their largest first output at the label; a label below 0 is not known."""
    guesses = [int(sample[0].reshape(-1).argmax()) for sample in outputs]
    known = [(guess, int(label)) for guess, label in zip(guesses, labels, strict=True) if label >= 0]
    return {"correct": sum(guess == label for guess, label in known), "total": len(known)}
