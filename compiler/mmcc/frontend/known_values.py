# SPDX-License-Identifier: Apache-2.0
"""What is known of all steps of a loop before the first: counts, the condition to go on, what they make.

An ordinary `for` is exported as a Loop that carries a count and compares it with a bound. The nodes that make
such values of constants and of the step's number are run here, step by step, as far as the loop goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper

from mmcc.errors import CompileError, Where
from mmcc.frontend.builder import Builder
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, inline
from mmcc.frontend.order import ordered
from mmcc.frontend.outside import Outside
from mmcc.frontend.reads import nodes_below, reads
from mmcc.frontend.schema import domain_of
from mmcc.frontend.sequences import is_of_sequences
from mmcc.frontend.value import Value
from mmcc.ir.op import ShapeError

Array = NDArray[Any]

FEW_ELEMENTS = 16  # of a value: counts, bounds, shapes; what is larger is computed in the loop
MOST_STEPS = 2**16  # the checker goes through all
MOST_RUNS = 2**16  # of nodes, all steps together: each takes some 0.1 ms
OF_SHAPES = frozenset(("Shape", "Size"))


@dataclass(frozen=True, slots=True)
class Ports:
    """A loop's body by the parts that its inputs and outputs play.

    `carried` has, by the body's name for it, what the first step finds, and `ends` the body's name for what a
    step makes of each. A Scan has no `number` and no condition, which is `given` to a step, and `made` by it.
    """

    carried: Mapping[str, Value]
    ends: Sequence[str]
    number: str = ""
    given: str = ""
    made: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A loop's number of steps, and arrays of what is known of each.

    `before` are inputs of the body, [steps + 1, ...], the last what is left after the last step; `inside` are
    values that its nodes make, [steps, ...]. `ends` says that the condition to go on is among what is known.
    """

    steps: int
    before: Mapping[str, Array] = field(default_factory=dict[str, Array])
    inside: Mapping[str, Array] = field(default_factory=dict[str, Array])
    ends: bool = True

    def each(self) -> dict[str, Array]:
        """All values, as each step finds them."""
        return {name: array[: self.steps] for name, array in self.before.items()} | dict(self.inside)


def known_steps(
    state: Import, where: Where, body: GraphProto, ports: Ports, limit: int | None, convert: Convert
) -> Known | None:
    """What is known of the steps of a loop that makes at most `limit`, the first of them for certain.

    None if its number of steps depends on more, or takes too long to find out.
    """
    run = _Run(state, where, body, ports, convert)
    carried, nodes = run.known()
    names = {name for node in nodes for name in node.output if name}
    made = {*names, *carried, ports.number, ports.given, *run.constants}
    ends = not ports.made or ports.made in made or run.is_around(ports.made)
    if not ends and (limit is None or limit > MOST_STEPS):
        return None
    read = {name for node in body.node if names.isdisjoint(node.output) for name in reads(node)}
    read |= {info.name for info in body.output}
    inside = sorted(_depending(nodes, {*carried, ports.number, ports.given} - {""}) & read)
    wanted = [ports.made] if ports.made and ends else []
    wanted += [ports.ends[[*ports.carried].index(name)] for name in carried]
    try:
        return run.steps(carried, nodes, [*dict.fromkeys((*wanted, *inside))], (limit, ends))
    except (CompileError, ShapeError):
        return None


