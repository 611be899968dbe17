# SPDX-License-Identifier: Apache-2.0
"""Read an ONNX file and check the shape of its graph, before anything is converted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, inliner

from mmcc.errors import CompileError, Where, did_you_mean, printable
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.reads import reads, subgraphs

OLDEST_IR, NEWEST_IR = 3, int(onnx.IR_VERSION)
MAX_NODES = 2**16  # a few seconds of work
GROWTH = 4  # inlining functions may make this many times the nodes in the file, and
GROWN_NODES, GROWN_BYTES = 20_000, 64 * 2**20  # these many more
MAX_FILE = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Source:
    """A model's graph in an order that can be run, as far as it is well formed.

    Where `problems` is empty, names are defined once and before they are read. Otherwise nodes may read what
    nothing defines, and of two definitions the first counts.
    """

    name: str  # of the file
    folder: Path
    opsets: dict[str, int]
    inputs: tuple[ValueInfoProto, ...]
    outputs: tuple[ValueInfoProto, ...]
    initializers: dict[str, TensorProto]
    nodes: tuple[tuple[Where, NodeProto], ...]  # without dead ones
    stated: dict[str, ValueInfoProto]  # what the file says of values that nodes make
    problems: tuple[CompileError, ...] = ()


def load(path: Path) -> Source:
    """Read a model file; CompileError for what is no ONNX model. What is wrong in its graph is collected."""
    model = _parsed(path)
    _check_text(path, model)
    if model.functions:
        model = _inlined(model)
        _check_text(path, model)
    problems: list[CompileError] = []
    opsets = _opsets(model, problems)
    graph = model.graph
    if not graph.output:
        raise bad_model("MM102", "the model has no outputs")
    if graph.sparse_initializer:
        what = f"{len(graph.sparse_initializer)} sparse constants"
        problems.append(unsupported(what, "storing them dense, as initializers"))
    initializers = {tensor.name: tensor for tensor in unique("constant", graph.initializer, problems)}
    inputs = tuple(t for t in unique("input", graph.input, problems) if t.name not in initializers)
    outputs = tuple(unique("output", graph.output, problems))
    nodes = [(Where(path.name, k, node.op_type, node.name), node) for k, node in enumerate(graph.node)]
    given = {info.name for info in inputs} | initializers.keys()
    sparse = {tensor.values.name for tensor in graph.sparse_initializer}
    in_order = ordered(nodes, given | sparse, problems)
    made = given.union(*(node.output for _, node in nodes))
    for info in outputs:
        if info.name not in made:
            problems.append(bad_model("MM102", f'output "{printable(info.name)}" is not defined'))
    stated = {info.name: info for info in (*graph.value_info, *outputs)}
    live = _live(in_order, graph)
    return Source(
        path.name, path.parent, opsets, inputs, outputs, initializers, live, stated, tuple(problems)
    )


def _parsed(path: Path) -> ModelProto:
    try:
        if not path.is_file():
            raise _absent(path)
        size = path.stat().st_size
        if size > MAX_FILE:
            what = f"the file has {size} bytes; protobuf ends at {MAX_FILE}"
            raise bad_model("MM101", what, "onnx.save_model(..., save_as_external_data=True)")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise bad_model("MM101", f'cannot read "{printable(str(path))}": {error}') from None
    _check_format(path, data)
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
    count = sum(1 for _ in _nodes_below(model.graph.node))
    if count > MAX_NODES:
        raise bad_model("MM105", f"the model has {count} nodes; up to {MAX_NODES} are allowed")
    return model


@dataclass(frozen=True, slots=True)
class _Format:
    """Another format than ONNX: the suffixes and first bytes of its files, and how to get ONNX from them."""

    name: str
    suffixes: tuple[str, ...]
    start: int
    magic: bytes
    hint: str

    def begins(self, data: bytes) -> bool:
        return bool(self.magic) and data.startswith(self.magic, self.start)


_TORCH = "torch.onnx.export(model, (example_input,), 'model.onnx') in Python"
_TF2ONNX = "python -m tf2onnx.convert"
_FROM_GRAPH = f"{_TF2ONNX} --graphdef FILE --inputs NAMES --outputs NAMES --output model.onnx"
FORMATS = (
    _Format(
        "a TensorFlow Lite model", (".tflite",), 4, b"TFL3", f"{_TF2ONNX} --tflite FILE --output model.onnx"
    ),
    _Format(
        "a Keras model",
        (".h5", ".hdf5", ".keras"),
        0,
        b"\x89HDF",
        f"{_TF2ONNX} --keras FILE --output model.onnx",
    ),
    _Format("a PyTorch file", (".pt", ".pth", ".pt2"), 0, b"PK\3\4", _TORCH),
    _Format("a file of weights without a graph", (".safetensors", ".gguf"), 0, b"GGUF", _TORCH),
    _Format("a TensorFlow graph", (".pb",), 0, b"", _FROM_GRAPH),
    _Format("an ORT model", (".ort",), 4, b"ORTM", "the ONNX file that it was converted from"),
    _Format("a pointer that git-lfs left", (), 0, b"version https://git-lfs", "git lfs pull"),
)
ONNX_BEGINS = b"\x08"  # the tag of the IR version, which every writer puts first


def _check_format(path: Path, data: bytes) -> None:
    """An error that says what the file is, where that is known, and what makes ONNX of it."""
    suffix = path.suffix.lower()
    named = next((kind for kind in FORMATS if suffix in kind.suffixes), None)
    if named is None or data.startswith(ONNX_BEGINS):
        named = next((kind for kind in FORMATS if kind.begins(data)), None)
    if named is not None:
        what = f'"{printable(path.name)}" is {named.name}, not an ONNX file'
        raise bad_model("MM101", what, named.hint)


def _absent(path: Path) -> CompileError:
    """Nothing to read at a path: a folder, or what else the user may have meant."""
    shown = f'"{printable(str(path))}"'
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            hint = f"{_TF2ONNX} --saved-model FOLDER --output model.onnx"
            return bad_model("MM101", f"{shown} is a TensorFlow SavedModel, not an ONNX file", hint)
        inside = sorted(p.name for p in path.glob("*.onnx"))[:5]
        hint = " or ".join(printable(str(path / name)) for name in inside)
        return bad_model("MM101", f"{shown} is a folder, not an ONNX file", hint)
    if path.exists():
        hint = "- for the standard input, or the name of a file"
        return bad_model("MM101", f"{shown} is a pipe or a device, not a file", hint)
    try:
        beside = [p.name for p in path.parent.iterdir()]
    except OSError:
        return bad_model("MM101", f"there is no file {shown}")
    return bad_model("MM101", f"there is no file {shown}", printable(did_you_mean(path.name, beside).strip()))


def _check_text(path: Path, model: ModelProto) -> None:
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
    nodes = list(_nodes_below(chain(model.graph.node, *(function.node for function in model.functions))))
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


def _opsets(model: ModelProto, problems: list[CompileError]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if opsets.setdefault(domain, entry.version) != entry.version:
            what = f'the model imports two versions of operator set "{printable(domain) or "ai.onnx"}"'
            problems.append(bad_model("MM102", what))
    newest = onnx.defs.onnx_opset_version()
    version = opsets.setdefault("", 1)
    if not 1 <= version <= newest:
        raise unsupported(
            f"the model uses ONNX operator set {version}; 1 to {newest} are known",
            f"exporting for operator set {newest} or older",
            "MM204",
        )
    return opsets


Calls = dict[tuple[str, str], list[tuple[str, str]]]  # for each function, what its nodes call


def _inlined(model: ModelProto) -> ModelProto:
    """The model without functions of its own: their bodies stand where they were called."""
    calls: Calls = {
        (function.domain, function.name): [
            (node.domain, node.op_type) for node in _nodes_below(function.node)
        ]
        for function in model.functions
    }
    state: dict[tuple[str, str], int] = {}  # 1: being visited, 2: done

    def visit(name: tuple[str, str], depth: int) -> None:
        if name not in calls or state.get(name) == 2:
            return
        if state.get(name) == 1 or depth > 50:
            raise bad_model("MM102", f'function "{printable(name[1])}" calls itself, or too deep')
        state[name] = 1
        for inner in calls[name]:
            visit(inner, depth + 1)
        state[name] = 2

    for name in calls:
        visit(name, 0)
    _check_growth(model, calls)
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises whatever C++ throws
        raise bad_model(
            "MM102", f"the model's functions cannot be inlined: {printable(str(error))}"
        ) from None


def _check_growth(model: ModelProto, calls: Calls) -> None:
    """Functions that call functions can grow exponentially: count before they are inlined."""
    own = {(function.domain, function.name): function.ByteSize() for function in model.functions}
    sizes: dict[tuple[str, str], tuple[int, int]] = {}

    def grown(name: tuple[str, str]) -> tuple[int, int]:
        if name not in calls:
            return 1, 0
        if name not in sizes:
            inner = [grown(called) for called in calls[name]]
            sizes[name] = sum(n for n, _ in inner), own[name] + sum(size for _, size in inner)
        return sizes[name]

    total = [grown((node.domain, node.op_type)) for node in _nodes_below(model.graph.node)]
    nodes, size = sum(n for n, _ in total), sum(size for _, size in total)
    written = len(model.graph.node) + sum(len(function.node) for function in model.functions)
    most = min(MAX_NODES, GROWTH * written + GROWN_NODES)
    if nodes > most:
        what = f"the model has {nodes} nodes once its functions are inlined; up to {most} are allowed"
        raise bad_model("MM105", what)
    if size > GROWTH * model.ByteSize() + GROWN_BYTES:
        raise bad_model("MM105", f"the model has {size} bytes once its functions are inlined")


def _nodes_below(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those in their subgraphs."""
    queue = list(nodes)
    while queue:
        node = queue.pop()
        yield node
        for graph in subgraphs(node):
            queue += graph.node


