# SPDX-License-Identifier: Apache-2.0
"""Graphs from text, for tests, and graphs compared field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from textwrap import dedent
from typing import Any

import numpy as np
from mmcc.ir.graph import Graph
from mmcc.ir.parse import parse_graph
from mmcc.ir.text import names_text, value_text
from mmcc.ir.verify import check_graph
from mmcc.ops import OPS, catalog  # noqa: F401


def read(body: str, **data: Any) -> Graph:
    """A sound graph with these statements; `data` are constants that the text has a digest of."""
    graph = parse_graph(f'graph "g" {{\n{dedent(body)}\n}}', OPS, data)
    assert check_graph(graph) == []
    return graph


def nodes_of(graph: Graph) -> list[str]:
    """What a graph does, node by node: `%y = Op(...)(%x)`, without types and places in the model."""
    return [
        f"{names_text(node.outputs)} = {value_text(node.op)}({names_text(node.inputs)})"
        for node in graph.nodes
    ]


def differences(one: Graph, other: Graph) -> list[str]:
    """Names of the fields that are not the same in both, arrays compared by their bytes."""
    return [
        each.name
        for each in fields(Graph)
        if _plain(getattr(one, each.name)) != _plain(getattr(other, each.name))
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    return (value.begin, value.end, _plain(value.initial)) if hasattr(value, "initial") else value
