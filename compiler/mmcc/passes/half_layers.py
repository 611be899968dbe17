# SPDX-License-Identifier: Apache-2.0
"""Compute in float16 what lies between tensors in float16, where the user allows it (`--fp16-math`).

The importer widens what a node reads and rounds what it makes. A layer whose input was widened and whose only
reader rounds takes and makes float16 instead; constants that are no values of float16 are rounded once, and
a layer of which one is too large for it stays. Its sums may then be rounded from product to product, which is
why it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ops.elementwise import Cast
from mmcc.ops.half_layers import HalfLayer, has_half_kernel
from mmcc.passes.draft import Draft
from mmcc.passes.narrow_floats import has_values


def compute_in_halves(graph: Graph, wide: Callable[[Node], bool]) -> Graph:
    """Layers between tensors in float16; not those that are to be `wide`."""
    draft, rounded = Draft(graph), set[str]()
    makers = {name: node for node in graph.nodes for name in node.outputs}
    instead = {node.outputs[0]: layer for node in graph.nodes if (layer := _layer(graph, makers, node, wide))}
    layers = {layer.output for layer in instead.values()}
    warnings = list[str]()
    for node in graph.nodes:
        if node.outputs[0] in layers:
            continue
        layer = instead.get(node.outputs[0])
        if layer is None:
            draft.keep(node)
            continue
        constants = [_halves(draft, name, rounded) for name in layer.inputs[1:]]
        x = makers[layer.inputs[0]].inputs[0]
        draft.write(layer.op, (x, *constants), node.output, (*layer.where, *node.where))
    if rounded:
        names = ", ".join(f'"{name}"' for name in sorted(rounded)[:3]) + (", ..." if len(rounded) > 3 else "")
        warnings.append(f"--fp16-math rounds {len(rounded)} constants to float16: {names}")
    done = draft.graph()
    return replace(done, warnings=(*done.warnings, *warnings))


def _layer(graph: Graph, makers: dict[str, Node], node: Node, wide: Callable[[Node], bool]) -> Node | None:
    """The layer whose result a node rounds, if it can be computed in float16."""
    layer = makers.get(node.inputs[0]) if node.op == Cast(ElementType.F16) else None
    if layer is None or not isinstance(layer.op, HalfLayer) or wide(layer):
        return None
    x, *constants = layer.inputs
    read = len(graph.consumers[layer.output]) > 1 or layer.output in graph.kept
    widens = x in makers and makers[x].op == Cast(ElementType.F32)
    if read or not widens or graph.tensors[makers[x].inputs[0]].dtype != ElementType.F16:
        return None
    if not all(graph.is_constant(name) and _holds(graph.constants[name]) for name in constants):
        return None
    return layer if has_half_kernel(layer.op, graph.tensors[constants[0]].shape) else None


def _holds(values: NDArray[np.generic]) -> bool:
    """Whether float16 has a number for each."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float16)).all())


def _halves(draft: Draft, name: str, rounded: set[str]) -> str:
    """A constant in float16."""
    values: NDArray[np.generic] = draft.constants[draft.now(name)]
    if values.dtype == np.float16:
        return name
    if not has_values(ElementType.F16, values):
        rounded.add(name)
    return draft.constant(values.astype(np.float16), f"{name}_f16")
