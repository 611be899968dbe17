# SPDX-License-Identifier: Apache-2.0
"""True int8: what stands between Dequantize and Quantize is computed in integers."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Quant
from mmcc.ops.activation import Clamp
from mmcc.ops.quantize import Dequantize, Quantize
from mmcc.ops.reduce import ArgMax
from mmcc.passes.affine import write_affine
from mmcc.passes.draft import Draft, sole_reader
from mmcc.passes.fuse_activation import as_activation
from mmcc.passes.integer import integer_form
from mmcc.passes.lookup import write_lookup
from mmcc.passes.quantized import StaysFloat, computed_by, source_of


def quantize(graph: Graph) -> Graph:
    """Replace float islands by integer ops; what must stay float stays, with a reason for the report.

    Expects Dequantize and Quantize where `sink_dequantize` and `raise_quantize` leave them.
    """
    graph = mark_quantized(graph)
    draft = Draft(graph)
    reasons: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, ArgMax):
            _find_in_integers(draft, node)
        elif not _write(draft, node, reasons):
            draft.keep(node)
    return replace(draft.graph(), reasons=graph.reasons | reasons)


def _write(draft: Draft, node: Node, reasons: dict[str, str]) -> bool:
    """Write what a Quantize and the nodes before it are in integers; False if that is not so."""
    if not isinstance(node.op, Quantize) or node.op.dtype != ElementType.I8:
        return False
    done = write_lookup(draft, node) or _write_integer(draft, node, node.op, reasons)
    return done or write_affine(draft, node)


def mark_quantized(graph: Graph) -> Graph:
    """Note on every int8 activation what its integers mean, as the Quantize or Dequantize beside it says."""
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        if isinstance(node.op, Dequantize):
            name, quant = node.inputs[0], Quant(node.op.scale, node.op.zero_point)
        elif isinstance(node.op, Quantize):
            name, quant = node.output, Quant(node.op.scale, node.op.zero_point)
        else:
            continue
        if (
            tensors[name].dtype == ElementType.I8
            and tensors[name].quant is None
            and not graph.is_constant(name)
        ):
            tensors[name] = replace(tensors[name], quant=quant)
    return replace(graph, tensors=tensors)


def _find_in_integers(draft: Draft, node: Node) -> None:
    """The largest integer is where the largest float is."""
    try:
        source = source_of(draft, node.inputs[0])
    except StaysFloat:
        draft.keep(node)
    else:
        draft.write(node.op, (source.name,), node.output, node.where)


def _write_integer(draft: Draft, node: Node, op: Quantize, reasons: dict[str, str]) -> bool:
    graph = draft.source
    compute, clamps = computed_by(graph, node.inputs[0])
    if compute is None:
        return False
    if len(compute.outputs) > 1:
        reasons[compute.outputs[0]] = "an operator with several results has no integer form"
        return False
    try:
        if any(sole_reader(graph, inner.output) is None for inner in (compute, *clamps)):
            raise StaysFloat("its output is needed in float, or quantized in two ways")
        activations = [as_activation(clamp) for clamp in clamps]
        form, inputs = integer_form(draft, compute, op, [a for a in activations if isinstance(a, Clamp)])
    except StaysFloat as reason:
        reasons[compute.output] = str(reason)
        return False
    where = (*compute.where, *(w for clamp in clamps for w in clamp.where), *node.where)
    draft.write(form, inputs, node.output, where, Quant(op.scale, op.zero_point))
    return True
