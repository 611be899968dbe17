# SPDX-License-Identifier: Apache-2.0
"""Losses: what the caller labels a sample with, the loss, and the gradient that training begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from mmcc.errors import CompileError, Exit
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.ops.elementwise import Binary
from mmcc.ops.loss import CrossEntropy, CrossEntropyGradient, label_shape
from mmcc.ops.movement import Reshape
from mmcc.ops.reduce import Reduce
from mmcc.ops.softmax import Softmax
from mmcc.passes.draft import Draft

LABEL, LOSS = "label_0", "loss"  # what C calls them


@dataclass(frozen=True, slots=True)
class Loss:
    """The label's port, the loss (a tensor [1]), and the gradient of the tensor `of` that it is made from."""

    label: Port
    loss: str
    of: str
    gradient: str


def add_loss(draft: Draft, kind: str) -> Loss:
    """Write a loss of the graph's one output, and its gradient, into a draft.

    CompileError MM118 if the graph has several outputs, or one that is not float32.
    """
    outputs = draft.source.outputs
    if len(outputs) != 1 or not draft.source.tensors[outputs[0].tensor].dtype.is_float:
        what = f"{len(outputs)} outputs" if len(outputs) > 1 else "an integer output"
        raise CompileError(
            "MM118",
            f"a loss is computed from one output of floats, and the model has {what}",
            exit=Exit.USAGE,
            hint="cutting off the model behind the output to be trained",
        )
    dtype = draft.source.tensors[outputs[0].tensor].dtype
    if dtype != ElementType.F32:
        raise CompileError(
            "MM118",
            f"a loss is computed from an output in f32, and the model's is in {dtype}",
            exit=Exit.USAGE,
            hint="the model in float32 that it was converted from",
        )
    return _cross_entropy(draft) if kind == "softmax-cross-entropy" else _squares(draft)


def input_tensor(draft: Draft, tensor: Tensor, port: Port) -> Port:
    """A new input of a draft, as C calls it; its tensor gets a name that nobody has."""
    return replace(port, tensor=draft.given(tensor))


def plain_port(tensor: Tensor, called: str, *, argument: bool = False) -> Port:
    """An input or output that the model does not have."""
    axes = tuple(range(len(tensor.shape)))
    return Port(tensor.name, called, tensor.shape, tensor.dtype, axes, called=called, argument=argument)


def _where(graph: Graph, name: str):
    return graph.producer[name].where if name in graph.producer else ()


def _cross_entropy(draft: Draft) -> Loss:
    """Of the softmax of the output, or of the output if that is a softmax already."""
    graph = draft.source
    of = graph.outputs[0].tensor
    last = graph.producer.get(of)
    if last is not None and isinstance(last.op, Softmax):
        of = last.inputs[0]
    tensor = Tensor(LABEL, label_shape(graph.tensors[of].shape), ElementType.I32)
    label = input_tensor(draft, tensor, plain_port(tensor, LABEL))
    where = _where(graph, of)
    gradient = draft.add(CrossEntropyGradient(), (of, label.tensor), "loss_gradient", where)
    return Loss(label, draft.add(CrossEntropy(), (of, label.tensor), LOSS, where), of, gradient)


def _squares(draft: Draft) -> Loss:
    """The mean of (output - label)²."""
    graph, port = draft.source, draft.source.outputs[0]
    tensor, where = graph.tensors[port.tensor], _where(graph, port.tensor)
    target = replace(tensor, name=LABEL, quant=None)
    label = input_tensor(draft, target, replace(port, onnx_name=LABEL, called=LABEL))
    count = prod(tensor.shape)
    apart = draft.add(Binary("sub"), (port.tensor, label.tensor), "apart", where)
    factor = draft.constant(np.array([2 / count], np.float32), "factor")
    gradient = draft.add(Binary("mul"), (apart, factor), "loss_gradient", where)
    axes = tuple(range(len(tensor.shape)))
    total = draft.add(Reduce("sum_square", axes), (apart,), "squares", where) if axes else apart
    share = draft.constant(np.array([1 / count], np.float32), "factor")
    mean = draft.add(Binary("mul"), (total, share), "mean_squares", where)
    loss = draft.add(Reshape((1,)), (mean,), LOSS, where) if draft.tensors[mean].shape != (1,) else mean
    return Loss(label, loss, port.tensor, gradient)
