# SPDX-License-Identifier: Apache-2.0
"""A model's own functions: their bodies stand where they were called, if that does not grow too much."""

from __future__ import annotations

from collections.abc import Container, Sequence

import onnx
from onnx import FunctionProto, ModelProto, inliner

from mmcc.errors import printable
from mmcc.frontend.model_file import MAX_NODES
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.reads import nodes_below
from mmcc.frontend.schema import Schema

OF_TYPES = ("saturate", "round_mode")  # attributes that say something of some types only: float8
# operators that mean something else from a version on, with the same operands and perhaps more attributes
OTHERWISE = {
    **{"PRelu": 7, "OneHot": 11, "ConvTranspose": 11, "RoiAlign": 16},
    **{"Split": 18, "AveragePool": 19, "GroupNormalization": 21},
}
GAINS = 7  # operator sets before it had attributes whose absence meant something: is_test, broadcast
GROWTH = 4  # inlining functions may make this many times the nodes in the file, and
GROWN_NODES, GROWN_BYTES = 20_000, 64 * 2**20  # these many more

MAX_CALLS = 50  # functions that call one another
TOLD = 8  # names of functions in a message

Calls = dict[tuple[str, str], list[tuple[str, str]]]  # for each function, what its nodes call


def inlined(model: ModelProto) -> ModelProto:
    """The model without functions of its own: their bodies stand where they were called."""
    calls: Calls = {
        (function.domain, function.name): [(node.domain, node.op_type) for node in nodes_below(function.node)]
        for function in model.functions
    }
    done: set[tuple[str, str]] = set()

    def visit(name: tuple[str, str], path: tuple[tuple[str, str], ...]) -> None:
        if name not in calls or name in done:
            return
        if name in path:
            again = path[path.index(name) :]
            raise bad_model("MM102", f'function "{printable(name[1])}" calls itself{_through(again[1:])}')
        if len(path) > MAX_CALLS:
            what = f'function "{printable(name[1])}" is called by more than {MAX_CALLS} others'
            raise bad_model("MM102", f"{what}, one by the other{_through(path)}")
        for inner in calls[name]:
            visit(inner, (*path, name))
        done.add(name)

    for name in calls:
        visit(name, ())
    _check_growth(model, calls)
    model = _of_one_opset(model, _called(model, calls))
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises whatever C++ throws
        raise bad_model(
            "MM102", f"the model's functions cannot be inlined: {printable(str(error))}"
        ) from None


def _through(path: Sequence[tuple[str, str]]) -> str:
    """The functions that a call goes through, as a message has them."""
    names = [f'"{printable(name, 60)}"' for _, name in path]
    if len(names) > TOLD:
        names = [*names[: TOLD - 1], "...", names[-1]]
    return f" through {', '.join(names)}" if names else ""


def _called(model: ModelProto, calls: Calls) -> set[tuple[str, str]]:
    """The functions that the model calls, themselves or through others."""
    queue = [(node.domain, node.op_type) for node in nodes_below(model.graph.node)]
    found: set[tuple[str, str]] = set()
    while queue:
        name = queue.pop()
        if name in calls and name not in found:
            found.add(name)
            queue += calls[name]
    return found


def _of_one_opset(model: ModelProto, called: Container[tuple[str, str]]) -> ModelProto:
    """The model with its functions in its own operator sets: of others the inliner would leave the calls.

    A function may be of another version where the operators of its nodes only learned types in between, or
    attributes that the nodes do not have; an error where one changed more.
    """
    versions = {_domain(entry.domain): entry.version for entry in model.opset_import}
    others = False
    for function in model.functions:
        for entry in function.opset_import:
            version = versions.get(_domain(entry.domain), entry.version)
            others |= version != entry.version
            changed = _changed(function, _domain(entry.domain), (entry.version, version))
            if changed and (function.domain, function.name) in called:
                what = f'function "{printable(function.name)}" is of operator set {entry.version}, in which'
                what += f" {printable(changed, 60)} is another than in that of the model, {version}"
                raise unsupported(what, "exporting both for one operator set", "MM204")
    if not others:
        return model
    made = ModelProto()
    made.CopyFrom(model)
    for function in made.functions:
        for entry in function.opset_import:
            entry.version = versions.get(_domain(entry.domain), entry.version)
    return made


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _changed(function: FunctionProto, domain: str, versions: tuple[int, int]) -> str:
    """An operator of a function's nodes that is not the same in both versions of its set; \"\" if all are."""
    if versions[0] == versions[1]:
        return ""
    for node in nodes_below(function.node):
        if _domain(node.domain) != domain:
            continue
        known = [
            0 < version <= onnx.defs.onnx_opset_version() and onnx.defs.has(node.op_type, version, domain)
            for version in versions
        ]
        if not any(known):
            continue  # of an operator of others nothing is known, in any version
        if not all(known):
            return node.op_type
        changed = not domain and min(versions) < OTHERWISE.get(node.op_type, 0) <= max(versions)
        schemas = [onnx.defs.get_schema(node.op_type, v, domain) for v in versions]
        own = {attribute.name for attribute in node.attribute}
        if min(versions) < GAINS:
            own |= {name for schema in schemas for name in schema.attributes}
        old, new = (_signature(schema, own, other) for schema, other in (schemas, schemas[::-1]))
        if changed or old != new:
            return node.op_type
    return ""


def _signature(schema: Schema, own: Container[str], other: Schema) -> tuple[object, ...]:
    """What makes two versions of an operator the same, whatever types they take: operands and attributes.

    Attributes that the other version does not know count only if they must be there, or a node has them among
    its `own`: without them it means what it did before they came.
    """
    attributes = {
        name: (described.type, described.required, described.default_value.SerializeToString())
        for name, described in schema.attributes.items()
        if name not in OF_TYPES and (name in other.attributes or described.required or name in own)
    }
    operands, results = (
        [(formal.name, formal.option) for formal in formals] for formals in (schema.inputs, schema.outputs)
    )
    return attributes, operands, results


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

    total = [grown((node.domain, node.op_type)) for node in nodes_below(model.graph.node)]
    nodes, size = sum(n for n, _ in total), sum(size for _, size in total)
    written = len(model.graph.node) + sum(len(function.node) for function in model.functions)
    most = min(MAX_NODES, GROWTH * written + GROWN_NODES)
    if nodes > most:
        what = f"the model has {nodes} nodes once its functions are inlined; up to {most} are allowed"
        raise bad_model("MM105", what)
    if size > GROWTH * model.ByteSize() + GROWN_BYTES:
        raise bad_model("MM105", f"the model has {size} bytes once its functions are inlined")
