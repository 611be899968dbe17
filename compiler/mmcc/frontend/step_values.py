# SPDX-License-Identifier: Apache-2.0
"""What an imported step of training itself computes as its gradients, for one sample, in numpy.

ONNX's operators are those of its reference evaluator. Operators of backward parts have their meaning here, as
ONNX Runtime has it (orttraining/core/graph/training_op_defs.cc); a graph with others cannot be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.imported_step import CROSS_ENTROPY, TrainingStep
from mmcc.frontend.load import Source
from mmcc.frontend.problems import located, unsupported
from mmcc.frontend.schema import domain_of
from mmcc.frontend.tensors import to_array
from mmcc.frontend.training_steps import HINT, writer_of

Array = NDArray[Any]
Values = dict[str, Array]
Meaning = Callable[[NodeProto, list[Array], dict[str, Any]], tuple[Array, ...]]


def step_gradients(source: Source, step: TrainingStep, given: Mapping[str, Array]) -> Values:
    """By parameter, the gradients that the graph computes; `given` are its inputs that they need, by name.

    CompileError MM202 for an operator of a backward part whose meaning is not known.
    """
    values: Values = {**given}
    values |= {name: to_array(tensor, source.folder) for name, tensor in source.initializers.items()}
    wanted, needed = set(step.gradients.values()), list[tuple[Where, NodeProto]]()
    for where, node in reversed(source.nodes):
        if wanted.intersection(node.output):
            needed.append((where, node))
            wanted.update(filter(None, node.input))
    pooled: Values = {}  # by mask: what the pool read
    for where, node in reversed(needed):
        try:
            inputs = [values[name] if name else np.zeros(0) for name in node.input]
            if node.op_type == "MaxPool" and len(node.output) > 1:
                pooled[node.output[1]] = inputs[0]
            if node.op_type == "MaxPoolGrad":
                inputs.append(pooled[node.input[1]])
            with np.errstate(all="ignore"):
                made = _results(source, where, node, inputs)
        except CompileError:
            raise
        except Exception as error:  # of numpy's or the reference evaluator's: whatever the file provokes
            what = f"{printable(node.op_type)} in a step of training cannot be computed for one sample"
            raise located(unsupported(what, HINT), where) from error
        values |= {name: array for name, array in zip(node.output, made, strict=False) if name}
    missing = [gradient for gradient in step.gradients.values() if gradient not in values]
    if missing:
        raise unsupported(f'the gradient "{printable(missing[0], 60)}", which nothing computes,', HINT)
    return {name: values[gradient] for name, gradient in step.gradients.items()}


def initial_values(source: Source, step: TrainingStep) -> Values:
    """The parameters whose values are in the file, by name."""
    stored = {name: source.initializers[name] for name in step.gradients if name in source.initializers}
    return {name: to_array(tensor, source.folder) for name, tensor in stored.items()}


def _results(source: Source, where: Where, node: NodeProto, inputs: list[Array]) -> tuple[Array, ...]:
    from onnx.reference import ReferenceEvaluator  # takes 0.1 s, which only such files are to cost

    known = MEANINGS.get(node.op_type)
    if known is not None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return known(node, inputs, attributes)
    if writer_of(domain_of(node), node.op_type) or domain_of(node) not in ("", "ai.onnx"):
        what = f"{printable(node.op_type)}, of which mmcc does not know what it should compute,"
        raise located(unsupported(f"{what} in a step of training", HINT), where)
    plain = NodeProto()
    plain.CopyFrom(node)
    names = [name for name in dict.fromkeys(node.input) if name]
    arrays = dict(zip(node.input, inputs, strict=True))
    ports = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(arrays[name].dtype), arrays[name].shape
        )
        for name in names
    ]
    outputs = [helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
    graph = helper.make_graph([plain], "node", ports, outputs)
    opset = helper.make_opsetid("", max(source.opsets[""], 1))
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[opset], ir_version=8))
    found = evaluator.run(None, {name: arrays[name] for name in names})
    return tuple(np.asarray(array) for array in found)


def _cross_entropy(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Scores [N, C], labels [N]: the mean loss, and the logarithms of the softmax."""
    scores, labels = x[:2]
    apart = scores - scores.max(axis=1, keepdims=True)
    logs = apart - np.log(np.exp(apart).sum(axis=1, keepdims=True))
    picked = np.take_along_axis(logs, np.expand_dims(labels, 1).astype(np.int64), 1)
    return np.asarray(-picked.mean(), scores.dtype), logs.astype(scores.dtype)


