# SPDX-License-Identifier: Apache-2.0
"""Bytes that no layout and no order can do without: what is alive if views and copies cost nothing.

A value is what an input holds or a node computes. Whatever is a view and whatever is a copy, its bytes
exist at least once from when it is made until its last use, directly or as a part of something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mmcc.ir.graph import Graph, Node
from mmcc.ir.plan import BufferKind
from mmcc.ir.traits import Alias
from mmcc.planner.memory.allocations import Allocation, MemoryModel, ScheduledKernel
from mmcc.planner.memory.lower_bound import cover
from mmcc.planner.memory.order import best_order
from mmcc.planner.memory.overlap import SafeOffset
from mmcc.planner.request import PlanRequest


def layout_bound(
    graph: Graph, request: PlanRequest, safe_offset: Mapping[int, Mapping[str, SafeOffset]], max_states: int
) -> int:
    """A peak that no plan is below, whatever it copies and in whatever order it runs."""
    holds = _values(graph)
    size = _sizes(graph, request, holds)
    number = {value: k for k, value in enumerate(size)}
    nodes = [k for k, node in enumerate(graph.nodes) if not _moves(graph, k) and node.outputs[0] in number]
    number_of = {name: k for k, node in enumerate(graph.nodes) for name in node.outputs}
    kernel_of = {name: n for n, k in enumerate(nodes) for name in graph.nodes[k].outputs}
    kernels: list[ScheduledKernel] = []
    users = [0] * len(number)
    for n, index in enumerate(nodes):
        node = graph.nodes[index]
        read = dict.fromkeys(v for name in graph.activations(node) for v in sorted(holds[name]))
        allocations = tuple(dict.fromkeys(number[v] for v in (*node.outputs, *read)))
        for allocation in allocations:
            users[allocation] |= 1 << n
        before = sum(1 << kernel_of[v] for v in _needs(graph, index, number_of) if v in kernel_of)
        over = _over(
            graph, index, holds, safe_offset[index], number, backward=request.may_run_backward(index)
        )
        outs = tuple(number[name] for name in node.outputs)
        kernels.append(
            ScheduledKernel(
                index, outs, allocations, over, request.scratch.get(index, 0), before, at_once=node.at_once
            )
        )
    kept = {v for port in graph.outputs for v in holds.get(port.tensor, ())}
    allocations = tuple(
        Allocation(
            value,
            size=bytes_ if users[number[value]] or value in kept else 0,  # else nothing says when it goes
            bytes=bytes_,
            align=1,
            kind=BufferKind.TENSOR,
            external=False,
            from_start=value not in kernel_of,
            to_end=value in kept,
            writers=1 << kernel_of[value] if value in kernel_of else 0,
            users=users[number[value]],
        )
        for value, bytes_ in size.items()
    )
    bound = best_order(MemoryModel(allocations, tuple(kernels)), max_states, beam=1).bound
    return -(-bound // request.align) * request.align


def trivial_bound(graph: Graph, request: PlanRequest) -> int:
    """Bytes of all inputs, or of all outputs, whichever is more: they are all there at once.

    Outputs that are views of one another are there once.
    """
    outside, made = may_be_outside(graph, request), _made_of(graph)
    inputs = sum(graph.tensors[name].bytes for name in graph.input_names - outside)
    returned = [n for n in graph.output_names - outside if not graph.is_constant(n)]
    most = max(inputs, sum(_apart(graph, made, returned)))
    return -(-most // request.align) * request.align


def value_floor(
    graph: Graph, request: PlanRequest, safe_offset: Mapping[int, Mapping[str, SafeOffset]]
) -> int:
    """Bytes that some node's own operands need under any layout.

    Operands that are made of one value might be the same bytes, and count once: as large as the largest, as
    near to the output as the nearest. What might lie in memory of the caller's does not count.
    """
    outside, made, most = may_be_outside(graph, request), _made_of(graph), 0
    for index, node in enumerate(graph.nodes):
        if _moves(graph, index):
            continue
        last_used: list[tuple[int, int, int | None]] = []
        for names in _groups(made, dict.fromkeys(n for n in graph.activations(node) if n not in outside)):
            size = max(graph.tensors[name].bytes for name in names)
            ahead = min(safe_offset[index][name].forward for name in names)
            back = min(safe_offset[index][name].backward for name in names)
            last_used.append((ahead, size, back if request.may_run_backward(index) else None))
        outs = sorted(graph.tensors[name].bytes for name in node.outputs if name not in outside)
        out = outs.pop() if outs else 0  # the others are beside it and what is last used
        most = max(most, cover(out, last_used) + sum(outs) + request.scratch.get(index, 0))
    return -(-most // request.align) * request.align


def may_be_outside(graph: Graph, request: PlanRequest) -> frozenset[str]:
    """Tensors that in some layout lie in memory of the caller's, as views of something there."""
    lies_in: dict[str, list[str]] = {}
    for index, node in enumerate(graph.nodes):
        for name in graph.activations(node) if _moves(graph, index) else ():
            if node.op.traits.alias in (Alias.JOIN, Alias.SAME):
                lies_in.setdefault(node.output, []).append(name)
            if node.op.traits.alias in (Alias.PART, Alias.SAME):
                lies_in.setdefault(name, []).append(node.output)
    waiting = list(request.external(graph))
    outside = set(waiting)
    while waiting:
        more = set(lies_in.get(waiting.pop(), ())) - outside
        outside |= more
        waiting += more
    return frozenset(outside)


