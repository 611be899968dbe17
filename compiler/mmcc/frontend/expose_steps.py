# SPDX-License-Identifier: Apache-2.0
"""Values that the steps of a loop make, as results of the loop: for an oracle to hand out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from mmcc.frontend.handed_out import LOOPS, all_names, unused_name

DIRECTIONS = ("scan_output_axes", "scan_output_directions")  # of a Scan, a number for each result


def expose_steps(model: onnx.ModelProto, values: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """By value, its name in the model's graph now; those that the model does not have are left out.

    A value is named by the loops around it, from the outermost on, each by one of its results, and its own
    name in the body. It is handed out stacked: an axis of steps for each loop, the outermost first.
    """
    taken = all_names(model.graph)
    found: dict[tuple[str, ...], str] = {}
    for value in values:
        around = _around(model.graph, value[:-1])
        name = value[-1]
        if around is None or name not in _made(_body(around[-1])):
            continue
        for node in reversed(around):
            name = _handed_out(node, name, taken)
        found[value] = name
    return found


def body_of(graph: onnx.GraphProto, loops: Sequence[str]) -> tuple[onnx.GraphProto, ...] | None:
    """The graph, and the bodies of loops within it, each in the one before; None where one is not there."""
    around = _around(graph, loops)
    return None if around is None else (graph, *(_body(node) for node in around))


def _around(graph: onnx.GraphProto, loops: Sequence[str]) -> list[onnx.NodeProto] | None:
    """The nodes of loops, each in the body of the one before."""
    found: list[onnx.NodeProto] = []
    for name in loops:
        node = next((n for n in graph.node if n.op_type in LOOPS and name in n.output), None)
        if node is None:
            return None
        found.append(node)
        graph = _body(node)
    return found


def _body(node: onnx.NodeProto) -> onnx.GraphProto:
    return next(attribute.g for attribute in node.attribute if attribute.name == "body")


def _made(body: onnx.GraphProto) -> set[str]:
    """The values that a step is given, or makes."""
    return {info.name for info in body.input} | {name for node in body.node for name in node.output}


def _handed_out(node: onnx.NodeProto, value: str, taken: set[str]) -> str:
    """The result, one more, of a loop that has the value of each step."""
    name = unused_name(f"{value}_of_steps", taken)
    _body(node).output.append(onnx.ValueInfoProto(name=value))
    node.output.append(name)
    for attribute in node.attribute:
        if attribute.name in DIRECTIONS:
            attribute.ints.append(0)
    return name
