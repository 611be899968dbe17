# SPDX-License-Identifier: Apache-2.0
"""Graphs with states, by hand and at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.module import Entry, Module
from mmcc.ir.state import State
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Concat, Slice, Transpose
from mmcc.ops.shift import Shift
from mmcc.passes.draft import Draft
from planner_graphs import Build

SHAPE = (6, 5, 4)


class StatefulBuild(Build):
    """A builder whose tensors may be states."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.states: list[State] = []

    def state(self, *shape: int, value: float = 0.0) -> str:
        """The old value of a state; `becomes` says what the new one is."""
        name = self.input(*shape, dtype=ElementType.F32)
        self.inputs.remove(name)
        named = f"s{len(self.states)}"
        self.tensors[named] = replace(self.tensors.pop(name), name=named)
        self.states.append(State(named, named, np.full(shape, value, np.float32)))
        return named

    def becomes(self, state: str, end: str) -> None:
        self.states = [replace(s, end=end) if s.begin == state else s for s in self.states]

    def graph(self, *outputs: str) -> Graph:
        return replace(super().graph(*outputs), states=tuple(self.states))


def accumulator() -> Graph:
    """y = x + s; s' = y."""
    b = StatefulBuild("accumulator")
    x, s = b.input(*SHAPE, dtype=ElementType.F32), b.state(*SHAPE)
    y = b.add(Binary("add"), x, s)
    b.becomes(s, y)
    return b.graph(y)


def old_and_new() -> Graph:
    """Both are read when the new value is known, so that it cannot be written over the old one."""
    b = StatefulBuild("old_and_new")
    x, s = b.input(*SHAPE, dtype=ElementType.F32), b.state(*SHAPE, value=0.5)
    new = b.add(Unary("tanh"), b.add(Binary("add"), x, s))
    b.becomes(s, new)
    return b.graph(b.add(Binary("add"), new, s))


def shift_register() -> Graph:
    """The newest row comes in at the end, the oldest goes; the whole is an output."""
    b = StatefulBuild("shift_register")
    rows, cols, channels = SHAPE
    x, s = b.input(1, cols, channels, dtype=ElementType.F32), b.state(*SHAPE, value=-1.0)
    rest = b.add(Slice((1, 0, 0), (1, 1, 1), (rows - 1, cols, channels)), s)
    new = b.add(Concat(0), rest, x)
    b.becomes(s, new)
    return b.graph(b.add(Unary("abs"), new), new)


def shifted() -> Graph:
    """The same by an op of its own, which writes each row over one that it has read."""
    b = StatefulBuild("shifted")
    x, s = b.input(2, *SHAPE[1:], dtype=ElementType.F32), b.state(*SHAPE, value=-1.0)
    first = b.add(Slice((0, 0, 0), (3, 1, 1), (2, *SHAPE[1:])), s)
    b.becomes(s, b.add(Shift(), s, x))
    return b.graph(b.add(Unary("abs"), first))


def swap() -> Graph:
    """Two states change places: each new value is the other's old one."""
    b = StatefulBuild("swap")
    x = b.input(*SHAPE, dtype=ElementType.F32)
    s, t = b.state(*SHAPE, value=2.0), b.state(*SHAPE, value=3.0)
    b.becomes(s, t)
    b.becomes(t, s)
    return b.graph(b.add(Binary("add"), x, s))


def crossed() -> Graph:
    """Each new value is computed from the other's old one: whichever is written first is still needed."""
    b = StatefulBuild("crossed")
    x = b.input(*SHAPE, dtype=ElementType.F32)
    s, t = b.state(*SHAPE, value=2.0), b.state(*SHAPE, value=3.0)
    b.becomes(s, b.add(Unary("tanh"), t))
    b.becomes(t, b.add(Binary("add"), s, x))
    return b.graph(b.add(Binary("add"), s, t))


def old_output() -> Graph:
    """The output is the value before this run; the new one is the input."""
    b = StatefulBuild("old_output")
    x, s = b.input(*SHAPE, dtype=ElementType.F32), b.state(*SHAPE, value=7.0)
    b.becomes(s, x)
    return b.graph(s, b.add(Transpose((1, 0, 2)), s))


def unchanged() -> Graph:
    """A state that this entry only reads."""
    b = StatefulBuild("unchanged")
    x, s = b.input(*SHAPE, dtype=ElementType.F32), b.state(*SHAPE, value=4.0)
    return b.graph(b.add(Binary("add"), x, s))


BY_HAND: dict[str, Callable[[], Graph]] = {
    f.__name__: f
    for f in (accumulator, old_and_new, shift_register, shifted, swap, crossed, old_output, unchanged)
}


def random_graph(seed: int) -> Graph:
    """A chain with branches over one shape and one to three states, each read and written anywhere."""
    rng = np.random.default_rng(seed)
    b = StatefulBuild(f"random{seed}")
    pool = [b.input(*SHAPE, dtype=ElementType.F32)]
    states = [b.state(*SHAPE, value=float(k)) for k in range(rng.integers(1, 4))]
    pool += states
    for _ in range(rng.integers(2, 9)):
        one, other = (pool[k] for k in rng.integers(0, len(pool), 2))
        kind = rng.integers(0, 5)
        if kind < 2:
            made = b.add(Binary("add"), one, other)
        elif kind == 2:
            made = b.add(Unary("tanh"), one)
        elif kind == 3:
            turned = b.add(Transpose((1, 0, 2)), one)
            made = b.add(Transpose((1, 0, 2)), b.add(Unary("abs"), turned))
        else:
            top = b.add(Slice((0, 0, 0), (1, 1, 1), (2, *SHAPE[1:])), one)
            made = b.add(
                Concat(0), b.add(Slice((2, 0, 0), (1, 1, 1), (SHAPE[0] - 2, *SHAPE[1:])), other), top
            )
        pool.append(made)
    for state in states:
        b.becomes(state, pool[rng.integers(0, len(pool))])
    outputs = dict.fromkeys([pool[-1], *(pool[k] for k in rng.integers(0, len(pool), 2) if k)])
    return _without_dead(b.graph(*outputs))


def _without_dead(graph: Graph) -> Graph:
    """The graph without nodes whose results nobody needs; passes leave none."""
    draft = Draft(graph)
    for node in graph.nodes:
        draft.keep(node)
    return draft.graph()


def learner() -> Module:
    """Two entries over the same weights and states: `run` reads what `learn` sums up.

    Both begin with the same product of the input and the constant; only `learn` changes the state, and `run`
    counts in a state of its own.
    """
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((4, 8)).astype(np.float32)

    def begin(name: str) -> tuple[StatefulBuild, str, str, str]:
        b = StatefulBuild(name)
        x = b.input(6, 8, dtype=ElementType.F32)
        total, count = b.state(6, 4, value=0.25), b.state(1)
        return b, b.add(Dense(), x, b.constant(weights), b.constant(np.zeros(4, np.float32))), total, count

    b, product, total, count = begin("run")
    counted = b.add(Binary("add"), count, b.constant(np.ones(1, np.float32)))
    b.becomes(count, counted)
    run = b.graph(b.add(Binary("add"), b.add(Unary("tanh"), product), total), counted)
    b, product, total, count = begin("learn")
    b.becomes(total, b.add(Binary("add"), total, product))
    b.states = [state for state in b.states if state.begin != count]
    del b.tensors[count]  # `learn` knows nothing of it
    learn = b.graph(b.add(Unary("abs"), product))
    return Module("learner", (Entry("run", run), Entry("learn", learn)))
