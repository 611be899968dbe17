# SPDX-License-Identifier: Apache-2.0
"""Is what the C wrote what its nodes' references make of what the C gave them?

Each node is judged on the inputs that it had, as the C itself wrote them: errors do not add up, and it makes
no difference whether a node ran alone, within a group, or in strips, nor in which step of a loop. Integers
must be the reference's, bit for bit. Floats may differ in how a sum was ordered. A tensor that is overwritten
before it is read shows in the node that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import geometry
from mmcc.ops.half_layers import HalfLayer, rounded_sums, sums_in_halves
from mmcc.ops.overflow import FLOAT_MAX, may_overflow, overflows_unseen
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.reduce import Reduce
from mmcc.ops.repeat import Repeat, node_at
from mmcc.selfcheck.trace import ONCE, NodePath, Time, Trace, Written

Array = NDArray[Any]
RELATIVE = 1e-5  # of a tensor's largest magnitude: floats of one node
ABSOLUTE = 1e-6  # times the largest magnitude in that operand where it is least, if it is below 1
UNDERFLOW = float(np.finfo(np.float32).tiny)  # of what is smaller, digits are lost, or all of it
LAST_BITS = 2.0**-20  # of an input: what rounding within a sum of a few hundred terms may amount to
MOVES = 4  # times that inputs are moved by their last bits
SPREAD = 4.0  # times what that makes
HALF_STEP, HALF_LEAST = 2.0**-11, 2.0**-25  # what rounding to float16 takes: of a number, of the smallest
HALF_END = 65520.0  # from where on it makes an infinity


@dataclass(frozen=True, slots=True)
class Fault:
    """One node (`node_at`) whose output is not what it should be; `path` (-1,) for a run that did not end."""

    path: NodePath
    what: str
    wrong: int = 0
    count: int = 0
    worst: float = 0.0
    at: tuple[int, int, int] | None = None  # row, column, channel of the first
    got: float = 0.0
    want: float = 0.0
    time: Time = ONCE

    @property
    def index(self) -> int:
        """The number of the node in the graph, be it in the body of a loop; -1 for a run that did not end."""
        return self.path[0]

    def sentence(self, graph: Graph) -> str:
        """For people: which node, how many elements, the first of them."""
        if self.index < 0 or self.at is None:
            return self.what
        _, node = node_at(graph, self.path)
        number = ".".join(map(str, self.path))
        place = f"row {self.at[0]}, column {self.at[1]}, channel {self.at[2]}"
        when = f" in run {self.time.number + 1:,} of {self.time.of:,}" if self.time.of > 1 else ""
        return (
            f"node {number} ({node.op}): {self.what}{when}: {self.wrong:,} of {self.count:,} elements; "
            f"the first, at {place}, is {self.got:.9g}, not {self.want:.9g}"
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """The first fault of a run in the order of nodes, or all; and the states that it left, by `begin`."""

    faults: list[Fault]
    states: dict[str, Array] = field(default_factory=dict[str, Array])


@np.errstate(all="ignore")  # arithmetic as in C, which warns of nothing
def judge(graph: Graph, trace: Trace, given: Mapping[str, Array], *, all_faults: bool = False) -> Judgement:
    """Judge a run; `given` are its inputs, and the states as it found them, by tensor."""
    if trace.status != 0:
        return Judgement([_did_not_end(graph, trace)])
    run = _Judge(graph, trace, all_faults)
    arrays: dict[str, Array] = {**graph.constants, **given}
    outputs = run.nodes(graph, arrays)
    if run.found and not all_faults:
        return Judgement(run.found[:1])
    found = [*run.found, *_outputs(graph, trace, outputs)]
    return Judgement(found, {state.begin: arrays[state.end] for state in graph.states})


@dataclass(eq=False)
class _Judge:
    """A run that ended; `found` are the faults of its nodes, one of each."""

    graph: Graph
    trace: Trace
    all_faults: bool
    found: list[Fault] = field(default_factory=list[Fault])

    def nodes(
        self, graph: Graph, arrays: dict[str, Array], around: NodePath = (), time: Time = ONCE
    ) -> dict[str, tuple[Array, bool]]:
        """Judge the nodes of a graph, or of a body in a step, and add what they wrote to `arrays`.

        Its outputs, each with whether all of it was written.
        """
        outputs: dict[str, tuple[Array, bool]] = {
            name: (arrays[name], True) for name in graph.output_names if name in arrays
        }
        uses = _last_uses(graph)
        for index, node in enumerate(graph.nodes):
            path = (*around, index)
            operands = [arrays[name] for name in node.inputs]
            inside = isinstance(node.op, Repeat) and self._sees(path)
            results = (self._steps if inside else self._reference)(path, operands, time)
            for result, (name, want) in enumerate(zip(node.outputs, results, strict=True)):
                whole = True
                if (path, result) in self.trace.records:
                    written = self.trace.of(self.graph, path, result, time)
                    self._add(_faults(graph, path, result, written, want, operands, exact=inside), time)
                    whole = bool(written.made.all())
                    rest = want.reshape(written.pixels.shape)
                    want = np.where(written.made[..., None], written.pixels, rest).reshape(want.shape)
                arrays[name] = want
                if name in graph.output_names:
                    outputs[name] = want, whole
            if self.found and not self.all_faults:
                break
            for name in uses.get(index, ()):
                del arrays[name]
        return outputs

    def _sees(self, path: NodePath) -> bool:
        """Whether what the body of a loop wrote is recorded."""
        return any(each[: len(path)] == path and len(each) > len(path) for each, _ in self.trace.records)

    def _steps(self, path: NodePath, operands: Sequence[Array], time: Time) -> tuple[Array, ...]:
        """The results of a loop, which are what the nodes of its body wrote."""
        op = node_at(self.graph, path)[1].op
        assert isinstance(op, Repeat)
        body, ends = op.body, op.outputs()

        def step(number: int, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            arrays = {**body.constants, **inputs}
            if not self.found or self.all_faults:
                self.nodes(body, arrays, path, time.step(number, op.steps))
            # behind a fault that ends it, nothing more is asked
            return {t.name: arrays[t.name] if t.name in arrays else np.zeros(t.shape) for t in ends}

        return op.run(step, operands)

    def _reference(self, path: NodePath, operands: Sequence[Array], time: Time) -> tuple[Array, ...]:
        """What a node should make, beside what the C made where a cell rounds its h from step to step."""
        graph, node = node_at(self.graph, path)
        made = None
        if (path, 0) in self.trace.records:
            written = self.trace.of(self.graph, path, 0, time)
            shape = graph.tensors[node.outputs[0]].shape
            made = written.pixels.reshape(shape) if written.made.all() else None
        return reference_beside(node, operands, made)

    def _add(self, faults: Sequence[Fault], time: Time) -> None:
        """Of each node the first fault."""
        seen = {fault.path for fault in self.found}
        self.found += [replace(fault, time=time) for fault in faults if fault.path not in seen]


def reference_beside(node: Node, operands: Sequence[Array], made: Array | None) -> tuple[Array, ...]:
    """What a node's reference makes, in a cell that rounds its h from step to step beside what was made."""
    if made is not None and isinstance(node.op, Recurrent) and node.op.rounded:
        return node.op.beside(made, *operands)
    return node.op.reference(*operands)


