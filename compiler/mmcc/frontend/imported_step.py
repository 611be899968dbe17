# SPDX-License-Identifier: Apache-2.0
"""Graphs that are steps of training already: their model for inference, loss, parameters and optimizer.

Known forms: training models of ONNX Runtime's artifacts (gradients go to accumulators), ONNX's preview of
training (Gradient, and Adam, Momentum, or X - R * G behind it), and Deeploy's (SGD with its learning rate as
attribute; `step_updates.py`). A loss is a SoftmaxCrossEntropyLoss, or the mean of squared differences. Of the
backward part only names are taken: it must be linear in the loss's gradient (`step_backward.py`), and what it
computes is compared with mmcc's own gradients (`step_values.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from onnx import NodeProto, TensorProto, helper

from mmcc.errors import Where, printable
from mmcc.frontend.load import Source
from mmcc.frontend.problems import located, unsupported
from mmcc.frontend.schema import domain_of
from mmcc.frontend.step_backward import check_backward
from mmcc.frontend.step_graph import StepGraph, attributes_of
from mmcc.frontend.step_updates import updates
from mmcc.frontend.training_steps import HINT, writer_of

CROSS_ENTROPY = ("SoftmaxCrossEntropyLoss", "SoftmaxCrossEntropyLossInternal")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What a step of training does, by names of the file's values.

    `gradients` are by parameter. `optimizer` is one of `mmcc train`'s, or "" where the graph has none, with
    its `settings` (fields of TrainOptions), and `rate`, if that is in the graph. `symbolic` is true where the
    gradients are those of the loss by definition (ONNX's Gradient). `inputs` are parameters without values.
    """

    writer: str
    loss: str
    value: str  # of the loss
    scores: str
    label: str
    gradients: Mapping[str, str]
    optimizer: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rate: float | None = None
    symbolic: bool = False
    inputs: tuple[str, ...] = ()


def training_step(source: Source) -> TrainingStep | None:
    """What the graph is a step of; None if it has no operator of such graphs, or is not well formed.

    CompileError MM202 for a form that is not known.
    """
    if source.problems:
        return None
    try:
        return _recognized(source)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = "a step of training whose operators have not the operands and attributes that they need"
        raise unsupported(what, HINT) from error


def _recognized(source: Source) -> TrainingStep | None:
    whose = [writer_of(domain_of(node), node.op_type) for _, node in source.nodes]
    writers = list(dict.fromkeys(filter(None, whose)))
    if not writers:
        return None
    graph = StepGraph(source)
    loss = _loss(graph)
    found = updates(graph, loss.node.output[0])
    if not found:
        raise unsupported("a step of training in which no parameter is updated or has a gradient", HINT)
    first = found[0]
    for update in found:
        if replace(update, parameter="", gradient="") != replace(first, parameter="", gradient=""):
            what = f'"{printable(first.parameter)}" and "{printable(update.parameter)}" make different steps'
            raise unsupported(f"parameters {what}", HINT)
    gradients = {update.parameter: update.gradient for update in found}
    symbolic = any(node.op_type == "Gradient" for _, node in source.nodes)
    if not symbolic:
        check_backward(source, loss.kind, loss.node, (loss.scores, loss.label), gradients)
    return TrainingStep(
        next((writer for writer in writers if "Runtime" in writer), writers[0]),
        loss.kind,
        loss.node.output[0],
        loss.scores,
        loss.label,
        gradients,
        first.optimizer,
        dict(first.settings),
        first.rate,
        symbolic,
        tuple(info.name for info in source.inputs if info.name in gradients),
    )


def inference_part(source: Source, step: TrainingStep) -> Source:
    """The graph that makes the scores, which are its output."""
    needed, kept = {step.scores}, list[tuple[Where, NodeProto]]()
    for where, node in reversed(source.nodes):
        if needed.intersection(node.output):
            kept.append((where, node))
            needed.update(filter(None, node.input))
    nodes = tuple((where, _without_unread(node, needed)) for where, node in reversed(kept))
    output = source.stated.get(step.scores)
    if output is None:
        output = helper.make_tensor_value_info(step.scores, TensorProto.FLOAT, None)
    inputs = tuple(info for info in source.inputs if info.name in needed)
    return replace(source, nodes=nodes, inputs=inputs, outputs=(output,))


def _without_unread(node: NodeProto, needed: set[str]) -> NodeProto:
    """The node without results that only the backward part reads, as the mask of a pool: a ConcatTraining is
    a Concat then."""
    read = [name if name in needed else "" for name in node.output]
    while read and not read[-1]:
        read.pop()
    found = NodeProto()
    found.CopyFrom(node)
    if node.op_type == "ConcatTraining" and len(read) == 1:
        found.op_type, found.domain = "Concat", ""
    del found.output[:]
    found.output.extend(read)
    return found


class _Loss(NamedTuple):
    """What a step of training makes less, and the node that makes it."""

    kind: str
    node: NodeProto
    scores: str
    label: str


def _loss(graph: StepGraph) -> _Loss:
    """The one loss of the graph; its label must be an input, which `train_step` is given."""
    found = [(where, node) for where, node in graph.source.nodes if node.op_type in CROSS_ENTROPY]
    if len(found) == 1:
        loss = _cross_entropy(*found[0])
    else:
        means = [] if found else [node for _, node in graph.source.nodes if node.op_type == "ReduceMean"]
        squares = [_Loss("mse", node, *pair) for node in means if (pair := _squared(graph, node)) is not None]
        if len(squares) != 1:
            known = "SoftmaxCrossEntropyLoss, or the mean of squares"
            raise unsupported(f"a step of training without one loss that is known: {known}", HINT)
        (loss,) = squares
    if loss.label not in graph.inputs:
        raise unsupported(f'a loss whose label, "{printable(loss.label)}", is no input', HINT)
    return loss


def _cross_entropy(where: Where, node: NodeProto) -> _Loss:
    attributes = attributes_of(node)
    if attributes.get("reduction", b"mean") != b"mean" or "ignore_index" in attributes:
        what = "a SoftmaxCrossEntropyLoss with ignore_index, or that is not the mean"
        raise located(unsupported(what, HINT), where)
    if any(node.input[2:]):
        what = "a SoftmaxCrossEntropyLoss with weights or ignored classes"
        raise located(unsupported(what, HINT), where)
    return _Loss("softmax-cross-entropy", node, node.input[0], node.input[1])


def _squared(graph: StepGraph, mean: NodeProto) -> tuple[str, str] | None:
    """Scores and label, of a mean over all squares of their differences."""
    if attributes_of(mean).get("axes") or len(mean.input) > 1:
        return None
    _, square = graph.made.get(mean.input[0], (None, None))
    if square is None or square.op_type not in ("Pow", "Mul") or len(square.input) != 2:
        return None
    base, other = square.input
    twice = square.op_type == "Mul" and base == other
    if not twice and (square.op_type != "Pow" or graph.number(other) != 2):
        return None
    _, apart = graph.made.get(base, (None, None))
    if apart is None or apart.op_type != "Sub":
        return None
    pair = sorted(apart.input, key=lambda name: name in graph.given)
    return (pair[0], pair[1]) if pair[1] in graph.given and pair[0] not in graph.given else None
