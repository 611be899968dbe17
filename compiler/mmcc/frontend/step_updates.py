# SPDX-License-Identifier: Apache-2.0
"""What an imported step of training does with the gradient of each parameter.

A form that is taken has one meaning here: a rate that is one number above 0, moments that are inputs (or
begin with zeros), and a new value of the parameter that nothing works on further. What differs is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from onnx import NodeProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.problems import located, unsupported
from mmcc.frontend.schema import domain_of
from mmcc.frontend.step_graph import StepGraph, attributes_of
from mmcc.frontend.training_steps import HINT, PREVIEW, is_optimizer, writer_of

ACCUMULATORS = ("InPlaceAccumulatorV2", "InPlaceAccumulator")
MOMENTUM = ("alpha", "beta", "mode", "norm_coefficient")
ADAM = ("alpha", "beta", "epsilon", "norm_coefficient", "norm_coefficient_post")


@dataclass(frozen=True, slots=True)
class Update:
    """One parameter's, at a node. The rate is a number of the file's, or its input `rate_input`."""

    parameter: str
    gradient: str
    optimizer: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    rate: float | None = None
    rate_input: str = ""


def updates(graph: StepGraph, loss: str) -> list[Update]:
    """Of each parameter, what is done with its gradient; CompileError MM202 where that is not known."""
    symbolic = _symbolic(graph, loss)
    found = [update for where, node in graph.source.nodes for update in _of(graph, where, node)]
    for update in found:
        if symbolic and symbolic.get(update.gradient) != update.parameter:
            raise unsupported(f'the step of "{printable(update.parameter)}" is not by its Gradient', HINT)
    stepped = {update.gradient for update in found}
    left = {gradient: name for gradient, name in symbolic.items() if gradient not in stepped}
    found += [
        _descent(graph, name, gradient)
        for gradient, name in left.items()
        if not found or graph.readers(gradient)
    ]
    seen = set[str]()
    for update in found:
        if update.parameter not in graph.given:
            raise unsupported(f'"{printable(update.parameter)}" is updated and no parameter', HINT)
        if update.parameter in seen:
            raise unsupported(f'two steps of the parameter "{printable(update.parameter)}"', HINT)
        seen.add(update.parameter)
    return found


def _symbolic(graph: StepGraph, loss: str) -> dict[str, str]:
    """Parameters by gradient, of ONNX's Gradient.

    What it names is what the loss is a function of, all else being fixed: so that may be parameters and data,
    at the values that they have in the graph.
    """
    found = dict[str, str]()
    for where, node in graph.source.nodes:
        if node.op_type != "Gradient":
            continue
        attributes = attributes_of(node)
        xs, zs = ([name.decode() for name in attributes.get(key, [])] for key in ("xs", "zs"))
        if attributes.get("y", b"").decode() != loss or len(xs) != len(node.output):
            what = "a Gradient that is not that of the loss by some parameters"
            raise located(unsupported(what, HINT), where)
        if list(node.input) != [*xs, *zs] or not graph.given.issuperset(node.input):
            what = "a Gradient at other values than those of parameters and inputs of the graph"
            raise located(unsupported(what, HINT), where)
        found |= dict(zip(node.output, xs, strict=True))
    return found


def _of(graph: StepGraph, where: Where, node: NodeProto) -> list[Update]:
    if not writer_of(domain_of(node), node.op_type):
        return []
    inputs, attributes = list(node.input), attributes_of(node)
    try:
        if node.op_type == "SGD":
            found = [_sgd(inputs, attributes)]
        elif node.op_type in ACCUMULATORS:
            found = [Update(inputs[1].removesuffix("_grad"), inputs[1])]
        elif domain_of(node) == PREVIEW and node.op_type != "Gradient":
            found = _preview(graph, node, attributes)
        elif is_optimizer(node.op_type):
            raise unsupported(f"{node.op_type} as ONNX Runtime has it", HINT)
        else:
            return []
        _check_is_last(graph, node.output, node.op_type)
    except (KeyError, IndexError):
        raise located(unsupported(f"{node.op_type} without what it needs", HINT), where) from None
    except CompileError as error:
        raise located(error, where) from None
    return found


def _sgd(inputs: Sequence[str], attributes: Mapping[str, Any]) -> Update:
    """Deeploy's."""
    _check_only("SGD", attributes, ("lr",))
    if len(inputs) != 2:
        raise unsupported(f"SGD of {len(inputs)} operands, not a parameter and its gradient,", HINT)
    return Update(inputs[0], inputs[1], "sgd", rate=_positive(float(attributes["lr"])))


