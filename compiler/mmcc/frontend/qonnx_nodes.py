# SPDX-License-Identifier: Apache-2.0
"""QONNX's operators in nodes of ONNX's own, for ONNX Runtime, which knows none of them.

Their meaning is what the package qonnx computes (custom_op/general/intquant.py, trunc.py, bipolar_quant.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from mmcc.frontend.reads import nodes_below
from mmcc.frontend.stand_ins import StandIn, write_out

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
NEAREST = ("ROUND", "HALF_EVEN")
ROUNDINGS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    **dict.fromkeys(NEAREST, np.rint),
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.fix,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


class _Nodes(StandIn):
    """What stands for one node."""

    def rounded(self, x: str, default: str) -> str:
        """An element as a whole number, by the node's rounding mode."""
        given = next((a.s.decode() for a in self.node.attribute if a.name == "rounding_mode"), default)
        mode = given.upper()
        if mode in NEAREST:
            return self.add("Round", x)
        if mode in ("CEIL", "FLOOR"):
            return self.add(mode.capitalize(), x)
        size = self.add("Abs", x)
        if mode in ("HALF_UP", "HALF_DOWN"):
            size = self.add("Add" if mode == "HALF_UP" else "Sub", size, 0.5)
        size = self.add("Ceil" if mode in ("UP", "HALF_DOWN") else "Floor", size)
        return self.add("Mul", self.add("Sign", x), size)

    def within(self, x: str, bits: str) -> str:
        """Clamped to the integers of so many bits."""
        narrow = float(self.number("narrow", 0))
        if self.number("signed", 1):
            half = self.add("Pow", 2.0, self.add("Sub", bits, 1.0))
            low, high = self.add("Sub", narrow, half), self.add("Sub", half, 1.0)
        else:
            low, high = "", self.add("Sub", self.add("Pow", 2.0, bits), 1.0 + narrow)
        return self.add("Max", self.add("Min", x, high), low or 0.0)

    def sign(self, x: str) -> str:
        """1 where an element is at least 0, -1 elsewhere."""
        return self.add("Where", self.add("Less", x, 0.0), -1.0, 1.0)


def _quant(nodes: _Nodes) -> str:
    x, scale, zero, bits = nodes.node.input
    steps = nodes.add("Add", nodes.add("Div", x, scale), zero)
    made = nodes.rounded(nodes.within(steps, bits), "ROUND")
    if nodes.number("signed", 1):
        made = nodes.add("Where", nodes.add("Equal", bits, 1.0), nodes.sign(steps), made)
    return nodes.add("Mul", nodes.add("Sub", made, zero), scale)


def _bipolar_quant(nodes: _Nodes) -> str:
    x, scale = nodes.node.input
    return nodes.add("Mul", nodes.sign(x), scale)


def _trunc(nodes: _Nodes) -> str:
    x, scale, zero, bits, *others = nodes.node.input
    whole = nodes.add("Round", nodes.add("Add", nodes.add("Div", x, scale), zero))
    if len(others) == 1:
        dropped = nodes.add("Pow", 2.0, nodes.add("Sub", bits, others[0]))
        made = nodes.rounded(nodes.add("Div", whole, dropped), "FLOOR")
        return nodes.add("Mul", nodes.add("Sub", made, zero), scale)
    step, width = others
    ratio = nodes.add("Div", nodes.add("Log", nodes.add("Div", step, scale)), float(np.log(2)))
    dropped = nodes.add("Pow", 2.0, nodes.add("Round", ratio))
    made = nodes.rounded(nodes.within(nodes.add("Div", whole, dropped), width), "FLOOR")
    return nodes.add("Mul", nodes.add("Sub", made, nodes.add("Div", zero, dropped)), step)


FORMS = {"Quant": _quant, "IntQuant": _quant, "BipolarQuant": _bipolar_quant, "Trunc": _trunc}


def has_qonnx(model: ModelProto) -> bool:
    """True if a node is one of QONNX's."""
    return any(_form(node) is not None for node in nodes_below(model.graph.node))


def write_qonnx_out(model: ModelProto) -> None:
    """Put nodes of ONNX's in place of QONNX's, which give the same values by the same names."""
    write_out(model.graph, _Nodes, _form)


def _form(node: NodeProto) -> Callable[[_Nodes], str] | None:
    return FORMS.get(node.op_type) if node.domain in DOMAINS else None
