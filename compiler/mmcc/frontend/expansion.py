# SPDX-License-Identifier: Apache-2.0
"""Operators that ONNX defines by others: where one is not known, the nodes of ONNX's function stand for it.

Many functions depend on a node's operands and attributes (Attention, the losses). ONNX's C++ writes them, in
the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from mmcc.errors import CompileError, Where
from mmcc.frontend.call import MAX_LIST
from mmcc.frontend.convert import Import, number_of
from mmcc.frontend.narrow import in_type, result_type, widened
from mmcc.frontend.problems import Problems, bad_model, unsupported
from mmcc.frontend.reads import reads
from mmcc.frontend.schema import Schema, checked_node, domain_of
from mmcc.frontend.value import Value
from mmcc.frontend.written_out.catalog import WRITERS, written_out

MAX_DEPTH = 16  # of functions within functions
_CHILD = """
import onnx
model = onnx.ModelProto.FromString(given)
(node,), (opset,) = model.graph.node, model.opset_import
schema = onnx.defs.get_schema(node.op_type, opset.version, opset.domain)
types = [info.type.SerializeToString() for info in model.graph.input]
written = max(v for v in schema.context_dependent_function_opset_versions if v <= opset.version)
given = written, node.SerializeToString(), types  # as it was written first: its own operator set says which
answer = schema.get_context_dependent_function_with_opset_version(*given)
"""

Determinism = onnx.defs.OpSchema.NodeDeterminism
Convert = Callable[[Import, Where, NodeProto], None]


def _narrow_constants(state: Import, node: NodeProto) -> bool:
    """True if a node reads constants only, some in 16-bit floats: float32 here, which rounds otherwise."""
    build, operands = state.build, [state.values[name] for name in node.input if name]
    narrow = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    known = all(build.is_constant(value.tensor) for value in operands)
    return known and any(build.stored.get(value.tensor) in narrow for value in operands)


def expand(state: Import, where: Where, node: NodeProto, convert: Convert) -> CompileError | None:
    """Convert the nodes that ONNX defines a node by, whose operands are all known.

    The error if that cannot be done; LookupError if ONNX defines the operator by no others.
    """
    domain = domain_of(node)
    version = state.source.opsets.get(domain, 1)
    if not onnx.defs.has(node.op_type, version, domain):
        raise LookupError(node.op_type)
    try:
        schema, _ = checked_node(node, version)
    except CompileError as error:
        return error
    described: Any = schema  # more than onnx says of its types
    if _narrow_constants(state, node):
        raise LookupError(node.op_type)
    if state.depth >= MAX_DEPTH:
        return bad_model("MM105", f"functions are nested more than {MAX_DEPTH} deep")
    given = tuple(state.values[name] if name else None for name in node.input)
    try:  # the whole function is one node, whose result is rounded once
        wide = [widened(state.build, node.op_type, value) for value in given]
    except CompileError as error:
        return error
    body = _body(state, node, described, version, wide)
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in body.opset_import}
    source = replace(state.source, opsets={domain: version, **state.source.opsets, **opsets})
    own = {formal: value for formal, value in zip(body.input, wide, strict=False) if value is not None}
    wanted = {
        formal: outer
        for formal, outer in zip(body.output, node.output, strict=False)
        if outer and outer in state.wanted
    }
    steps = _live([_instance(n, node, body, described, own) for n in body.node], {*wanted})
    read = {name for inner in steps for name in reads(inner)}
    within = replace(
        state,
        source=source,
        values=own,
        sequences={},
        problems=Problems(),
        wanted=frozenset(read | {*wanted}),
        depth=state.depth + 1,
    )
    for inner in steps:
        convert(within, where, inner)
    if within.problems.found or within.problems.unknown:
        return _failed(node, within.problems)
    return _take_results(state, node, body, schema, given, within)


def has_function(state: Import, node: NodeProto) -> bool:
    """True if ONNX, or mmcc, defines a node's operator by others."""
    domain = domain_of(node)
    schema: Any = onnx.defs.get_schema(node.op_type, state.source.opsets.get(domain, 1), domain)
    if schema.node_determinism is Determinism.NonDeterministic:
        return False
    written = not domain and node.op_type in WRITERS
    return written or schema.has_function or schema.has_context_dependent_function


def _take_results(
    state: Import,
    node: NodeProto,
    body: FunctionProto,
    schema: Schema | None,
    given: tuple[Value | None, ...],
    within: Import,
) -> CompileError | None:
    """Give the results of a function to the node that it stands for, each in the type that it has there."""
    outside = {value.tensor for value in given if value is not None} | set(state.build.wide.values())
    for index, (formal, outer) in enumerate(zip(body.output, node.output, strict=False)):
        if not outer or outer not in state.wanted:
            continue
        if formal not in within.values:
            return unsupported(f"output {formal} of {node.op_type}")
        made = in_type(state.build, result_type(state.build, schema, given, index), within.values[formal])
        state.values.setdefault(outer, made)
        if made.tensor not in outside:
            state.build.titles[made.tensor] = outer
    return None


