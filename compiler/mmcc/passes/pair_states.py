# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs that are one value from run to run become states: the caller sees neither any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmcc.errors import CompileError, Exit, did_you_mean, printable
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.ports import Port
from mmcc.ir.state import State
from mmcc.ir.types import Quant, Tensor
from mmcc.ops.elementwise_int8 import Lookup
from mmcc.ops.movement import Reshape, Transpose


def pair_states(graph: Graph, pairs: Mapping[str, str], initial: Mapping[str, ArrayLike]) -> Graph:
    """Pair inputs with outputs, by their names in the model; `initial` has arrays by input, else it is 0.

    CompileError MM113 for names that are no input's or output's, and for two that cannot be one value.
    """
    inputs = {port.onnx_name: port for port in graph.inputs}
    outputs = {port.onnx_name: port for port in graph.outputs}
    for name in initial:
        _known(name, pairs, "paired input")
    for begin, end in pairs.items():
        _known(begin, inputs, "input")
        _known(end, outputs, "output")
    if len(set(pairs.values())) < len(pairs):
        raise _cannot("one output is paired with two inputs", "an output for each input")
    states: list[State] = []
    for begin, end in pairs.items():
        graph, state = _paired(graph, inputs[begin], outputs[end], initial.get(begin))
        states.append(state)
        graph = replace(graph, origins=graph.origins | {state.begin: inputs[begin]})
    return replace(
        graph,
        inputs=tuple(port for port in graph.inputs if port.onnx_name not in pairs),
        outputs=tuple(port for port in graph.outputs if port.onnx_name not in pairs.values()),
        states=(*graph.states, *states),
    )


def _initial(port: Port, tensor: Tensor, given: ArrayLike | None) -> NDArray[Any]:
    """What a state begins with, as the model has it."""
    dtype = port.model_dtype
    if given is None:
        return np.zeros(port.onnx_shape, dtype)
    array = np.asarray(given)
    if (
        array.shape != port.onnx_shape
        or array.dtype.kind not in "fiub"
        or not np.can_cast(array.dtype, dtype, "same_kind")
    ):
        what = f'"{printable(port.onnx_name)}" begins with {array.dtype}{list(array.shape)}'
        shown = f"{dtype} {list(port.onnx_shape)}"
        raise _cannot(what, f"an array of {shown}, as the model's input of {tensor.dtype.name}")
    return array.astype(dtype)


def _paired(graph: Graph, into: Port, out: Port, given: ArrayLike | None) -> tuple[Graph, State]:
    begin, end = graph.tensors[into.tensor], graph.tensors[out.tensor]
    named = f'"{printable(into.onnx_name, 60)}" and "{printable(out.onnx_name, 60)}"'
    if into.onnx_shape != out.onnx_shape or into.model_dtype != out.model_dtype:
        what = f"{into.model_type} {list(into.onnx_shape)} and {out.model_type} {list(out.onnx_shape)}"
        raise _cannot(f"{named} are {what}", "an input and an output of one shape and type")
    if begin.dtype is not end.dtype or (into.quant is None) != (out.quant is None):
        raise _cannot(f"of {named} only one is quantized", "--float-io, which keeps the state in float")
    graph, name = _in_layout(graph, into, out)
    if into.quant is not None and out.quant is not None and into.quant != out.quant:
        graph, name = _scaled(graph, name, out.quant, into.quant)
    first = _initial(into, begin, given)
    return graph, State(begin.name, name, into.to_c(first, begin))


def _scaled(graph: Graph, name: str, have: Quant, want: Quant) -> tuple[Graph, str]:
    """The tensor in other steps, as if the caller went by way of floats: a table of all 256 values."""
    floats = (np.arange(-128, 128) - have.zero_point).astype(np.float32) * np.float32(have.scale)
    steps = np.rint(floats / np.float32(want.scale)) + want.zero_point
    table = f"{name}.steps"
    while table in graph.tensors:
        table += "_"
    data = np.clip(steps, -128, 127).astype(np.int8)
    tensors = graph.tensors | {table: Tensor(table, data.shape, ElementType.I8)}
    graph = replace(graph, tensors=tensors, constants={**graph.constants, table: data})
    return _with(graph, Lookup(), name, table, quant=want)


def _in_layout(graph: Graph, into: Port, out: Port) -> tuple[Graph, str]:
    """The tensor of the output with its axes where the input has them."""
    begin, end = graph.tensors[into.tensor], graph.tensors[out.tensor]
    have, want = _order(out), _order(into)
    name = end.name
    if have != want:
        shape = tuple(out.onnx_shape[k] for k in have)
        if shape != end.shape:
            graph, name = _with(graph, Reshape(shape), name)
        graph, name = _with(graph, Transpose(tuple(have.index(k) for k in want)), name)
    if graph.tensors[name].shape != begin.shape:
        graph, name = _with(graph, Reshape(begin.shape), name)
    return graph, name


def _order(port: Port) -> list[int]:
    """ONNX's axes of more than one element, in the order in which the tensor has them."""
    solid = [k for k, extent in enumerate(port.onnx_shape) if extent != 1]
    return sorted(solid, key=lambda k: port.axes[k] or 0)


def _with(graph: Graph, op: Op, name: str, *constants: str, quant: Quant | None = None) -> tuple[Graph, str]:
    """The graph with an op applied to a tensor, and the name of its result."""
    source = graph.tensors[name]
    made = f"{name}.state"
    while made in graph.tensors:
        made += "_"
    ((shape, dtype),) = op.results(source, *(graph.tensors[constant] for constant in constants))
    tensor = Tensor(made, shape, dtype, quant or source.quant)
    where = graph.producer[name].where if name in graph.producer else ()
    node = Node(op, (name, *constants), (made,), where)
    return replace(graph, tensors=graph.tensors | {made: tensor}, nodes=(*graph.nodes, node)), made


def _known(name: str, names: Collection[str], what: str) -> None:
    if name not in names:
        guess = did_you_mean(name, names)
        shown = ", ".join(printable(known, 60) for known in list(names)[:20])
        raise _cannot(f'the model has no {what} "{printable(name)}"', f"{guess}one of: {shown}")


def _cannot(what: str, hint: str) -> CompileError:
    return CompileError("MM113", f"--state: {what}", exit=Exit.USAGE, hint=hint)
