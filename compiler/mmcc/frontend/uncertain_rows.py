# SPDX-License-Identifier: Apache-2.0
"""What may read rows of which only the run tells whether they are there: those of NonMaxSuppression.

Rows that are not there are -1, and so are others that are computed of them what they may be. That is right as
long as nothing goes from row to row: a sum over rows, or their number, would be another than the model's.
"""

from __future__ import annotations

from onnx import NodeProto

from mmcc.errors import Where
from mmcc.frontend.convert import Import
from mmcc.frontend.converters.elementwise import BINARY, PLAIN
from mmcc.frontend.narrow import CONVERTS, MOVES
from mmcc.frontend.problems import CUT_OFF, located, unsupported
from mmcc.frontend.reads import reads

OTHERS = "Clip", "GatherElements", "GatherND", "Max", "Min", "Mod", "Not", "Relu", "Where"
ROW_BY_ROW = frozenset((*MOVES, *CONVERTS, *PLAIN, *BINARY, *OTHERS)) - {"Shape", "Size"}


def follow_rows(state: Import, where: Where, node: NodeProto) -> None:
    """Note which outputs of a node have such rows; a problem if it may mix them."""
    if node.op_type == "NonMaxSuppression":
        made = state.values.get(node.output[0])
        if made is not None and not state.build.is_constant(made.tensor):
            state.uncertain.add(node.output[0])
    elif not state.uncertain.isdisjoint(reads(node)):
        if node.op_type in ROW_BY_ROW:
            state.uncertain.update(node.output)
        else:
            message = "it may mix rows of which only the run tells whether NonMaxSuppression has found them"
            state.problems.add(located(unsupported(message, CUT_OFF), where))
