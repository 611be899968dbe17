# SPDX-License-Identifier: Apache-2.0
"""TensorProto -> numpy, distrusting every number in it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mmcc.errors import printable
from mmcc.frontend.builder import MAX_ELEMENTS, MAX_RANK, Builder
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.ir.element_type import ElementType, Kind

DTYPES: dict[int, ElementType] = {
    TensorProto.FLOAT: ElementType.F32,
    TensorProto.INT8: ElementType.I8,
    TensorProto.UINT8: ElementType.U8,
    TensorProto.INT16: ElementType.I16,
    TensorProto.UINT16: ElementType.U16,
    TensorProto.UINT32: ElementType.U32,
    TensorProto.UINT64: ElementType.U64,
    TensorProto.INT32: ElementType.I32,
    TensorProto.INT64: ElementType.I64,
    TensorProto.BOOL: ElementType.BOOL,
}
# floats that memory holds in fewer than 32 bits, and that nodes compute with in float32
NARROW: dict[int, ElementType] = {
    TensorProto.FLOAT16: ElementType.F16,
    TensorProto.BFLOAT16: ElementType.BF16,
    TensorProto.FLOAT8E4M3FN: ElementType.F8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ: ElementType.F8E4M3FNUZ,
    TensorProto.FLOAT8E5M2: ElementType.F8E5M2,
    TensorProto.FLOAT8E5M2FNUZ: ElementType.F8E5M2FNUZ,
    TensorProto.FLOAT4E2M1: ElementType.F4E2M1,
}
NUMBERS = {dtype: number for number, dtype in (DTYPES | NARROW).items()}
# how the elements of each type are stored in raw_data; those of less than 8 bits share bytes
STORED: dict[int, str] = {
    TensorProto.FLOAT: "<f4",
    TensorProto.DOUBLE: "<f8",
    TensorProto.FLOAT16: "<f2",
    TensorProto.BFLOAT16: "<u2",
    TensorProto.INT8: "|i1",
    TensorProto.UINT8: "|u1",
    TensorProto.INT16: "<i2",
    TensorProto.UINT16: "<u2",
    TensorProto.UINT32: "<u4",
    TensorProto.UINT64: "<u8",
    TensorProto.INT32: "<i4",
    TensorProto.INT64: "<i8",
    TensorProto.BOOL: "|u1",
    TensorProto.INT4: "|u1",
    TensorProto.UINT4: "|u1",
    TensorProto.INT2: "|u1",
    TensorProto.UINT2: "|u1",
    TensorProto.FLOAT8E4M3FN: "|u1",
    TensorProto.FLOAT8E4M3FNUZ: "|u1",
    TensorProto.FLOAT8E5M2: "|u1",
    TensorProto.FLOAT8E5M2FNUZ: "|u1",
    TensorProto.FLOAT4E2M1: "|u1",
}
# integers of less than 8 bits: tensors hold them one a byte, as the nearest wider type
FEW_BITS: dict[int, ElementType] = {
    TensorProto.INT2: ElementType.I2,
    TensorProto.INT4: ElementType.I4,
    TensorProto.UINT2: ElementType.U2,
    TensorProto.UINT4: ElementType.U4,
}
# constants of these are read as float32: exporters leave them in float32 models
WIDENED = (TensorProto.DOUBLE, *NARROW)


BITS = (*NARROW, *FEW_BITS)


KINDS = dict(TensorProto.DataType.items())  # ONNX's name -> number of every element type


def type_name(data_type: int) -> str:
    """ONNX's name of an element type."""
    names = {number: name for name, number in KINDS.items()}
    return names.get(data_type, f"number {data_type}")


def dtype_of(data_type: int, what: str, build: Builder) -> ElementType:
    """The element type of an activation; an error if mmcc has none for it.

    float64 is narrowed to float32, with a warning: exporters leave it behind where nobody asked for it.
    """
    if data_type in DTYPES or data_type in NARROW:
        return (DTYPES | NARROW)[data_type]
    if data_type in FEW_BITS:
        return byte_of(FEW_BITS[data_type])
    if data_type == TensorProto.DOUBLE:
        build.warn(f"{what} is float64 in the model, and is computed as float32")
        return ElementType.F32
    raise unsupported(f"{what} is of type {type_name(data_type)}", code="MM203")


def byte_of(dtype: ElementType) -> ElementType:
    """The type of a byte that holds an integer of less than 8 bits."""
    return ElementType.I8 if dtype.kind is Kind.SIGNED else ElementType.U8


def port_type(data_type: int, dtype: ElementType) -> ElementType:
    """The model's own type of a tensor that mmcc holds as `dtype`."""
    return FEW_BITS.get(data_type, dtype)


def elements_a_cell(data_type: int) -> int:
    """How many elements share a byte in raw_data."""
    if data_type == TensorProto.FLOAT4E2M1:
        return 2
    return FEW_BITS[data_type].per_cell if data_type in FEW_BITS else 1


