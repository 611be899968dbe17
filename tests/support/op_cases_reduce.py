# SPDX-License-Identifier: Apache-2.0
"""Cases of reductions, softmax and normalization over channels.

Where sums could cancel, values are multiples of 1/16: their sums are exact, so the order of a sum that the
reference takes does not matter, and any wrong tap shows.
"""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Shape
from mmcc.ops.coupling import PairwiseCoupling
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.ops.reduce import REDUCTIONS, Reduce
from mmcc.ops.softmax import Softmax
from op_case import OpCase, rng_of
from op_case_values import SIGNED, UNSIGNED, exact, integers, real

REDUCED: tuple[tuple[Shape, tuple[int, ...]], ...] = (
    ((5, 7, 11), (0, 1)),
    ((5, 7, 11), (2,)),
    ((5, 7, 11), (1,)),
    ((5, 7, 11), (0,)),
    ((5, 7, 11), (0, 2)),
    ((5, 7, 11), (0, 1, 2)),
    ((3, 4, 5, 6), (2,)),
    ((3, 4, 5, 6), (0, 3)),
    ((3, 4, 5, 6), (1, 2)),
    ((2, 3, 4, 2, 5), (2, 4)),
    ((2, 3, 3, 2, 3, 2), (3, 5)),
    ((9,), (0,)),
    ((4, 9), (1,)),
    ((4, 9), (0,)),
    ((40, 33, 9), (0, 1)),
    ((), ()),
)


def reductions() -> list[OpCase]:
    cases: list[OpCase] = []
    for function in REDUCTIONS:
        rng = rng_of(function)
        for k, (shape, axes) in enumerate(REDUCED if function == "sum" else (*REDUCED[:3], REDUCED[9])):
            x = exact(rng, *shape) if function in ("sum", "mean", "l1", "sum_square") else real(rng, *shape)
            x = np.abs(x) if function == "log_sum" else x
            cases.append(OpCase(f"reduce_{function}{k}", Reduce(function, axes), (x,)))
    types = (*SIGNED, *UNSIGNED, ElementType.BOOL)
    for function, dtype in product(("sum", "max", "min", "prod"), types):
        x = integers(rng_of(f"{function} {dtype}"), dtype, 3, 4, 5)
        cases.append(OpCase(f"reduce_{function}_{dtype.name}", Reduce(function, (0, 2)), (x,)))
    x = np.array([[1, np.nan, 3], [inf, 2, 1], [-inf, inf, 0], [-inf, -1, -2]], np.float32)
    for function in ("sum", "mean", "max", "min", "prod", "l1", "l2"):
        cases.append(OpCase(f"reduce_{function}_special", Reduce(function, (1,)), (x,)))
    return cases


def normalizations() -> list[OpCase]:
    rng = rng_of("softmax")
    large = real(rng, 3, 40) * 50
    masked = real(rng, 3, 5)
    masked[1, 2] = masked[2, :4] = -inf
    runs = np.repeat(real(rng, 4, 12), 3, axis=1)  # one exponential for elements that are alike
    runs[0, 9:] = runs[1, :30] = -inf
    special = np.array([[inf, 1, inf], [-inf, -inf, -inf], [np.nan, 1, 1], [1, np.nan, 2]], np.float32)
    cases = [
        OpCase("softmax_runs", Softmax(), (runs,)),
        OpCase("log_softmax_runs", Softmax(True), (runs,)),
        OpCase("softmax_special", Softmax(), (special,)),
        OpCase("softmax_masked", Softmax(), (masked,)),
        OpCase("log_softmax_far", Softmax(True), (large,)),
    ]
    for k, shape in enumerate(((10,), (1,), (4, 33), (5, 7, 3), (2, 3, 4, 70), (2, 2, 2, 2, 5))):
        for log in (False, True):
            name = f"{'log_' if log else ''}softmax{k}"
            cases.append(OpCase(name, Softmax(log), (real(rng, *shape) * 3,)))
    for k, (shape, size) in enumerate(
        (((5, 7, 9), 5), ((5, 7, 3), 5), ((11,), 4), ((2, 3, 2, 6), 3), ((4, 6), 1))
    ):
        op = LocalResponseNorm(size, 0.01 * (k + 1), 0.75, 1.0 + k)
        cases.append(OpCase(f"local_response_norm{k}", op, (real(rng, *shape) * 4,)))
    for k, shape in enumerate(((10,), (4, 1), (4, 33), (5, 7, 3), (2, 3, 4, 70))):
        x, scale, bias = real(rng, *shape) * 3, real(rng, shape[-1]), real(rng, shape[-1])
        given = (False, True, True)
        cases.append(OpCase(f"layer_norm{k}", LayerNorm(1e-5), (x, scale, bias), given))
        cases.append(OpCase(f"layer_norm_scale{k}", LayerNorm(0.1), (x, scale), given[:2]))
        cases.append(OpCase(f"rms_norm{k}", LayerNorm(1e-5, centred=False), (x, scale), given[:2]))
    for classes, shape in ((2, (1,)), (3, (4, 3)), (5, (3, 2, 10)), (4, (2, 2, 2, 6))):
        pairs = rng.uniform(1e-7, 1 - 1e-7, shape).astype(np.float32)
        cases.append(OpCase(f"pairwise_coupling{classes}", PairwiseCoupling(classes), (pairs,)))
    return cases
