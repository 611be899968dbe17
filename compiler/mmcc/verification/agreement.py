# SPDX-License-Identifier: Apache-2.0
"""Are our references what ONNX Runtime computes? Node by node, each fed with ONNX Runtime's own values.

No C is involved: what the C makes of it is `judging`'s matter. Together they leave no room for "nearly", and
a plan with groups is judged like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmcc.ir.graph import Graph
from mmcc.ops.repeat import Repeat
from mmcc.package.record import KeptState
from mmcc.passes.split_states import state_pieces
from mmcc.verification.graph_agreement import GraphAgreement, Made
from mmcc.verification.kept import Kept
from mmcc.verification.oracle import Oracle
from mmcc.verification.samples import Sample
from mmcc.verification.tally import Tally

Array = NDArray[Any]
MOST_BYTES = 2**28  # of a loop's values of all steps, which ONNX Runtime hands out at once


class Agreement:
    """A model's graph, as it is compiled, beside the model in ONNX Runtime.

    `tallies` are by the number of the node, behind those of the loops that it is in. `whole_loops` says of
    loops whose bodies are not looked at why that is.
    """

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
        self.tallies: dict[tuple[int, ...], Tally] = {}
        self.whole_loops: dict[tuple[int, ...], str] = {}
        loops = {path: (names, op) for path, names, op in _loops(graph) if self._fits(path, op)}
        asked = {
            (*names, port.onnx_name) for names, op in loops.values() for port in op.body.origins.values()
        }
        self.oracle = Oracle(model, [*self.names, *self.kept.outputs], bind, sorted(asked))
        there = {value[:-1] for value in self.oracle.steps}
        for path, (names, _) in loops.items():
            if names not in there:
                self.whole_loops[path] = "none of its nodes makes a value that the model's loop has"

    def run(self, sample: Sample) -> None:
        """Add one sample. It finds the states that ONNX Runtime left after the one before."""
        graph = self.graph
        names = [port.onnx_name for port in graph.inputs]
        found = self.oracle.run(self.kept.values | dict(zip(names, sample, strict=True)))
        outside = len(self.names) + len(self.kept.outputs)
        by_name = dict(zip(self.names, found, strict=False))
        given = self.kept.values | dict(zip(names, sample, strict=True)) | by_name
        arrays: dict[str, Array] = dict(graph.constants)
        for state in self.states:
            arrays |= self._old_value(state)
        self.kept.become(found[len(self.names) : outside])
        for port, array in zip(graph.inputs, sample, strict=True):
            arrays[port.tensor] = port.to_c(array, graph.tensors[port.tensor])
        values: dict[tuple[str, ...], Array] = {(name,): array for name, array in by_name.items()}
        values |= dict(zip(self.oracle.steps, found[outside:], strict=True))
        nodes = GraphAgreement(
            graph, self.known, self.oracle, self.tallies, lambda path: path not in self.whole_loops
        )
        nodes.run(Made(arrays), values, given)

    def _fits(self, path: tuple[int, ...], op: Repeat) -> bool:
        """Whether the values of a loop's steps can be asked for; of others why not is kept."""
        around = [self.whole_loops.get(path[:k], "") for k in range(1, len(path))]
        size = sum(tensor.bytes for tensor in op.body.tensors.values()) * self._steps(path)
        why = next(filter(None, around), "")
        if not why and size > MOST_BYTES:
            why = (
                f"the values of its {self._steps(path):,} steps are {size:,} bytes, more than {MOST_BYTES:,}"
            )
        if why:
            self.whole_loops[path] = why
        return not why

    def _steps(self, path: tuple[int, ...]) -> int:
        """How often the body of a loop is run in all."""
        return prod(op.steps for each, _, op in _loops(self.graph) if each == path[: len(each)])

    def _old_value(self, state: KeptState) -> dict[str, Array]:
        """What ONNX Runtime left of a state, as the graph has it: whole, or in pieces."""
        name = state.port.tensor
        array = state.port.to_c(self.kept.values[state.port.onnx_name], self.before.tensors[name])
        pieces = self.pieces.get(name, ())
        flat = array.reshape(-1)
        return {p.begin: flat[p.first : p.last].reshape(p.shape) for p in pieces} or {name: array}


def _loops(
    graph: Graph, path: tuple[int, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[int, ...], tuple[str, ...], Repeat]]:
    """The loops of a graph, each before those in it: numbers of nodes from outside to it, and their names."""
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, Repeat):
            yield (*path, index), (*names, node.op.name), node.op
            yield from _loops(node.op.body, (*path, index), (*names, node.op.name))
