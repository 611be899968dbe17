# SPDX-License-Identifier: Apache-2.0
"""From a graph that infers to a module whose entries run it, train it, and apply what was learned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.ir.module import RUN, Entry, Module
from mmcc.ir.ports import Port
from mmcc.ir.state import State
from mmcc.ir.types import Tensor
from mmcc.ops.elementwise import Binary
from mmcc.ops.movement import Expand
from mmcc.passes.draft import Draft
from mmcc.training.batch_norm import by_own_statistics, by_running_statistics
from mmcc.training.by_arg_max import by_arg_max
from mmcc.training.cells import with_cells
from mmcc.training.differentiate import differentiate
from mmcc.training.in_bits import in_bits
from mmcc.training.in_place import in_place
from mmcc.training.losses import LOSS, add_loss, input_tensor, plain_port
from mmcc.training.optimizers import Optimizer
from mmcc.training.options import TrainOptions
from mmcc.training.parameters import chosen

STEP, APPLY, RATE = "train_step", "train_apply", "rate"


def training_module(graph: Graph, options: TrainOptions) -> Module:
    """The module of `run`, `train_step`, and `train_apply` if gradients of several steps are summed up.

    The parameters are states that all entries share. CompileError MM117, MM118 or MM208 if the model cannot
    be trained as the options say.
    """
    names = chosen(graph, options.update)
    running = by_running_statistics(graph)
    step = _step(forward_pass(graph, options), names, options)
    trained = tuple(name for name in names if name in {state.begin for state in step.states})
    entries = [Entry(RUN, _reading(running, trained)), Entry(STEP, step)]
    if options.accumulate > 1:
        begins = (state.begin for state in step.states[len(trained) :])  # as `_summed` has them
        sums = dict(zip(trained, begins, strict=False))
        entries.append(Entry(APPLY, _apply(graph, step, sums, options)))
    return Module(graph.name, tuple(entries))


def forward_pass(graph: Graph, options: TrainOptions) -> Graph:
    """The graph as a step computes it: LSTMs show what steps backward read, and BatchNormalization takes the
    statistics of what it normalizes."""
    return by_own_statistics(with_cells(graph, chosen(graph, options.update)))


def _reading(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph with some constants as states that it does not change."""
    states = tuple(State(name, name, graph.constants[name]) for name in names)
    constants = {name: data for name, data in graph.constants.items() if name not in names}
    return replace(graph, constants=constants, states=(*graph.states, *states))


def _rate(draft: Draft) -> Port:
    tensor = Tensor(RATE, (1,))
    return input_tensor(draft, tensor, plain_port(tensor, RATE, argument=True))


def _step(graph: Graph, names: tuple[str, ...], options: TrainOptions) -> Graph:
    """Forward, loss, backward, and what becomes of the gradients: a step, or sums."""
    draft = Draft(graph)
    for node in graph.nodes:
        draft.keep(node)
    loss = add_loss(draft, options.loss)
    gradients = differentiate(draft, {loss.of: loss.gradient}, names)
    names = tuple(name for name in names if name in gradients)
    inputs = [*graph.inputs, loss.label]
    if options.accumulate > 1:
        states = _summed(draft, names, gradients)
    else:
        inputs.append(rate := _rate(draft))
        states = Optimizer(draft, options, rate.tensor).states(names, gradients)
    port = replace(plain_port(draft.tensors[loss.loss], LOSS, argument=True), onnx_name=LOSS)
    forward = {name for node in graph.nodes for name in node.outputs}
    step = by_arg_max(_finished(draft, inputs, [port], (*states, *graph.states)), forward)
    return in_place(in_bits(step, forward), frozenset(gradients.values()))


def _summed(draft: Draft, names: tuple[str, ...], gradients: dict[str, str]) -> tuple[State, ...]:
    """Parameters stay; their gradients are added to what earlier steps left."""
    read = tuple(State(name, name, draft.source.constants[name]) for name in names)
    sums: list[State] = []
    for name in names:
        begin = draft.given(replace(draft.source.tensors[name], name=f"{name}_sum"))
        end = draft.add(Binary("add"), (begin, gradients[name]), f"{begin}_next", ())
        sums.append(State(begin, end, np.zeros_like(draft.source.constants[name])))
    return (*read, *sums)


def _apply(graph: Graph, step: Graph, sums: dict[str, str], options: TrainOptions) -> Graph:
    """A step by the sums of gradients, which are 0 afterwards; its constants have names that no step has."""
    nothing = replace(graph, nodes=(), outputs=(), inputs=(), origins={}, states=())
    draft = Draft(replace(nothing, tensors=step.tensors | graph.tensors))
    rate = _rate(draft)
    states = list(Optimizer(draft, options, rate.tensor).states(tuple(sums), sums))
    for name, begin in sums.items():
        shape = draft.tensors[begin].shape
        none = draft.constant(np.zeros((1,) * len(shape), np.float32), "none")
        end = draft.add(Expand(shape), (none,), f"{begin}_next", ())
        states.append(State(begin, end, np.zeros_like(graph.constants[name])))
    return _finished(draft, [rate], [], states)


def _finished(draft: Draft, inputs: list[Port], outputs: list[Port], states: Iterable[State]) -> Graph:
    """The draft's graph with ports and states of its own; parameters are no constants."""
    ports = replace(draft.source, inputs=tuple(inputs), outputs=tuple(outputs), states=tuple(states))
    graph = draft.graph(ports)
    given = {state.begin for state in graph.states}
    return replace(graph, constants={k: data for k, data in graph.constants.items() if k not in given})