def _failed(node: NodeProto, problems: Problems) -> CompileError:
    """What is wrong with a node for what is wrong within it."""
    if problems.found:
        error = problems.found[0]
        at = error.at[0].op if error.at else node.op_type
        inside = "" if at == node.op_type else f"{at} in "
        message = f"{inside}{node.op_type}: {error.message}"
        return CompileError(error.code, message, exit=error.exit, hint=error.hint)
    names = ", ".join(sorted(op for _, op in problems.unknown))
    return unsupported(f"{names} in {node.op_type}, as ONNX writes it out", code="MM201")


def _body(
    state: Import, node: NodeProto, schema: Any, version: int, given: Sequence[Value | None]
) -> FunctionProto:
    """mmcc's own function for a node, or ONNX's; LookupError if there is none."""
    if not domain_of(node) and node.op_type in WRITERS:
        known = [_known(state, value) for value in given]
        shapes = [None if value is None else value.shape for value in given]
        return written_out(node, version, shapes, known)
    if schema.node_determinism is Determinism.NonDeterministic:  # another result every time
        raise LookupError(node.op_type)
    if schema.has_function:
        first = max((v for v in schema.function_opset_versions if v <= version), default=None)
        if first is None:
            raise LookupError(node.op_type)
        return FunctionProto.FromString(schema.get_function_with_opset_version(first))
    if not schema.has_context_dependent_function:
        raise LookupError(node.op_type)
    model = ModelProto(ir_version=8)
    model.opset_import.add(domain=domain_of(node), version=version)
    model.graph.node.add().CopyFrom(node)
    del model.graph.node[0].input[:], model.graph.node[0].output[:]
    model.graph.node[0].name = ""
    for k, name in enumerate(node.input):  # names do not matter: equal nodes are written out once
        model.graph.node[0].input.append(f"x{k}" if name else "")
        value = given[k]
        info = model.graph.input.add(name=f"x{k}")
        if value is not None:
            kind = onnx.helper.make_tensor_type_proto(number_of(state, value), value.shape)
            info.type.CopyFrom(kind)
    for k, name in enumerate(node.output):
        model.graph.node[0].output.append(f"y{k}" if name in state.wanted else "")
    made = state.sandbox.answer(_CHILD, model.SerializeToString())
    if not made:  # nothing where the node is none that ONNX can write out
        raise LookupError(node.op_type)
    return FunctionProto.FromString(made)


def _known(state: Import, value: Value | None) -> NDArray[Any] | None:
    """The elements of a constant that is small, as shapes are."""
    small = value is not None and value.size <= MAX_LIST and state.build.is_constant(value.tensor)
    return state.build.array(value) if value is not None and small else None


def _instance(
    inner: NodeProto, node: NodeProto, body: FunctionProto, schema: Any, given: dict[str, Value]
) -> NodeProto:
    """A node of the function with the attributes of the node that it stands for."""
    values = {attribute.name: attribute for attribute in body.attribute_proto}
    for name, described in schema.attributes.items():
        if described.default_value.type:
            values[name] = described.default_value
    values |= {attribute.name: attribute for attribute in node.attribute}
    missing = {*body.input} - given.keys()
    made = NodeProto()
    made.CopyFrom(inner)
    _substitute(made, values, missing)
    return made


def _substitute(node: NodeProto, values: dict[str, AttributeProto], missing: set[str]) -> None:
    """Set attributes that refer to those of the function; operands that it was not given are left out."""
    for k, name in enumerate(node.input):
        if name in missing:
            node.input[k] = ""
    kept: list[AttributeProto] = []
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in values:
                continue
            set_one = AttributeProto()
            set_one.CopyFrom(values[attribute.ref_attr_name])
            set_one.name = attribute.name
            attribute = set_one
        for graph in _graphs(attribute):
            for inner in graph.node:
                _substitute(inner, values, missing)
        kept.append(attribute)
    kept = list(map(_copy, kept))
    del node.attribute[:]
    node.attribute.extend(kept)


def _copy(attribute: AttributeProto) -> AttributeProto:
    made = AttributeProto()
    made.CopyFrom(attribute)
    return made


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _live(nodes: list[NodeProto], needed: set[str]) -> list[NodeProto]:
    """Those of the nodes, in their order, that make what is needed."""
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(reads(node))
            kept.append(node)
    return kept[::-1]
