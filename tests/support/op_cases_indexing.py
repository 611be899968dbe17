# SPDX-License-Identifier: Apache-2.0
"""Cases of operators with indices that are computed at run time, and of sums of all elements so far."""

from __future__ import annotations

from itertools import product

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ops.cumulative import Cumulative
from mmcc.ops.indexing import SCATTERS, ScatterAlong, ScatterLines, TakeAlong, TakeLines
from op_case import OpCase, rng_of
from op_case_values import SIGNED, UNSIGNED, exact, integers, values

INDICES = (np.int32, np.int64)


def indices(rng: np.random.Generator, extent: int, *shape: int, dtype: type = np.int64) -> np.ndarray:
    """Inside, from the end, and now and then far outside."""
    made = rng.integers(-extent, extent, shape).astype(dtype)
    ends = np.iinfo(dtype)
    wild = rng.choice([extent, -extent - 1, ends.max, ends.min], shape)
    return np.where(rng.random(shape) < 0.2, wild, made).astype(dtype)


def takes() -> list[OpCase]:
    rng = rng_of("takes")
    cases: list[OpCase] = []
    for dtype, index in product((ElementType.F32, ElementType.I8, ElementType.I64), INDICES):
        name = f"{dtype.name}_{index.__name__}"
        x, volume = values(rng, dtype, 9, 5), values(rng, dtype, 3, 7, 4)
        lines = OpCase(f"lines_{name}", TakeLines((9,)), (x, indices(rng, 9, 6, dtype=index)))
        elements = indices(rng, 7, 3, 5, 4, dtype=index)
        cases += [lines, OpCase(f"along_{name}", TakeAlong(), (volume, elements))]
    x, volume = exact(rng, 24, 3), exact(rng, 4, 6, 5)
    parts = indices(rng, 3, 7, 3)
    table = OpCase("lines_of_a_table", TakeLines((24,)), (x, indices(rng, 24, 5)), (True,))
    cases += [table, OpCase("lines_of_three", TakeLines((2, 3, 4)), (x, parts))]
    cases.append(OpCase("lines_one", TakeLines((24,)), (x, indices(rng, 24, 1))))
    for shape in ((7,), (4, 7)):
        name = f"along_rank_{len(shape)}"
        cases.append(OpCase(name, TakeAlong(), (volume, indices(rng, 6, *shape))))
        cases.append(OpCase(f"{name}_fixed", TakeAlong(), (volume, indices(rng, 6, *shape)), (False, True)))
    return cases


def scatters() -> list[OpCase]:
    rng = rng_of("scatters")
    cases: list[OpCase] = []
    for dtype, reduction in product((ElementType.F32, *SIGNED, *UNSIGNED), SCATTERS):
        name = f"{reduction}_{dtype.name}"
        lines = (values(rng, dtype, 6, 5), indices(rng, 6, 9), values(rng, dtype, 9, 5))
        cases.append(OpCase(f"scatter_lines_{name}", ScatterLines((6,), reduction), lines))
        along = (
            values(rng, dtype, 3, 6, 4),
            indices(rng, 6, 3, 5, 4, dtype=np.int32),
            values(rng, dtype, 3, 5, 4),
        )
        cases.append(OpCase(f"scatter_along_{name}", ScatterAlong(reduction), along))
    parts = (exact(rng, 12, 3), indices(rng, 4, 7, 2), exact(rng, 7, 3))
    cases.append(OpCase("scatter_parts", ScatterLines((3, 4)), parts))
    cases.append(OpCase("scatter_to_a_constant", ScatterLines((3, 4), "add"), parts, (True,)))
    cases.append(OpCase("scatter_constants", ScatterLines((3, 4)), parts, (False, True, True)))
    some = (exact(rng, 12, 3), indices(rng, 5, 4), exact(rng, 4, 3))
    cases.append(OpCase("scatter_to_some_lines", ScatterLines((5,), first=4), some))
    for dtype, index in product((ElementType.F32, ElementType.I8), INDICES):
        for reduction, first, rows in (("none", 0, 4), ("none", 1, 2), ("add", 2, 2)):
            lines = (
                values(rng, dtype, 4, 7, 3),
                indices(rng, 7, 5, dtype=index),
                values(rng, dtype, rows, 5, 3),
            )
            name = f"scatter_lines_along_{reduction}_{first}_{dtype.name}_{index.__name__}"
            cases.append(OpCase(name, ScatterAlong(reduction, first), lines))
    cases.append(OpCase("scatter_elements_of_some_rows", ScatterAlong(first=1), _some_elements(rng)))
    return cases


def _some_elements(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return exact(rng, 4, 6, 3), indices(rng, 6, 2, 5, 3), exact(rng, 2, 5, 3)


def cumulations() -> list[OpCase]:
    rng = rng_of("cumulations")
    cases: list[OpCase] = []
    for function, exclusive, reverse in product(("sum", "prod"), (False, True), (False, True)):
        op = Cumulative(function, exclusive, reverse)
        name = f"cumulative_{function}_{int(exclusive)}{int(reverse)}"
        for shape in ((7,), (3, 5), (4, 5, 6), (2, 3, 4, 5)):
            cases.append(OpCase(f"{name}_{len(shape)}d", op, (exact(rng, *shape),)))
        for dtype in (*SIGNED, *UNSIGNED):
            cases.append(OpCase(f"{name}_{dtype.name}", op, (integers(rng, dtype, 3, 4, 5),)))
    return cases
