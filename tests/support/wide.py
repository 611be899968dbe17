# SPDX-License-Identifier: Apache-2.0
"""Graphs in float64, where central differences tell gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pytest
from mmcc.ir.graph import Graph

Array = np.ndarray
FAR = 1e-6  # to either side


def wide(graph: Graph, given: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors of a graph, computed by its references in float64."""
    known = {state.begin: state.initial for state in graph.states} | graph.constants | dict(given)
    known = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in known.items()}
    for node in graph.nodes:
        known |= zip(node.outputs, node.op.reference(*(known[name] for name in node.inputs)), strict=True)
    return known


def check_step(
    step: Graph, given: Mapping[str, Array], places: int = 4, of: Collection[str] | None = None
) -> None:
    """A step of SGD at rate 1 goes down the slope of the loss, by central differences at some places of each
    parameter, or of those in `of`."""
    given = {**given, "rate": np.ones(1)}
    after, rng = wide(step, given), np.random.default_rng(0)
    for state in (state for state in step.states if of is None or state.begin in of):
        moved = state.initial.astype(np.float64) - after[state.end]
        scale = np.abs(moved).max()
        assert scale > 0, state.begin
        for _ in range(places):
            place = tuple(rng.integers(0, n) for n in state.initial.shape)
            ends: list[float] = []
            for far in (FAR, -FAR):
                near = state.initial.astype(np.float64)
                near[place] += far
                ends.append(float(wide(step, {**given, state.begin: near})[step.outputs[0].tensor][0]))
            assert (ends[0] - ends[1]) / (2 * FAR) == pytest.approx(moved[place], abs=1e-5 * scale), (
                state.begin
            )