def to_array(proto: TensorProto, folder: Path, *, double: bool = False) -> NDArray[Any]:
    """The elements of a constant; `folder` is where its external data must lie. With `double`, float64 stays
    what it is."""
    name = f'constant "{printable(proto.name)}"'
    if proto.data_type not in STORED:
        raise unsupported(f"{name} is of type {type_name(proto.data_type)}", code="MM203")
    if len(proto.dims) > MAX_RANK:
        raise bad_model("MM105", f"{name} has {len(proto.dims)} axes; up to {MAX_RANK} are allowed")
    shape = tuple(proto.dims)
    count = prod(shape)
    if any(extent < 0 for extent in shape) or count > MAX_ELEMENTS:
        raise bad_model("MM105", f"{name} has shape {list(shape)}")
    if proto.HasField("segment"):
        raise bad_model("MM108", f"{name} is stored in segments, which ONNX Runtime does not read either")
    stored = np.dtype(STORED[proto.data_type])
    cells = -(-count // elements_a_cell(proto.data_type))
    if proto.data_location == TensorProto.EXTERNAL:
        raw = _external(proto, folder, cells * stored.itemsize, name)
        array: NDArray[Any] = np.frombuffer(raw, stored)
    elif proto.HasField("raw_data"):
        raw = proto.raw_data
        if len(raw) != cells * stored.itemsize:
            raise bad_model(
                "MM108",
                f"{name} of shape {list(shape)} has {len(raw)} bytes of data, not {cells * stored.itemsize}",
            )
        array = np.frombuffer(raw, stored)
    else:
        array = _typed(proto, stored, cells, name)
    if double and proto.data_type == TensorProto.DOUBLE:
        return array.astype(np.float64).reshape(shape)
    return _decoded(array, proto.data_type, count).reshape(shape)


def _typed(proto: TensorProto, stored: np.dtype[Any], cells: int, name: str) -> NDArray[Any]:
    """The elements from the field for their type."""
    kind = proto.data_type
    values: NDArray[Any]
    if kind == TensorProto.FLOAT:
        values = np.array(proto.float_data, np.float32)
    elif kind == TensorProto.DOUBLE:
        values = np.array(proto.double_data, np.float64)
    elif kind == TensorProto.INT64:
        values = np.array(proto.int64_data, np.int64)
    elif kind in (TensorProto.UINT32, TensorProto.UINT64):
        values = np.array(proto.uint64_data, np.uint64)
    else:
        values = np.array(proto.int32_data, np.int64)
    if len(values) != cells:
        raise bad_model("MM108", f"{name} of shape {list(proto.dims)} has {len(values)} elements of data")
    if kind in BITS:  # the fields hold the bits of the type, not its value
        return values.astype(np.uint32).astype(f"<u{stored.itemsize}").view(stored)
    if stored.kind in "iu" and values.size:
        info = np.iinfo(stored)
        if values.min() < info.min or values.max() > info.max:
            raise bad_model("MM108", f"{name} has elements outside {type_name(kind)}")
    return values.astype(stored)


def _decoded(array: NDArray[Any], data_type: int, count: int) -> NDArray[Any]:
    if data_type == TensorProto.FLOAT4E2M1:
        array = ElementType.U4.elements(array, (count,)).astype(np.uint8)
    if data_type in WIDENED:
        held = NARROW[data_type].elements(array, (count,)) if data_type in NARROW else array
        with np.errstate(over="ignore", invalid="ignore"):
            return held.astype(np.float32)
    if data_type in FEW_BITS:  # kept as int8, which int8 kernels can use
        return FEW_BITS[data_type].elements(array, (count,)).astype(np.int8)
    if data_type == TensorProto.BOOL:
        return array != 0
    return array.astype(array.dtype.newbyteorder("="), copy=False)


@lru_cache(maxsize=16)
def _sha1(path: Path, _changed: int) -> str:
    """What ONNX has as the `checksum` of external data: of the whole file, which many tensors share.

    One that has changed is read again.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _external(proto: TensorProto, folder: Path, size: int, name: str) -> bytes:
    """Read external data, from below the model's folder only."""
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or size)
    except ValueError:
        raise bad_model("MM106", f"{name}: offset or length of its external data is not a number") from None
    if not location or "\0" in location:
        raise bad_model("MM106", f"{name} has external data without a file name")
    root = folder.resolve()
    try:
        path = (root / location.replace("\\", "/")).resolve()
        inside = path.is_relative_to(root) and path.is_file()
        held = path.stat().st_size if inside else 0
    except (OSError, RuntimeError, ValueError):
        raise bad_model("MM106", f'{name}: "{printable(location)}" cannot be opened') from None
    if not path.is_relative_to(root):
        raise bad_model(
            "MM106",
            f'{name} names external data "{printable(location)}" outside the model\'s folder',
            "moving the data beside the model (onnx.save_model writes it there)",
        )
    if not inside:
        raise bad_model(
            "MM106",
            f'{name}: external data file "{printable(location)}" is missing',
            "copying it into the model's folder; torch writes it as model.onnx.data",
        )
    if length != size or offset < 0 or offset + size > held:
        raise bad_model(
            "MM106",
            f"{name} needs {size} bytes; the external data is {length} bytes at {offset} of {held}",
        )
    said = entries.get("checksum", "").strip().lower()
    if said and said != (found := _sha1(path, path.stat().st_mtime_ns)):
        raise bad_model(
            "MM106",
            f'{name}: "{printable(location)}" is not the file that the model was saved with: its SHA-1 is '
            f"{found}, the model says {printable(said)}",
            "the file that was saved with the model; or saving it again with onnx.save_model",
        )
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise bad_model("MM106", f"{name}: external data ends after {len(data)} of {size} bytes")
    return data
