# SPDX-License-Identifier: Apache-2.0
"""Gradients of what attention is made of: products of two activations, and normalization of a line."""

from __future__ import annotations

from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.matmul import MatMul, Operands
from mmcc.ops.movement import Transpose
from mmcc.ops.reduce import Reduce
from mmcc.training.gradients.registry import Backward, gradient


@gradient(MatMul)
def matmul(op: MatMul, call: Backward) -> dict[int, str]:
    """da = g b', db = a' g, summed over leading axes that were repeated."""
    a, b = call.node.inputs
    heads, turned = op.operands.heads, op.operands.transposed
    first, second, g = (_matrices(call, name, heads) for name in (a, b, call.whole))
    own = call.shape(first)
    if heads:  # neighbours that meet one matrix are one matrix with the rows of all
        count = call.shape(second)[0]
        rows = own[0] // count * own[1]
        first, g = (call.reshaped(name, (count, rows, call.shape(name)[-1])) for name in (first, g))
    found: dict[int, str] = {}
    if 0 in call.wanted:
        made = call.add(MatMul(Operands(transposed=not turned)), g, second)
        made = call.reshaped(made, own) if heads else made
        found[0] = call.summed(_matrices(call, made, heads), call.shape(a))
    if 1 in call.wanted:
        left, right = (_turned(call, g), first) if turned else (_turned(call, first), g)
        found[1] = call.summed(_matrices(call, call.add(MatMul(), left, right), heads), call.shape(b))
    return found


def _matrices(call: Backward, name: str, heads: bool) -> str:
    """Heads side by side as matrices one behind the other, and back."""
    return call.add(Transpose((1, 0, 2)), name) if heads else name


def _turned(call: Backward, name: str) -> str:
    rank = len(call.shape(name))
    return call.add(Transpose((*range(rank - 2), rank - 1, rank - 2)), name)


@gradient(LayerNorm)
def layer_norm(op: LayerNorm, call: Backward) -> dict[int, str]:
    """With n = (x - mean) / deviation and s = g scale: dx = (s - mean of s - n (mean of s n)) / deviation."""
    x, scale, *_ = call.node.inputs
    g, last = call.whole, (len(call.shape(x)) - 1,)
    apart = call.binary("sub", x, call.add(Reduce("mean", last), x)) if op.centred else x
    square = call.add(Reduce("mean", last), call.binary("mul", apart, apart))
    root = call.unary("sqrt", call.binary("add", square, call.number(op.epsilon)))
    normal = call.binary("div", apart, root)
    found: dict[int, str] = {}
    if 0 in call.wanted:
        s = call.binary("mul", g, scale)
        along = call.add(Reduce("mean", last), call.binary("mul", s, normal))
        rest = call.binary("sub", s, call.binary("mul", normal, along))
        rest = call.binary("sub", rest, call.add(Reduce("mean", last), s)) if op.centred else rest
        found[0] = call.binary("div", rest, root)
    if 1 in call.wanted:
        found[1] = call.summed(call.binary("mul", g, normal), call.shape(scale))
    if 2 in call.wanted:
        found[2] = call.summed(g, call.shape(scale))
    return found
