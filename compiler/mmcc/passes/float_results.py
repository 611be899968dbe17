# SPDX-License-Identifier: Apache-2.0
"""A layer of int8 operands whose result nobody quantizes sums up integers and scales the sum to float."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.ops.layers import FloatLayer
from mmcc.passes.draft import Draft
from mmcc.passes.integer_layers import float_form
from mmcc.passes.quantized import StaysFloat


def give_float_results(graph: Graph) -> Graph:
    """Layers that `quantize` left in float read int8: weights stay int8 in flash, and the input in RAM.

    A layer that cannot keeps its reason for the report.
    """
    draft = Draft(graph)
    reasons = dict(graph.reasons)
    for node in graph.nodes:
        if not isinstance(node.op, FloatLayer):
            draft.keep(node)
            continue
        try:
            form, inputs = float_form(draft, node)
        except StaysFloat as reason:
            reasons.setdefault(node.output, str(reason))
            draft.keep(node)
        else:
            draft.write(form, inputs, node.output, node.where)
    return replace(draft.graph(), reasons=reasons)
