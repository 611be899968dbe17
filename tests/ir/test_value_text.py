# SPDX-License-Identifier: Apache-2.0
"""Fields of ops and of other values as text: each kind of type is written and read."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum, auto
from itertools import chain
from math import inf, nan
from types import NoneType
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.parse_values import field_types, parse_call, parse_value
from mmcc.ir.text import value_text
from mmcc.ir.tokens import Cursor, TextError
from mmcc.ops import OPS
from mmcc.ops.activation import Clamp
from mmcc.ops.window import Window
from op_cases_float import FAMILIES as FLOAT
from op_cases_int8 import FAMILIES as INT8

pytestmark = pytest.mark.quick


def test_every_op_of_the_kernels_cases_survives() -> None:
    """All fields of all ops, with many values; `test_every_operator_has_cases` sees that none is missing."""
    cases = chain.from_iterable(family() for family in (*FLOAT.values(), *INT8.values()))
    distinct = {value_text(case.op): case.op for case in cases}
    assert len({type(op) for op in distinct.values()}) > 30
    for op in distinct.values():
        at = Cursor(value_text(op))
        back = parse_call(at, OPS)
        assert back == op
        assert value_text(back) == value_text(op)
        assert at.here.kind == "end"


@pytest.mark.parametrize("name", sorted(OPS))
def test_fields_of_every_op_have_types_that_are_read(name: str) -> None:
    """A field of a new kind of type fails here, and not when somebody reads a dump."""
    kinds = [field_types(OPS[name])[each.name] for each in fields(OPS[name]) if each.repr]
    while kinds:
        kind = kinds.pop()
        if get_origin(kind) is not Literal:
            kinds += [inner for inner in get_args(kind) if inner not in (Ellipsis, NoneType)]
        if is_dataclass(kind) and kind is not ElementType and kind is not Graph:
            kinds += [field_types(kind)[each.name] for each in fields(kind)]
        with pytest.raises(TextError):  # the text is wrong for all kinds, and no other error comes
            parse_value(Cursor("}"), kind)


class Colour(Enum):
    RED = auto()
    GREEN = auto()


@dataclass(frozen=True)
class Everything:
    colour: Colour
    kind: ElementType
    mode: Literal["one", "other"]
    activation: Clamp | None
    size: int | None
    names: frozenset[str]
    pair: tuple[int, float]
    windows: tuple[Window, ...]
    flag: bool = False
    scale: float = 1.0


def test_fields_of_every_type() -> None:
    value = Everything(
        Colour.GREEN,
        ElementType.U4,
        "other",
        Clamp(-1, inf),
        None,
        frozenset({"b", 'a"\n%'}),
        (3, -0.0),
        (Window((1, 2)), Window((3, 3), pads=(1, 0, 1, 0))),
        flag=True,
        scale=nan,
    )
    for changed in (
        value,
        replace(value, activation=None, size=-7, names=frozenset(), windows=()),
    ):
        back = parse_call(Cursor(value_text(changed)), {"Everything": Everything})
        assert value_text(back) == value_text(changed)
        assert replace(back, scale=0.0) == replace(changed, scale=0.0)  # nan is not itself


@pytest.mark.parametrize("kind", [dict[str, int], np.ndarray, object, tuple[bytes, ...]])
def test_a_field_that_cannot_be_read_is_a_fault_of_ours(kind: object) -> None:
    with pytest.raises(AssertionError, match="cannot be read"):
        parse_value(Cursor("[Name()]") if get_origin(kind) is tuple else Cursor("Name()"), kind)


def test_numpy_scalars_in_fields_are_numbers() -> None:
    assert value_text(Clamp(np.float32(0.1), np.int64(6))) == "Clamp(low=0.10000000149011612, high=6)"