def _did_not_end(graph: Graph, trace: Trace) -> Fault:
    """A run that crashed, or that returned an error."""
    last = "no node"
    if trace.last is not None:
        last = f"node {'.'.join(map(str, trace.last))} ({node_at(graph, trace.last)[1].op})"
    if trace.status is None:
        how = f"the program ended with {trace.returned}"
    else:
        how = f"the model's init or run returned {trace.status}"
    return Fault((-1,), f"{how}; {last} was the last that wrote something")


def _last_uses(graph: Graph) -> dict[int, list[str]]:
    """By node: activations that nothing after it reads, neither a node nor the next run."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        names = (name for name in graph.activations(node) if name not in graph.kept)
        last |= dict.fromkeys(names, index)
    found: dict[int, list[str]] = {}
    for name, index in last.items():
        found.setdefault(index, []).append(name)
    return found


def _faults(
    graph: Graph,
    path: NodePath,
    result: int,
    written: Written,
    want: Array,
    operands: Sequence[Array],
    *,
    exact: bool,
) -> list[Fault]:
    """The fault of a result, if it has one; with `exact` floats are the same to the bit, too."""
    node = graph.nodes[path[-1]]
    expected = want.reshape(written.pixels.shape)
    wrong = differs(written.pixels, expected) & written.made[..., None]
    if wrong.any() and not exact and _computes_in_float(graph, node):
        wrong &= ~allowance(node, result, operands, want, written.pixels).reshape(wrong.shape)
    if wrong.any():
        return [_fault(path, "differs from its reference", wrong, written.pixels, expected)]
    integer = not graph.tensors[node.outputs[result]].dtype.is_float
    if integer and written.twice.any() and not _computes_in_float(graph, node):
        again = np.broadcast_to(written.twice[..., None], expected.shape)
        return [_fault(path, "made more than once, with different values", again, written.pixels, expected)]
    return []


def differs(got: Array, want: Array) -> NDArray[np.bool_]:
    """Where two arrays of one type are not the same value; NaN is the same as NaN."""
    wrong = got != want
    return wrong & ~(np.isnan(got) & np.isnan(want)) if ElementType.of(got).is_float else wrong


def _computes_in_float(graph: Graph, node: Node) -> bool:
    return any(graph.tensors[name].dtype.is_float for name in (*graph.activations(node), *node.outputs))


@np.errstate(all="ignore")
def allowance(
    node: Node, result: int, operands: Sequence[Array], want: Array, got: Array
) -> NDArray[np.bool_]:
    """Where floats are as near as they need be: within rounding, or what the inputs' last bits decide.

    `want` is what the node's reference makes of `operands`, `got` what is judged by it.

    What an input that is no number decides, or a result that is none, is not promised; nor is it where
    numbers are so large that products or sums of them, in whatever order, may be more than floats hold. Where
    such a sum ends in a number again, that one is not promised either. What is made beside an infinity, as in
    scores with a mask, is judged where both are finite; integers that it decides are not.

    A layer that is float16 altogether may have sums in float32, which are rounded once, or round after each
    product, as processors do that can: one of the two, since what lies between is as wide as the result.
    """
    flat, mine = want.reshape(-1).astype(np.float64), got.reshape(-1).astype(np.float64)
    is_float = want.dtype.kind == "f"
    unknown = np.isnan if is_float else _not_finite
    fine = ~np.isfinite(flat)
    if any(unknown(array).any() for array in operands if array.dtype.kind == "f"):
        others = [_with_instead(operands, unknown, value) for value in (0.0, FLOAT_MAX, -FLOAT_MAX)]
        for other in others:
            fine |= differs(node.op.reference(*other)[result].reshape(-1), want.reshape(-1))
        operands = others[0]
    floats = [array for array in operands if array.dtype.kind == "f"]
    fine |= ~np.isfinite(mine) & may_overflow(floats)
    largest = float(np.abs(flat[np.isfinite(flat)]).max(initial=0))
    least = ABSOLUTE * min([1.0, *(size for size in map(_largest, floats) if size > 0)])
    least = max(least, _lost(node.op, operands))
    halves = operands if sums_in_halves(node.op, ElementType.of(operands[0])) else ()
    if halves:  # sums in float32 are looked at before they are rounded
        operands = [array.astype(np.float32) for array in operands]
        (whole,) = node.op.reference(*operands)
        flat = np.clip(whole.reshape(-1).astype(np.float64), -HALF_END, HALF_END)
        mine = np.clip(mine, -HALF_END, HALF_END)
        least = least + HALF_STEP * np.abs(flat) + HALF_LEAST
    gap = np.abs(mine - flat)
    near = fine | (gap <= least + RELATIVE * largest if is_float else gap == 0)
    if not near.all():
        near |= overflows_unseen(node.op, operands, flat.size)
    if near.all():
        return near
    rng = np.random.default_rng(0)
    spread = np.zeros(flat.shape)
    for _ in range(MOVES):
        moved = [_moved(array, rng) for array in operands]
        other = node.op.reference(*moved)[result].reshape(-1).astype(np.float64)
        spread = np.maximum(spread, np.abs(other - flat))
    room = least + RELATIVE * largest + SPREAD * spread if is_float else spread
    near |= gap <= room
    if isinstance(node.op, HalfLayer) and halves and not near.all():
        near |= ~differs(got, rounded_sums(node.op, *halves).reshape(got.shape)).reshape(-1)
    return near


def _not_finite(array: Array) -> NDArray[np.bool_]:
    return ~np.isfinite(array)


def _lost(op: Op, operands: Sequence[Array]) -> float:
    """What a result may lack since something within the op is too small for a float: also a square, of whose
    sum the root is taken."""
    squares = isinstance(op, Reduce) and op.function == "l2"
    return (UNDERFLOW * operands[0].size) ** 0.5 if squares else UNDERFLOW


def _largest(array: Array) -> float:
    """The largest magnitude of its finite elements."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def _with_instead(
    operands: Sequence[Array], unknown: Callable[[Array], NDArray[np.bool_]], value: float
) -> list[Array]:
    """The operands with `value` in place of floats that are no numbers."""
    return [
        np.where(unknown(array), np.array(value, array.dtype), array) if array.dtype.kind == "f" else array
        for array in operands
    ]