def _made_of(graph: Graph) -> dict[str, frozenset[str]]:
    """The values that a tensor may hold bytes of; tensors that have none in common never share any."""
    made: dict[str, frozenset[str]] = dict.fromkeys(graph.constants, frozenset())
    made |= {name: frozenset((name,)) for name in graph.given}
    for index, node in enumerate(graph.nodes):
        if _moves(graph, index):
            made[node.output] = frozenset[str]().union(*(made[name] for name in node.inputs))
        else:
            made |= {name: frozenset((name,)) for name in node.outputs}
    return made


def _groups(made: Mapping[str, frozenset[str]], names: Iterable[str]) -> list[list[str]]:
    """Tensors split so that those of different groups share no bytes in any layout."""
    found: list[tuple[frozenset[str], list[str]]] = []
    for name in names:
        shared = [group for group in found if group[0] & made[name]]
        found = [group for group in found if group not in shared]
        values = made[name].union(*(group[0] for group in shared))
        found.append((values, [*(n for group in shared for n in group[1]), name]))
    return [members for _, members in found]


def _apart(graph: Graph, made: Mapping[str, frozenset[str]], names: Iterable[str]) -> list[int]:
    """Bytes of the largest tensor of each group."""
    return [max(graph.tensors[n].bytes for n in group) for group in _groups(made, sorted(names))]


def _moves(graph: Graph, index: int) -> bool:
    return graph.nodes[index].op.traits.alias is not None


def _values(graph: Graph) -> dict[str, frozenset[str]]:
    """The values that a tensor surely holds bytes of."""
    holds: dict[str, frozenset[str]] = dict.fromkeys(graph.constants, frozenset())
    holds |= {name: frozenset((name,)) for name in graph.given}
    pure = set(graph.given)  # tensors that hold bytes of one value and nothing else
    for index, node in enumerate(graph.nodes):
        parts = [holds[name] for name in node.inputs]
        if not _moves(graph, index):
            holds |= {name: frozenset((name,)) for name in node.outputs}
            pure.update(node.outputs)
            continue
        if pure.issuperset(node.inputs) and len(set(parts)) == 1:
            pure.add(node.output)
        if _is_less(graph, node) and node.inputs[0] not in pure:
            holds[node.output] = frozenset()  # what of it the view takes is not known here
        else:
            holds[node.output] = frozenset[str]().union(*parts)
    return holds


def _is_less(graph: Graph, node: Node) -> bool:
    """True if a view leaves out some of its operand's bytes."""
    return graph.tensors[node.output].bytes < graph.tensors[node.inputs[0]].bytes


def _sizes(graph: Graph, request: PlanRequest, holds: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Bytes of each value that matter as long as it has a use: of one that is sliced, the least slice."""
    made = [n for n in graph.tensors if n in holds and holds[n] == frozenset((n,))]
    size = {value: graph.tensors[value].bytes for value in made}
    for index, node in enumerate(graph.nodes):
        if _moves(graph, index) and _is_less(graph, node):
            for value in holds[node.output]:
                size[value] = min(size[value], graph.tensors[node.output].bytes)
    for name in request.external(graph):
        size |= dict.fromkeys(holds[name], 0)
    return size


def _needs(graph: Graph, index: int, number: Mapping[str, int]) -> set[str]:
    """Every computed tensor that a node's inputs are made of, through any number of views."""
    found: set[str] = set()
    waiting = list(graph.activations(graph.nodes[index]))
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        if name in number and _moves(graph, number[name]):
            behind = graph.activations(graph.nodes[number[name]])
            waiting += [other for other in behind if other not in seen]
            seen.update(behind)
        else:
            found.add(name)
    return found


def _over(
    graph: Graph,
    index: int,
    holds: Mapping[str, frozenset[str]],
    safe_offset: Mapping[str, SafeOffset],
    number: Mapping[str, int],
    *,
    backward: bool,
) -> tuple[tuple[int, int, int | None], ...]:
    """For each value read, the least safe offset to the output in any layout.

    Rows backward are the same as forward seen from the other end, so one offset stands for both.
    """
    if graph.nodes[index].at_once:
        return ()
    out = graph.tensors[graph.nodes[index].output].bytes
    least: dict[int, int] = {}
    for name in graph.activations(graph.nodes[index]):
        d = safe_offset[name].forward
        if backward:
            d = min(d, max(0, safe_offset[name].backward + out - graph.tensors[name].bytes))
        for value in holds[name]:
            least[number[value]] = min(d, least.get(number[value], d))
    return tuple((value, d, None) for value, d in sorted(least.items()))
