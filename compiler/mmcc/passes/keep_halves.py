# SPDX-License-Identifier: Apache-2.0
"""Keep weights in float16 where the model's file has them so: half the flash, and the same results.

The importer makes float32 of what float32 nodes read. Weights that are still values of float16 behind all
other passes go back, if their layer's kernels widen what they read. Others have a line that says what they
cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ops.elementwise import Cast
from mmcc.ops.indexing import TakeLines
from mmcc.ops.layers import HALVES, WithHalves
from mmcc.passes.draft import Draft
from mmcc.passes.narrow_floats import has_values, joins

STORED = "FLOAT16"  # ONNX's name of the type


def keep_halves(graph: Graph, wide: Callable[[Node], bool]) -> Graph:
    """Weights of layers, and tables of which lines are taken: those lines are widened behind.

    Nodes that are to be `wide` keep float32.
    """
    draft, made = Draft(graph), dict[str, str]()
    for node in graph.nodes:
        if joins(draft, node):
            draft.replace(node.output, draft.producer[draft.now(node.inputs[0])].inputs[0], node.where)
        elif wide(node):
            draft.keep(node)
        elif isinstance(node.op, WithHalves) and (halves := _halves(graph, node, HALVES)) is not None:
            name = node.inputs[HALVES]
            made[name] = made.get(name) or draft.constant(halves, f"{name}_f16")
            inputs = (*node.inputs[:HALVES], made[name], *node.inputs[HALVES + 1 :])
            draft.keep(replace(node, inputs=inputs))
        elif isinstance(node.op, TakeLines) and (halves := _halves(graph, node, 0)) is not None:
            table = node.inputs[0]
            made[table] = made.get(table) or draft.constant(halves, f"{table}_f16")
            taken = draft.add(node.op, (made[table], *node.inputs[1:]), f"{node.output}_f16", node.where)
            draft.write(Cast(ElementType.F32), (taken,), node.output, node.where)
        else:
            draft.keep(node)
    return draft.graph()


def _halves(graph: Graph, node: Node, operand: int) -> NDArray[np.float16] | None:
    """A float32 constant in float16, if the file has float16 for this node, and if nothing is lost."""
    weights = graph.constants.get(node.inputs[operand])
    stored = any(STORED in graph.stored[where].kinds for where in node.where if where in graph.stored)
    if weights is None or not stored or not has_values(ElementType.F16, weights):
        return None
    return weights.astype(np.float16) if not np.isnan(weights).any() else None