def _preview(graph: StepGraph, node: NodeProto, attributes: Mapping[str, Any]) -> list[Update]:
    """Adam and Momentum: rate, count of steps, then X and G of each parameter, and what is kept of them."""
    rate, steps, *inputs = node.input
    each = {"Momentum": 3, "Adam": 4}.get(node.op_type, 0)
    if not each or len(inputs) % each or attributes.get("norm_coefficient_post"):
        raise unsupported(f"{node.op_type} as ONNX's preview of training has it", HINT)
    if attributes.get("norm_coefficient"):
        raise unsupported("an optimizer that adds a norm to gradients", HINT)
    count = len(inputs) // each
    _check_kept(graph, inputs[2 * count :])
    if node.op_type == "Momentum":
        _check_only("Momentum", attributes, MOMENTUM)
        if attributes["mode"] != b"standard" or attributes["beta"] != 1:
            raise unsupported("Momentum that is not standard, or dampened (beta)", HINT)
        settings: tuple[tuple[str, Any], ...] = (("momentum", float(attributes["alpha"])),)
    else:
        _check_only("Adam", attributes, ADAM)
        if not graph.input_of_one(steps):
            what = f'Adam whose count of steps, "{printable(steps)}", is no input of one number'
            raise unsupported(what, HINT)
        betas = float(attributes.get("alpha", 0.9)), float(attributes.get("beta", 0.999))
        epsilon = float(attributes.get("epsilon", 1e-6))
        settings = (("betas", betas), ("epsilon", epsilon), ("early_epsilon", True))
    how = node.op_type.lower(), settings, *_rate(graph, rate)
    return [Update(x, g, *how) for x, g in zip(inputs[:count], inputs[count : 2 * count], strict=True)]


def _check_kept(graph: StepGraph, names: Sequence[str]) -> None:
    """Moments begin with 0 in mmcc's steps. A file's are inputs, or zeros, and each is one parameter's."""
    for name in names:
        if name not in graph.inputs and not graph.is_zero(name):
            what = f'an optimizer whose moment "{printable(name)}" is no input and not 0'
            raise unsupported(what, HINT)
    if len(set(names)) < len(names):
        raise unsupported("an optimizer in which parameters share a moment", HINT)


def _descent(graph: StepGraph, name: str, gradient: str) -> Update:
    """X - R * G, or a gradient that is an output and nothing else."""
    readers = graph.readers(gradient)
    if not readers:
        return Update(name, gradient)
    (first, *more) = readers
    after = graph.readers(first.output[0]) if first.op_type == "Mul" else []
    if (
        more
        or len(after) != 1
        or after[0].op_type != "Sub"
        or list(after[0].input) != [name, first.output[0]]
    ):
        raise unsupported(f'what is made of the gradient of "{printable(name)}"', HINT)
    a, b = first.input
    _check_is_last(graph, after[0].output, "Sub")
    return Update(name, gradient, "sgd", (), *_rate(graph, b if a == gradient else a))


def _rate(graph: StepGraph, name: str) -> tuple[float | None, str]:
    """The rate as a number of the file, or as an input, which `train_step` has as an argument."""
    number = graph.number(name)
    if number is not None:
        return _positive(number), ""
    given = graph.input_of_one(name)
    if not given:
        what = f'a rate, "{printable(name)}", that is neither a number nor an input of one number'
        raise unsupported(what, HINT)
    return None, given


def _positive(rate: float) -> float:
    if not 0 < rate < inf:
        raise unsupported(f"a rate of {rate:g}, which is not above 0,", HINT)
    return rate


def _check_only(op: str, attributes: Mapping[str, Any], known: Collection[str]) -> None:
    others = ", ".join(printable(name, 40) for name in attributes if name not in known)
    if others:
        raise unsupported(f"{op} with {others}", HINT)


def _check_is_last(graph: StepGraph, outputs: Sequence[str], op: str) -> None:
    """Nothing works on what a step leaves: a parameter that is clipped, say, would be another one."""
    for name in filter(None, outputs):
        for reader in graph.readers(name):
            if reader.op_type != "Identity":
                what = f'{printable(reader.op_type)} behind "{printable(name)}", which {op} leaves,'
                raise unsupported(what, HINT)
            _check_is_last(graph, reader.output, op)
