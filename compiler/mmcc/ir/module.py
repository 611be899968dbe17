# SPDX-License-Identifier: Apache-2.0
"""Module level: several graphs, the entries of one package, over the same constants and states."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph
from mmcc.ir.made_again import MadeAgain
from mmcc.ir.state import State
from mmcc.ir.text import string_text
from mmcc.ir.verify import check_graph

STEP = "step"  # the entry that takes one hop of a stream
FLUSH = "flush"  # the entry that gives the rows of a stream that see its end
LOOP = "loop"  # what the body of a loop is called: the memories of its inputs and outputs, of its arena
RUN = "run"  # the entry whose inputs and outputs carry no name of an entry in C
# what other functions and types of every package are called behind its prefix
RESERVED = re.compile(
    r"init|reset|loop|stage_weights|move_with|selftest|context|weights|weights_layout|view|row|columns|constant"
    r"|parameters_(save|load|layout)|label_\d+|blocks|staging|streams|stamp|(begin|finish|take)_block|(before|after)_node|make_n\d+|made_for_n\d+|step_of_n\d+"
    r"|((stream|read|write|quantize|dequantize)_)?(input|output)_\d+"
)


def port_symbol(entry: str, kind: str, index: int) -> str:
    """What C calls input or output (`kind`) number `index` of an entry, behind the package's prefix."""
    return f"{kind}_{index}" if entry == RUN else f"{entry}_{kind}_{index}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One function of the package, `PREFIX_name`, and what it computes. The name is lower-case C.

    `made_again` is said of a training step that makes values of its forward pass again.
    """

    name: str
    graph: Graph
    made_again: MadeAgain | None = None


@dataclass(frozen=True, eq=False)
class Module:
    """Entries in the order of the package. A name of a constant or of a state means the same in all of them.

    Each graph carries the constants and states that it uses, so that passes and the planner see one graph;
    `check_module` holds them together. `concurrent` has sets of entries that may run at the same time.
    """

    name: str
    entries: tuple[Entry, ...]
    concurrent: tuple[tuple[str, ...], ...] = ()

    @staticmethod
    def of(graph: Graph) -> Module:
        """The module whose one entry, `run`, is a graph."""
        return Module(graph.name, (Entry(RUN, graph),))

    def map(self, change: Callable[[Graph], Graph]) -> Module:
        """The module with each entry's graph changed."""
        entries = tuple(replace(entry, graph=change(entry.graph)) for entry in self.entries)
        return replace(self, entries=entries)

    def may_meet(self, one: str, other: str) -> bool:
        """Whether two entries may run at the same time."""
        return one != other and any(one in names and other in names for names in self.concurrent)

    @cached_property
    def cliques(self) -> tuple[tuple[str, ...], ...]:
        """The largest sets of entries of which any two may run at the same time; each entry is in one."""
        found: list[tuple[str, ...]] = []

        def extend(clique: tuple[str, ...], more: tuple[str, ...], seen: tuple[str, ...]) -> None:
            if not more and not seen:
                found.append(clique)
            for k, name in enumerate(more):
                rest, before = more[k + 1 :], (*seen, *more[:k])
                extend((*clique, name), self._met(name, rest), self._met(name, before))

        extend((), tuple(entry.name for entry in self.entries), ())
        return tuple(found)

    def _met(self, name: str, among: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(other for other in among if self.may_meet(name, other))

    @cached_property
    def constants(self) -> dict[str, NDArray[Any]]:
        """The constants of all entries by name."""
        return {name: data for entry in self.entries for name, data in entry.graph.constants.items()}

    @cached_property
    def states(self) -> tuple[State, ...]:
        """Each state once, as the first entry that has it says, known by `begin`. Parameters come first."""
        found: dict[str, State] = {}
        for entry in self.entries:
            for state in entry.graph.states:
                found.setdefault(state.begin, state)
        return tuple(sorted(found.values(), key=lambda state: state.begin not in self.parameters))

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """States that the first entry only reads, and others change: what is learned."""
        first, *others = self.entries
        changed = {s.begin for entry in others for s in entry.graph.states if s.end != s.begin}
        read = (state.begin for state in first.graph.states if state.end == state.begin)
        return tuple(name for name in read if name in changed)

    def __str__(self) -> str:
        """The text that `mmcc.ir.parse.parse_module` reads."""
        entries = [f"entry {entry.name} {entry.graph}" for entry in self.entries]
        together = [f"concurrent [{', '.join(names)}]" for names in self.concurrent]
        return "\n\n".join([f"module {string_text(self.name)}", *together, *entries])


def check_module(module: Module) -> list[str]:
    """What is wrong with a module, one sentence each; empty for a sound one."""
    names = [entry.name for entry in module.entries]
    wrong = [] if names else ["a module has no entries"]
    for k, entry in enumerate(module.entries):
        if not entry.name.isidentifier() or not entry.name.isascii() or entry.name != entry.name.lower():
            wrong.append(f'entry "{entry.name}" is no lower-case C name')
        if RESERVED.fullmatch(entry.name):
            wrong.append(f'entry "{entry.name}" would be another function of the package')
        if entry.name in names[:k]:
            wrong.append(f'entry "{entry.name}" is there twice')
        wrong += [f"entry {entry.name}: {text}" for text in check_graph(entry.graph)]
        wrong += _disagreements(module, entry)
    return wrong + _concurrent_faults(module)


def _concurrent_faults(module: Module) -> list[str]:
    """Sets of entries that are none, and states, which no two entries may change at the same time."""
    known = {entry.name: entry.graph for entry in module.entries}
    wrong: list[str] = []
    for names in module.concurrent:
        wrong += [
            f'there is no entry "{name}" to run at the same time' for name in names if name not in known
        ]
        wrong += [
            f'entry "{n}" has states, and may not run beside others'
            for n in names
            if n in known and known[n].states
        ]
        if len({*names}) != len(names) or len(names) < 2:
            wrong.append(f"{', '.join(names)} are no two entries or more")
    return wrong


def _disagreements(module: Module, entry: Entry) -> list[str]:
    """Constants and states that are others than those of an entry before."""
    wrong: list[str] = []
    for name, data in entry.graph.constants.items():
        if not _same(module.constants[name], data):
            wrong.append(f"entry {entry.name}: constant %{name} has other data in another entry")
    first = {state.begin: state for state in module.states}
    for state in entry.graph.states:
        if not _same(first[state.begin].initial, state.initial):
            wrong.append(f"entry {entry.name}: state %{state.begin} begins otherwise in another entry")
    return wrong


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one is other or (
        one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )
