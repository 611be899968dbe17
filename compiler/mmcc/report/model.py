# SPDX-License-Identifier: Apache-2.0
"""report.json (schema 1) and report.txt: what a compiled model needs, and where everything is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmcc.codegen.emit import shifted
from mmcc.codegen.lower import describe
from mmcc.codegen.names import escape
from mmcc.codegen.render import render
from mmcc.errors import LONGEST_WARNING, NAME_COLUMNS, printable
from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.plan import BufferKind, Plan
from mmcc.ir.ports import Port
from mmcc.ir.program import Program
from mmcc.planner.cost import plan_macs, read_of
from mmcc.sizes import readable
from mmcc.toolchain import Footprint

SCHEMA = 1
PICTURE_COLUMNS = 64

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of the package, in bytes. `limit` 0: no limit was given."""

    limit: int
    context: int
    stack: int
    footprint: Footprint
    stack_from: str = "call graph"  # or "stated" with --stack, or "assumed"
    stack_assumed: str = ""  # what could not be read


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(nest_of(graph, graph.nodes[index]).macs for index in range(len(graph.nodes)))


def count_params(graph: Graph) -> int:
    """Weights and biases: constants of nodes that multiply, multipliers and shifts not counted."""
    return sum(_weights_of(graph, index) for index in range(len(graph.nodes)))


def _weights_of(graph: Graph, index: int) -> int:
    if nest_of(graph, graph.nodes[index]).macs == 0:
        return 0
    return sum(
        graph.constants[name].size for name in graph.nodes[index].inputs[1:3] if name in graph.constants
    )


def make_report(
    graph: Graph, plan: Plan, program: Program, target: str, sha256: str, figures: Figures
) -> Report:
    """The report as plain values, ready for JSON."""
    arena = sum(program.arenas.values())
    footprint = figures.footprint
    macs = count_macs(graph)
    return {
        "schema": SCHEMA,
        "model": {"name": graph.name, "sha256": sha256, "macs": macs, "params": count_params(graph)},
        "prefix": program.name,
        "target": target,
        "ram": {
            "limit": figures.limit or None,
            "total": arena + figures.context + footprint.ram + figures.stack,
            "arena": arena,
            "context": figures.context,
            "static": footprint.ram,
            "stack": figures.stack,
            "stack_from": figures.stack_from,
        },
        "flash": {
            "total": footprint.flash,
            "weights": footprint.weights,
            "code": footprint.code + footprint.data,
        },
        "plan": {
            "proved_optimal": plan.proved_optimal,
            "bound": plan.bound,
            "over_groups": plan.over_groups,
            "cheapest": plan.cheapest,
            "seconds": round(plan.seconds, 3),
            "groups": [list(group.nodes) for group in plan.groups],
            "macs": macs,
            "macs_recomputed": plan_macs(graph, plan) - macs,
            "buffers": _buffers(plan),
        },
        "weights": _staged_weights(graph, plan),
        "nodes": _nodes(graph, program),
        "inputs": [_port(graph, program, port) for port in graph.inputs],
        "outputs": [_port(graph, program, port) for port in graph.outputs],
        "warnings": [*graph.warnings, *_stack_warning(figures)],
    }


def _stack_warning(figures: Figures) -> list[str]:
    if figures.stack_from != "assumed":
        return []
    return [
        f"the worst-case stack is not proved: {figures.stack_assumed}; {figures.stack:,} bytes are assumed, "
        "the target's stack_bytes; --stack N states another bound"
    ]


def _staged_weights(graph: Graph, plan: Plan) -> dict[str, int] | None:
    """How constants in slow memory are read; None where they are in fast memory."""
    if not plan.staged:
        return None
    staged = plan.staged.values()
    buffers = {b.name: b for b in plan.buffers if b.kind is BufferKind.STAGED}
    return {
        "file": sum(s.blocks.total for s in staged),
        "read": sum(read_of(graph, plan).values()),
        "largest_block": max(s.blocks.bytes for s in staged),
        "most_in_arena": max(
            sum(b.size for b in buffers.values() if b.live.lo <= step < b.live.hi)
            for step in range(len(plan.groups))
        ),
        "begun_early": sum(len(b.live) > 1 for b in buffers.values()),
    }


def _buffers(plan: Plan) -> list[dict[str, Any]]:
    ordered = sorted(plan.buffers, key=lambda b: (b.live.lo, plan.places[b.name].offset, b.name))
    return [
        {
            "name": b.name,
            "kind": b.kind.value,
            "tier": plan.places[b.name].tier,
            "offset": plan.places[b.name].offset,
            "size": b.size,
            "first_step": b.live.lo,
            "last_step": b.live.hi - 1,
        }
        for b in ordered
    ]


def _nodes(graph: Graph, program: Program) -> list[dict[str, Any]]:
    return [
        {
            "index": node.index,
            "op": type(graph.nodes[node.index].op).__name__,
            "name": describe(node.where),
            "from": [{"node": w.node, "op": w.op, "name": w.name} for w in node.where],
            "macs": nest_of(graph, graph.nodes[node.index]).macs,
            "weights": _weights_of(graph, node.index),
            "out_shape": list(graph.tensors[graph.nodes[node.index].output].shape),
        }
        for node in program.nodes
    ]


