# SPDX-License-Identifier: Apache-2.0
"""Nodes that read constants only, of operators that no converter knows: ONNX's reference computes them.

In the sandbox, within its time and memory and what is left for folding.
"""

from __future__ import annotations

import onnx
import onnx.numpy_helper
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto

from mmcc.errors import CompileError
from mmcc.frontend.convert import Import, constant_value
from mmcc.frontend.reads import reads
from mmcc.frontend.schema import checked_node, domain_of
from mmcc.frontend.tensors import to_array

_CHILD = """
import onnx, onnx.numpy_helper, onnx.reference
model = onnx.ModelProto.FromString(given)
results = onnx.reference.ReferenceEvaluator(model).run(None, {})
if sum(result.nbytes for result in results) > int(model.doc_string):
    sys.exit(1)
graph = onnx.GraphProto()
for k, result in enumerate(results):
    graph.initializer.append(onnx.numpy_helper.from_array(result, str(k)))
sys.stdout.buffer.write(graph.SerializeToString())
"""


def compute(state: Import, node: NodeProto) -> bool:
    """Make constants of the outputs of a node, if all that it reads are constants and ONNX can compute it."""
    names = list(dict.fromkeys(filter(None, reads(node))))
    values = [state.values.get(name) for name in names]
    known = [value for value in values if value is not None and state.build.is_constant(value.tensor)]
    if len(known) < len(names) :
        return False
    domain = domain_of(node)
    version = state.source.opsets.get(domain, 1)
    try:
        schema, _ = checked_node(node, version)
    except CompileError:
        return False
    if schema is None or schema.non_deterministic:
        return False
    size = sum(value.dtype.bytes(value.size) for value in known)
    if size > state.build.budget:
        return False
    model = ModelProto(ir_version=8, doc_string=str(state.build.budget - size))
    opsets = {"": state.source.opsets[""], domain: version}
    model.opset_import.extend(onnx.helper.make_opsetid(*opset) for opset in opsets.items())
    model.graph.name = "g"
    model.graph.node.append(node)
    for name, value in zip(names, known, strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(state.build.array(value), name))
    wanted = [name for name in node.output if name in state.wanted]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    made = state.sandbox.answer(_CHILD, model.SerializeToString())
    try:
        results = GraphProto.FromString(made or b"").initializer
        arrays = [to_array(result, state.source.folder) for result in results]
    except (DecodeError, CompileError):
        return False
    if len(arrays) < len(wanted):
        return False
    state.build.spend(size + sum(array.nbytes for array in arrays), node.op_type)
    for name, result, array in zip(wanted, results, arrays, strict=True):
        state.values.setdefault(name, constant_value(state, result, array, name))
    return True
