# SPDX-License-Identifier: Apache-2.0
"""Operators that are sums of products: Det."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from mmcc.frontend.written_out.body import Body, ints, writes

MOST_ROWS = 4  # of a matrix whose determinant is a sum over all permutations


@writes("Det")
def _determinant(body: Body) -> Sequence[str]:
    """The sum over all permutations of columns: of small matrices only, as it grows with the factorial."""
    shape = body.shape(0)
    rows = shape[-1]
    if not 1 <= rows == shape[-2] <= MOST_ROWS:
        raise LookupError("too large")
    columns = np.array([*permutations(range(rows))], np.int64)
    signs = np.linalg.det(np.eye(rows)[columns]).round().astype(np.float32)
    flat = body.add("Reshape", "x0", ints(-1, rows * rows))
    terms = body.constant(signs)
    for row in range(rows):
        terms = body.add("Mul", terms, body.add("Gather", flat, row * rows + columns[:, row], axis=1))
    total = body.add("ReduceSum", terms, ints(1), keepdims=0)
    return [body.add("Reshape", total, ints(*shape[:-2]))]
