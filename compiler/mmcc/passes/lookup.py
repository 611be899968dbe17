# SPDX-License-Identifier: Apache-2.0
"""Functions of one quantized value as tables: exact, whatever the function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import Where as Place
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Quant
from mmcc.ops.elementwise import BitCast, Cast
from mmcc.ops.elementwise_int8 import EVERY, Lookup
from mmcc.ops.quantize import Dequantize, Quantize
from mmcc.passes.draft import Draft, sole_reader
from mmcc.passes.fold import constant_value
from mmcc.passes.fold_batchnorm import is_per_channel


def write_lookup(draft: Draft, node: Node) -> bool:
    """Write a Quantize as a Lookup if its input is a function of one int8 tensor, element by element."""
    assert isinstance(node.op, Quantize)
    source = nearest_source(draft, draft.now(node.inputs[0]))
    if source is None:
        return False
    places: list[Place] = []
    values = evaluate(draft, draft.now(node.inputs[0]), {source: EVERY}, places)
    (table,) = node.op.reference(values)
    if np.array_equal(table, EVERY):
        draft.replace(node.output, source, node.where)
        return True
    name = draft.constant(np.broadcast_to(table, (256,)), f"{node.output}_table")
    quant = Quant(node.op.scale, node.op.zero_point)
    draft.write(Lookup(), (source, name), node.output, (*places, *node.where), quant)
    return True


def nearest_source(
    draft: Draft, name: str, channels: int = 1, dtype: ElementType = ElementType.I8
) -> str | None:
    """The nearest tensor of int8, or of another type, that alone decides the float tensor `name`.

    With `channels` above 1 together with constants that have so many elements, along the last axis.
    """
    sources = _nearest(draft, name, channels, dtype)
    while sources is not None and len(sources) > 1:
        tables = [s for s in sources if s in draft.producer and isinstance(draft.producer[s].op, Lookup)]
        if not tables:
            return None
        latest = max(tables, key=draft.position)
        sources = (sources - {latest}) | {draft.producer[latest].inputs[0]}
    return sources.pop() if sources else None


def _nearest(draft: Draft, name: str, channels: int, dtype: ElementType) -> set[str] | None:
    """The tensors of a type that `name` is computed from; None if not element by element."""
    shape = draft.tensors[name].shape
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        tensor = draft.tensors[current]
        if current in seen:
            continue
        seen.add(current)
        value = constant_value(draft, current)
        if value is not None:
            if not is_per_channel(value.shape, channels):
                return None
        elif tensor.shape != shape:
            return None
        elif tensor.dtype == dtype:
            found.add(current)
        elif current in draft.producer and draft.producer[current].op.traits.elementwise:
            waiting += draft.producer[current].inputs
        else:
            return None
    return found


def evaluate(
    draft: Draft, name: str, known: dict[str, NDArray[Any]], places: list[Place], *, wide: bool = False
) -> NDArray[Any]:
    """The values of a tensor for each value of its source.

    `known` has the source's values, [256], or [256, 1] if there are constants for each channel. `wide`:
    floats have 64 bits from the source on, so that none of the model's roundings is in the result, but for
    those of its conversions.
    """
    if name not in known:
        constant = constant_value(draft, name)
        if constant is not None:
            known[name] = constant.reshape(() if constant.size == 1 else (1, -1))
        else:
            node = draft.producer[name]
            if isinstance(node.op, Lookup):
                values = [evaluate(draft, node.inputs[0], known, places), draft.constants[node.inputs[1]]]
            else:
                values = [evaluate(draft, name, known, places, wide=wide) for name in node.inputs]
            if wide and isinstance(node.op, (Cast, BitCast)):  # what they make depends on the type they read
                types = (draft.tensors[name].dtype.numpy for name in node.inputs)
                values = [value.astype(dtype) for value, dtype in zip(values, types, strict=True)]
            if wide and isinstance(node.op, Dequantize):
                op = node.op
                known[name] = (values[0] - np.float64(op.zero_point)) * np.float64(np.float32(op.scale))
            else:
                (known[name],) = node.op.reference(*values)
            if not isinstance(node.op, (Quantize, Dequantize)):
                places += node.where
    return known[name]


def join_lookups(graph: Graph) -> Graph:
    """Two tables one after the other are one; a table that only clamps narrows the op before it."""
    draft = Draft(graph)
    for node in graph.nodes:
        before = draft.producer.get(draft.now(node.inputs[0])) if node.inputs else None
        if not isinstance(node.op, Lookup) or before is None or sole_reader(graph, node.inputs[0]) is None:
            draft.keep(node)
            continue
        quant = draft.tensors[node.output].quant
        table = draft.constants[draft.now(node.inputs[1])]
        where = before.where + node.where
        if isinstance(before.op, Lookup) and table.dtype == np.int8:
            first = draft.constants[before.inputs[1]]
            joined = draft.constant(table[first.astype(np.int64) + 128], f"{node.output}_table")
            draft.write(Lookup(), (before.inputs[0], joined), node.output, where, quant)
        elif before.op.traits.saturates and _only_clamps(table):
            op: Any = before.op
            low, high = (int(table[bound + 128]) for bound in (op.low, op.high))
            draft.write(replace(op, low=low, high=high), before.inputs, node.output, where, quant)
        else:
            draft.keep(node)
    return draft.graph()


def _only_clamps(table: NDArray[Any]) -> bool:
    return bool(np.array_equal(table, np.clip(EVERY, table.min(), table.max())))
