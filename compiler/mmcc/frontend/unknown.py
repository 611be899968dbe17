# SPDX-License-Identifier: Apache-2.0
"""What can still be known behind a node that cannot be converted, so that all errors are told at once.

What a value is comes from what the file states of it, or from ONNX's own shape inference. Where neither says
anything, the nodes that read it are tried out with operands of several shapes: an error that is the same for
all that fit does not depend on the shape, and so does one that is the same for all that would fit if the node
left an attribute out. No graph is made of any of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx
from onnx import NodeProto, TypeProto

from mmcc.errors import CompileError, Exit, Where
from mmcc.frontend.builder import MAX_ELEMENTS, MAX_RANK
from mmcc.frontend.call import make_call
from mmcc.frontend.convert import Import, checked_version, converted
from mmcc.frontend.expansion import has_function
from mmcc.frontend.inference import inferred_types
from mmcc.frontend.problems import located
from mmcc.frontend.registry import Entry
from mmcc.frontend.schema import domain_of
from mmcc.frontend.tensors import DTYPES, NUMBERS, WIDENED
from mmcc.frontend.value import whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Shape

MAX_PROBED = 200  # nodes; what is wrong with so many is told by the first ones
SHAPE_ONLY = ("Shape", "Size")  # their results are constants, whatever they read
EXTENTS = (1, 8, 4, 16, 18, 2, 2, 2)  # operands of each rank have the first of them
TYPES = (ElementType.F32, ElementType.I64, ElementType.I32, ElementType.I8, ElementType.U8, ElementType.BOOL)
ATTRIBUTE_PROBES = 10  # that many nodes of MAX_PROBED is one of which each attribute is tried
CHANNELS = (8, 12)  # of made-up operands, beside those that the node's constants suggest


def assume_outputs(state: Import, node: NodeProto) -> None:
    """Find out shapes and types of what a node makes that was not converted."""
    names = [name for name in node.output if name and name not in state.values]
    if _constant_for_constants(state, node) or (not domain_of(node) and node.op_type in SHAPE_ONLY):
        state.opaque.update(names)  # would be constants: a tensor is no stand-in
        return
    for name in names:
        stated = state.source.stated.get(name)
        found = _static(stated.type) if stated is not None else None
        if found is None and name in state.wanted:
            kind = _inferred(state, name)
            found = _static(kind) if kind is not None else None
        if found is not None:
            tensor = state.build.tensor(*found, name)
            state.build.titles[tensor.name] = name
            state.values[name] = whole(tensor, range(len(found[0])))
        else:
            state.lost.add(name)


def may_be_replaced(state: Import, node: NodeProto) -> bool:
    """True if other nodes, or a constant, might stand for a node, were its operands known."""
    known = onnx.defs.has(node.op_type, state.source.opsets.get(domain_of(node), 1), domain_of(node))
    return known and (_constant_for_constants(state, node) or has_function(state, node))


def _constant_for_constants(state: Import, node: NodeProto) -> bool:
    return bool(node.input) and all(_is_constant(state, name) for name in node.input if name)


def _is_constant(state: Import, name: str) -> bool:
    value = state.values.get(name)
    return state.build.is_constant(value.tensor) if value is not None else name in state.opaque


def _inferred(state: Import, name: str) -> TypeProto | None:
    """What ONNX's shape inference says of a value; it is asked once for all of a model."""
    if state.inferred is None:
        given = {
            info.name: state.values[info.name] for info in state.source.inputs if info.name in state.values
        }
        kinds = {
            known: onnx.helper.make_tensor_type_proto(NUMBERS[value.dtype], value.shape)
            for known, value in given.items()
        }
        state.inferred = inferred_types(state.source, kinds)
    return state.inferred.get(name)