def _moved(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    return (array * (1 + LAST_BITS * rng.uniform(-1, 1, array.shape))).astype(array.dtype)


def _fault(path: NodePath, what: str, wrong: NDArray[np.bool_], got: Array, want: Array) -> Fault:
    row, col, channel = (int(v) for v in np.argwhere(wrong)[0])
    gap = np.abs(got.astype(np.float64) - want.astype(np.float64))[wrong]
    first = row, col, channel
    count = int(wrong.sum())
    return Fault(
        path, what, count, wrong.size, float(gap.max()), first, float(got[first]), float(want[first])
    )


def _outputs(graph: Graph, trace: Trace, arrays: Mapping[str, tuple[Array, bool]]) -> list[Fault]:
    """What the caller gets must be what the last node wrote, all of it."""
    makers = {name: index for index, node in enumerate(graph.nodes) for name in node.outputs}
    for port, raw in zip(graph.outputs, trace.outputs, strict=True):
        tensor = graph.tensors[port.tensor]
        want, whole = arrays[port.tensor]
        if not whole:
            return [Fault((-1,), f"output {port.tensor} is not made whole")]
        if prod(tensor.shape) == 0:
            continue
        want = want.reshape(geometry(tensor.shape))
        got = raw.view(tensor.dtype.numpy).reshape(want.shape)
        wrong = differs(got, want)
        if wrong.any():
            what = "its values are not what the model gives the caller"
            return [_fault((makers.get(port.tensor, 0),), what, wrong, got, want)]
    return []
