# SPDX-License-Identifier: Apache-2.0
"""Graphs that are steps of training already: their model for inference, loss, parameters and optimizer.

Known forms: training models of ONNX Runtime's artifacts (gradients go to accumulators), ONNX's preview of
training (Gradient, and Adam, Momentum, or X - R * G behind it), and Deeploy's (SGD with its learning rate as
attribute). A loss is a SoftmaxCrossEntropyLoss, or the mean of squared differences. Of the backward part only
names are taken: what it computes is compared with mmcc's own gradients (`step_values.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onnx import NodeProto, TensorProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.load import Source
from mmcc.frontend.problems import located, unsupported
from mmcc.frontend.schema import domain_of
from mmcc.frontend.tensors import to_array
from mmcc.frontend.training_steps import HINT, PREVIEW, writer_of

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


@dataclass(frozen=True, slots=True)
class _Update:
    """One parameter's, at a node."""

    parameter: str
    gradient: str
    optimizer: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    rate: float | None = None


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
    form = _Form(source)
    value, loss, scores, label = form.loss()
    updates = list(form.updates(value))
    if not updates:
        raise unsupported("a step of training in which no parameter is updated or has a gradient", HINT)
    first = updates[0]
    for update in updates:
        if replace(update, parameter="", gradient="") != replace(first, parameter="", gradient=""):
            what = f'"{printable(first.parameter)}" and "{printable(update.parameter)}" make different steps'
            raise unsupported(f"parameters {what}", HINT)
    names = {update.parameter for update in updates}
    return TrainingStep(
        next((writer for writer in writers if "Runtime" in writer), writers[0]),
        loss,
        value,
        scores,
        label,
        {update.parameter: update.gradient for update in updates},
        first.optimizer,
        dict(first.settings),
        first.rate,
        form.symbolic,
        tuple(info.name for info in source.inputs if info.name in names),
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
    """The node without results that only the backward part reads, as the mask of a pool."""
    read = [name if name in needed else "" for name in node.output]
    while read and not read[-1]:
        read.pop()
    found = NodeProto()
    found.CopyFrom(node)
    del found.output[:]
    found.output.extend(read)
    return found


class _Form:
    """The parts of a step of training, found by its operators."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._made = {name: (where, node) for where, node in source.nodes for name in node.output if name}
        self._readers: dict[str, list[NodeProto]] = {}
        for _, node in source.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._given = {info.name for info in source.inputs} | source.initializers.keys()
        self._gradients = [node for _, node in source.nodes if node.op_type == "Gradient"]
        self.symbolic = bool(self._gradients)

    def loss(self) -> tuple[str, str, str, str]:
        """Its value, kind, scores and label."""
        found = [(where, node) for where, node in self._source.nodes if node.op_type in CROSS_ENTROPY]
        if len(found) == 1:
            where, node = found[0]
            attributes = _attributes(node)
            if attributes.get("reduction", b"mean") != b"mean" or "ignore_index" in attributes:
                what = "a SoftmaxCrossEntropyLoss with ignore_index, or that is not the mean"
                raise located(unsupported(what, HINT), where)
            if any(node.input[2:]):
                raise located(
                    unsupported("a SoftmaxCrossEntropyLoss with weights or ignored classes", HINT), where
                )
            return node.output[0], "softmax-cross-entropy", node.input[0], node.input[1]
        means = [] if found else [each for each in self._source.nodes if each[1].op_type == "ReduceMean"]
        squares = [(node, pair) for _, node in means if (pair := self._squared(node)) is not None]
        if len(squares) != 1:
            known = "SoftmaxCrossEntropyLoss, or the mean of squares"
            raise unsupported(f"a step of training without one loss that is known: {known}", HINT)
        node, (scores, label) = squares[0]
        return node.output[0], "mse", scores, label

    def _squared(self, mean: NodeProto) -> tuple[str, str] | None:
        """Scores and label, of a mean over all squares of their differences."""
        if _attributes(mean).get("axes") or len(mean.input) > 1:
            return None
        _, square = self._made.get(mean.input[0], (None, None))
        if square is None or square.op_type not in ("Pow", "Mul") or len(square.input) != 2:
            return None
        base, other = square.input
        twice = square.op_type == "Mul" and base == other
        if not twice and (square.op_type != "Pow" or self._number(other) != 2):
            return None
        _, apart = self._made.get(base, (None, None))
        if apart is None or apart.op_type != "Sub":
            return None
        pair = sorted(apart.input, key=lambda name: name in self._given)
        return (pair[0], pair[1]) if pair[1] in self._given and pair[0] not in self._given else None

    def _number(self, name: str) -> float | None:
        tensor = self._source.initializers.get(name)
        array = None if tensor is None else to_array(tensor, self._source.folder)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def updates(self, loss: str) -> Iterator[_Update]:
        """Of each parameter, what is done with its gradient."""
        symbolic = dict[str, str]()  # gradient: parameter
        for node in self._gradients:
            attributes = _attributes(node)
            xs = [name.decode() for name in attributes.get("xs", [])]
            if attributes.get("y", b"").decode() != loss or len(xs) != len(node.output):
                raise unsupported("a Gradient that is not that of the loss by some parameters", HINT)
            symbolic |= dict(zip(node.output, xs, strict=True))
        found = [update for where, node in self._source.nodes for update in self._of(where, node)]
        for update in found:
            if self.symbolic and symbolic.get(update.gradient) != update.parameter:
                what = f'the step of "{printable(update.parameter)}" is not by its Gradient'
                raise unsupported(what, HINT)
            if update.parameter not in self._given:
                raise unsupported(f'"{printable(update.parameter)}" is updated and no parameter', HINT)
        yield from found
        if not found:
            for gradient, name in symbolic.items():
                yield self._descent(name, gradient)

    def _of(self, where: Where, node: NodeProto) -> list[_Update]:
        if not writer_of(domain_of(node), node.op_type):
            return []
        inputs, attributes = list(node.input), _attributes(node)
        try:
            if node.op_type == "SGD":
                return [_Update(inputs[0], inputs[1], "sgd", rate=float(attributes["lr"]))]
            if node.op_type in ("InPlaceAccumulatorV2", "InPlaceAccumulator"):
                return [_Update(inputs[1].removesuffix("_grad"), inputs[1])]
            if domain_of(node) == PREVIEW and node.op_type != "Gradient":
                return self._preview(node, inputs[2:], attributes)
        except (KeyError, IndexError):
            raise located(unsupported(f"{node.op_type} without what it needs", HINT), where) from None
        except CompileError as error:
            raise located(error, where) from None
        return []

    def _preview(self, node: NodeProto, inputs: list[str], attributes: Mapping[str, Any]) -> list[_Update]:
        """Adam and Momentum: X and G of each parameter, and what is kept of them."""
        each = {"Momentum": 3, "Adam": 4}.get(node.op_type, 0)
        if not each or len(inputs) % each or attributes.get("norm_coefficient_post"):
            raise unsupported(f"{node.op_type} as ONNX's preview of training has it", HINT)
        if attributes.get("norm_coefficient"):
            raise unsupported("an optimizer that adds a norm to gradients", HINT)
        if node.op_type == "Momentum":
            if attributes["mode"] != b"standard" or attributes["beta"] != 1:
                raise unsupported("Momentum that is not standard, or dampened (beta)", HINT)
            settings: tuple[tuple[str, Any], ...] = (("momentum", float(attributes["alpha"])),)
        else:
            betas = float(attributes.get("alpha", 0.9)), float(attributes.get("beta", 0.999))
            settings = (
                ("betas", betas),
                ("epsilon", float(attributes.get("epsilon", 1e-6))),
                ("early_epsilon", True),
            )
        count = len(inputs) // each
        pairs = zip(inputs[:count], inputs[count : 2 * count], strict=True)
        return [_Update(x, g, node.op_type.lower(), settings) for x, g in pairs]

    def _descent(self, name: str, gradient: str) -> _Update:
        """X - R * G, or a gradient that is an output and nothing else."""
        readers = self._readers.get(gradient, [])
        if not readers:
            return _Update(name, gradient)
        (first, *more) = readers
        after = self._readers.get(first.output[0], []) if first.op_type == "Mul" else []
        if (
            more
            or len(after) != 1
            or after[0].op_type != "Sub"
            or list(after[0].input) != [name, first.output[0]]
        ):
            raise unsupported(f'what is made of the gradient of "{printable(name)}"', HINT)
        rate = next((self._number(other) for other in first.input if other != gradient), None)
        return _Update(name, gradient, "sgd", rate=rate)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
