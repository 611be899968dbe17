# SPDX-License-Identifier: Apache-2.0
"""Are our references what ONNX Runtime computes? Node by node, each fed with ONNX Runtime's own values.

No C is involved: what the C makes of it is `judging`'s matter. Together they leave no room for "nearly", and
a plan with groups is judged like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.ops.overflow import may_overflow
from mmcc.ops.recurrent_int8 import RecurrentInt8
from mmcc.ops.requantize import Rounding, watch_roundings
from mmcc.package.record import KeptState
from mmcc.passes.split_states import state_pieces
from mmcc.selfcheck.judge import (
    LAST_BITS,
    MOVES,
    RELATIVE,
    SPREAD,
    allowance,
    differs,
    reference_beside,
)
from mmcc.verification.kept import Kept
from mmcc.verification.oracle import Oracle
from mmcc.verification.samples import Sample

Array = NDArray[Any]
INT8_RATE = 1e-5  # of a node's outputs that may be off by one step
INT16_RATE = (
    2e-3  # of 16 bits: a float32 of 24 bits, in which ONNX Runtime computes, is that near to a step of them
)
RECURRENT_RATE = 5e-3  # of a recurrent layer's in int8: gates and h between steps are fixed point there
HALF_STEP = 2.0**-11  # of a float16, relative to it: what rounding to one takes away at most
HALF_MOVES = 16  # times that float16 operands are moved: of thousands of elements each is to move
LEAST_HALF = 2.0**-24  # the smallest float16 above 0


@dataclass(slots=True)
class Tally:
    """Of one node, over all samples. `ties` are mismatches where the exact value is half-way between steps;
    `roundings` are the others, those of one accumulator in one channel counted once: they are the same event.

    `depth` is how many nodes lie between values that ONNX Runtime has: it rounds as often. `recurrent` where
    one of these is a recurrent layer in int8, `wide` where the result has 16 bits.
    """

    outputs: int = 0
    mismatches: int = 0
    ties: int = 0
    roundings: int = 0
    max_abs: float = 0.0
    depth: int = 1
    recurrent: bool = False
    wide: bool = False

    def ok(self, integer: bool) -> bool:
        """Equal, or one step off: in ties, and in as few outputs as rounding of floats makes."""
        if self.mismatches == 0 or not integer:
            return self.mismatches == 0
        rate = (INT16_RATE if self.wide else INT8_RATE) * self.depth
        rate = RECURRENT_RATE if self.recurrent else rate
        return self.max_abs <= 1 and self.roundings <= allowed(self.outputs, rate)


@dataclass(frozen=True, slots=True)
class Sides:
    """What tells whose a difference of floats is, each found when it is asked for.

    `unrounded` is how far elements move with what float16 operands were before they were rounded, `exact` the
    result in float64, `last_bits` how far elements move with the last bits of what ONNX Runtime has, where
    more than one node lies behind that.
    """

    unrounded: Callable[[], Array | None]
    exact: Callable[[], Array | None]
    last_bits: Callable[[], Array | None]


def allowed(outputs: float, rate: float = INT8_RATE) -> float:
    """How many roundings may be off by one step: the rate, plus three deviations of a sample."""
    mean = rate * outputs
    return mean + 3 * sqrt(mean) + 1


class Agreement:
    """A model's graph, as it is compiled, beside the model in ONNX Runtime."""

    def __init__(
        self,
        graph: Graph,
        model: Path,
        bind: Mapping[str, Any],
        states: Sequence[KeptState] = (),
        before: Graph | None = None,
    ) -> None:
        """`before` is the graph with its states whole, where they have been split."""
        self.graph, self.before = graph, before or graph
        self.pieces = state_pieces(self.before)
        # of an output the model's own value: what a pass took out behind its last node is seen nowhere else
        self.known = {**graph.origins, **{port.tensor: port for port in graph.outputs}}
        self.kept, self.states = Kept(states), states
        self.names = list(dict.fromkeys(port.onnx_name for port in self.known.values()))
        self.oracle = Oracle(model, [*self.names, *self.kept.outputs], bind)
        self.tallies: dict[int, Tally] = {}

    def run(self, sample: Sample) -> None:
        """Add one sample. It finds the states that ONNX Runtime left after the one before."""
        graph = self.graph
        names = [port.onnx_name for port in graph.inputs]
        values = self.oracle.run(self.kept.values | dict(zip(names, sample, strict=True)))
        by_name = dict(zip(self.names, values, strict=False))
        given = self.kept.values | dict(zip(names, sample, strict=True)) | by_name
        arrays: dict[str, Array] = dict(graph.constants)
        for state in self.states:
            arrays |= self._old_value(state)
        self.kept.become(values[len(self.names) :])
        for port, array in zip(graph.inputs, sample, strict=True):
            arrays[port.tensor] = port.to_c(array, graph.tensors[port.tensor])
        depth: dict[str, int] = {}  # nodes since values that ONNX Runtime has
        recurrent: set[str] = set()  # tensors that it does not have, behind a recurrent layer in int8
        for index, node in enumerate(graph.nodes):
            operands = [arrays[name] for name in node.inputs]
            with np.errstate(all="ignore"), watch_roundings() as roundings:
                results = reference_beside(node, operands, self._known(node.outputs[0], by_name))
            since = 1 + max((depth.get(name, 0) for name in node.inputs), default=0)
            of_cells = isinstance(node.op, RecurrentInt8) or not recurrent.isdisjoint(node.inputs)
            for result, (name, made) in enumerate(zip(node.outputs, results, strict=True)):
                port = self.known.get(name)
                if port is None:
                    arrays[name], depth[name] = made, since
                    recurrent.update([name] if of_cells else [])
                    continue
                want = true_array(port, graph.tensors[name], by_name[port.onnx_name])
                self.tallies.setdefault(
                    index, Tally(depth=since, recurrent=of_cells, wide=made.dtype == np.int16)
                )
                sides = Sides(
                    self._unrounded(node, result, arrays),
                    self._in_double(name, given),
                    self._last_bits(node, result, arrays),
                )
                self._add(index, result, operands, made, want, roundings, sides)
                arrays[name] = want

    def _old_value(self, state: KeptState) -> dict[str, Array]:
        """What ONNX Runtime left of a state, as the graph has it: whole, or in pieces."""
        name = state.port.tensor
        array = state.port.to_c(self.kept.values[state.port.onnx_name], self.before.tensors[name])
        pieces = self.pieces.get(name, ())
        flat = array.reshape(-1)
        return {p.begin: flat[p.first : p.last].reshape(p.shape) for p in pieces} or {name: array}

    def _unrounded(self, node: Node, result: int, arrays: Mapping[str, Array]) -> Callable[[], Array | None]:
        """How far elements move with what float16 operands were before they were rounded; None without such.

        ONNX Runtime computes most operators of float16 in float32, and takes out the Cast nodes between two
        of them: it reads what it has not rounded, up to half a step away from the values that it gives. What
        the caller gives, or an earlier run, is read as it is.
        """

        def spread() -> Array | None:
            chain, known = self._since_known(node)
            halves = {
                n for n in known & {*self.graph.producer} if self.graph.tensors[n].dtype == ElementType.F16
            }
            return self._moved(chain, node.outputs[result], arrays, halves, HALF_STEP, HALF_MOVES)

        return spread

    def _last_bits(self, node: Node, result: int, arrays: Mapping[str, Array]) -> Callable[[], Array | None]:
        """How far elements move with the last bits of what several nodes make them of, as of what one does.

        What ONNX has as one operator may be several nodes, and a mean of 100 that is taken from numbers near
        it loses what no later node knows of.
        """

        def spread() -> Array | None:
            chain, known = self._since_known(node)
            floats = {name for name in known if arrays[name].dtype.kind == "f"}
            if len(chain) == 1:
                return None  # `allowance` knows
            return self._moved(chain, node.outputs[result], arrays, floats, LAST_BITS, MOVES)

        return spread

    def _moved(
        self,
        chain: Sequence[Node],
        made: str,
        arrays: Mapping[str, Array],
        names: set[str],
        by: float,
        times: int,
    ) -> Array | None:
        """How far each element of what nodes make moves with some values, by a part of each of these."""
        if not names:
            return None
        rng = np.random.default_rng(0)
        found = np.zeros(self.graph.tensors[made].shape)
        base: Array | None = None
        for number in range(times + 1):
            moved = dict(arrays)
            for name in sorted(names) if number else ():
                factors = 1 + rng.uniform(-by, by, arrays[name].shape)
                moved[name] = arrays[name].astype(np.float32) * factors.astype(np.float32)
            with np.errstate(all="ignore"):
                for step in chain:
                    results = step.op.reference(*(moved[name] for name in step.inputs))
                    moved |= dict(zip(step.outputs, results, strict=True))
            value = moved[made].astype(np.float64)
            base = value if base is None else base
            found = np.fmax(found, np.abs(value - base))
        return found

    def _in_double(self, name: str, given: Mapping[str, Array]) -> Callable[[], Array | None]:
        """What ONNX Runtime's kernels of float64 make of the values that a tensor is computed from."""
        port, tensor = self.known[name], self.graph.tensors[name]

        def exact() -> Array | None:
            if tensor.dtype != ElementType.F32:
                return None
            value = self.oracle.in_double(port.onnx_name, given)
            with np.errstate(over="ignore"):
                return None if value is None else true_array(port, tensor, value.astype(np.float32))

        return exact

    def _since_known(self, node: Node) -> tuple[list[Node], set[str]]:
        """The nodes from what ONNX Runtime has, or is given, to `node`'s results, and the names of that."""
        chain: list[Node] = []
        known: set[str] = set()
        wanted = set(node.outputs)
        for each in reversed(self.graph.nodes[: self.graph.nodes.index(node) + 1]):
            if wanted.isdisjoint(each.outputs):
                continue
            chain.insert(0, each)
            for name in self.graph.activations(each):
                if name in self.known or name not in self.graph.producer:
                    known.add(name)
                else:
                    wanted.add(name)
        return chain, known

    def _known(self, name: str, by_name: Mapping[str, Array]) -> Array | None:
        """ONNX Runtime's value of a tensor, if it has one."""
        port = self.known.get(name)
        return None if port is None else true_array(port, self.graph.tensors[name], by_name[port.onnx_name])

    def _add(
        self,
        index: int,
        result: int,
        operands: Sequence[Array],
        made: Array,
        want: Array,
        roundings: Sequence[Rounding],
        sides: Sides,
    ) -> None:
        node, total = self.graph.nodes[index], self.tallies[index]
        wrong = differs(made, want)
        with np.errstate(invalid="ignore"):  # an infinity less itself, which attention masks have
            gap = np.abs(made.astype(np.float64) - want.astype(np.float64))
        if made.dtype.kind == "f" and wrong.any():
            # How far last bits move a result is counted from the reference's: from ONNX Runtime's on it would
            # be the difference itself, and nothing could be wrong.
            wrong &= ~allowance(node, result, operands, made, want).reshape(wrong.shape)
            exact = sides.exact() if wrong.any() else None
            if exact is not None:
                wrong &= ~_is_theirs(node, result, operands, made, want, exact)
            moved = sides.last_bits() if wrong.any() else None
            if moved is not None:
                wrong &= ~_within(made, want if exact is None else exact, SPREAD * moved)
            spread = sides.unrounded() if wrong.any() else None
            if spread is not None or made.dtype == np.float16:
                room = np.zeros(made.shape) if spread is None else SPREAD * spread
                if made.dtype == np.float16:  # and a step of the result's own
                    room += 2 * HALF_STEP * np.abs(made.astype(np.float64)) + LEAST_HALF
                wrong &= ~(gap <= room)  # a gap that is no number is in no room
            wrong |= _lost(operands, made, want)
        total.outputs += made.size
        total.mismatches += int(wrong.sum())
        total.max_abs = max(total.max_abs, float(np.nan_to_num(gap).max(initial=0)))
        for rounding in roundings:
            if rounding.tie.size == wrong.size:
                ties = wrong & rounding.tie.reshape(wrong.shape)
                total.ties += int(ties.sum())
                wrong &= ~ties
        exact = [rounding.exact for rounding in roundings if rounding.tie.size == wrong.size]
        total.roundings += distinct(wrong, exact[-1].reshape(wrong.shape)) if exact else int(wrong.sum())


