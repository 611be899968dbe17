# SPDX-License-Identifier: Apache-2.0
"""The report as values (report.json, schema 2): what a compiled model needs, and where everything is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mmcc.codegen.lower import describe
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.made_again import MadeAgain
from mmcc.ir.module import Entry, Module
from mmcc.ir.plan import BufferKind, MemoryPlan, Place, Plan
from mmcc.ir.ports import Port
from mmcc.ir.program import EntryCode, Program
from mmcc.ir.regions import SLOW, Region
from mmcc.ops.repeat import Repeat, with_bodies
from mmcc.ops.tiled_conv import TiledConvInt8
from mmcc.planner.cost import node_costs, plan_cost, plan_macs, read_of
from mmcc.planner.paging import traffic
from mmcc.report.memories import region_entries
from mmcc.toolchain import Footprint

SCHEMA = 2

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of the package, in bytes. `limit` 0: no limit was given.

    `memories` are those that it may use; `limits` what was allowed of some of them, for all that is there.
    """

    limit: int
    context: int
    stack: int
    footprint: Footprint
    stack_from: str = "call graph"  # or "stated" with --stack, or "assumed"
    stack_assumed: str = ""  # what could not be read
    stacks: Mapping[str, int] = field(
        default_factory=dict[str, int]
    )  # by entry, if some run at the same time
    workers: int = 0  # threads besides the caller's that make chunks
    worker_stack: int = 0  # of each of them
    memories: tuple[Region, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    home: str = ""  # the memory of variables
    weights_in_ram: int = 0  # of the static data: weights that init copies
    least: bool = False  # --ram min: no limit but that of a memory's size
    cost: Mapping[str, float] = field(default_factory=dict[str, float])  # the target's, for predictions
    cost_unit: str = ""  # of these figures


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference, without what tiles compute again."""
    return sum(_macs_once(graph, node) for node in graph.nodes)


def _macs_once(graph: Graph, node: Node) -> int:
    if isinstance(node.op, TiledConvInt8):
        return node.op.macs_once(*(graph.tensors[name].shape for name in node.inputs))
    return nest_of(graph, node).macs


def count_params(graph: Graph) -> int:
    """Weights and biases: constants of nodes that multiply, multipliers and shifts not counted."""
    return sum(_weights_of(graph, index) for index in range(len(graph.nodes)))


def _weights_of(graph: Graph, index: int) -> int:
    op = graph.nodes[index].op
    if isinstance(op, Repeat):
        return count_params(op.body)
    if nest_of(graph, graph.nodes[index]).macs == 0:
        return 0
    return sum(
        graph.constants[name].size for name in graph.nodes[index].inputs[1:3] if graph.is_constant(name)
    )


def _constant_bytes(graph: Graph, index: int) -> int:
    op, names = graph.nodes[index].op, dict.fromkeys(graph.nodes[index].inputs)
    inside = with_bodies(op.body) if isinstance(op, Repeat) else ()
    own = sum(graph.constants[name].nbytes for name in names if graph.is_constant(name))
    return own + sum(array.nbytes for body in inside for array in body.constants.values())


def make_report(
    module: Module,
    plan: MemoryPlan,
    program: Program,
    target: str,
    sha256: str,
    hashes: Mapping[str, str],
    figures: Figures,
) -> Report:
    """The report as plain values, ready for JSON: of the first entry at the top, of others in "entries".

    `sha256` is of the model's file, or of all that `hashes` has by entry; then "model" is all of them.
    """
    footprint = figures.footprint
    first, *others = [
        _entry(entry, plan, code, program, figures, hashes)
        for entry, code in zip(module.entries, program.entries, strict=True)
    ]
    linked = len(hashes) > 1
    graphs = [entry.graph for entry in (module.entries if linked else module.entries[:1])]
    warnings = [line for entry in module.entries for line in entry.graph.warnings]
    return {
        "schema": SCHEMA,
        "model": {
            "name": program.name if linked else graphs[0].name,
            "sha256": sha256,
            "macs": sum(map(count_macs, graphs)),
            "params": sum(map(count_params, graphs)),
        },
        "prefix": program.name,
        "target": target,
        "ram": _ram(module, plan, program, figures),
        "flash": {
            "total": footprint.flash,
            "weights": footprint.weights,
            "code": footprint.code + footprint.data,
        },
        **first,
        "stream": None,
        "entries": others,
        "warnings": [*dict.fromkeys(warnings), *_stack_warning(figures)],
    }


def _ram(module: Module, plan: MemoryPlan, program: Program, figures: Figures) -> dict[str, Any]:
    """All RAM that the package takes, in bytes, part by part."""
    state = sum(size for region, size in program.regions.items() if region.keeps)
    arena = sum(program.regions.values()) - state
    static = figures.footprint.ram
    workers = figures.workers * figures.worker_stack
    variables = figures.context + static + figures.stack + workers
    besides = state + variables
    return {
        "limit": figures.limit or None,
        "least": figures.least,
        "total": arena + besides,
        "arena": arena,
        "regions": region_entries(program.regions, figures.memories, figures.limits, figures.home, variables),
        "state": state,
        "states": _states(module, plan, figures.home),
        "context": figures.context,
        "static": static,
        "weights": figures.weights_in_ram,
        "stack": figures.stack,
        "stack_from": figures.stack_from,
        "stacks": dict(figures.stacks),
        "workers": workers,
        "worker_stack": figures.worker_stack,
        "concurrent": [list(names) for names in module.concurrent],
        "parts_proved": plan.parts_proved,
    }


def _entry(
    entry: Entry,
    memory: MemoryPlan,
    code: EntryCode,
    program: Program,
    figures: Figures,
    hashes: Mapping[str, str],
) -> dict[str, Any]:
    """What is said of one entry."""
    plan, begin = memory.entries[entry.name], memory.begins.get(entry.name, 0)
    graph, regions = entry.graph, {region.name for region in program.regions}
    macs = count_macs(graph) if entry.made_again is None else entry.made_again.macs
    return {
        "entry": code.name,
        "source": {"name": graph.name, "sha256": hashes.get(entry.name)},
        "first_node": code.first,
        "begin": begin,
        "plan": {
            "proved_optimal": plan.proved_optimal,
            "bound": plan.bound,
            "lent": plan.lent,
            "grown": plan.grown,
            "over_groups": plan.over_groups,
            "cheapest": plan.cheapest,
            "for_caches": plan.for_caches,
            "cost": round(plan.cost),
            "cost_unit": figures.cost_unit,
            "least_cost": round(plan.least_cost),
            "bounds": plan.bounds,
            "traffic": {name: {"read": r, "written": w} for name, (r, w) in plan.traffic.items()},
            "seconds": round(plan.seconds, 3),
            "groups": [list(group.nodes) for group in plan.groups],
            "macs": macs,
            "macs_recomputed": plan_macs(graph, plan) - macs,
            "arena": sum(size for region, size in plan.regions().items() if not region.keeps) - begin,
            "buffers": _buffers(plan),
        },
        "dead_channels": _dead_channels(graph),
        "saved": None if entry.made_again is None else _saved(entry.made_again, graph, plan, figures.cost),
        "moves": _moves(plan),
        "weights": _staged_weights(graph, plan, sum(each.staged_bytes for each in memory.entries.values())),
        "nodes": _nodes(graph, code, node_costs(graph, plan, figures.cost)),
        "inputs": [_port(graph, code, regions, port) for port in graph.inputs],
        "outputs": [_port(graph, code, regions, port) for port in graph.outputs],
    }


def _dead_channels(graph: Graph) -> dict[str, Any]:
    """Channels that no output needs and are not there: in all, and of each tensor."""
    return {
        "channels": sum(r.channels for r in graph.removed),
        "nodes": len(graph.removed),
        "macs": sum(r.macs for r in graph.removed),
        "weight_bytes": sum(r.bytes for r in graph.removed),
        "tensors": [{"name": r.tensor, "channels": r.channels, "of": r.of} for r in graph.removed],
    }


def _stack_warning(figures: Figures) -> list[str]:
    if figures.stack_from != "assumed":
        return []
    return [
        f"the worst-case stack is not proved: {figures.stack_assumed}; {figures.stack:,} bytes are assumed, "
        "the target's stack_bytes; --stack N states another bound"
    ]


def _staged_weights(graph: Graph, plan: Plan, file: int) -> dict[str, int] | None:
    """How constants in slow memory are read, in all `file` bytes; None where they are in fast memory."""
    if not plan.staged:
        return None
    staged = plan.staged.values()
    buffers = {b.name: b for b in plan.buffers if b.kind is BufferKind.STAGED}
    return {
        "file": file,
        "read": sum(read_of(graph, plan).values()),
        "largest_block": max(s.blocks.bytes for s in staged),
        "most_in_arena": max(
            sum(b.size for b in buffers.values() if b.live.lo <= step < b.live.hi)
            for step in range(len(plan.groups))
        ),
        "begun_early": sum(len(b.live) > 1 for b in buffers.values()),
    }


def _states(module: Module, plan: MemoryPlan, home: str) -> list[dict[str, Any]]:
    """Where each state is: in the states of which memory, and from which byte on."""
    found: list[dict[str, Any]] = []
    for state in module.states:
        place, size = plan.states[state.begin], state.initial.nbytes
        memory = place.region.states_of if isinstance(place.region, Region) else None
        found.append({"name": state.begin, "memory": memory or home, "offset": place.offset, "bytes": size})
    return found


def _buffers(plan: Plan) -> list[dict[str, Any]]:
    """Each buffer where it is; one that is moved is several entries, one a place."""
    buffers = {b.name: b for b in plan.buffers}
    stays = [(buffers[name], stay) for name, found in plan.stays().items() for stay in found]
    ordered = sorted(stays, key=lambda item: (item[1].taken.lo, item[1].place.offset, item[0].name))
    return [
        {
            "name": b.name,
            "kind": b.kind.value,
            "region": _region_name(stay.place),
            "offset": stay.place.offset,
            "size": b.size,
            "first_step": stay.taken.lo,
            "last_step": stay.taken.hi - 1,
        }
        for b, stay in ordered
    ]


def _saved(found: MadeAgain, graph: Graph, plan: Plan, cost: Mapping[str, float]) -> dict[str, Any]:
    """What a training step keeps of its forward pass, what it makes again, and what it pages."""
    moved = traffic(graph, plan, cost, found.slow_cycles)
    return {
        "kept": [asdict(value) for value in found.kept],
        "again": [asdict(value) for value in found.again],
        "paged": [asdict(value) for value in found.paged],
        "slow_bytes": plan.peak(SLOW),
        "bytes_moved": moved.bytes,
        "copies_predicted": round(moved.cycles),
        "stalls_predicted": round(moved.stalls),
        "predicted": round(plan_cost(graph, plan, cost)),
        "macs_again": found.macs_again,
        "most_macs": found.most_macs,
        "limit": found.limit,
        "bound": found.bound,
        "proved": found.proved,
        "planned": found.planned,
        "choices": found.choices,
    }


def _moves(plan: Plan) -> list[dict[str, Any]]:
    """Buffers that are copied from region to region: started and complete before which steps."""
    return [
        {
            "buffer": t.move.buffer,
            "from": _region_name(t.move.source),
            "to": _region_name(t.move.target),
            "asynchronous": t.move.asynchronous,
            "start": t.start,
            "wait": t.wait,
        }
        for t in plan.transfers
    ]


def _region_name(place: Place) -> str | None:
    return place.region.name if isinstance(place.region, Region) else None  # the caller's memory


def _nodes(graph: Graph, code: EntryCode, predicted: Mapping[int, float]) -> list[dict[str, Any]]:
    runs = {node.index for node in code.nodes}
    number = {id(graph.nodes[index]): index for index in range(len(graph.nodes))}

    def makers(index: int) -> set[int]:
        """The nodes with code that a node reads from, through those that are views."""
        nodes = (graph.producer.get(name) for name in graph.nodes[index].inputs)
        direct = {number[id(node)] for node in nodes if node is not None}
        return {k for maker in direct for k in ({maker} if maker in runs else makers(maker))}

    return [
        {
            "index": code.first + node.index,
            "op": type(graph.nodes[node.index].op).__name__,
            "name": describe(node.where),
            "from": [{"node": w.node, "op": w.op, "name": w.name} for w in node.where],
            "handoff": handoff.function if (handoff := graph.nodes[node.index].handoff) else None,
            "macs": nest_of(graph, graph.nodes[node.index]).macs,
            "weights": _weights_of(graph, node.index),
            "constant_bytes": _constant_bytes(graph, node.index),
            "in_ram": node.in_ram,
            "predicted": round(predicted.get(node.index, 0)),
            "reads": sorted(code.first + maker for maker in makers(node.index)),
            "out_shape": list(graph.tensors[graph.nodes[node.index].outputs[0]].shape),
        }
        for node in code.nodes
    ]


def _port(graph: Graph, code: EntryCode, regions: Collection[str], port: Port) -> dict[str, Any]:
    tensor = graph.tensors[port.tensor]
    quant = port.quant or tensor.quant
    view = code.ports.get(port.tensor)
    inside = view is not None and view.memory in regions
    return {
        "name": port.onnx_name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype.name,
        "scale": float(quant.scale) if quant else None,
        "zero_point": quant.zero_point if quant else None,
        "offset": view.offset if view is not None and inside else None,
        "model_shape": list(port.onnx_shape),
        "model_dtype": port.model_type,
        "axes": list(port.axes),
    }
