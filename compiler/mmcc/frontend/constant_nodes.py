# SPDX-License-Identifier: Apache-2.0
"""Nodes that read constants only, of operators that no converter knows: ONNX's reference computes them.

In the sandbox, within its time and memory and what is left for folding.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx.numpy_helper
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto

from mmcc.errors import CompileError
from mmcc.frontend.convert import Import, constant_value
from mmcc.frontend.reads import reads
from mmcc.frontend.schema import checked_node, domain_of
from mmcc.frontend.tensors import to_array

Determinism = onnx.defs.OpSchema.NodeDeterminism
_CHILD = """
import onnx, onnx.numpy_helper, onnx.reference
model = onnx.ModelProto.FromString(given)
results = onnx.reference.ReferenceEvaluator(model).run(None, {})
if sum(result.nbytes for result in results) > int(model.doc_string):
    raise MemoryError
graph = onnx.GraphProto()
for k, result in enumerate(results):
    graph.initializer.append(onnx.numpy_helper.from_array(result, str(k)))
answer = graph.SerializeToString()
"""


def compute(state: Import, node: NodeProto) -> bool:
    """Make constants of the outputs of a node, if all that it reads are constants and ONNX can compute it."""
    names = list(dict.fromkeys(filter(None, reads(node))))
    values = [state.values.get(name) for name in names]
    known = [value for value in values if value is not None and state.build.is_constant(value.tensor)]
    if any(value.tensor in state.build.stored for value in known):  # their elements are of another type
        return False
    size = sum(value.dtype.bytes(value.size) for value in known)
    if len(known) < len(names) or size > state.build.budget or not _is_determined(state, node):
        return False
    model = _model(state, node, state.build.budget - size)
    for name, value in zip(names, known, strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(state.build.array(value), name))
    made = state.sandbox.answer(_CHILD, model.SerializeToString())
    try:
        results = GraphProto.FromString(made or b"").initializer
        arrays = [to_array(result, state.source.folder) for result in results]
    except (DecodeError, CompileError):
        return False
    wanted = [info.name for info in model.graph.output]
    if len(arrays) < len(wanted):
        return False
    state.build.spend(size + sum(array.nbytes for array in arrays), node.op_type)
    for name, result, array in zip(wanted, results, arrays, strict=True):
        state.values.setdefault(name, constant_value(state, result, array, name))
    return True


def _is_determined(state: Import, node: NodeProto) -> bool:
    """True of a node of ONNX's own that follows its schema and makes the same every time."""
    try:
        found, _ = checked_node(node, state.source.opsets.get(domain_of(node), 1))
    except CompileError:
        return False
    schema: Any = found  # more than onnx says of its types
    return schema is not None and schema.node_determinism is not Determinism.NonDeterministic


def _model(state: Import, node: NodeProto, most: int) -> ModelProto:
    """A model of one node, whose results may have `most` bytes."""
    model = ModelProto(ir_version=8, doc_string=str(most))
    opsets = {"": state.source.opsets[""], domain_of(node): state.source.opsets.get(domain_of(node), 1)}
    model.opset_import.extend(onnx.helper.make_opsetid(*opset) for opset in opsets.items())
    model.graph.name = "g"
    model.graph.node.append(node)
    wanted = [name for name in node.output if name in state.wanted]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return model
