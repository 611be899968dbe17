# SPDX-License-Identifier: Apache-2.0
"""Reads the value of a field, knowing the field's type. Nothing in a text is ever evaluated."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mmcc.ir.element_type import ELEMENT_TYPES, ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.tokens import Cursor

LONGEST_NUMBER = 400  # characters; Python refuses to read those of some thousands


def parse_value(at: Cursor, wanted: Any) -> Any:
    """A value of type `wanted`: what `mmcc.ir.text.value_text` writes. TextError if the text has another."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return _alternative(at, get_args(wanted))
    if origin in (tuple, frozenset):
        return _sequence(at, get_args(wanted), origin)
    if origin is Literal:
        return _literal(at, get_args(wanted))
    if wanted in SIMPLE:
        return SIMPLE[wanted](at)
    if wanted is Graph:
        if at.graphs is None:
            raise at.here.error("a graph cannot be read here")
        return at.graphs(at)
    return _one_of(at, dict(wanted.__members__)) if _is_enum(wanted) else parse_call(at, _by_name([wanted]))


def _is_enum(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, Enum)


def parse_number(at: Cursor, wanted: type = float) -> int | float:
    """A whole number; where `wanted` is float, any. One without a point stays an int."""
    token = at.of("number", "a number")
    if len(token.text) > LONGEST_NUMBER:
        raise token.error(f"a number of {len(token.text)} characters")
    if token.text.removeprefix("-").isdigit():
        return int(token.text)
    if wanted is int:
        raise token.error(f"a whole number is wanted, not {token}")
    return float(token.text)


def parse_element_type(at: Cursor) -> ElementType:
    """The name of an element type."""
    return _one_of(at, ELEMENT_TYPES)


def parse_call(at: Cursor, classes: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Any:
    """`Name(field=value, ...)` of one of these dataclasses; fields in their order need no name.

    `given` has values for fields that the text leaves out.
    """
    head = at.here
    cls = _one_of(at, classes)
    at.expect("(")
    hints, names = field_types(cls), [each.name for each in fields(cls)]
    values: dict[str, Any] = {}
    for _ in at.separated(")"):
        token = at.here
        name = token.text if token.kind == "word" and token.text in names else None
        if name is not None and name not in values:
            at.take()
            at.expect("=")
        elif len(values) < len(names):
            name = names[len(values)]
        if name is None or name in values:
            raise token.error(f"{head.text} has the fields {', '.join(names)}; {token} is too much")
        values[name] = parse_value(at, hints[name])
    complete = {**(given or {}), **values}
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in complete]
    if missing:
        raise head.error(f"{head.text} lacks {', '.join(missing)}")
    return cls(**complete)


@cache
def field_types(cls: Any) -> dict[str, Any]:
    """The type of each field of a dataclass."""
    return get_type_hints(cls)


def _by_name(classes: Iterable[Any]) -> dict[str, Any]:
    named = {cls.__name__: cls for cls in classes}
    assert all(map(is_dataclass, named.values())), f"fields of these types cannot be read: {named}"
    return named


def _alternative(at: Cursor, kinds: tuple[Any, ...]) -> Any:
    """The alternative that the next token begins: None, a dataclass by its name, or the only other type."""
    if type(None) in kinds and at.skip("None"):
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    classes = _by_name(kind for kind in kinds if kind not in SIMPLE and is_dataclass(kind))
    others = [kind for kind in kinds if kind not in classes.values()]
    return parse_value(at, others[0]) if others and not at.has(*classes) else parse_call(at, classes)


def _sequence(at: Cursor, kinds: tuple[Any, ...], make: Callable[[list[Any]], Any]) -> Any:
    """Items in brackets: any number of one kind, or one of each."""
    start = at.expect("[")
    count = None if len(kinds) == 1 or kinds[-1] is Ellipsis else len(kinds)
    items: list[Any] = []
    for _ in at.separated("]"):
        if len(items) == count:
            raise at.here.error(f"{count} values are wanted, not more")
        items.append(parse_value(at, kinds[0 if count is None else len(items)]))
    if count is not None and len(items) < count:
        raise start.error(f"{count} values are wanted, not {len(items)}")
    return make(items)


def _literal(at: Cursor, allowed: Iterable[str]) -> str:
    token = at.of("string", "a string")
    if token.text not in allowed:
        raise token.error(f"one of {', '.join(allowed)} is wanted, not {token}")
    return token.text


def _one_of(at: Cursor, known: Mapping[str, Any]) -> Any:
    token = at.take()
    if token.kind != "word" or token.text not in known:
        raise token.error(f"{_some(known)} is wanted, not {token}")
    return known[token.text]


def _some(known: Iterable[str]) -> str:
    names = sorted(known)
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


SIMPLE: dict[Any, Callable[[Cursor], Any]] = {
    int: lambda at: parse_number(at, int),
    float: parse_number,
    str: lambda at: at.of("string", "a string").text,
    bool: lambda at: _one_of(at, {"True": True, "False": False}),
    ElementType: parse_element_type,
}
