# SPDX-License-Identifier: Apache-2.0
"""Values that a loop hands from step to step, and that are known for all steps before the first: counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper

from mmcc.errors import CompileError
from mmcc.frontend.convert import Import
from mmcc.frontend.tensors import to_array
from mmcc.frontend.value import Value


def counted_values(
    state: Import, body: GraphProto, carried: Mapping[str, Value], steps: int
) -> dict[str, NDArray[Any]]:
    """Of the carried values of a Loop, those to which each step adds a constant: before each step, and after
    the last."""
    makers = {name: node for node in body.node for name in node.output}
    constants = {tensor.name: tensor for tensor in body.initializer}
    own = own_names(body) - {*constants}
    found: dict[str, NDArray[Any]] = {}
    for k, (name, first) in enumerate(carried.items()):
        made = body.output[1 + k].name
        for _ in makers:  # names may lead in a circle: nobody has looked at the body yet
            if made not in makers or makers[made].op_type != "Identity":
                break
            made = makers[made].input[0]
        node = makers.get(made)
        if node is None or node.op_type != "Add" or name not in node.input or len(node.input) != 2:
            continue
        other = node.input[1 - list(node.input).index(name)]
        more = None if other in own else _whole_number(state, other, constants)
        known = state.build.is_constant(first.tensor) and first.size == 1 and not first.dtype.is_float
        if more is None or not known:
            continue
        begin = state.build.array(first)
        numbers = np.arange(steps + 1).reshape(-1, *(1,) * begin.ndim) * more + begin
        found[name] = numbers.astype(begin.dtype)
    return found


def own_names(body: GraphProto) -> set[str]:
    """The names that a body gives to values of its own; values around it may have the same."""
    inputs = {info.name for info in body.input} | {tensor.name for tensor in body.initializer}
    return inputs | {name for node in body.node for name in node.output}


def _whole_number(state: Import, name: str, constants: Mapping[str, TensorProto]) -> int | None:
    """The one element of a constant that a body has or sees, if it is a whole number."""
    if name in constants:
        try:
            array = to_array(constants[name], state.source.folder)
        except CompileError:  # told when the body is converted
            return None
    else:
        value = state.values.get(name)
        if value is None or not state.build.is_constant(value.tensor):
            return None
        array = state.build.array(value)
    return int(array) if array.shape == () and array.dtype.kind == "i" else None


def without_results(body: GraphProto, left_out: Collection[int]) -> GraphProto:
    """The body without the results of these numbers."""
    outputs = [info for k, info in enumerate(body.output) if k not in left_out]
    return helper.make_graph(list(body.node), "", [], outputs, list(body.initializer))
