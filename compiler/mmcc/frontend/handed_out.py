# SPDX-License-Identifier: Apache-2.0
"""Loops written so that ONNX Runtime is right: what their bodies hand out, and results that nobody reads.

It collects by reference what each step hands out. The number of the step is one tensor that it counts up:
a body that hands it out gives the last number for all steps. A body that hands out a value from outside is
refused. An Identity is a copy of each step's own where graph optimizations are off. A loop that leaves out
one of its results is refused, or ends the process.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

LOOPS = ("Loop", "Scan")


def rewrite_loops(model: onnx.ModelProto) -> bool:
    """Put an Identity before such outputs of bodies, and before those named twice, and name the results that
    are left out; True if there are any."""
    changed = False
    taken = _names(model.graph)
    for loop in _loops(model.graph):
        (body,) = _inner(loop)
        for place, output in enumerate(loop.output):
            if not output:
                loop.output[place] = _new(f"{loop.op_type}_{place}", taken)
                changed = True
        made = {name for node in body.node for name in node.output}
        for value in body.output:
            if value.name in made:
                made.remove(value.name)  # the next output of this name is a copy
                continue
            name = _new(f"{value.name}_copy", taken)
            body.node.append(onnx.helper.make_node("Identity", [value.name], [name]))
            value.name = name
            changed = True
    return changed


def _new(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _names(graph: onnx.GraphProto) -> set[str]:
    """Of all values, also within bodies and branches: a name from outside means the same within."""
    values = (*graph.input, *graph.output, *graph.initializer)
    found = {value.name for value in values}
    for node in graph.node:
        found.update(node.output)
        for inner in _inner(node):
            found |= _names(inner)
    return found


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _loops(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Also those within bodies and branches."""
    for node in graph.node:
        if node.op_type in LOOPS and node.domain in ("", "ai.onnx"):
            yield node
        for inner in _inner(node):
            yield from _loops(inner)