def _static(kind: TypeProto) -> tuple[Shape, ElementType] | None:
    """Shape and type, if all extents are numbers and mmcc has such tensors."""
    tensor = kind.tensor_type
    number = onnx.TensorProto.FLOAT if tensor.elem_type in WIDENED else tensor.elem_type
    if not tensor.HasField("shape") or number not in DTYPES or len(tensor.shape.dim) > MAX_RANK:
        return None
    shape = tuple(dim.dim_value for dim in tensor.shape.dim)  # 0 where it is no number
    return (shape, DTYPES[number]) if min(shape, default=1) > 0 and prod(shape) <= MAX_ELEMENTS else None


def look_at(state: Import, where: Where, node: NodeProto, entry: Entry) -> None:
    """Say what is wrong with a node whose operands are not all known, whatever these are."""
    try:
        version = checked_version(state, node, entry)
        nothing = (None,) * len(node.input)
        make_call(state.build, node, version, nothing, state.source.folder, state.wanted)
    except CompileError as error:
        state.problems.add(located(error, where))
        return
    if state.opaque.isdisjoint(node.input) and state.probed < MAX_PROBED:
        state.probed += 1
        error = _common_error(state, node, entry)
        if error is not None:
            state.problems.add(located(error, where))


def _common_error(state: Import, node: NodeProto, entry: Entry) -> CompileError | None:
    """What is not supported for every operand that fits, or bad for all; None if one would do, or if reasons
    differ."""
    common, bad = None, False
    for shape in _made_up(state, node):
        error = _error_with(state, node, entry, shape, ElementType.F32)
        if error is None:
            return None
        if error.exit is not Exit.UNSUPPORTED:
            bad = True
            continue  # no operand that this node could have
        if common is not None and error.message != common.message:
            return None
        common = error
    return _bad_attribute(state, node, entry) if bad and common is None else common


def _bad_attribute(state: Import, node: NodeProto, entry: Entry) -> CompileError | None:
    """What is wrong with an attribute of a node that no operand fits: it is said of every operand that would
    fit without it, of whatever rank and type."""
    state.probed += ATTRIBUTE_PROBES if node.attribute else 0
    for attribute in node.attribute:
        without = NodeProto()
        without.CopyFrom(node)
        without.attribute.remove(attribute)
        found: CompileError | None = None
        for shape, dtype in _any_operands(state, node):
            if _error_with(state, without, entry, shape, dtype) is not None:
                continue
            error = _error_with(state, node, entry, shape, dtype)
            if error is None or (found is not None and error.message != found.message):
                break
            found = error
        else:
            if found is not None:
                return found
    return None


def _any_operands(state: Import, node: NodeProto) -> Iterator[tuple[Shape, ElementType]]:
    """Shapes and types of all kinds; those that an operand may well have come first."""
    yield from ((shape, ElementType.F32) for shape in _made_up(state, node))
    yield from ((EXTENTS[:rank], dtype) for dtype in TYPES for rank in range(len(EXTENTS) + 1))


def _error_with(
    state: Import, node: NodeProto, entry: Entry, shape: Shape, dtype: ElementType
) -> CompileError | None:
    """What is said of a node if all that is not known of its operands is of that shape and type."""
    budget = state.build.budget
    tensor = state.build.tensor(shape, dtype, "")
    inputs = tuple(
        None if not name else state.values.get(name) or whole(tensor, range(len(shape)))
        for name in node.input
    )
    try:
        converted(state, node, entry, inputs)
    except CompileError as error:
        return error
    finally:
        state.build.budget = budget
    return None


def _made_up(state: Import, node: NodeProto) -> Iterator[Shape]:
    """Shapes that an operand of a node may well have."""
    channels: list[int] = [*CHANNELS]
    values = [state.values[name] for name in node.input if name in state.values]
    for value in values:
        channels += [extent for extent in value.shape[:2] if 0 < extent < 4096]
    group = next((a.i for a in node.attribute if a.name == "group" and 0 < a.i < 4096), 1)
    for count in list(dict.fromkeys(channels))[:6]:
        yield from ((1, count * group, 16, 18), (1, count * group, 18), (1, count * group))
    yield from (value.shape for value in values if not state.build.is_constant(value.tensor))
