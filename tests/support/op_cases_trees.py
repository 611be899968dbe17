# SPDX-License-Identifier: Apache-2.0
"""Cases of decision trees."""

from __future__ import annotations

import numpy as np
from mmcc.ops.trees import AGGREGATES, LEAF, TreeEnsemble
from op_case import OpCase, rng_of


def forest(rng: np.random.Generator, trees: int, depth: int, features: int, targets: int) -> list[np.ndarray]:
    """Full trees with thresholds on multiples of 1/4, so that some values are just on them."""
    feature: list[int] = []
    threshold: list[float] = []
    ways: list[tuple[int, int]] = []
    roots: list[int] = []
    target: list[int] = []
    weight: list[float] = []

    def grow(left: int) -> int:
        node = len(feature)
        feature.append(LEAF)
        threshold.append(0)
        ways.append((0, 0))
        if left == 0 or (left < depth and rng.random() < 0.2):
            start = len(target)
            for _ in range(int(rng.integers(0, 3))):
                target.append(int(rng.integers(targets)))
                weight.append(float(rng.integers(-8, 9)) / 4)
            ways[node] = (start, len(target))
            return node
        feature[node] = int(rng.integers(2 * features))
        threshold[node] = float(rng.integers(-6, 7)) / 4
        ways[node] = (grow(left - 1), grow(left - 1))
        return node

    for _ in range(trees):
        roots.append(grow(depth))
    yes, no = np.array(ways).T
    whole = [np.array(a, np.int32) for a in (feature, yes, no, roots, target)]
    tables = (np.array(threshold, np.float32), np.array([*weight, 0.5], np.float32))
    return [
        whole[0],
        tables[0],
        whole[1],
        whole[2],
        whole[3],
        np.append(whole[4], 0).astype(np.int32),
        tables[1],
    ]


def forests() -> list[OpCase]:
    cases: list[OpCase] = []
    for aggregate in AGGREGATES:
        for rows, trees, depth, features, targets in ((7, 1, 2, 3, 1), (5, 9, 4, 6, 4), (1, 40, 6, 90, 3)):
            rng = rng_of(f"trees {aggregate} {trees}")
            x = np.rint(rng.standard_normal((rows, features)) * 4).astype(np.float32) / 4
            x[rng.random(x.shape) < 0.1] = np.nan
            op = TreeEnsemble(targets, features, aggregate)
            inputs = (x, *forest(rng, trees, depth, features, targets))
            cases.append(OpCase(f"trees_{aggregate}_{trees}", op, inputs, (False, *(True,) * 7)))
    rng = rng_of("one row")
    inputs = (np.zeros(4, np.float32), *forest(rng, 3, 3, 4, 2))
    cases.append(OpCase("trees_vector", TreeEnsemble(2, 4), inputs, (False, *(True,) * 7)))
    return cases
