# SPDX-License-Identifier: Apache-2.0
"""What a model would take, without a compiler: RAM planned, work predicted, flash counted.

For architecture search, and before a quantization: networks for microcontrollers take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmcc.codegen.lower import lower_entry
from mmcc.codegen.weights import lay_out
from mmcc.driver.ask import in_one_memory, plan_request
from mmcc.driver.bodies import with_planned_bodies
from mmcc.driver.laid import limited
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.driver.rows import best_rows
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.module import RUN, Entry
from mmcc.ir.plan import Plan
from mmcc.ops.repeat import Repeat, with_bodies
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.cost import mac_kind, plan_cost
from mmcc.planner.lend import lend
from mmcc.planner.request import PlanRequest
from mmcc.report.model import count_macs
from mmcc.scratch import ScratchFolder
from mmcc.target import Target, load_target

# bytes of code, fitted to what gcc -O2 made for the Cortex-M4 of eight networks: within a fifth of each
KIND_BYTES, NODE_BYTES = 900, 70


class Serialized(Protocol):
    """A model in memory, as `onnx.ModelProto` is."""

    def SerializeToString(self) -> bytes: ...


QUANTIZED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # layers that ONNX Runtime's quantizer takes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model takes on a target; bytes, and `predicted` work of one inference in the unit
    of the target's cost figures (see `Target.cost`).

    `arena` is planned layer by layer, `least_arena` is the least with layers that run together; `proved` says
    that nothing below it is possible. `ram` and `least_ram` add the stack that the target reserves; `code` is
    taken from the kinds of kernels, everything else is counted: `weights` as the target's kernels have them.
    """

    target: str
    macs: int
    arena: int
    ram: int
    predicted: int
    least_arena: int
    least_ram: int
    least_predicted: int
    proved: bool
    weights: int
    code: int

    @property
    def flash(self) -> int:
        """Bytes of weights and code."""
        return self.weights + self.code


def estimate(
    model: str | Path | Serialized,
    target: str = "cortex-m4",
    *,
    dims: Mapping[str, int] | None = None,
    least: bool = True,
) -> Estimate:
    """What an ONNX file, or a model in memory, would take on a target.

    `least=False` leaves out the search for the least arena, which large graphs with attention take long for;
    the least is then what the plan layer by layer needs. Raises CompileError as a compile would.
    """
    if isinstance(model, (str, Path)):
        return _estimate(Path(model), target, dims or {}, least=least)
    with ScratchFolder("mmcc-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return _estimate(path, target, dims or {}, least=least)


def _estimate(model: Path, name: str, dims: Mapping[str, int], *, least: bool) -> Estimate:
    target = load_target(name)
    options = CompileOptions(target=name, dims=dims)
    graph = separate_states(load_graph(model, options))
    request = in_one_memory(plan_request(options, graph, target, silent), target)
    single = replace(request, fuse=False)
    alone = lend(best_plan(graph, single), single)
    tight, of = alone, graph
    if least:
        ask = partial(plan_request, options, target=target, progress=silent)
        of = with_planned_bodies(graph, replace(options, least_ram=True))
        laid = best_rows(of, limited(ask(of), replace(request, fuse=True, effort=2.0)), ask)
        tight, of = laid.plan, laid.graph
    states = sum(state.initial.nbytes for state in graph.states)
    besides = target.stack_bytes + states
    arena, least_arena = request.peak(alone), request.peak(tight)
    return Estimate(
        target=target.name,
        macs=count_macs(graph),
        arena=arena,
        ram=arena + besides,
        predicted=round(plan_cost(graph, alone, target.cost)),
        least_arena=least_arena,
        least_ram=least_arena + besides,
        least_predicted=round(plan_cost(of, tight, target.cost)),
        proved=tight.proved_optimal and tight.over_groups,
        weights=weights_bytes(graph, alone, target),
        code=code_bytes(graph),
    )


def weights_bytes(graph: Graph, plan: Plan, target: Target) -> int:
    """Bytes of flash that constants take, packed for the kernels that the plan gives the target."""
    return lay_out(lower_entry(Entry(RUN, graph), plan, target).every).size


def code_bytes(graph: Graph) -> int:
    """About as many bytes of code as the kernels and calls of a graph take."""
    kinds: set[Any] = set()
    nodes = [(each, node) for each in with_bodies(graph) for node in each.nodes]
    for each, node in nodes:
        nest = nest_of(each, node)
        dtype = each.tensors[node.inputs[0]].dtype if node.inputs else None
        kinds.add((node.op.kernel, mac_kind(nest) if nest.macs else "", dtype))
    return KIND_BYTES * len(kinds) + NODE_BYTES * len(nodes)


def is_float(graph: Graph) -> bool:
    """True if what multiplies computes in float32, all of it."""
    nodes = ((each, node) for each in with_bodies(graph) for node in each.nodes)
    kinds = [
        each.tensors[node.inputs[0]].dtype
        for each, node in nodes
        if nest_of(each, node).macs and not isinstance(node.op, Repeat)
    ]
    return bool(kinds) and all(dtype is ElementType.F32 for dtype in kinds)


def can_be_quantized(graph: Graph) -> bool:
    """True if `mmcc quantize` takes the model: float32 throughout, with layers that its quantizer knows."""
    narrow = any(tensor.dtype.code is not None for tensor in graph.tensors.values())
    layers = {place.op for node in graph.nodes for place in node.where if nest_of(graph, node).macs}
    return is_float(graph) and not narrow and not layers.isdisjoint(QUANTIZED)


@dataclass(frozen=True, slots=True)
class Saving:
    """Bytes of arena and of constants that a float model takes, and would take in int8."""

    arena: int
    arena_int8: int
    constants: int
    constants_int8: int


def int8_saving(graph: Graph) -> Saving:
    """What a float model would save in int8: the same plans with elements of one byte. Layer by layer."""
    floats = [name for name, tensor in graph.tensors.items() if tensor.dtype is ElementType.F32]
    narrow = replace(
        graph,
        tensors=graph.tensors | {name: replace(graph.tensors[name], dtype=ElementType.I8) for name in floats},
        constants={
            name: array.astype(np.int8) if name in floats else array
            for name, array in graph.constants.items()
        },
    )
    request = PlanRequest(fuse=False, effort=1.0)
    wide, slim = (request.peak(best_plan(g, request)) for g in (graph, narrow))
    sizes = [sum(array.nbytes for array in g.constants.values()) for g in (graph, narrow)]
    return Saving(wide, slim, *sizes)
