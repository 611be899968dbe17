# SPDX-License-Identifier: Apache-2.0
"""A graph with other names of its tensors, so that it can be in one module with another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.ir.ports import Port
from mmcc.ir.state import State


def renamed(graph: Graph, name: Callable[[str], str]) -> Graph:
    """The same graph, each tensor called `name(its name)`; names of the model stay in ports and origins."""

    def port(given: Port) -> Port:
        return replace(given, tensor=name(given.tensor))

    return replace(
        graph,
        tensors={name(key): replace(tensor, name=name(key)) for key, tensor in graph.tensors.items()},
        constants={name(key): data for key, data in graph.constants.items()},
        nodes=tuple(
            replace(node, inputs=tuple(map(name, node.inputs)), outputs=tuple(map(name, node.outputs)))
            for node in graph.nodes
        ),
        inputs=tuple(map(port, graph.inputs)),
        outputs=tuple(map(port, graph.outputs)),
        origins={name(key): port(given) for key, given in graph.origins.items()},
        reasons={name(key): why for key, why in graph.reasons.items()},
        states=tuple(State(name(s.begin), name(s.end), s.initial) for s in graph.states),
        removed=tuple(replace(each, tensor=name(each.tensor)) for each in graph.removed),
    )