@dataclass(frozen=True, eq=False)
class _Run:
    """The nodes of a body that need no more than what is known."""

    state: Import
    where: Where
    body: GraphProto
    ports: Ports
    convert: Convert

    @property
    def constants(self) -> set[str]:
        return {tensor.name for tensor in self.body.initializer}

    def is_around(self, name: str) -> bool:
        """True of a constant from around the loop."""
        value = None if name in own_names(self.body) else self.state.values.get(name)
        return value is not None and self.state.build.is_constant(value.tensor)

    def known(self) -> tuple[list[str], list[NodeProto]]:
        """The values that are carried from step to step of which all is known, and the nodes that are."""
        build = self.state.build
        carried = [
            name
            for name, first in self.ports.carried.items()
            if build.is_constant(first.tensor) and first.size <= FEW_ELEMENTS
        ]
        while True:
            nodes = self._nodes({*carried, self.ports.number, self.ports.given})
            made = {name for node in nodes for name in node.output}
            made |= {*carried, self.ports.number, self.ports.given, *self.constants}
            ends = dict(zip(self.ports.carried, self.ports.ends, strict=True))
            left = [name for name in carried if ends[name] in made or self.is_around(ends[name])]
            if left == carried:
                return carried, nodes
            carried = left

    def _nodes(self, known: Collection[str]) -> list[NodeProto]:
        """The nodes, in order, that need only what is known; shapes are, whatever they are of.

        Loops are not among them: all their steps would be run for each step of this one. Neither are lists.
        """
        own = own_names(self.body)
        known = {*known, "", *self.constants}
        inside = [(self.where, node) for node in self.body.node]
        around = {name for node in self.body.node for name in reads(node)} - own
        seen = {name for name in around if self.is_around(name)}
        problems: list[CompileError] = []  # of others, which are told when the body is converted
        found: list[NodeProto] = []
        for _, node in ordered(inside, own - _made(self.body.node) | around, problems):
            shapes = node.op_type in OF_SHAPES and not domain_of(node) and node.input[0] in around
            loops = any(each.op_type in {"Loop", "Scan"} for each in nodes_below([node]))
            special = loops or is_of_sequences(self.state, node)
            if shapes or (not special and all(name in known or name in seen for name in reads(node))):
                found.append(node)
                known.update(node.output)
        return [] if problems else found

    def steps(
        self, carried: list[str], nodes: list[NodeProto], wanted: list[str], until: tuple[int | None, bool]
    ) -> Known | None:
        """The values `wanted`, step by step, until the limit or until the condition says so."""
        build, (limit, ends) = self.state.build, until
        now = {name: build.array(self.ports.carried[name]) for name in carried}
        before: list[dict[str, Array]] = []
        inside: list[dict[str, Array]] = []
        graph = _part(self.body, nodes, wanted)
        last = dict(zip(self.ports.carried, self.ports.ends, strict=True))
        varies = any(name in {*carried, self.ports.number} for node in graph.node for name in reads(node))
        varies = varies or any(name in {*carried, self.ports.number} for name in wanted)
        made: dict[str, Array] | None = None
        for step in count():
            before.append(now)
            if step == limit:
                break
            if made is None or varies:
                if (step + 1) * len(graph.node) > MOST_RUNS:
                    return None
                made = self._step(graph, wanted, now | self._own(step))
            if made is None or step == MOST_STEPS:
                return None
            inside.append(made)
            now = {name: made[last[name]] for name in carried}
            if ends and self.ports.made and made[self.ports.made].size != 1:
                return None
            if ends and self.ports.made and not made[self.ports.made].all():
                before.append(now)
                break
        names = [name for name in wanted if name in _made(nodes)]
        known = _stacked(before, carried, inside, names, self.ports.number, ends)
        return known and replace(known, inside=_of_whole_nodes(nodes, wanted, known.inside))

    def _own(self, step: int) -> dict[str, Array]:
        own = {self.ports.number: np.array(step, np.int64), self.ports.given: np.array(True)}
        return {name: array for name, array in own.items() if name}

    def _step(self, graph: GraphProto, wanted: list[str], given: dict[str, Array]) -> dict[str, Array] | None:
        """What one step makes; None if it is not known, or too large."""
        if not wanted:
            return {}
        build = self.state.build
        inner = Builder(budget=build.budget)
        within = Outside(self.state, inner).tried()
        values = {name: inner.constant(array, name) for name, array in given.items()}
        made = inline(within, self.where, graph, values, self.convert)
        build.budget = inner.budget  # that of all steps
        if within.problems.found or within.problems.unknown:
            return None
        found: dict[str, Array] = {}
        for name, value in zip(wanted, made, strict=True):
            if value is None or not inner.is_constant(value.tensor):
                return None
            found[name] = inner.array(value)
        return found