def _is_theirs(
    node: Node, result: int, operands: Sequence[Array], made: Array, want: Array, exact: Array
) -> NDArray[np.bool_]:
    """Where ONNX Runtime is farther from the result in float64 than the reference, and that is near it."""
    near = allowance(node, result, operands, made, exact).reshape(made.shape) | ~differs(made, exact)
    with np.errstate(invalid="ignore"):  # an infinity less itself
        return near & (np.abs(want - exact) > np.abs(made - exact))


def _within(made: Array, exact: Array, room: Array) -> NDArray[np.bool_]:
    """Where floats are as near as they need be: `room`, and what a float of one node may be off."""
    want = exact.astype(np.float64)
    room = room + RELATIVE * float(np.abs(want[np.isfinite(want)]).max(initial=0))
    with np.errstate(invalid="ignore"):  # an infinity less itself
        return np.abs(made.astype(np.float64) - want) <= room


def _lost(operands: Sequence[Array], made: Array, want: Array) -> NDArray[np.bool_]:
    """Where a reference has no number and ONNX Runtime has one, though none in the node need be too large.

    `allowance` takes what its reference has no number for as open; whether that is so is the question here.
    """
    if may_overflow(operands):
        return np.zeros(made.shape, np.bool_)
    half = float(np.finfo(made.dtype).max) / 2  # above, a rounding may make an infinity of a number
    return ~np.isfinite(made) & (np.abs(want.astype(np.float64)) < half)


def distinct(wrong: Array, exact: Array) -> int:
    """Of the outputs that are wrong, those that differ in their exact value or their channel."""
    channels = np.broadcast_to(np.arange(wrong.shape[-1] if wrong.ndim else 1), wrong.shape)
    return len(set(zip(exact[wrong].tolist(), channels[wrong].tolist(), strict=True)))


def true_array(port: Port, tensor: Tensor, value: Array) -> Array:
    """ONNX Runtime's value in the layout and type of a tensor of ours (uint8 is kept as int8)."""
    if value.dtype == np.uint8 and tensor.dtype.numpy == np.int8:
        value = (value.astype(np.int16) - 128).astype(np.int8)
    return port.to_c(value, tensor)
