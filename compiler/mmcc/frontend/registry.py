# SPDX-License-Identifier: Apache-2.0
"""Which function converts which ONNX operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeVar

import onnx

from mmcc.frontend.call import Call
from mmcc.frontend.value import Value

MICROSOFT = "com.microsoft"
LEARNED = "ai.onnx.ml"

Result = Value | tuple[Value, ...]
Convert = TypeVar("Convert", bound=Callable[[Call], Result])


class Layout(Enum):
    """What an operator says about the layout of its first operand."""

    PLAIN = auto()  # its axes are ONNX's
    ANY = auto()  # nothing: those that read its result decide
    CHANNELS_FIRST = auto()  # axis 1 is channels, space follows: best held channels-last


@dataclass(frozen=True, slots=True)
class Row:
    """One supported operator, as `mmcc ops` lists it."""

    domain: str
    op: str
    since: int  # the first operator set supported; every newer one is too
    notes: str


@dataclass(frozen=True, slots=True)
class Entry:
    row: Row
    convert: Callable[[Call], Result]
    layout: Layout
    ignored: frozenset[str]  # attributes that do not change what inference computes


# What exporters leave on nodes of any operator: notes for tools, or for the runtime that wrote the file.
NOTES = frozenset({"consumed_inputs", "onnx_opset_version"})


REGISTRY: dict[tuple[str, str], Entry] = {}


def converts(
    *ops: str,
    domain: str = "",
    since: int = 1,
    notes: str = "",
    layout: Layout = Layout.PLAIN,
    ignored: tuple[str, ...] = (),
) -> Callable[[Convert], Convert]:
    """Register a function as the converter of some operators.

    It must ask its call for every attribute that a node sets: one that is neither asked for nor in `ignored`
    is refused, so that none is passed over in silence.
    """

    def register(function: Convert) -> Convert:
        for op in ops:
            assert (domain, op) not in REGISTRY, f"{op} is registered twice"
            row = Row(domain, op, since, notes)
            REGISTRY[domain, op] = Entry(row, function, layout, NOTES | frozenset(ignored))
        return function

    return register


def supported_operators() -> list[Row]:
    """Every operator the importer knows, by domain and name; since when, as far as ONNX has had it."""
    first: dict[tuple[str, str], int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        key = (schema.domain, schema.name)
        first[key] = min(first.get(key, schema.since_version), schema.since_version)
    rows = [REGISTRY[key].row for key in sorted(REGISTRY)]
    return [replace(row, since=max(row.since, first.get((row.domain, row.op), 1))) for row in rows]
