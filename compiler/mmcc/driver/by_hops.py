# SPDX-License-Identifier: Apache-2.0
"""Targets without the kernels that make rows in tiles."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.streaming import Streaming
from mmcc.kernels.winograd.conv_float import VARIANT as WINOGRAD
from mmcc.target import Target


def without_tiles(target: Target) -> Target:
    """The target, its float convolutions by plain sums."""
    return replace(target, kernels=tuple(variant for variant in target.kernels if variant != WINOGRAD))


def kernels_of_hops(target: Target, streaming: Streaming | None) -> Target:
    """The target for a model that runs hop by hop, if it does: a hop's rows begin anywhere in a tile, and are
    to have the same bits wherever that is."""
    return target if streaming is None else without_tiles(target)
