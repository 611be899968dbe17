# SPDX-License-Identifier: Apache-2.0
"""Read an ONNX file as protobuf has it, within limits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from mmcc.errors import printable
from mmcc.frontend.not_onnx import absent, check_format
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.reads import nodes_below, subgraphs

OLDEST_IR, NEWEST_IR = 3, int(onnx.IR_VERSION)
MAX_NODES = 2**16  # a few seconds of work
MAX_FILE = 2**31 - 1


def parsed(path: Path) -> ModelProto:
    """The file as protobuf; only its size and version are checked. CompileError if it is no ONNX."""
    try:
        if not path.is_file():
            raise absent(path)
        size = path.stat().st_size
        if size > MAX_FILE:
            what = f"the file has {size} bytes; protobuf ends at {MAX_FILE}"
            raise bad_model("MM101", what, "onnx.save_model(..., save_as_external_data=True)")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise bad_model("MM101", f'cannot read "{printable(str(path))}": {error}') from None
    check_format(path, data)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError):
        raise bad_model(
            "MM101",
            f'"{printable(path.name)}" ({len(data)} bytes) is not an ONNX file, or is cut off',
            "exporting or downloading it again",
        ) from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise bad_model("MM101", f'"{printable(path.name)}" ({len(data)} bytes) holds no ONNX graph')
    if not OLDEST_IR <= model.ir_version <= NEWEST_IR:
        raise unsupported(
            f"the model's IR version is {model.ir_version}; {OLDEST_IR} to {NEWEST_IR} are supported",
            f"model.ir_version = {NEWEST_IR} in Python, enough where nothing newer is used",
            "MM204",
        )
    count = sum(1 for _ in nodes_below(model.graph.node))
    if count > MAX_NODES:
        raise bad_model("MM105", f"the model has {count} nodes; up to {MAX_NODES} are allowed")
    return model


def check_text(path: Path, model: ModelProto) -> None:
    """Text that is not UTF-8 reaches us as bytes: nothing behind this must meet such a name."""
    for text in _texts(model):
        if not isinstance(text, str):
            shown = repr(text[:80]) if isinstance(text, bytes) else "?"
            raise bad_model("MM101", f'"{printable(path.name)}" holds text that is not UTF-8: {shown}')


def _texts(model: ModelProto) -> Iterator[object]:
    """Every name that the importer looks at."""
    for entry in model.opset_import:
        yield entry.domain
    for function in model.functions:
        yield from (function.domain, function.name, *function.input, *function.output, *function.attribute)
    nodes = list(nodes_below(chain(model.graph.node, *(function.node for function in model.functions))))
    for graph in (model.graph, *(inner for node in nodes for inner in subgraphs(node))):
        for info in (*graph.input, *graph.output, *graph.value_info):
            yield info.name
            yield from (dim.dim_param for dim in info.type.tensor_type.shape.dim)
        for tensor in chain(graph.initializer, (sparse.values for sparse in graph.sparse_initializer)):
            yield from _texts_of_tensor(tensor)
    for node in nodes:
        yield from (node.domain, node.op_type, node.name, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
            yield from _texts_of_tensor(attribute.t)


def _texts_of_tensor(tensor: TensorProto) -> Iterator[object]:
    yield tensor.name
    for entry in tensor.external_data:
        yield from (entry.key, entry.value)


def external_files(path: Path) -> tuple[Path, ...]:
    """Files below the model's folder that hold its large tensors, by their paths; () if it is no model."""
    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception:  # whatever is wrong with it, whoever compiles it says so
        return ()
    tensors = (attribute.t for node in model.graph.node for attribute in node.attribute)
    names = {
        entry.value
        for tensor in chain(model.graph.initializer, tensors)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    folder = path.resolve().parent
    found = ((folder / name).resolve() for name in sorted(names) if name.isprintable())
    return tuple(file for file in found if file.is_relative_to(folder) and file.is_file())
