# SPDX-License-Identifier: Apache-2.0
"""LayerNormalization and RMSNormalization that a model spells out, as exporters do, become one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import Where
from mmcc.frontend.absent import NO_SCALE
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.reduce import Reduce
from mmcc.passes.draft import Draft, sole_reader
from mmcc.passes.fold import constant_value
from mmcc.passes.fold_batchnorm import is_per_channel


@dataclass(frozen=True, slots=True)
class _Found:
    """A normalization up to some node: what is normalized, by which op, and with what parameters."""

    op: LayerNorm
    source: str
    where: tuple[Where, ...]
    scale: str | None = None


def fuse_norm(graph: Graph) -> Graph:
    """x / sqrt(mean(x * x) + epsilon), where x may be less its mean, with scales and biases of channels.

    The nodes between are needed by nobody else, or they are kept beside the new one.
    """
    draft = Draft(graph)
    found: dict[str, _Found] = {}
    for node in graph.nodes:
        here = _normalized(graph, node) or _scaled(graph, draft, found, node)
        if here is not None:
            found[node.output] = here
            _write(draft, node, here, None)
            continue
        biased = _biased(graph, draft, found, node)
        if biased is None:
            draft.keep(node)
        else:
            _write(draft, node, *biased)
    return draft.graph()


def _write(draft: Draft, node: Node, found: _Found, bias: str | None) -> None:
    scale = found.scale
    if scale is None:
        ones = np.ones(draft.tensors[found.source].shape[-1], np.float32)
        scale = draft.constant(ones, f"{node.output}{NO_SCALE}")
    names = (scale,) if bias is None else (scale, bias)
    draft.write(found.op, (found.source, *names), node.output, found.where)


def _made_by(graph: Graph, name: str, op: Op) -> Node | None:
    """The node that makes a tensor by this op, if that is so."""
    node = graph.producer.get(name)
    return node if node is not None and node.op == op else None


def _mean(graph: Graph, name: str) -> Node | None:
    """The node that makes a tensor as the mean over the last axis."""
    node = graph.producer.get(name)
    if node is None or not isinstance(node.op, Reduce) or node.op.function != "mean":
        return None
    return node if node.op.axes == (len(graph.tensors[name].shape) - 1,) else None


def _normalized(graph: Graph, node: Node) -> _Found | None:
    """`node` as the quotient of a tensor and the root of its mean square."""
    if not isinstance(node.op, Binary) or node.op.function not in ("mul", "div"):
        return None
    if graph.tensors[node.output].dtype != ElementType.F32:
        return None
    for x, divisor in (node.inputs, node.inputs[::-1]) if node.op.function == "mul" else (node.inputs,):
        steps = _steps(graph, x, divisor, node.op.function == "mul")
        if steps is None or graph.tensors[x].shape != graph.tensors[node.output].shape:
            continue
        epsilon, inner = steps
        centred = _made_by(graph, x, Binary("sub"))
        mean = _mean(graph, centred.inputs[1]) if centred is not None else None
        if centred is None or mean is None or mean.inputs[0] != centred.inputs[0]:
            return _Found(LayerNorm(epsilon, centred=False), x, (*inner, *node.where))
        where = (*mean.where, *centred.where, *inner, *node.where)
        return _Found(LayerNorm(epsilon), centred.inputs[0], where)
    return None


def _steps(graph: Graph, x: str, divisor: str, reciprocal: bool) -> tuple[float, tuple[Where, ...]] | None:
    """Epsilon, and where the model makes the root of the mean square of x (or its reciprocal)."""
    turned = _made_by(graph, divisor, Unary("reciprocal")) if reciprocal else None
    if reciprocal and turned is None:
        return None
    root = _made_by(graph, turned.inputs[0] if turned else divisor, Unary("sqrt"))
    total = _made_by(graph, root.inputs[0], Binary("add")) if root else None
    if root is None or total is None:
        return None
    known = [k for k in (0, 1) if graph.is_constant(total.inputs[k])]
    mean = _mean(graph, total.inputs[1 - known[0]]) if len(known) == 1 else None
    square = _made_by(graph, mean.inputs[0], Binary("mul")) if mean else None
    if mean is None or square is None or square.inputs != (x, x):
        return None
    epsilon = graph.constants[total.inputs[known[0]]]
    if epsilon.size != 1 or not epsilon.reshape(-1)[0] >= 0:
        return None
    nodes = (square, mean, total, root, *((turned,) if turned else ()))
    return float(epsilon.reshape(-1)[0]), tuple(w for each in nodes for w in each.where)


def _parameter(
    graph: Graph, draft: Draft, found: dict[str, _Found], node: Node, function: str
) -> tuple[_Found, str] | None:
    """A normalization that only `node` reads, and the constant a channel by which it changes that: one that
    two of them read stays one."""
    if not isinstance(node.op, Binary) or node.op.function != function:
        return None
    for name, other in (node.inputs, node.inputs[::-1]):
        value = constant_value(draft, other)
        if name not in found or value is None or sole_reader(graph, name) is None:
            continue
        shape = graph.tensors[name].shape
        if is_per_channel(value.shape, shape[-1]) and graph.tensors[node.output].shape == shape:
            return found[name], _each_channel(draft, draft.now(other), value, shape[-1])
    return None


def _each_channel(draft: Draft, name: str, value: NDArray[Any], channels: int) -> str:
    """The constant with a number a channel, by the model's own name for it where it is just that."""
    if draft.is_constant(name) and value.shape == (channels,) and value.dtype == np.float32:
        return name
    values = np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float32)
    return draft.constant(values, f"{name}_channels")


def _scaled(graph: Graph, draft: Draft, found: dict[str, _Found], node: Node) -> _Found | None:
    pair = _parameter(graph, draft, found, node, "mul")
    if pair is None or pair[0].scale is not None:
        return None
    return _Found(pair[0].op, pair[0].source, (*pair[0].where, *node.where), pair[1])


def _biased(graph: Graph, draft: Draft, found: dict[str, _Found], node: Node) -> tuple[_Found, str] | None:
    pair = _parameter(graph, draft, found, node, "add")
    if pair is None:
        return None
    before, bias = pair
    return _Found(before.op, before.source, (*before.where, *node.where), before.scale), bias
