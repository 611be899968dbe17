# SPDX-License-Identifier: Apache-2.0
"""The nodes of a graph, and of its loops' bodies step by step, each beside what ONNX Runtime has there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.ops.overflow import may_overflow
from mmcc.ops.recurrent_int8 import RecurrentInt8
from mmcc.ops.repeat import Repeat
from mmcc.ops.requantize import Rounding, watch_roundings
from mmcc.selfcheck.judge import (
    LAST_BITS,
    MOVES,
    RELATIVE,
    SPREAD,
    allowance,
    differs,
    reference_beside,
)
from mmcc.verification.oracle import Oracle
from mmcc.verification.tally import Tally, distinct

Array = NDArray[Any]
Values = Mapping[tuple[str, ...], Array]  # by the loops around a value and its name, as `expose_steps` has it
HALF_STEP = 2.0**-11  # of a float16, relative to it: what rounding to one takes away at most
HALF_MOVES = 16  # times that float16 operands are moved: of thousands of elements each is to move
LEAST_HALF = 2.0**-24  # the smallest float16 above 0


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


@dataclass(slots=True)
class Made:
    """What a run of a graph's nodes has: `arrays` are ONNX Runtime's where it has one.

    `depth` is how many nodes lie between a tensor and values that ONNX Runtime has; `recurrent` are tensors
    that it does not have, behind a recurrent layer in int8.
    """

    arrays: dict[str, Array]
    depth: dict[str, int] = field(default_factory=dict[str, int])
    recurrent: set[str] = field(default_factory=set[str])


class GraphAgreement:
    """A graph, or the body of a loop, beside what ONNX Runtime has of its values.

    `known` are tensors that it has. `tallies` are by the number of the node, behind those of the loops around
    it, `path`; these are called `loops` in the model. `judged` says whether the body of a loop is looked at.
    """

    def __init__(
        self,
        graph: Graph,
        known: Mapping[str, Port],
        oracle: Oracle,
        tallies: dict[tuple[int, ...], Tally],
        judged: Callable[[tuple[int, ...]], bool],
        path: tuple[int, ...] = (),
        loops: tuple[str, ...] = (),
    ) -> None:
        self.graph, self.known, self.oracle, self.tallies = graph, known, oracle, tallies
        self.judged, self.path, self.loops = judged, path, loops

    def run(self, of: Made, values: Values, given: Mapping[str, Array]) -> None:
        """Add what nodes make of the arrays in `of`, which are inputs, states and constants; theirs go there.

        `values` are ONNX Runtime's of this run, `given` those by which floats in double are found: of the
        graph, and of those around it.
        """
        graph, arrays = self.graph, of.arrays
        for index, node in enumerate(graph.nodes):
            operands = [arrays[name] for name in node.inputs]
            since = 1 + max((of.depth.get(name, 0) for name in node.inputs), default=0)
            of_cells = isinstance(node.op, RecurrentInt8) or not of.recurrent.isdisjoint(node.inputs)
            roundings: Sequence[Rounding] = ()
            if isinstance(node.op, Repeat) and self.judged((*self.path, index)):
                results, inner, cells = self._steps(index, node, of, values, given)
                since, of_cells = max(since, 1 + inner), of_cells or cells
            else:
                with np.errstate(all="ignore"), watch_roundings() as roundings:
                    results = reference_beside(node, operands, self._known(node.outputs[0], values))
            for result, (name, made) in enumerate(zip(node.outputs, results, strict=True)):
                port, want = self.known.get(name), self._known(name, values)
                if port is None or want is None:
                    arrays[name], of.depth[name] = made, since
                    of.recurrent.update([name] if of_cells else [])
                    continue
                self.tallies.setdefault(
                    (*self.path, index), Tally(depth=since, recurrent=of_cells, wide=made.dtype == np.int16)
                )
                sides = Sides(
                    self._unrounded(node, result, arrays),
                    self._in_double(name, given),
                    self._last_bits(node, result, arrays),
                )
                self._add(index, result, operands, made, want, roundings, sides)
                arrays[name] = want

    def _known(self, name: str, values: Values) -> Array | None:
        """ONNX Runtime's value of a tensor, if it has one."""
        port = self.known.get(name)
        value = None if port is None else values.get((port.onnx_name,))
        if port is None or value is None:
            return None
        return true_array(port, self.graph.tensors[name], value)

    def _steps(
        self, index: int, node: Node, of: Made, values: Values, given: Mapping[str, Array]
    ) -> tuple[tuple[Array, ...], int, bool]:
        """The results of a loop whose steps are looked at one by one.

        What steps hand on is ONNX Runtime's, and results are put together of its values where it has them:
        what a step makes of these is the matter of the nodes in it. With the results, how many nodes lie
        behind such values, and whether cells in int8 do.
        """
        op = node.op
        assert isinstance(op, Repeat)
        body = GraphAgreement(
            op.body,
            op.body.origins,
            self.oracle,
            self.tallies,
            self.judged,
            (*self.path, index),
            (*self.loops, op.name),
        )
        found = {key[1:]: array for key, array in values.items() if key[0] == op.name and len(key) > 1}
        stacked = {key: array for key, array in found.items() if len(array) == op.steps}
        begins, ends = ([port.tensor for port in ports] for ports in (op.body.inputs, op.body.outputs))
        depth = {name: of.depth.get(n, 0) for name, n in zip(begins, node.inputs, strict=True)}
        cells = {name for name, n in zip(begins, node.inputs, strict=True) if n in of.recurrent}
        most, behind_cells = 0, False

        def step(number: int, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            nonlocal most, behind_cells
            here = {key: array[number] for key, array in stacked.items()}
            seen = {**given, **{key[0]: array for key, array in here.items() if len(key) == 1}}
            made = Made({**op.body.constants, **inputs}, {**depth}, {*cells})
            body.run(made, here, seen)
            for name, end in zip(begins[: op.carried], ends, strict=False):
                depth[name] = made.depth.get(end, 0)
                (cells.add if end in made.recurrent else cells.discard)(name)
            most = max([most, *(made.depth.get(name, 0) for name in ends)])
            behind_cells = behind_cells or not made.recurrent.isdisjoint(ends)
            return made.arrays

        return op.run(step, [of.arrays[name] for name in node.inputs]), most, behind_cells

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
            value = self.oracle.in_double(port.onnx_name, given, self.loops)
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
        node, total = self.graph.nodes[index], self.tallies[*self.path, index]
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


def true_array(port: Port, tensor: Tensor, value: Array) -> Array:
    """ONNX Runtime's value in the layout and type of a tensor of ours (uint8 is kept as int8)."""
    if value.dtype == np.uint8 and tensor.dtype.numpy == np.int8:
        value = (value.astype(np.int16) - 128).astype(np.int8)
    return port.to_c(value, tensor)
