# SPDX-License-Identifier: Apache-2.0
"""Loops and branches written so that ONNX Runtime is right: what they hand out, and results nobody reads.

It collects by reference what each step of a loop hands out. The number of the step is one tensor that it
counts up: a body that hands it out gives the last number for all steps. A body, or a branch of an If, that
hands out a value from outside is refused. An Identity is a copy of its own where graph optimizations are off.
A loop that leaves out one of its results is refused, or ends the process.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

LOOPS = ("Loop", "Scan")


def rewrite_bodies(model: onnx.ModelProto) -> bool:
    """Put an Identity before such outputs of bodies and branches, and before those named twice, and name the
    results of loops that are left out; True if there are any."""
    changed = False
    taken = all_names(model.graph)
    for node in _with_bodies(model.graph):
        is_loop = node.op_type in LOOPS
        for place, output in enumerate(node.output):
            if is_loop and not output:
                node.output[place] = unused_name(f"{node.op_type}_{place}", taken)
                changed = True
        for body in _inner(node):
            own = () if is_loop else (tensor.name for tensor in body.initializer)  # a step's would be shared
            made = {*own, *(name for inner in body.node for name in inner.output)}
            for value in body.output:
                if value.name in made:
                    made.remove(value.name)  # the next output of this name is a copy
                    continue
                name = unused_name(f"{value.name}_copy", taken)
                body.node.append(onnx.helper.make_node("Identity", [value.name], [name]))
                value.name = name
                changed = True
    return changed


def unused_name(name: str, taken: set[str]) -> str:
    """A name that is not `taken`, and is then."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Of all values, also within bodies and branches: a name from outside means the same within."""
    values = (*graph.input, *graph.output, *graph.initializer)
    found = {value.name for value in values}
    for node in graph.node:
        found.update(node.output)
        for inner in _inner(node):
            found |= all_names(inner)
    return found


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _with_bodies(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Loops and Ifs, also those within bodies and branches."""
    for node in graph.node:
        if node.op_type in (*LOOPS, "If") and node.domain in ("", "ai.onnx"):
            yield node
        for inner in _inner(node):
            yield from _with_bodies(inner)