def _cross_entropy_gradient(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    g, logs, labels = x[:3]
    hot = np.zeros_like(logs)
    np.put_along_axis(hot, np.expand_dims(labels, 1).astype(np.int64), 1, 1)
    return ((g * (np.exp(logs) - hot) / labels.size).astype(logs.dtype),)


def _max_pool(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """The mask holds indices into the pool's flat input."""
    g, mask, pooled = x
    found = np.zeros(pooled.size, g.dtype)
    np.add.at(found, mask.reshape(-1), g.reshape(-1))
    return (found.reshape(pooled.shape),)


def _softmax(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    g, y = x
    axis = attributes.get("axis", -1)
    return (y * (g - (g * y).sum(axis=axis, keepdims=True)),)


def _log_softmax(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    g, y = x
    return (g - np.exp(y) * g.sum(axis=attributes.get("axis", -1), keepdims=True),)


def _convolution(node: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Gradients of x [N, C, ...], w [M, C / group, ...] and the bias, tap by tap, for any count of axes."""
    g, x, w = operands
    rank, groups = x.ndim - 2, attributes.get("group", 1)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * 2 * rank)
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise unsupported(f"{printable(node.op_type)} with auto_pad", HINT)
    wide = np.pad(x, [(0, 0), (0, 0), *((pads[k], pads[k + rank]) for k in range(rank))])
    dx, dw = np.zeros_like(wide), np.zeros_like(w)
    ins, outs = x.shape[1] // groups, w.shape[0] // groups
    parts = [(slice(k * ins, k * ins + ins), slice(k * outs, k * outs + outs)) for k in range(groups)]
    flat = _flat(g)
    for tap in product(*(range(n) for n in w.shape[2:])):
        at = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, s, n in zip(tap, dilations, strides, g.shape[2:], strict=True)
        )
        for read, made in parts:
            seen = wide[(slice(None), read, *at)]
            weights = w[(made, slice(None), *tap)]
            dw[(made, slice(None), *tap)] = np.einsum("nmi,nci->mc", flat[:, made], _flat(seen))
            dx[(slice(None), read, *at)] += np.einsum("nm...,mc->nc...", g[:, made], weights)
    inside = tuple(slice(pads[k], pads[k] + x.shape[2 + k]) for k in range(rank))
    return dx[(slice(None), slice(None), *inside)], dw, g.sum(axis=(0, *range(2, g.ndim)))


def _flat(array: Array) -> Array:
    """[N, C, ...] as [N, C, elements]."""
    return array.reshape(*array.shape[:2], -1)


def _normalized(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Gradients of x, scale and bias of LayerNormalization, from mean and 1 / deviation."""
    g, x, scale, mean, factor = operands
    axis = attributes.get("axis", -1) % x.ndim
    axes, before = tuple(range(axis, x.ndim)), tuple(range(axis))
    normal, scaled = (x - mean) * factor, g * scale
    middle = scaled.mean(axis=axes, keepdims=True) + normal * (scaled * normal).mean(axis=axes, keepdims=True)
    return factor * (scaled - middle), (g * normal).sum(axis=before), g.sum(axis=before)


def _scale(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    factor = x[1].astype(x[0].dtype)
    return (x[0] / factor if attributes.get("scale_down") else x[0] * factor,)


MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys(CROSS_ENTROPY, _cross_entropy),
    "SoftmaxCrossEntropyLossGrad": _cross_entropy_gradient,
    "SoftmaxCrossEntropyLossInternalGrad": _cross_entropy_gradient,
    "ReluGrad": lambda _, x, a: (x[0] * (x[1] > 0),),
    "SigmoidGrad": lambda _, x, a: (x[0] * x[1] * (1 - x[1]),),
    "TanhGrad": lambda _, x, a: (x[0] * (1 - x[1] * x[1]),),
    "LeakyReluGrad": lambda _, x, a: (np.where(x[1] > 0, x[0], a.get("alpha", 0.01) * x[0]),),
    "MaxPoolGrad": _max_pool,
    "SoftmaxGrad": _softmax,
    "SoftmaxGrad_13": _softmax,
    "LogSoftmaxGrad": _log_softmax,
    "LogSoftmaxGrad_13": _log_softmax,
    "ConvGrad": _convolution,
    "LayerNormalizationGrad": _normalized,
    "Scale": _scale,
}
