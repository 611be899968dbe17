"""Drive the import: inputs, then node by node, then outputs; unsupported things are reported together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from onnx import NodeProto

from mmcc.errors import CompileError, Exit, Where, printable
from mmcc.frontend import catalog  # noqa: F401  # pyright: ignore[reportUnusedImport]
from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.load import Source, load, located
from mmcc.frontend.ports import input_port, input_shapes, output_port, plain_axes
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import REGISTRY, domain_of, make_call
from mmcc.frontend.stored import stored_constants
from mmcc.frontend.tensors import to_array
from mmcc.frontend.value import Value, whole
from mmcc.ir.graph import Graph, Port
from mmcc.ops import ShapeError

FOLDING_BYTES = 256 * 2**20
MAX_LISTED = 20
MAX_RANK = 16
STATIC = "static quantization (onnxruntime.quantization.quantize_static), or the float model"
HINTS = {  # what to do about operators that are not supported, where there is something
    "DynamicQuantizeLinear": STATIC,
    "MatMulInteger": STATIC,
    "ConvInteger": STATIC,
    "LayerNormalization": "exporting for operator set 16: it is made of supported operators there",
    "NonMaxSuppression": "ending the model before it (onnx.utils.extract_model): the rest is code of yours",
    "If": "folding what is constant first: python -m onnxsim model.onnx simpler.onnx",
    "Loop": "folding what is constant first: python -m onnxsim model.onnx simpler.onnx",
}


@dataclass(slots=True)
class _Import:
    """What is known so far: the value of each ONNX name, and what cannot be done."""

    source: Source
    build: Builder
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    poisoned: set[str] = field(default_factory=set[str])  # values that an unsupported node makes
    refused: list[CompileError] = field(default_factory=list[CompileError])  # features of known operators
    unknown: dict[tuple[str, str], list[Where]] = field(default_factory=dict[tuple[str, str], list[Where]])


def import_model(
    path: str | Path,
    *,
    dims: Mapping[str, int] = MappingProxyType({}),
    name: str | None = None,
    max_bytes: int = FOLDING_BYTES,
) -> Graph:
    """Read an ONNX file. `dims` gives values to symbolic dimensions; a batch defaults to 1.

    `max_bytes` limits what evaluating the model's constants may take. Raises CompileError, and nothing
    else, for whatever the file holds.
    """
    path = Path(path)
    source = load(path)
    shapes = input_shapes(source, dims)
    state = _Import(source, Builder(budget=max_bytes))
    ports = _inputs(state, shapes)
    _initializers(state)
    read = {value for _, node in source.nodes for value in node.input}
    wanted = frozenset(read | {info.name for info in source.outputs})
    with np.errstate(all="ignore"):  # constants that overflow are the model's affair
        for where, node in source.nodes:
            _convert(state, where, node, wanted)
    _report(state)
    outputs = _outputs(state, ports)
    graph = state.build.finish(name if name is not None else path.stem, ports, outputs, _origins(state))
    return replace(graph, stored=stored_constants(source))


def _origins(state: _Import) -> dict[str, Port]:
    """For tensors that hold just one of the model's values: which, and in which layout."""
    found: dict[str, Port] = {}
    for name, value in state.values.items():
        if value.tensor in found or state.build.is_constant(value.tensor):
            continue
        axes = plain_axes(value, state.build.tensors[value.tensor].shape)
        if axes is not None:
            found[value.tensor] = Port(value.tensor, name, value.shape, value.dtype, axes)
    return found


def _inputs(state: _Import, shapes: dict[str, tuple[int, ...]]) -> list[Port]:
    ports: list[Port] = []
    readers = state.source.readers
    for info in state.source.inputs:
        shape, dtype, axes = input_port(info, shapes[info.name], readers)
        tensor = state.build.tensor(shape, dtype, info.name)
        state.build.titles[tensor.name] = info.name
        state.values[info.name] = whole(tensor, axes)
        ports.append(Port(tensor.name, info.name, shapes[info.name], dtype, axes))
    return ports


def _initializers(state: _Import) -> None:
    used = {name for _, node in state.source.nodes for name in node.input}
    used |= {info.name for info in state.source.outputs}
    for name, proto in state.source.initializers.items():
        if name not in used:
            continue
        try:
            array = to_array(proto, state.source.folder)
        except CompileError as error:
            if error.exit is not Exit.UNSUPPORTED:
                raise
            state.refused.append(error)
            state.poisoned.add(name)
            continue
        state.build.budget += 4 * array.nbytes  # re-ordering weights is not folding
        value = state.build.constant(array, name)
        state.build.titles[value.tensor] = name
        state.values[name] = value


