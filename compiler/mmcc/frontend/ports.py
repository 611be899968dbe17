"""Inputs and outputs of the model: symbolic dimensions, and the layout the caller sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from onnx import NodeProto, ValueInfoProto

from mmcc.errors import CompileError, Exit, printable
from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.load import Source
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import REGISTRY, Layout, domain_of
from mmcc.frontend.tensors import dtype_of
from mmcc.frontend.value import Value
from mmcc.ir.graph import DType, Shape

Axes = tuple[int | None, ...]


def input_shapes(source: Source, dims: Mapping[str, int]) -> dict[str, Shape]:
    """The shape of every input, symbols replaced; errors for symbols without a value and unknown ones."""
    shapes: dict[str, Shape] = {}
    symbols: set[str] = set()
    missing: dict[str, str] = {}  # symbol -> where it is
    for info in source.inputs:
        kind = info.type
        if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise bad_model("MM102", f'input "{printable(info.name)}" is no tensor of known rank')
        extents: list[int] = []
        for axis, dim in enumerate(kind.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                extents.append(dim.dim_value)
                continue
            symbol = dim.dim_param or f"{info.name}.{axis}"
            symbols.add(symbol)
            if symbol not in dims and axis:
                missing.setdefault(symbol, f'axis {axis} of input "{printable(info.name)}"')
            extents.append(dims.get(symbol, 1))
        shapes[info.name] = tuple(extents)
    _check_dims(dims, symbols, missing)
    for name, shape in shapes.items():
        if min(shape, default=1) < 1 or prod(shape) > MAX_ELEMENTS:
            raise bad_model("MM105", f'input "{printable(name)}" has shape {list(shape)}')
    return shapes


def _check_dims(dims: Mapping[str, int], symbols: set[str], missing: dict[str, str]) -> None:
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
    if missing:
        places = "; ".join(f'"{printable(symbol)}" ({place})' for symbol, place in missing.items())
        options = " ".join(f"--dim {printable(symbol)}=N" for symbol in missing)
        raise bad_model("MM109", f"symbolic dimensions without a value: {places}", options)


def input_port(
    info: ValueInfoProto, shape: Shape, readers: Mapping[str, Sequence[NodeProto]]
) -> tuple[Shape, DType, Axes]:
    """Shape and type of the tensor of an input, and where its ONNX axes are."""
    dtype = dtype_of(info.type.tensor_type.elem_type, f'input "{printable(info.name)}"')
    if len(shape) in (3, 4) and _is_image(info.name, readers):
        image: list[int | None] = [2, 3, 1] if len(shape) == 4 else [2, None, 1]
        order = image if shape[0] == 1 else [0, *image]
    else:
        order = [*range(1 if len(shape) > 1 and shape[0] == 1 else 0, len(shape))]
    axes = tuple(order.index(k) if k in order else None for k in range(len(shape)))
    return tuple(1 if k is None else shape[k] for k in order), dtype, axes


def _is_image(name: str, readers: Mapping[str, Sequence[NodeProto]]) -> bool:
    """True if the first operator that cares for the order of axes wants channels first."""
    queue, seen = [name], {name}
    for value in queue:  # grows while we walk it
        for node in readers.get(value, ()):
            entry = REGISTRY.get((domain_of(node), node.op_type))
            layout = entry.layout if entry else Layout.PLAIN
            if layout is Layout.CHANNELS_FIRST and node.input[0] == value:
                return not any(a.name == "channels_last" and a.i for a in node.attribute)
            if layout is not Layout.ANY:
                return False
            fresh = [output for output in node.output if output and output not in seen]
            seen.update(fresh)
            queue += fresh
    return False


def output_port(build: Builder, value: Value) -> tuple[str, Axes]:
    """The tensor of an output, and where its ONNX axes are; any order of axes is good enough."""
    single = build.single(value)
    return single.tensor, tuple(axis[0] if axis else None for axis in single.axes)


def plain_axes(value: Value, shape: Shape) -> Axes | None:
    """The tensor's axis that holds each ONNX axis; None where an axis is made of several."""
    if value.view != shape or any(len(axis) > 1 for axis in value.axes):
        return None
    return tuple(axis[0] if axis else None for axis in value.axes)
