# SPDX-License-Identifier: Apache-2.0
"""Keep floats of 16 bits and fewer narrow where nothing is computed, and round where their values are used.

The importer widens what a node reads and rounds what it makes. A node that only moves elements moves the
narrow ones instead; a clamp whose bounds the narrow type has gives the same before rounding as after, so that
it can be part of the layer before it.
"""

from __future__ import annotations

from math import isinf

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.traits import Moves
from mmcc.ops.elementwise import Cast, Unary
from mmcc.ops.movement import Pad
from mmcc.passes.draft import Draft


def keep_narrow(graph: Graph) -> Graph:
    """Move narrow floats as they are, and clamp before rounding."""
    draft = Draft(graph)
    for node in graph.nodes:
        if joins(draft, node):
            draft.replace(node.output, draft.producer[draft.now(node.inputs[0])].inputs[0], node.where)
        elif (source := _clamped(graph, draft, node)) is not None:
            draft.write(node.op, (source,), node.output, node.where)
        elif (dtype := _moved(draft, node)) is not None:
            names = [_narrow(draft, name, dtype) for name in node.inputs]
            moved = draft.add(node.op, names, f"{node.output}_{dtype.name}", node.where)
            draft.write(Cast(ElementType.F32), (moved,), node.output, node.where)
        else:
            draft.keep(node)
    return draft.graph()


def joins(draft: Draft, node: Node) -> bool:
    """True of a rounding of what was narrow all along."""
    if not isinstance(node.op, Cast) or node.op.dtype.code is None:
        return False
    return _narrow_source(draft, node.inputs[0]) == node.op.dtype


def _narrow_source(draft: Draft, name: str) -> ElementType | None:
    """The type of the narrow floats that a float32 tensor is made of, if it is."""
    maker = draft.producer.get(draft.now(name))
    if maker is None or maker.op != Cast(ElementType.F32):
        return None
    dtype = draft.tensors[draft.now(maker.inputs[0])].dtype
    return dtype if dtype.code is not None else None


def _moved(draft: Draft, node: Node) -> ElementType | None:
    """The narrow type that a node can move instead of float32."""
    moves = node.op.traits.moves is Moves.BY_PLACE and not isinstance(node.op, Pad)
    if not moves or len(node.outputs) != 1:
        return None
    kinds = {_narrow_source(draft, name) for name in node.inputs if not draft.is_constant(name)}
    dtype = kinds.pop() if len(kinds) == 1 else None
    if dtype is None:
        return None
    for name in node.inputs:
        if draft.is_constant(name) and not has_values(dtype, draft.constants[draft.now(name)]):
            return None
    return dtype


def has_values(dtype: ElementType, values: np.ndarray) -> bool:
    """Whether a narrow type has all of these values."""
    if values.dtype != np.float32:
        return False
    with np.errstate(all="ignore"):
        (narrow,) = Cast(dtype, saturates=False).reference(values)
        return bool(np.array_equal(narrow.astype(np.float32), values, equal_nan=True))


def _narrow(draft: Draft, name: str, dtype: ElementType) -> str:
    if not draft.is_constant(name):
        return draft.producer[draft.now(name)].inputs[0]
    (narrow,) = Cast(dtype, saturates=False).reference(draft.constants[draft.now(name)])
    return draft.constant(narrow, f"{name}_{dtype.name}")


def _clamped(graph: Graph, draft: Draft, node: Node) -> str | None:
    """What a clamp may read instead of its rounded operand; None if that would not be the same."""
    if not isinstance(node.op, Unary) or node.op.function != "clamp":
        return None
    dtype = _narrow_source(draft, node.inputs[0])
    rounded = draft.producer[draft.now(node.inputs[0])].inputs[0] if dtype is not None else ""
    maker = draft.producer.get(draft.now(rounded)) if rounded else None
    if dtype is None or maker is None or not isinstance(maker.op, Cast) or maker.op.dtype != dtype:
        return None
    readers = graph.consumers[rounded] if rounded in graph.tensors else ()
    bounds = np.array([b for b in node.op.parameters if not isinf(b)], np.float32)
    alone = len(readers) == 1 and rounded not in graph.kept and len(graph.consumers[node.inputs[0]]) == 1
    again = [reader.op for reader in graph.consumers[node.output]]
    rounds = bool(again) and all(isinstance(op, Cast) and op.dtype == dtype for op in again)
    return maker.inputs[0] if alone and rounds and has_values(dtype, bounds) else None
