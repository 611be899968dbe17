# SPDX-License-Identifier: Apache-2.0
"""Hand nodes of a graph to functions of the user's, as the rules of a file say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mmcc.driver.handoff_file import CONVERSIONS, Rule, wrong_file
from mmcc.errors import CompileError, Exit, Where, printable
from mmcc.ir.graph import Graph, Node
from mmcc.ir.handoff import Handoff
from mmcc.kernels.handoff import WEIGHT_AXES, NoForm, handed_off
from mmcc.kernels.scratch import scratch_bytes
from mmcc.kernels.tilings import planning_site
from mmcc.target import load_target


def hand_off(graphs: Sequence[Graph], rules: Sequence[Rule], prefix: str) -> list[Graph]:
    """The graphs of a package with a function for each node that a rule takes, the first that does.

    `prefix` is that of the package's symbols, which no function may have.
    CompileError MM122 for a rule that takes none, MM210 for a node that cannot be handed off.
    """
    for rule in rules:
        name = rule.handoff.function
        if name.lower().startswith(f"{prefix}_".lower()):
            what = f"{name} has the prefix of the model's own symbols, {prefix}_"
            raise wrong_file(what, "another name, or another prefix by --name")
    used: list[Rule] = []
    found: list[Graph] = []
    for graph in graphs:
        nodes: list[Node] = []
        for index, node in enumerate(graph.nodes):
            rule = next((rule for rule in rules if rule.takes(node)), None)
            if rule is not None:
                _check(graph, index, rule.handoff)
                used.append(rule)
            nodes.append(node if rule is None else replace(node, handoff=rule.handoff))
        found.append(replace(graph, nodes=tuple(nodes)))
    for k, rule in enumerate(rules):
        if all(one is not rule for one in used):
            raise wrong_file(
                f"handoff {k + 1}, {rule.handoff.function}, is for no node", _known(graphs[0], rule)
            )
    _check_forms(found)
    return found


def without_handoffs(graph: Graph) -> Graph:
    """The same computed by mmcc's own kernels."""
    return replace(graph, nodes=tuple(replace(node, handoff=None) for node in graph.nodes))


def _known(graph: Graph, rule: Rule) -> str:
    """What the rule could have named instead."""
    where = [w for node in graph.nodes for w in node.where if w.op not in CONVERSIONS]
    if rule.operators and not {w.op for w in where} & set(rule.operators):
        return f"operators of this model: {', '.join(sorted({w.op for w in where})[:20])}"
    names = sorted({w.name for w in where if w.name})
    return f"names of nodes of this model: {', '.join(printable(name, 60) for name in names[:10])}"


def _check(graph: Graph, index: int, handoff: Handoff) -> None:
    node = graph.nodes[index]
    reason = _obstacle(graph, index, handoff)
    if reason:
        message = f"{node.op} cannot be handed to {handoff.function}: {reason}"
        hint = "nodes = [...] in the table, with those that can be"
        raise CompileError("MM210", message, exit=Exit.UNSUPPORTED, at=node.where, hint=hint)


def _obstacle(graph: Graph, index: int, handoff: Handoff) -> str:
    """Why a node cannot be computed by such a function; "" if it can."""
    node = graph.nodes[index]
    axes = "".join(sorted(WEIGHT_AXES.get(type(node.op), "")))
    reasons = {
        "it has several results": len(node.outputs) > 1,
        "it hands something on from row to row": scratch_bytes(graph, node) > 0,
        f"{handoff.weights} are not the axes of its weights": bool(handoff.weights)
        and "".join(sorted(handoff.weights)) != axes,
        "its elements need others than those in their place": handoff.in_place
        and not node.op.traits.elementwise,
    }
    found = next((reason for reason, holds in reasons.items() if holds), "")
    try:
        if not found:
            handed_off(node.op, planning_site(graph, index, load_target("host"), lent=True), handoff)
    except NoForm as field:
        return f"{field} has no form in C"
    return found


def _check_forms(graphs: Sequence[Graph]) -> None:
    """A function gets one struct: its nodes are alike, but for their numbers."""
    forms: dict[str, tuple[Any, Node]] = {}
    every = ((each, index) for each in graphs for index in range(len(each.nodes)))
    for graph, index in every:
        node = graph.nodes[index]
        if node.handoff is None:
            continue
        use = handed_off(node.op, planning_site(graph, index, load_target("host")), node.handoff)
        options = dict(use.options)
        form = options["op"], tuple(declared for declared, _ in options["members"])
        first, other = forms.setdefault(node.handoff.function, (form, node))
        if first != form:
            message = (
                f"{node.handoff.function} is to compute nodes that differ in more than numbers: {other.op} "
                f"{_named(other.where)} and {node.op}"
            )
            hint = "a function, and a table, for each kind of node"
            raise CompileError("MM210", message, exit=Exit.UNSUPPORTED, at=node.where, hint=hint)


def _named(where: Sequence[Where]) -> str:
    return f'("{printable(where[0].name, 60)}")' if where else ""
