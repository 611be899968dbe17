# SPDX-License-Identifier: Apache-2.0
"""ONNX's shape inference over a model with something wrong in it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, TypeProto

from mmcc.frontend.load import Source
from mmcc.frontend.sandbox import answer

MAX_DATA = 4096  # elements of a constant that inference is shown
MAX_BYTES = 2**26  # of a model that it is tried on
_CHILD = """
import onnx
model = onnx.ModelProto.FromString(given)
made = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
del made.node[:], made.initializer[:]
answer = made.SerializeToString()
"""


def inferred_types(source: Source, inputs: Mapping[str, TypeProto]) -> dict[str, TypeProto]:
    """What ONNX says of the values that nodes make; {} where it says nothing."""
    model = ModelProto(ir_version=8)
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in source.opsets.items())
    model.graph.name = "g"
    model.graph.node.extend(node for _, node in source.nodes)
    model.graph.output.extend(onnx.ValueInfoProto(name=info.name) for info in source.outputs)
    for name, kind in inputs.items():
        model.graph.input.add(name=name, type=kind)
    for name, tensor in source.initializers.items():
        if _is_short(tensor):
            model.graph.initializer.append(tensor)
        else:
            kind = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            model.graph.input.add(name=name, type=kind)
    if model.ByteSize() > MAX_BYTES:
        return {}
    made = answer(_CHILD, model.SerializeToString())
    if made is None:
        return {}
    try:
        graph = onnx.GraphProto.FromString(made)
    except DecodeError:
        return {}
    return {info.name: info.type for info in (*graph.value_info, *graph.output)}


def _is_short(tensor: TensorProto) -> bool:
    count = 1
    for extent in tensor.dims:
        count *= max(0, extent)
    return count <= MAX_DATA and tensor.data_location != TensorProto.EXTERNAL
