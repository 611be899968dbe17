# SPDX-License-Identifier: Apache-2.0
"""Read an ONNX file and check the shape of its graph, before anything is converted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.functions import inlined
from mmcc.frontend.model_file import check_text, parsed
from mmcc.frontend.order import live, ordered, unique
from mmcc.frontend.problems import bad_model, unsupported

TRAINING_INFO = "training_info of the model is left out: mmcc train makes steps of its own from its weights"


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
    notes: tuple[str, ...] = ()  # what of the file is left out


def load(path: Path) -> Source:
    """Read a model file; CompileError for what is no ONNX model. What is wrong in its graph is collected."""
    model = parsed(path)
    check_text(path, model)
    if model.functions:
        model = inlined(model)
        check_text(path, model)
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
    outputs = tuple(info for info in graph.output if info.name)  # one that is listed twice has two buffers
    if len(outputs) < len(graph.output):
        problems.append(bad_model("MM102", f"{len(graph.output) - len(outputs)} outputs have no name"))
    nodes = [(Where(path.name, k, node.op_type, node.name), node) for k, node in enumerate(graph.node)]
    given = {info.name for info in inputs} | initializers.keys()
    sparse = {tensor.values.name for tensor in graph.sparse_initializer}
    in_order = ordered(nodes, given | sparse, problems)
    made = given.union(*(node.output for _, node in nodes))
    for info in outputs:
        if info.name not in made:
            problems.append(bad_model("MM102", f'output "{printable(info.name)}" is not defined'))
    stated = {info.name: info for info in (*graph.value_info, *outputs)}
    needed = live(in_order, graph)
    return Source(
        path.name,
        path.parent,
        opsets,
        inputs,
        outputs,
        initializers,
        needed,
        stated,
        tuple(problems),
        (TRAINING_INFO,) if model.training_info else (),
    )


def _opsets(model: ModelProto, problems: list[CompileError]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if opsets.setdefault(domain, entry.version) != entry.version:
            what = f'the model imports two versions of operator set "{printable(domain) or "ai.onnx"}"'
            problems.append(bad_model("MM102", what))
    for domain, version in opsets.items():
        if domain and not 0 <= version < 2**31:
            what = f'the model uses operator set "{printable(domain)}" {version}, a version that none has'
            raise unsupported(what, code="MM204")
    newest = onnx.defs.onnx_opset_version()
    version = opsets.setdefault("", 1)
    if not 1 <= version <= newest:
        raise unsupported(
            f"the model uses ONNX operator set {version}; 1 to {newest} are known",
            f"exporting for operator set {newest} or older",
            "MM204",
        )
    return opsets
