# SPDX-License-Identifier: Apache-2.0
"""Decision trees over the features of a row, as flat tables."""

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

LEAF = -1
AGGREGATES = ("sum", "min", "max")


@op
@dataclass(frozen=True, slots=True)
class TreeEnsemble:
    """y[.., t]: what the leaves that a row [.., F] reaches say of target t, added up, or the extreme.

    Operands: x; feature, threshold, yes, no of each node; roots; target, weight of what leaves say. From a
    node one goes on to node `yes` if x[feature // 2] <= threshold, else to `no`; what is no number (NaN) goes
    to `yes` where feature is odd. A node with feature LEAF is a leaf: its entries of target and weight are
    those from `yes` to `no`. Nodes come before those that they lead to. A target that no leaf names is 0.
    """

    targets: int
    features: int
    aggregate: str = "sum"

    kernel: ClassVar[str] = "tree_ensemble"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x = inputs[0]
        if len(x.shape) not in (1, 2) or x.shape[-1] != self.features or x.dtype != ElementType.F32:
            raise ShapeError(f"trees over {self.features} features do not fit {list(x.shape)} {x.dtype}")
        return (((*x.shape[:-1], self.targets), ElementType.F32),)

    def nest(self, *inputs: Shape) -> Nest:
        x = inputs[0]
        rows = (Loop("m", x[0]),) if len(x) == 2 else ()
        t = Loop("t", self.targets)
        row = tuple(m.i for m in rows)
        tables = (Access(1 + k, table, (None,)) for k, table in enumerate(inputs[1:]))
        y = (*x[:-1], self.targets)
        return Nest((*rows, t), (Access(0, x, (*row, None)), *tables), (Access(0, y, (*row, t.i)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, feature, threshold, yes, no, roots, target, weight = inputs
        lines = x.reshape(-1, self.features)
        y = np.zeros((len(lines), self.targets), np.float32)
        for line, made in zip(lines, y, strict=True):
            named = np.zeros(self.targets, np.bool_)
            for root in roots:
                node = int(root)
                while feature[node] != LEAF:
                    value = line[feature[node] // 2]
                    below = bool(feature[node] % 2) if value != value else value <= threshold[node]
                    node = int(yes[node] if below else no[node])
                for k in range(int(yes[node]), int(no[node])):
                    t = int(target[k])
                    made[t] = self._joined(made[t], weight[k]) if named[t] else weight[k]
                    named[t] = True
        return (y.reshape(*x.shape[:-1], self.targets),)

    def _joined(self, a: np.float32, b: np.float32) -> np.float32:
        if self.aggregate == "sum":
            return np.float32(a + b)
        return min(a, b) if self.aggregate == "min" else max(a, b)

    def __str__(self) -> str:
        return f"tree_ensemble<{self.aggregate} of {self.targets} targets>"
