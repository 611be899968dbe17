# SPDX-License-Identifier: Apache-2.0
"""What the file has for each node's constants: bytes, and the element types in which it has them.

Nodes that compute of constants only (a DequantizeLinear of weights, a Cast of float16) count for those that
read them. The report compares this with flash, after all passes.
"""

from __future__ import annotations

from math import prod

from onnx import AttributeProto, NodeProto, TensorProto

from mmcc.errors import Where
from mmcc.frontend.load import Source
from mmcc.frontend.tensors import FEW_BITS, NARROW, STORED, elements_a_cell, type_name
from mmcc.ir.graph import Stored

BELOW_32_BITS = {TensorProto.INT8, TensorProto.UINT8, *NARROW, *FEW_BITS}


def stored_constants(source: Source) -> dict[Where, Stored]:
    """What the constants of a node are in the file, by node; nodes that read constants only are left out."""
    constant = {name: _of(proto) for name, proto in source.initializers.items()}
    inputs = {info.name for info in source.inputs}
    found: dict[Where, Stored] = {}
    for where, node in source.nodes:
        own = _sum([constant[name] for name in dict.fromkeys(node.input) if name in constant])
        own = _sum([own, *_attributes(node)])
        given = [name for name in node.input if name]
        if all(name in constant and name not in inputs for name in given):
            constant |= dict.fromkeys(filter(None, node.output), own)
        elif own.bytes:
            found[where] = own
    return found


def _of(proto: TensorProto) -> Stored:
    size = prod(proto.dims)
    itemsize = int(STORED[proto.data_type][-1]) if proto.data_type in STORED else 4
    count = -(-size // elements_a_cell(proto.data_type)) * itemsize
    below = proto.data_type in BELOW_32_BITS and size > 1
    return Stored(count, frozenset({type_name(proto.data_type)} if below else ()))


def _attributes(node: NodeProto) -> list[Stored]:
    """Of a Constant: its value, however it is written."""
    if node.op_type != "Constant":
        return []
    found: list[Stored] = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            found.append(_of(attribute.t))
        else:
            count = len(attribute.floats) + len(attribute.ints) or 1
            found.append(Stored(4 * count, frozenset()))
    return found


def _sum(parts: list[Stored]) -> Stored:
    kinds = frozenset(kind for part in parts for kind in part.kinds)
    return Stored(sum(part.bytes for part in parts), kinds)