Named = TypeVar("Named", TensorProto, ValueInfoProto)


def unique(what: str, found: Iterable[Named], problems: list[CompileError]) -> Iterator[Named]:
    """Those that have a name of their own."""
    seen: set[str] = set()
    for one in found:
        if one.name in seen or not one.name:
            problems.append(
                bad_model("MM102", f'{what} "{printable(one.name)}" is defined twice or has no name')
            )
            continue
        seen.add(one.name)
        yield one


Nodes = Sequence[tuple[Where, NodeProto]]


def ordered(nodes: Nodes, given: set[str], problems: list[CompileError]) -> list[tuple[Where, NodeProto]]:
    """The nodes in an order in which values are written before they are read, if there is one; stable."""
    writer: dict[str, int] = {}
    for k, (where, node) in enumerate(nodes):
        for name in filter(None, node.output):
            if name in writer or name in given:
                problems.append(
                    located(bad_model("MM102", f'value "{printable(name)}" is defined twice'), where)
                )
            writer.setdefault(name, k)
    readers: list[list[int]] = [[] for _ in nodes]
    waiting = [0] * len(nodes)
    undefined: set[str] = set()
    for k, (where, node) in enumerate(nodes):
        for name in filter(None, dict.fromkeys(reads(node))):
            if name in writer and name not in given:
                readers[writer[name]].append(k)
                waiting[k] += 1
            elif name not in given and name not in undefined:
                undefined.add(name)
                what = f'value "{printable(name)}" is read but nothing defines it'
                problems.append(located(bad_model("MM102", what), where))
    ready = [k for k in range(len(nodes)) if waiting[k] == 0]
    order: list[int] = []
    for k in ready:  # grows while we walk it
        order.append(k)
        for reader in readers[k]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(order) < len(nodes):
        stuck = [k for k in range(len(nodes)) if waiting[k]]
        problems.append(located(bad_model("MM102", "the graph has a cycle"), nodes[stuck[0]][0]))
        order += stuck
    in_file_order = all(writer.get(n, -1) < k for k, (_, node) in enumerate(nodes) for n in reads(node))
    return list(nodes) if in_file_order else [nodes[k] for k in order]


def _live(nodes: Nodes, graph: GraphProto) -> tuple[tuple[Where, NodeProto], ...]:
    needed = {info.name for info in graph.output}
    live: list[tuple[Where, NodeProto]] = []
    for where, node in reversed(nodes):
        if any(name in needed for name in node.output):
            needed.update(reads(node))
            live.append((where, node))
    return tuple(reversed(live))


def located(error: CompileError, *where: Where) -> CompileError:
    """The same error, with the place it is at."""
    return CompileError(error.code, error.message, exit=error.exit, at=where, hint=error.hint)
