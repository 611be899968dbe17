# SPDX-License-Identifier: Apache-2.0
"""How near a node's output may come to what it reads: the planner's own distances, for a node alone."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.driver.promised import request_from
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.kernels.contract import contracts
from mmcc.planner.fusion.alive import Alive
from mmcc.planner.fusion.distances import apart
from mmcc.planner.fusion.group import GroupMemory
from mmcc.planner.fusion.rows import make_rows
from mmcc.planner.fusion.shared import Shared
from mmcc.planner.fusion.timeline import demand
from mmcc.planner.memory.allocations import make_model
from mmcc.planner.memory.layout import make_layout
from mmcc.planner.memory.overlap import all_safe_offsets
from mmcc.target import Target
from op_case import OpCase


@dataclass(frozen=True, slots=True)
class Nearest:
    """Bytes that an input starts above the output at least, and, where rows are made from the last to the
    first, the output above the input. None if they share no byte so."""

    forward: int | None
    backward: int | None


def nearest_places(case: OpCase, target: Target) -> dict[int, Nearest]:
    """For each activation of a case: the least distances at which any plan puts the output over it.

    All tensors are whole and dense, and read for the last time. Groups get nearer than plans layer by layer:
    what they are promised of pixels (`KernelContract.pixels`) is used, too.
    """
    graph = graph_of(case)
    request = request_from(contracts(graph, target))
    layout = make_layout(graph, frozenset(graph.tensors), frozenset())  # no tensor is a part of another
    model = make_model(graph, layout, request, all_safe_offsets(graph, frozenset()))
    if not model.kernels:
        return {}  # the output is a view
    rows = make_rows(graph, layout, model, request)
    shared = Shared(model, rows, request, {})
    alive = Alive(model)
    group = GroupMemory(shared, demand(rows, 0, 1), 1, alive.after(0), alive.after(1))
    found: dict[int, Nearest] = {}
    for pair in apart(group):
        lower, upper = group.items[pair.lower], group.items[pair.upper]
        if lower.allocation == model.kernels[0].output and upper.allocation >= 0:
            k = int(model.allocations[upper.allocation].name.removeprefix("x"))
            forward = pair.distance if pair.distance < lower.size else None
            back = pair.backward if pair.backward is not None and pair.backward < upper.size else None
            found[k] = Nearest(forward, back)
    return found


def graph_of(case: OpCase) -> Graph:
    """The case as a model of one node: operands x0, x1, ..., result y."""
    tensors = {t.name: t for t in case.tensors}
    tensors["y"] = Tensor("y", case.want.shape, ElementType.of(case.want))
    names = tuple(tensors)[:-1]
    constants = {f"x{k}": a for k, a in enumerate(case.inputs) if case.is_constant(k)}
    ports = [_port(tensors[f"x{k}"]) for k in case.activations]
    return Graph(
        "k", tensors, constants, (Node(case.op, names, ("y",)),), tuple(ports), (_port(tensors["y"]),)
    )


def _port(tensor: Tensor) -> Port:
    return Port(tensor.name, tensor.name, tensor.shape, tensor.dtype, tuple(range(len(tensor.shape))))
