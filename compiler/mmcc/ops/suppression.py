# SPDX-License-Identifier: Apache-2.0
"""The best boxes of an object detector, without those that overlap better ones too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op

NONE = -1  # in rows behind the last box


@op
@dataclass(frozen=True, slots=True)
class NonMaxSuppression:
    """ONNX's operator, with a result of so many rows: batch, class, box (int64), rows behind the last box -1.

    Operands: boxes [batches, boxes, 4], scores [batches, classes, boxes]. In each class of each batch the
    boxes whose score is above `threshold` (all, if that is None) are gone through, best first, equal scores
    in their order. One is taken unless it overlaps one that is taken by more than `overlap`, as a share of
    their union, up to `count` of a class. Boxes are two opposite corners (y, x), or if `centred` their
    middle, width and height.
    """

    count: int
    rows: int
    overlap: float
    threshold: float | None = None
    centred: bool = False

    kernel: ClassVar[str] = "non_max_suppression"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        boxes, scores = (tensor.shape for tensor in inputs)
        if len(boxes) != 3 or len(scores) != 3 or boxes != (scores[0], scores[2], 4):
            raise ShapeError(f"boxes {list(boxes)} and scores {list(scores)}")
        return (((3 * self.rows,), ElementType.I64),)

    def nest(self, *inputs: Shape) -> Nest:
        """All rows are made together: there is one pixel."""
        loop = Loop("o", 3 * self.rows)
        reads = tuple(Access(k, shape, (None, None, None)) for k, shape in enumerate(inputs))
        return Nest((loop,), reads, (Access(0, (3 * self.rows,), (loop.i,)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        boxes, scores = inputs
        found: list[tuple[int, int, int]] = []
        for batch, classes in enumerate(scores):
            low, high = _corners(boxes[batch], centred=self.centred)
            for number, each in enumerate(classes):
                taken: list[int] = []
                for k in np.argsort(-each, kind="stable").tolist():
                    if len(taken) == self.count or not self._counts(each[k]):
                        break
                    if not any(_overlap(low, high, k, other) > np.float32(self.overlap) for other in taken):
                        taken.append(k)
                found += [(batch, number, k) for k in taken]
        y = np.full((self.rows, 3), NONE, np.int64)
        y[: len(found)] = np.array(found, np.int64).reshape(-1, 3)[: self.rows]
        return (y.reshape(-1),)

    def _counts(self, score: np.float32) -> bool:
        return bool(score > np.float32(self.threshold) if self.threshold is not None else score == score)

    def __str__(self) -> str:
        return f"non_max_suppression<{self.count} a class, {self.rows} in all, overlap {self.overlap:g}>"


def _corners(boxes: NDArray[Any], *, centred: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """The least and the largest coordinates of each box, float32 as in ONNX Runtime."""
    if centred:
        half = boxes[:, 2:] / np.float32(2)
        return boxes[:, :2] - half, boxes[:, :2] + half
    return np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])


def _overlap(low: NDArray[Any], high: NDArray[Any], a: int, b: int) -> float:
    """What two boxes share of their union; 0 where one has no area."""
    sides = np.minimum(high[a], high[b]) - np.maximum(low[a], low[b])
    if not (sides > 0).all():
        return 0.0
    shared = sides[0] * sides[1]
    areas = [(high[k] - low[k])[0] * (high[k] - low[k])[1] for k in (a, b)]
    union = areas[0] + areas[1] - shared
    return float(shared / union) if shared > 0 and min(areas) > 0 and union > 0 else 0.0
