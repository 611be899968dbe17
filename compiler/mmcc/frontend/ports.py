# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of the model: symbolic dimensions, and the layout the caller sees."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from onnx import TensorProto, ValueInfoProto

from mmcc.errors import CompileError, Exit, printable
from mmcc.frontend.builder import MAX_ELEMENTS, MAX_RANK, Builder
from mmcc.frontend.layouts import one_axis_each
from mmcc.frontend.load import Source
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import REGISTRY, Layout
from mmcc.frontend.schema import domain_of
from mmcc.frontend.tensors import dtype_of, type_name
from mmcc.frontend.value import Value
from mmcc.ir.ports import Port
from mmcc.ir.types import Shape

Axes = tuple[int | None, ...]


def input_shapes(source: Source, dims: Mapping[str, int]) -> tuple[dict[str, Shape], list[CompileError]]:
    """The shapes of the inputs, symbols replaced, and what is wrong with the others.

    An error for a symbol in `dims` that the model does not have.
    """
    declared = [info.type.tensor_type.shape for info in source.inputs]
    batches = {shape.dim[0].dim_param for shape in declared if shape.dim} - {""}  # those may be 1
    shapes: dict[str, Shape] = {}
    problems: list[CompileError] = []
    symbols: set[str] = set()
    missing: dict[str, str] = {}  # symbol -> where it is
    for info in source.inputs:
        named = f'input "{printable(info.name)}"'
        kind = info.type.tensor_type
        held = info.type.WhichOneof("value") or "tensor_type"
        if held != "tensor_type":
            what = f"{named} is of {held.replace('_', ' ')}, not a tensor"
            problems.append(unsupported(what, "giving the tensors in it as inputs of their own"))
            continue
        if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
            problems.append(bad_model("MM102", f"{named} is no tensor of known rank"))
            continue
        if len(kind.shape.dim) > MAX_RANK:
            what = f"{named} has {len(kind.shape.dim)} axes; up to {MAX_RANK} are allowed"
            problems.append(bad_model("MM105", what))
            continue
        extents: list[int | None] = []
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                extents.append(dim.dim_value)
                continue
            symbol = dim.dim_param or f"{info.name}.{axis}"
            symbols.add(symbol)
            known = symbol in batches or not axis
            if symbol not in dims and not known:
                missing.setdefault(symbol, f"axis {axis} of {named}")
            extents.append(dims.get(symbol, 1 if known else None))
        shape = tuple(extent for extent in extents if extent is not None)
        if prod(extent or 1 for extent in shape) > MAX_ELEMENTS:  # numpy's limit for empty arrays, too
            problems.append(bad_model("MM105", f"{named} has shape {list(shape)}"))
        elif len(shape) == len(extents):
            shapes[info.name] = shape
    _check_dims(dims, symbols)
    if missing:
        places = "; ".join(f'"{printable(symbol)}" ({place})' for symbol, place in missing.items())
        options = " ".join(f"--dim {printable(symbol)}=N" for symbol in missing)
        problems.append(bad_model("MM109", f"symbolic dimensions without a value: {places}", options))
    return shapes, problems


def _check_dims(dims: Mapping[str, int], symbols: set[str]) -> None:
    known = ", ".join(printable(s) for s in sorted(symbols))
    for symbol, value in dims.items():
        if symbol not in symbols:
            raise CompileError(
                "MM110",
                f'the model has no symbolic dimension "{printable(symbol)}"',
                exit=Exit.USAGE,
                hint=f"one of: {known}" if known else "leaving it out: all of its dimensions are fixed",
            )
        if value < 1:
            raise CompileError(
                "MM110",
                f'dimension "{printable(symbol)}" cannot be {value}',
                exit=Exit.USAGE,
                hint="1 or more",
            )


def input_port(shape: Shape, image: bool, rows: int | None = None) -> tuple[Shape, Axes]:
    """Shape of the tensor of an input, and where its ONNX axes are; `rows` is the one to be outermost."""
    if len(shape) in (3, 4) and image:
        last: list[int | None] = [2, 3, 1] if len(shape) == 4 else [2, None, 1]
        order = last if shape[0] == 1 else [0, *last]
    else:
        order = [*range(1 if len(shape) > 1 and shape[0] == 1 else 0, len(shape))]
    if rows is not None and rows in order:
        order = [rows, *(k for k in order if k != rows)]
    axes = tuple(order.index(k) if k in order else None for k in range(len(shape)))
    return tuple(1 if k is None else shape[k] for k in order), axes


