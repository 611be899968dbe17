# SPDX-License-Identifier: Apache-2.0
"""What is known while a model is imported, and one step of it: a node is converted, or there is an error."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Set
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, TypeProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.builder import MAX_RANK, Builder
from mmcc.frontend.call import make_call
from mmcc.frontend.load import Source
from mmcc.frontend.narrow import narrowed, widened
from mmcc.frontend.problems import Problems, bad_model, located, unsupported
from mmcc.frontend.registry import Entry
from mmcc.frontend.row_rules import Rows
from mmcc.frontend.sandbox import Sandbox
from mmcc.frontend.schema import domain_of
from mmcc.frontend.tensors import DTYPES, NUMBERS, to_array
from mmcc.frontend.value import Members, Value
from mmcc.ir.op import ShapeError

CONVERTED = "onnx.version_converter.convert_version(model, 13)"  # which knows few operators this old


@dataclass(slots=True)
class Import:
    """What is known so far: the value of each ONNX name, and what is wrong."""

    source: Source
    build: Builder
    problems: Problems
    values: MutableMapping[str, Value] = field(default_factory=dict[str, Value])
    sequences: MutableMapping[str, Members] = field(default_factory=dict[str, Members])
    opaque: set[str] = field(default_factory=set[str])  # constants whose elements are not known
    lost: set[str] = field(default_factory=set[str])  # values of which nothing is known
    wanted: frozenset[str] = frozenset()  # values that something reads
    uncertain: dict[Value, Rows] = field(default_factory=dict[Value, Rows])  # may not all be there
    inferred: dict[str, TypeProto] | None = None  # by ONNX, once it was asked
    probed: int = 0  # nodes that were tried out with made-up operands
    depth: int = 0  # branches and functions around the node being converted
    sandbox: Sandbox = field(default_factory=Sandbox)

    def knows(self, name: str) -> bool:
        """True of a value, or a sequence of values, of which all is known."""
        return name in self.values or name in self.sequences

    def define(self, name: str, made: Value | Members) -> None:
        """Give what a node made its name in the model."""
        if isinstance(made, tuple):
            self.sequences[name] = made
        else:
            self.values[name] = made
            self.build.titles.setdefault(made.tensor, name)


def add_constants(state: Import, constants: Mapping[str, TensorProto], used: Set[str]) -> None:
    """Those constants of a graph that something reads become values."""
    for name, proto in constants.items():
        if name not in used:
            continue
        if id(proto) in state.build.read:
            state.values[name] = state.build.read[id(proto)][1]
            continue
        try:
            array = to_array(proto, state.source.folder)
        except CompileError as error:
            state.problems.add(error)
            state.opaque.add(name)
            continue
        state.build.budget += 4 * array.nbytes  # re-ordering weights is not folding
        state.values[name] = constant_value(state, proto, array, name)
        state.build.learned.add(state.values[name].tensor)
        state.build.read[id(proto)] = proto, state.values[name]


def constant_value(state: Import, proto: TensorProto, array: NDArray[Any], name: str) -> Value:
    """The value of a constant whose elements are `array`."""
    value = state.build.constant(array, name)
    if proto.data_type not in DTYPES:
        state.build.stored[value.tensor] = proto.data_type
    state.build.titles[value.tensor] = name
    return value


def number_of(state: Import, value: Value) -> int:
    """ONNX's number of the element type that a value has in the model."""
    return state.build.stored.get(value.tensor, NUMBERS[value.dtype])


def attempt(state: Import, where: Where, node: NodeProto, entry: Entry) -> CompileError | None:
    """Convert a node whose operands are all known; what is wrong with it, if anything is."""
    state.build.where = (where,)
    state.build.hint = next(filter(None, node.output), node.op_type)
    inputs = tuple(state.values[name] if name else None for name in node.input)
    try:
        results = converted(state, node, entry, inputs)
    except CompileError as error:
        return located(error, where)
    for name, value in zip(node.output, results, strict=False):
        if name and name not in state.values:  # of two definitions the first counts
            state.values[name] = value
            state.build.titles.setdefault(value.tensor, name)
    return None


def converted(
    state: Import, node: NodeProto, entry: Entry, inputs: tuple[Value | None, ...]
) -> tuple[Value, ...]:
    """The outputs of a node, for these operands; CompileError for whatever is wrong with it."""
    try:
        version = checked_version(state, node, entry)
        wide = tuple(widened(state.build, node.op_type, value) for value in inputs)
        call = make_call(state.build, node, version, wide, state.source.folder, state.wanted)
        made = entry.convert(call)
        results = made if isinstance(made, tuple) else (made,)
        results = tuple(narrowed(call, inputs, value, k) for k, value in enumerate(results))
        unread = [name for name in call.unread() if name not in entry.ignored]
        if unread:
            raise unsupported(f"attribute {', '.join(map(printable, unread))} of {node.op_type}")
    except ShapeError as error:
        raise bad_model("MM104", str(error)) from None
    except (ValueError, LookupError, ArithmeticError, TypeError, MemoryError) as error:
        # a hostile number that no check foresaw; still the model's fault, and never a traceback
        raise bad_model("MM103", f"the node makes no sense: {printable(str(error))}") from error
    if any(value.rank > MAX_RANK for value in results):
        raise bad_model("MM105", f"a tensor has more than {MAX_RANK} axes")
    return results


def checked_version(state: Import, node: NodeProto, entry: Entry) -> int:
    """The version of the node's operator set; an error where it is older than what is supported."""
    version = state.source.opsets.get(domain_of(node), 1)
    if version < entry.row.since:
        what = f"{node.op_type} of operator set {version}; {entry.row.since} and newer are supported"
        raise unsupported(what, CONVERTED if node.op_type == "Upsample" else "")
    return version
