# SPDX-License-Identifier: Apache-2.0
"""Operators of TensorFlow's and TensorFlow Lite's that tf2onnx leaves as they are, in nodes of ONNX's own.

They are in ONNX's own domain, whose operator sets know none of them, so ONNX Runtime refuses such a file.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

from onnx import ModelProto, NodeProto

from mmcc.frontend.reads import nodes_below
from mmcc.frontend.stand_ins import StandIn, write_out


def _erfc(nodes: StandIn) -> str:
    return nodes.add("Sub", 1.0, nodes.add("Erf", nodes.node.input[0]))


def _gelu(nodes: StandIn) -> str:
    x = nodes.node.input[0]
    if nodes.number("approximate", 0):
        cube = nodes.add("Mul", nodes.add("Mul", x, x), nodes.add("Mul", x, 0.044715))
        gate = nodes.add("Tanh", nodes.add("Mul", nodes.add("Add", x, cube), sqrt(2 / pi)))
    else:
        gate = nodes.add("Erf", nodes.add("Mul", x, sqrt(0.5)))
    return nodes.add("Mul", nodes.add("Mul", x, 0.5), nodes.add("Add", gate, 1.0))


FORMS: dict[str, Callable[[StandIn], str]] = {"Erfc": _erfc, "TFL_GELU": _gelu}


def _form(node: NodeProto) -> Callable[[StandIn], str] | None:
    return FORMS.get(node.op_type) if node.domain in ("", "ai.onnx") else None


def has_tensorflow(model: ModelProto) -> bool:
    """True if a node is one that tf2onnx has left as it was."""
    return any(_form(node) is not None for node in nodes_below(model.graph.node))


def write_tensorflow_out(model: ModelProto) -> None:
    """Put nodes of ONNX's in their places, which give the same values by the same names."""
    write_out(model.graph, StandIn, _form)