def _port(graph: Graph, program: Program, port: Port) -> dict[str, Any]:
    tensor = graph.tensors[port.tensor]
    quant = port.quant or tensor.quant
    view = program.ports.get(port.tensor)
    inside = view is not None and view.memory in program.arenas
    return {
        "name": port.onnx_name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype.name.lower(),
        "scale": float(quant.scale) if quant else None,
        "zero_point": quant.zero_point if quant else None,
        "offset": view.offset if view is not None and inside else None,
        "model_shape": list(port.onnx_shape),
        "model_dtype": port.model_type,
        "axes": list(port.axes),
    }


def render_text(report: Report) -> str:
    """The report for people."""
    ram, plan = report["ram"], report["plan"]
    limit = f" of {readable(ram['limit'])}" if ram["limit"] else ""
    parts = ", ".join(f"{part} {ram[part]:,}" for part in ("arena", "context", "static", "stack"))
    figures = [
        ("RAM", f"{readable(ram['total'], ' bytes')}{limit}: {parts}"),
        ("flash", flash_text(report)),
        ("arena", f"{proof_text(report)}; planned in {plan['seconds']:.2f} s"),
        (
            "work",
            f"{work_text(report)}, {report['model']['params']:,} parameters",
        ),
    ]
    if report["weights"]:
        figures.append(("weights", staged_text(report["weights"])))
    figures.append(("self-check", self_check_text(report["self_check"])))
    return render(
        "report.txt.j2",
        prefix=report["prefix"],
        name=escape(report["model"]["name"], NAME_COLUMNS),
        target=report["target"],
        figures=figures,
        ports=[_port_line(kind, port) for kind in ("inputs", "outputs") for port in report[kind]],
        warnings=[printable(warning, LONGEST_WARNING) for warning in report["warnings"]],
        arena=f"{ram['arena']:,}",
        picture=_picture(plan["buffers"], len(plan["groups"])),
        nodes=_node_lines(report["nodes"]),
    )


def proof_text(report: Report) -> str:
    """What is known of the arena's size: over plans with groups too, or over those layer by layer only."""
    plan = report["plan"]
    fused = any(len(group) > 1 for group in plan["groups"])
    if fused and report["ram"]["limit"]:
        sure = "nothing cheaper keeps it" if plan["cheapest"] else "something cheaper may keep it"
        return f"fused to keep the limit: {sure}; --ram min may need less"
    proof = "proved least" if plan["proved_optimal"] else f"best found, none below {plan['bound']:,}"
    return proof if plan["over_groups"] else f"{proof} layer by layer; --ram min may need less"


def flash_text(report: Report) -> str:
    """What lies in flash, in bytes."""
    flash = report["flash"]
    total = readable(flash["total"], " bytes")
    return f"{total}: weights {flash['weights']:,}, code {flash['code']:,}"


def staged_text(weights: dict[str, int]) -> str:
    """What is read from slow memory."""
    return (
        f"{weights['file']:,} bytes in slow memory; an inference reads {weights['read']:,} in blocks of at "
        f"most {weights['largest_block']:,}; at most {weights['most_in_arena']:,} are in the arena at a time"
    )


def self_check_text(check: dict[str, Any]) -> str:
    """Whether the generated C was run before it was written."""
    if not check["done"]:
        return str(check["reason"])
    return f"the C gave its references' values on this machine, in {check['nodes']} nodes"


def work_text(report: Report) -> str:
    """Multiply-accumulates, and how many more for what is computed again to need less RAM."""
    text, again = f"{report['model']['macs']:,} multiply-accumulates", report["plan"]["macs_recomputed"]
    return f"{text} and {again:,} again" if again else text


def _port_line(kind: str, port: dict[str, Any]) -> str:
    shape = "x".join(map(str, port["shape"])) or "scalar"
    real = f", real = {port['scale']:.9g} * {shifted(port['zero_point'])}" if port["scale"] else ""
    where = f" at {port['offset']}" if port["offset"] is not None else ""
    return f"{kind[:-1]:<6} {port['dtype']} {shape}{where}: {escape(port['name'])}{real}"


def _picture(buffers: Sequence[dict[str, Any]], steps: int) -> list[str]:
    columns = max(1, min(PICTURE_COLUMNS, steps))
    lines: list[str] = []
    for b in buffers:
        first = b["first_step"] * columns // max(1, steps)
        last = max(first, b["last_step"] * columns // max(1, steps))
        bar = "." * first + "#" * (min(last, columns - 1) - first + 1)
        name = escape(b["name"], NAME_COLUMNS)
        lines.append(f"{bar:.<{columns}} {b['offset']:>9} +{b['size']:<9} {b['kind']:<8} {name}")
    return lines


def _node_lines(nodes: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{'index':>5} {'op':<18} {'output':<18} {'MACs':>13} {'weights':>10}  from"]
    for node in nodes:
        shape = "x".join(map(str, node["out_shape"])) or "1"
        figures = f"{node['macs']:>13,} {node['weights']:>10,}"
        lines.append(f"{node['index']:>5} {node['op']:<18} {shape:<18} {figures}  {_origin(node['from'])}")
    return lines


def _origin(places: Sequence[dict[str, Any]]) -> str:
    """Where a node comes from: a node of the model, and the operators that were merged into it."""
    if not places:
        return ""
    first, ops = places[0], Counter(escape(place["op"], 24) for place in places[1:])
    name = f' "{escape(first["name"], NAME_COLUMNS)}"' if first["name"] else ""
    more = [f" + {op}" if count == 1 else f" + {count} {op}" for op, count in ops.items()]
    return f"node {first['node']} ({escape(first['op'], 24)}){name}{''.join(more)}"
