# SPDX-License-Identifier: Apache-2.0
"""What an imported step of training itself computes as its gradients, for one sample, in numpy.

ONNX's operators are those of its reference evaluator; what others mean, `step_operators.py` says. A graph
with any that are not there cannot be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.imported_step import TrainingStep
from mmcc.frontend.load import Source
from mmcc.frontend.problems import located, unsupported
from mmcc.frontend.schema import domain_of
from mmcc.frontend.step_graph import unknown_operator
from mmcc.frontend.step_operators import meaning_of
from mmcc.frontend.tensors import to_array
from mmcc.frontend.training_steps import HINT, writer_of

Array = NDArray[Any]
Values = dict[str, Array]


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
            if node.op_type == "AveragePoolGrad":
                inputs.append(_stated_shape(source, where, node))
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


def _stated_shape(source: Source, where: Where, node: NodeProto) -> Array:
    """The shape that the file states for what a node makes."""
    stated = source.stated.get(node.output[0])
    if stated is None or not stated.type.tensor_type.HasField("shape"):
        what = f"{printable(node.op_type)}, for whose result the file states no shape,"
        raise located(unsupported(what, HINT), where)
    return np.array([dim.dim_value for dim in stated.type.tensor_type.shape.dim], np.int64)


def _results(source: Source, where: Where, node: NodeProto, inputs: list[Array]) -> tuple[Array, ...]:
    from onnx.reference import ReferenceEvaluator  # takes 0.1 s, which only such files are to cost

    known = meaning_of(node)
    if known is not None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return known(node, inputs, attributes)
    if writer_of(domain_of(node), node.op_type) or domain_of(node) not in ("", "ai.onnx"):
        raise located(unknown_operator(node.op_type), where)
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
