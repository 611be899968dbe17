# SPDX-License-Identifier: Apache-2.0
"""Is all of a plan in the code, and once: its nodes, and its groups as steps?"""

from __future__ import annotations

from mmcc.checker.replay import label
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.program import EntryCode, Step


def missing(graph: Graph, plan: Plan, program: EntryCode) -> list[str]:
    """Nodes without code, or with too much; steps that are not the plan's groups."""
    wrong: list[str] = []
    has = [node.index for node in program.nodes]
    wrong += [
        f"{label(graph, k)} has code in {has.count(k)} places, not in one"
        for k in range(len(graph.nodes))
        if has.count(k) != (k not in plan.aliases)
    ]
    groups = [k for k, group in enumerate(plan.groups) if any(n not in plan.aliases for n in group.nodes)]
    found = [step for step in program.body if isinstance(step, Step)]
    steps = [step.group for step in found]
    if steps != groups:
        return [*wrong, f"steps are groups {steps}, not {groups}"]
    for step in found:
        nodes = sorted({*plan.groups[step.group].nodes} - plan.aliases)
        if sorted(step.nodes) != nodes:
            wrong.append(f"step {step.group} is said to be of nodes {list(step.nodes)}, not {nodes}")
    return wrong
