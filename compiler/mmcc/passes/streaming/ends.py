# SPDX-License-Identifier: Apache-2.0
"""Rows at the end of a model's sequence that the model drops: a stream has no last rows until it is over.

A Slice that leaves out the last rows is harmless where nothing that hops make would see more than it leaves:
so branches of a model are made equally long. Where a node pads in place of what was left out, a hop would
find rows there; and an output would have rows in a stream that it has not in the model.
"""

from __future__ import annotations

from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.graph import Graph, Node
from mmcc.passes.streaming.hops import Found


def check_ends(graph: Graph, found: Found, streamed: str) -> None:
    """CompileError MM205 with the first node that would see, or give, rows that the model has dropped."""
    rows = found.hops.rows
    hops = graph.tensors[streamed].shape[0] // rows[streamed].hop

    def made(name: str) -> int:
        return hops * rows[name].hop - rows[name].lag

    def count(name: str) -> int:
        return graph.tensors[name].shape[0]

    for index, node in enumerate(graph.nodes):
        for k, reads in found.reads.get(index, {}).items():
            name = node.inputs[k]
            last = min(made(node.outputs[0]), count(node.outputs[0])) - 1
            needed = reads.stride * (last // reads.up) + max(reads.taps) + 1
            if last >= 0 and needed > count(name):
                raise _drops(node, name, needed - count(name))
    for port in graph.outputs:
        if port.tensor in rows and made(port.tensor) > count(port.tensor) and port.tensor in graph.producer:
            more = made(port.tensor) - count(port.tensor)
            raise _drops(graph.producer[port.tensor], port.onnx_name, more)


def _drops(node: Node, name: str, rows: int) -> CompileError:
    what = f'of "{printable(name, 60)}" the model drops the last {rows} row{"s" if rows > 1 else ""}'
    message = f"--stream: {node.op}: {what}, which a stream cannot know to be the last"
    hint = "a model that drops no rows at the end of its sequence (by a Slice or a ConvTranspose)"
    return CompileError("MM205", message, exit=Exit.UNSUPPORTED, at=node.where, hint=hint)