def _stacked(
    before: list[dict[str, Array]],
    carried: list[str],
    inside: list[dict[str, Array]],
    names: list[str],
    number: str,
    ends: bool,
) -> Known | None:
    """What was known of each step, one under the other; None if a carried value changes its shape."""
    steps = len(inside)
    rows: dict[str, Array] = {}
    for name in carried:
        arrays = [each[name] for each in before]
        if len({(array.shape, array.dtype) for array in arrays}) > 1:
            return None
        rows[name] = np.stack(arrays)
    if number:
        rows[number] = np.arange(steps + 1)
    of_steps: dict[str, Array] = {}
    for name in names if steps else ():
        arrays = [each[name] for each in inside]
        same = len({(array.shape, array.dtype) for array in arrays}) == 1
        if same and 0 < arrays[0].size <= FEW_ELEMENTS:
            of_steps[name] = np.stack(arrays)
    return Known(steps, rows, of_steps, ends)


def _of_whole_nodes(
    nodes: Iterable[NodeProto], wanted: Collection[str], inside: Mapping[str, Array]
) -> dict[str, Array]:
    """Without what a node makes beside values that are wanted, too, and too large: the node must stay."""
    stay = (node for node in nodes if {*node.output} & {*wanted} - {*inside})
    made = _made(stay)
    return {name: array for name, array in inside.items() if name not in made}


def _part(body: GraphProto, nodes: Iterable[NodeProto], wanted: Sequence[str]) -> GraphProto:
    """Those of the nodes that the values `wanted` need, as a graph that has these as outputs."""
    needed, kept = {*wanted}, list[NodeProto]()
    for node in reversed([*nodes]):
        if not needed.isdisjoint(node.output):
            needed.update(reads(node))
            kept.append(node)
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    constants = [tensor for tensor in body.initializer if tensor.name in needed]
    return helper.make_graph(kept[::-1], "", [], outputs, constants)


def _made(nodes: Iterable[NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output if name}


def _depending(nodes: Iterable[NodeProto], on: Collection[str]) -> set[str]:
    """What nodes, in order, make of some values. What they make of constants is folded in the body as
    anywhere, where quantized ones stay integers."""
    found = {*on}
    for node in nodes:
        if not found.isdisjoint(reads(node)):
            found.update(filter(None, node.output))
    return found - {*on}


def own_names(body: GraphProto) -> set[str]:
    """The names that a body gives to values of its own; values around it may have the same."""
    inputs = {info.name for info in body.input} | {tensor.name for tensor in body.initializer}
    return inputs | _made(body.node)


def without_results(body: GraphProto, left_out: Collection[int]) -> GraphProto:
    """The body without the results of these numbers."""
    outputs = [info for k, info in enumerate(body.output) if k not in left_out]
    return helper.make_graph(list(body.node), "", [], outputs, list(body.initializer))


def may_end_early(body: GraphProto) -> bool:
    """False where the condition that a step makes is no more than the one it was given."""
    return copied_from(body, body.output[0].name) in {result for node in body.node for result in node.output}


def copied_on(body: GraphProto, ends: Mapping[str, int]) -> list[str]:
    """Carried values that steps hand on as they are; `ends`: the number of each among the body's results.

    TensorFlow's loops have their weights so.
    """
    return [name for name, k in ends.items() if copied_from(body, body.output[k].name) == name]


def copied_from(body: GraphProto, name: str) -> str:
    """The value of a body of which another is a copy, perhaps of a copy; or itself."""
    copies = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    for _ in copies:  # names may lead in a circle: nobody has looked at the body yet
        name = copies.get(name, name)
    return name
