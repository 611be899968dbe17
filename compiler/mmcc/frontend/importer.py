# SPDX-License-Identifier: Apache-2.0
"""Drive the import: inputs, then node by node, then outputs; unsupported things are reported together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto

from mmcc.errors import CompileError, Exit, Where, printable
from mmcc.frontend.bindings import bound_inputs
from mmcc.frontend.branches import is_branch, take_branch
from mmcc.frontend.broadcasting import unary
from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.constant_nodes import compute
from mmcc.frontend.convert import Import, add_constants, attempt
from mmcc.frontend.converters import catalog  # noqa: F401  # pyright: ignore[reportUnusedImport]
from mmcc.frontend.expansion import expand
from mmcc.frontend.imported_step import TrainingStep, inference_part
from mmcc.frontend.inlining import Convert
from mmcc.frontend.load import load
from mmcc.frontend.loops import is_loop, unroll
from mmcc.frontend.ports import (
    check_output_type,
    images,
    input_port,
    input_shapes,
    is_double,
    origins,
    output_port,
)
from mmcc.frontend.problems import Problems, bad_model, unsupported
from mmcc.frontend.reads import reads
from mmcc.frontend.registry import REGISTRY, Entry
from mmcc.frontend.schema import domain_of
from mmcc.frontend.sequences import (
    follow_sequence,
    is_of_sequences,
    output_of_sequences,
    refuse_sequences,
)
from mmcc.frontend.stored import stored_constants
from mmcc.frontend.tensors import FEW_BITS, NARROW, NUMBERS, dtype_of, port_type, type_name
from mmcc.frontend.uncertain_rows import follow_rows
from mmcc.frontend.unknown import assume_outputs, look_at, may_be_replaced
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.ports import Port
from mmcc.ir.streaming import axis_asked
from mmcc.ops.elementwise import Cast

WITHOUT_IT = "leaving this output out (onnx.utils.extract_model), since nothing is in it"
FOLDING_BYTES = 256 * 2**20
Special = Callable[[Import, Where, NodeProto, Convert], CompileError | None]


def import_model(
    path: str | Path,
    *,
    dims: Mapping[str, int] = MappingProxyType({}),
    bind: Mapping[str, ArrayLike] = MappingProxyType({}),
    name: str | None = None,
    stream: str = "",
    max_bytes: int = FOLDING_BYTES,
    keep_batch_norm: bool = False,
    step: TrainingStep | None = None,
    keep_loops: bool = True,
    training: bool = False,
) -> Graph:
    """Read an ONNX file. `dims` gives values to symbolic dimensions; a batch defaults to 1.

    `bind` gives values to inputs, by name, which are constants then. `stream`, INPUT:AXIS, names an axis that
    is to be the outermost in memory. With `keep_batch_norm` a BatchNormalization is a node of its own, for
    training, in training mode, too. With `step` the file is that step of training, and the graph its model
    for inference. With `keep_loops` a long Loop or Scan is one node with a body, and otherwise unrolled; with
    `stream` a short one is, too. With `training` all layers of a convolution over volumes read the same
    weights, and the graph says which constants are the model's own.

    `max_bytes` limits what evaluating the model's constants may take. Raises CompileError, and nothing
    else, for whatever the file holds; one error has all that is wrong with the model.
    """
    path = Path(path)
    source = load(path)
    if step is not None:
        source = inference_part(source, step)
    bound = bound_inputs(source, bind)
    source = replace(source, inputs=tuple(info for info in source.inputs if info.name not in bound))
    state = Import(
        source,
        Builder(
            budget=max_bytes,
            keep_batch_norm=keep_batch_norm,
            keep_loops=keep_loops and step is None,
            weigh_loops=not stream,
            training=training,
        ),
        problems=Problems(list(source.problems)),
    )
    for note in source.notes:
        state.build.warn(note)
    ports = _inputs(state, dims, stream)
    state.values.update({each: state.build.constant(array, each) for each, array in bound.items()})
    _convert_all(state)
    outputs = _outputs(state, ports)
    graph = state.build.finish(
        name if name is not None else path.stem, ports, outputs, origins(state.build, state.values)
    )
    return replace(graph, stored=stored_constants(source))


def _convert_all(state: Import) -> None:
    """Constants and nodes of the model; CompileError with all that is wrong with them."""
    source = state.source
    read = {value for _, node in source.nodes for value in reads(node)}
    state.wanted = frozenset(read | {info.name for info in source.outputs})
    add_constants(state, source.initializers, state.wanted)
    with np.errstate(all="ignore"):  # constants that overflow are the model's affair
        for where, node in source.nodes:
            _convert(state, where, node)
    output_of_sequences(state)
    state.problems.report()


def _inputs(state: Import, dims: Mapping[str, int], stream: str) -> list[Port]:
    shapes, problems = input_shapes(state.source, dims)
    state.problems.found += problems
    held_last = images(state.source)
    asked = axis_asked(stream, shapes)
    rows = {asked[0]: asked[1]} if asked else {}
    ports: list[Port] = []
    for info in state.source.inputs:
        if info.name not in shapes:
            state.lost.add(info.name)
            continue
        try:
            dtype = dtype_of(info.type.tensor_type.elem_type, f'input "{printable(info.name)}"', state.build)
        except CompileError as error:
            state.problems.add(error)
            dtype = ElementType.F32  # what it would be in a model that can be compiled
        number = info.type.tensor_type.elem_type
        if 0 in shapes[info.name]:  # then all of its elements are known
            empty = np.zeros(shapes[info.name], dtype.numpy)
            value = state.values[info.name] = state.build.constant(empty, info.name)
            if number in FEW_BITS:  # which its type still says
                state.build.stored[value.tensor] = number
            state.build.warn(f'input "{printable(info.name)}" has no elements; the package is without it')
            continue
        shape, axes = input_port(shapes[info.name], info.name in held_last, rows.get(info.name))
        tensor = state.build.tensor(shape, dtype, info.name)
        state.build.titles[tensor.name] = info.name
        state.values[info.name] = whole(tensor, axes)
        if number in FEW_BITS:
            state.build.stored[tensor.name] = number
        seen = port_type(number, dtype)
        ports.append(Port(tensor.name, info.name, shapes[info.name], seen, axes, double=is_double(info)))
    return ports


def _convert(state: Import, where: Where, node: NodeProto) -> None:
    """Convert a node of the graph, or of a subgraph, and follow rows that may not be there through it."""
    problems = len(state.problems.found)
    _attempt(state, where, node)
    followed = is_of_sequences(state, node)  # by the nodes that stand for it
    if len(state.problems.found) == problems and not followed:
        follow_rows(state, where, node)


def _attempt(state: Import, where: Where, node: NodeProto) -> None:
    """Convert a node; if that is impossible, say why and find out what can be known of its outputs."""
    entry = REGISTRY.get((domain_of(node), node.op_type))
    known = all(state.knows(name) for name in node.input if name)
    special = _with_subgraphs_or_sequences(state, node)
    if known and special is not None:
        error = special(state, where, node, _convert)
        if error is None:
            return
        state.problems.add(error)
    elif not known:
        _look_at(state, where, node, entry)
    elif any(name in state.sequences for name in node.input):
        if entry is None and not may_be_replaced(state, node):
            _add_unknown(state, where, node)
        else:
            state.problems.add(refuse_sequences(state, where, node))
    else:
        error = attempt(state, where, node, entry) if entry is not None else None
        if (entry is not None and error is None) or _stand_in(state, where, node, error):
            return
    assume_outputs(state, node)


def _with_subgraphs_or_sequences(state: Import, node: NodeProto) -> Special | None:
    """What converts a node that has no converter because more than tensors goes in, or comes out."""
    if is_branch(node):
        return take_branch
    if is_loop(node):
        return unroll
    return follow_sequence if is_of_sequences(state, node) else None


def _look_at(state: Import, where: Where, node: NodeProto, entry: Entry | None) -> None:
    """Say what is wrong with a node whose operands are not all known."""
    if entry is not None:
        look_at(state, where, node, entry)
    elif _with_subgraphs_or_sequences(state, node) is None and not may_be_replaced(state, node):
        _add_unknown(state, where, node)


def _stand_in(state: Import, where: Where, node: NodeProto, error: CompileError | None) -> bool:
    """For a node that no converter takes, with its error if there is one: ONNX's result, or ONNX's function.

    False, and a problem more, where neither is to be had.
    """
    if error is not None and error.exit is not Exit.UNSUPPORTED:
        state.problems.add(error)
        return False
    if compute(state, node):
        return True
    try:
        within = expand(state, where, node, _convert)
    except LookupError:  # by no others
        if error is None:
            _add_unknown(state, where, node)
        else:
            state.problems.add(error)
        return False
    if within is not None:
        state.problems.add(error or within)
    return within is None


def _add_unknown(state: Import, where: Where, node: NodeProto) -> None:
    state.problems.unknown.setdefault((domain_of(node), node.op_type), []).append(where)


def _outputs(state: Import, inputs: list[Port]) -> list[Port]:
    build = state.build
    taken = {port.tensor for port in inputs}
    ports: list[Port] = []
    for info in state.source.outputs:
        value = state.values[info.name]
        build.hint = info.name
        made_by = build.producer.get(value.tensor)
        build.where = made_by.where if made_by else build.where
        if value.size == 0 or value.size > MAX_ELEMENTS:
            what = f'output "{printable(info.name)}" has shape {list(value.shape)}'
            raise bad_model("MM105", what, "" if value.size else WITHOUT_IT)
        value = _in_its_type(build, value, info.type.tensor_type.elem_type)
        if value.dtype.code is not None and value.dtype != ElementType.F16:
            what = f'output "{printable(info.name)}" is of type {type_name(NUMBERS[value.dtype])}'
            raise unsupported(what, "a Cast of it to float32", "MM203")
        check_output_type(info, value, build)
        double = is_double(info) and value.dtype == ElementType.F32
        tensor, axes = output_port(build, value)
        if tensor in taken or build.is_constant(tensor):
            tensor = build.copied(tensor)
        build.titles.setdefault(tensor, info.name)
        taken.add(tensor)
        seen = port_type(build.stored.get(value.tensor, 0), value.dtype)
        ports.append(Port(tensor, info.name, value.shape, seen, axes, double=double))
    return ports


def _in_its_type(build: Builder, value: Value, declared: int) -> Value:
    """An output of narrow floats, if it is a constant, or if only the model's own word says what it is."""
    number = build.stored.get(value.tensor, declared)
    narrow = number in NARROW and value.dtype == ElementType.F32
    return unary(build, Cast(NARROW[number]), value) if narrow else value