def _convert(state: _Import, where: Where, node: NodeProto, wanted: frozenset[str]) -> None:
    domain = domain_of(node)
    entry = REGISTRY.get((domain, node.op_type))
    version = state.source.opsets.get(domain, 1)
    if entry is None:
        state.unknown.setdefault((domain, node.op_type), []).append(where)
    if entry is None or not state.poisoned.isdisjoint(node.input):
        state.poisoned.update(filter(None, node.output))
        return
    state.build.where = (where,)
    state.build.hint = next(filter(None, node.output), node.op_type)
    try:
        if version < entry.row.since:
            what = f"{node.op_type} of operator set {version}; {entry.row.since} and newer are supported"
            raise unsupported(what)
        inputs = tuple(state.values[value] if value else None for value in node.input)
        call = make_call(state.build, node, version, inputs, state.source.folder, wanted)
        made = entry.convert(call)
    except ShapeError as error:
        raise located(bad_model("MM104", str(error)), where) from None
    except CompileError as error:
        if error.exit is not Exit.UNSUPPORTED:
            raise located(error, where) from None
        state.refused.append(located(error, where))
        state.poisoned.update(filter(None, node.output))
        return
    except (ValueError, LookupError, ArithmeticError, TypeError, MemoryError) as error:
        # a hostile number that no check foresaw; still the model's fault, and never a traceback
        raise located(
            bad_model("MM103", f"the node makes no sense: {printable(str(error))}"), where
        ) from error
    results = made if isinstance(made, tuple) else (made,)
    if any(value.rank > MAX_RANK for value in results):
        raise located(bad_model("MM105", f"a tensor has more than {MAX_RANK} axes"), where)
    for value_name, value in zip(node.output, results, strict=False):
        if value_name:
            state.values[value_name] = value
            state.build.titles.setdefault(value.tensor, value_name)


def _report(state: _Import) -> None:
    """Raise one error for all that is unsupported, if anything is."""
    if not state.unknown:
        if not state.refused:
            return
        if len(state.refused) == 1:
            raise state.refused[0]
    lines: list[str] = []
    for (domain, op), places in sorted(state.unknown.items()):
        lines.append(f"{printable(op)} (domain {printable(domain) or 'ai.onnx'}), {_times(len(places))}")
    first = [places[0] for _, places in sorted(state.unknown.items())]
    features = Counter(error.message for error in state.refused)
    for message, count in features.items():
        at = next(error.at for error in state.refused if error.message == message)
        lines.append(
            f"{at[0].op + ': ' if at else ''}{message}" + (f", {_times(count)}" if count > 1 else "")
        )
        first += at[:1]
    code = "MM201" if state.unknown else "MM202"
    what = f"{len(lines)} operators or features are not supported" if len(lines) > 1 else "not supported"
    listed = lines[:MAX_LISTED] + ([f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else [])
    known = [HINTS[op] for _, op in sorted(state.unknown) if op in HINTS]
    hints = dict.fromkeys([*known, *(error.hint for error in state.refused if error.hint)])
    raise CompileError(
        code,
        f"{what}:\n" + "\n".join(listed) if len(lines) > 1 else f"{what}: {lines[0]}",
        exit=Exit.UNSUPPORTED,
        at=tuple(dict.fromkeys(first))[:MAX_LISTED],
        hint="\n".join(hints) or "`mmcc ops` lists the supported operators",
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _outputs(state: _Import, inputs: list[Port]) -> list[Port]:
    build = state.build
    taken = {port.tensor for port in inputs}
    ports: list[Port] = []
    for info in state.source.outputs:
        if info.name not in state.values:
            raise bad_model("MM102", f'output "{printable(info.name)}" is not defined')
        value = state.values[info.name]
        build.hint = info.name
        made_by = build.producer.get(value.tensor)
        build.where = made_by.where if made_by else build.where
        if value.size == 0 or value.size > MAX_ELEMENTS:
            raise bad_model("MM105", f'output "{printable(info.name)}" has shape {list(value.shape)}')
        tensor, axes = output_port(build, value)
        if tensor in taken or build.is_constant(tensor):
            tensor = build.copied(tensor)
        build.titles.setdefault(tensor, info.name)
        taken.add(tensor)
        ports.append(Port(tensor, info.name, value.shape, value.dtype, axes))
    return ports
