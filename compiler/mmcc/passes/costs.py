# SPDX-License-Identifier: Apache-2.0
"""Where the passes made a model cost more than it says: float where it is quantized, or more constants."""

from __future__ import annotations

from math import prod

import numpy as np

from mmcc.ir.graph import Graph, Node
from mmcc.ir.traits import Alias
from mmcc.ops.quantize import Dequantize, Quantize, QuantizeBy

EACH_IN_INTEGERS = 20  # bytes: bias, multiplier and shift, or factor and offset, of a channel
EACH_IN_FLOAT = 4  # a bias that the file does not have


def costs(model: Graph, done: Graph) -> tuple[str, ...]:
    """What differs, to the user's cost, between a model as it was read and after all passes."""
    return (*_float_nodes(model, done), *_larger_constants(done))


def _float_nodes(model: Graph, done: Graph) -> list[str]:
    """One sentence for each node that computes in float in a model that is quantized.

    In a model that finds its scales while it runs all activations are floats: one sentence says so, and
    others are of nodes that stay float for a reason of their own.
    """
    if not any(node.op.traits.converts for node in model.nodes):
        return []
    computed = _by_computed_scales(model)
    warnings: list[str] = []
    others = 0
    for node in done.nodes:
        names = [*done.activations(node), *node.outputs]
        floats = [done.tensors[name] for name in names if done.tensors[name].dtype.is_float]
        if floats and not node.op.traits.converts and node.op.traits.alias is not Alias.SAME:
            place = str(node.where[0]) if node.where else f"%{node.outputs[0]}"
            given = done.reasons.get(node.outputs[0])
            if computed is not None and given is None:
                others += 1
                continue
            reason = given or _reason(done, node)
            size = sum(tensor.bytes for tensor in floats)
            text = f"{node.op} is computed in float, since {reason}; its float tensors take {size:,} bytes"
            warnings.append(f"{place}: {text}")
    if computed is not None and others:
        text = f"scales are found while the model runs, so {others} nodes of it are computed in float"
        warnings.append(
            f"{computed}: {text}; scales that are known before (mmcc quantize) make them integers"
        )
    return warnings


def _by_computed_scales(model: Graph) -> str | None:
    """Where a model begins to find scales while it runs, as quantize_dynamic leaves it.

    None if it does not, or has constant scales, too.
    """
    if any(isinstance(node.op, Dequantize) for node in model.nodes):
        return None
    first = next((node for node in model.nodes if isinstance(node.op, QuantizeBy)), None)
    if first is None:
        return None
    return str(first.where[0]) if first.where else f"%{first.output}"


def _larger_constants(done: Graph) -> list[str]:
    """One sentence for each node whose constants take more bytes of flash than the file has for them.

    The few numbers that any layer has for each channel (bias, multiplier, shift) do not count.
    """
    warnings: list[str] = []
    for node in done.nodes:
        parts = [done.stored[where] for where in dict.fromkeys(node.where) if where in done.stored]
        held = sum(part.bytes for part in parts)
        constants = [done.constants[name] for name in node.inputs if done.is_constant(name)]
        size = sum(constant.nbytes for constant in constants)
        integers = any(constant.dtype == np.int8 for constant in constants)
        channels = prod(done.tensors[node.outputs[0]].shape[-1:])
        kinds = sorted({kind for part in parts for kind in part.kinds})
        wide = any("16" in kind or "INT4" in kind for kind in kinds)
        wide = wide and not any(constant.dtype == np.float16 for constant in constants)
        usual = 0 if wide else channels * (EACH_IN_INTEGERS if integers else EACH_IN_FLOAT)
        if held and size > held + usual and not node.op.traits.tables:
            of = f" of {' and '.join(kinds)}" if kinds else ""
            text = f"its constants{of} take {held:,} bytes in the file and {size:,} in flash"
            warnings.append(f"{node.where[0]}: {text}, since {_why_larger(node, kinds, integers)}")
    return warnings


def _why_larger(node: Node, kinds: list[str], integers: bool) -> str:
    """Why constants are larger, given ONNX's names of their types, and whether they are still integers."""
    if any("16" in kind for kind in kinds):
        return "16-bit floats are kept as float32"
    if any("INT4" in kind for kind in kinds) and integers:
        return "integers of 4 bits are kept one to a byte"
    if any("INT" in kind for kind in kinds) and not integers:
        return f"{node.op} reads float32"
    return "they are repeated, or folded with others"


def _reason(graph: Graph, node: Node) -> str:
    """Why a node that no Quantize reads directly is float."""
    sources = [graph.producer.get(name) for name in graph.activations(node)]
    if not any(source is not None and isinstance(source.op, Dequantize) for source in sources):
        return "its input is float"
    readers = graph.consumers[node.outputs[0]]
    if not readers or not all(isinstance(reader.op, Quantize) for reader in readers):
        return "the model does not quantize its output"
    return f"there is no integer form of {node.op}"
