# SPDX-License-Identifier: Apache-2.0
"""The nodes of an ONNX graph in an order that can be run: each name is defined once and before it is read."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from typing import TypeVar

from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.problems import bad_model, located
from mmcc.frontend.reads import reads

Named = TypeVar("Named", TensorProto, ValueInfoProto)
Nodes = Sequence[tuple[Where, NodeProto]]


def unique(what: str, found: Iterable[Named], problems: list[CompileError]) -> Iterator[Named]:
    """Those whose name is not empty and none before has; the others are problems."""
    seen: set[str] = set()
    for one in found:
        if one.name in seen or not one.name:
            problems.append(
                bad_model("MM102", f'{what} "{printable(one.name)}" is defined twice or has no name')
            )
            continue
        seen.add(one.name)
        yield one


def ordered(
    nodes: Nodes, given: Container[str], problems: list[CompileError], lost: Collection[str] = ()
) -> list[tuple[Where, NodeProto]]:
    """The nodes in an order in which values are written before they are read, if there is one; stable.

    `given` are values from outside; `lost`, too, but nothing is known of them, for a reason already told.
    """
    writer: dict[str, int] = {}
    for k, (where, node) in enumerate(nodes):
        for name in filter(None, node.output):
            if name in writer or name in given:
                problems.append(
                    located(bad_model("MM102", f'value "{printable(name)}" is defined twice'), where)
                )
            writer.setdefault(name, k)
    readers: list[list[int]] = [[] for _ in nodes]
    waiting = [0] * len(nodes)
    undefined: set[str] = set()
    for k, (where, node) in enumerate(nodes):
        for name in filter(None, dict.fromkeys(reads(node))):
            if name in writer and name not in given:
                readers[writer[name]].append(k)
                waiting[k] += 1
            elif name not in given and name not in undefined and name not in lost:
                undefined.add(name)
                what = f'value "{printable(name)}" is read but nothing defines it'
                problems.append(located(bad_model("MM102", what), where))
    ready = [k for k in range(len(nodes)) if waiting[k] == 0]
    order: list[int] = []
    for k in ready:  # grows while we walk it
        order.append(k)
        for reader in readers[k]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(order) < len(nodes):
        stuck = [k for k in range(len(nodes)) if waiting[k]]
        problems.append(located(bad_model("MM102", "the graph has a cycle"), nodes[stuck[0]][0]))
        order += stuck
    in_file_order = all(writer.get(n, -1) < k for k, (_, node) in enumerate(nodes) for n in reads(node))
    return list(nodes) if in_file_order else [nodes[k] for k in order]


def live(nodes: Nodes, graph: GraphProto) -> tuple[tuple[Where, NodeProto], ...]:
    """Those of the nodes that an output needs."""
    needed = {info.name for info in graph.output}
    live: list[tuple[Where, NodeProto]] = []
    for where, node in reversed(nodes):
        if any(name in needed for name in node.output):
            needed.update(reads(node))
            live.append((where, node))
    return tuple(reversed(live))