def images(source: Source) -> frozenset[str]:
    """Values of which the first reader that cares for the order of axes wants channels first."""
    nearest: dict[str, tuple[int, bool]] = {}  # value -> how far that reader is, and what it wants
    for _, node in reversed(source.nodes):
        mine: dict[str, tuple[int, bool]]
        entry = REGISTRY.get((domain_of(node), node.op_type))
        layout = entry.layout if entry else Layout.PLAIN
        if layout is Layout.ANY:
            known = [nearest[name] for name in node.output if name in nearest]
            if not known:
                continue
            steps, wants = min(known, key=lambda found: found[0])
            mine = dict.fromkeys(node.input, (steps + 1, wants))
        else:
            mine = dict.fromkeys(node.input, (0, False))
            if layout is Layout.CHANNELS_FIRST and node.input:
                last = any(a.name == "channels_last" and a.i for a in node.attribute)
                mine[node.input[0]] = (0, not last)
        for name, found in mine.items():  # backward: of equally near readers the first in the file wins
            if name not in nearest or found[0] <= nearest[name][0]:
                nearest[name] = found
    return frozenset(name for name, (_, wants) in nearest.items() if wants)


def is_double(info: ValueInfoProto) -> bool:
    """Whether the model declares float64."""
    return info.type.tensor_type.elem_type == TensorProto.DOUBLE


def check_output_type(info: ValueInfoProto, value: Value, build: Builder) -> None:
    """An error if the model declares an element type that mmcc has not: something was widened on the way.

    A declaration that is just wrong is passed over, as ONNX Runtime does, with a warning.
    """
    declared = info.type.tensor_type.elem_type
    if declared == TensorProto.STRING:  # labels, of which whoever made them has said that they are numbers
        return
    if declared and dtype_of(declared, f'output "{printable(info.name)}"', build) is not value.dtype:
        made = value.dtype.name
        build.warn(f'output "{printable(info.name)}" is declared {type_name(declared)}, and is {made}')


def output_port(build: Builder, value: Value) -> tuple[str, Axes]:
    """The tensor of an output, and where its ONNX axes are; any order of axes is good enough."""
    single = one_axis_each(build, value)
    return single.tensor, tuple(axis[0] if axis else None for axis in single.axes)


def origins(build: Builder, values: Mapping[str, Value]) -> dict[str, Port]:
    """For tensors that hold just one of the model's values, by name: which, and in which layout."""
    found: dict[str, Port] = {}
    for name, value in values.items():
        if value.tensor in found or build.is_constant(value.tensor):
            continue
        axes = plain_axes(value, build.tensors[value.tensor].shape)
        if axes is not None:
            found[value.tensor] = Port(value.tensor, name, value.shape, value.dtype, axes)
    return found


def plain_axes(value: Value, shape: Shape) -> Axes | None:
    """The tensor's axis that holds each ONNX axis; None where an axis is made of several.

    Several ONNX axes may lie in one of the tensor's, in ONNX's order. Where view and tensor differ in axes of
    extent 1 only, no axis of the tensor holds these.
    """
    if any(len(axis) > 1 for axis in value.axes):
        return None
    if value.view == shape:
        return tuple(axis[0] if axis else None for axis in value.axes)
    left = [k for k, extent in enumerate(value.view) if extent != 1]
    holder: dict[int, int] = {}  # axis of the view -> the tensor's
    for axis, extent in enumerate(shape):
        filled = 1
        while filled < extent and left:
            filled *= value.view[left[0]]
            holder[left.pop(0)] = axis
        if filled != extent:
            return None
    held = [axis[0] for axis in value.axes if axis and axis[0] in holder]
    in_memory = sorted(held, key=lambda k: holder[k])  # by ONNX's order within one axis
    return (
        tuple(holder.get(axis[0]) if axis else None for axis in value.axes)
        if in_memory == sorted(held)
        else None
    )
