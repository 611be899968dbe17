# SPDX-License-Identifier: Apache-2.0
"""Gradients that are bounded before a step is made by them."""

from __future__ import annotations

from math import prod

import numpy as np

from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Reshape
from mmcc.ops.reduce import Reduce
from mmcc.passes.draft import Draft
from mmcc.training.options import TrainOptions

LEAST = 1e-30  # that the norm is divided as, if it is less: gradients are then 0


def clipped(draft: Draft, options: TrainOptions, gradients: dict[str, str]) -> dict[str, str]:
    """The gradients, sums over `options.accumulate` samples, bounded as their means are to be."""
    if options.clip_value:
        most = options.clip_value * options.accumulate
        bounded = Unary("clamp", (-most, most))
        gradients = {name: draft.add(bounded, (g,), f"{name}_bounded", ()) for name, g in gradients.items()}
    if options.clip_norm:
        factor = _factor(draft, options.clip_norm * options.accumulate, list(gradients.values()))
        gradients = {
            name: draft.add(Binary("mul"), (g, factor), f"{name}_scaled", ()) for name, g in gradients.items()
        }
    return gradients


def _factor(draft: Draft, most: float, gradients: list[str]) -> str:
    """What brings the norm of all gradients down to `most`; 1 if it is less."""

    def number(value: float) -> str:
        return draft.constant(np.array([value], np.float32), "factor")

    total = ""
    for g in gradients:
        line = draft.add(Reshape((prod(draft.tensors[g].shape),)), (g,), f"{g}_line", ())
        squares = draft.add(Reduce("sum_square", (0,)), (line,), f"{g}_squares", ())
        total = draft.add(Binary("add"), (total, squares), "squares", ()) if total else squares
    norm = draft.add(Unary("sqrt"), (total,), "norm", ())
    norm = draft.add(Binary("max"), (norm, number(LEAST)), "norm", ())
    share = draft.add(Binary("div"), (number(most), norm), "share_of_norm", ())
    return draft.add(Binary("min"), (share, number(1.0)), "share_of_norm", ())
