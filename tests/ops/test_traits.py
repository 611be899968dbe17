# SPDX-License-Identifier: Apache-2.0
"""What ops say of themselves is held against their references and their loops, over the cases of all ops."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import fields, replace
from typing import Any

import numpy as np
import op_cases_float
import op_cases_int8
import pytest
from ir_text import read
from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Indexed, Nest
from mmcc.ir.traits import Alias, Moves
from mmcc.ops import OPS, op
from mmcc.ops.batch_norm import BatchNorm
from mmcc.ops.movement import Pad
from mmcc.ops.paging import PageIn, PageOut
from mmcc.ops.pool import MaxPool, MaxPoolIndices
from mmcc.ops.quantize import DequantizeConstant
from mmcc.ops.recurrent_gradient import RecurrentGradient
from mmcc.ops.repeat import Repeat, in_turn
from mmcc.ops.stream import ReadRows, WriteRows
from mmcc.ops.suppression import NonMaxSuppression
from mmcc.ops.topk import TopK
from mmcc.ops.window import Window
from op_case import OpCase, rng_of

pytestmark = pytest.mark.quick


BODY = read(
    """
    input %h: f32[5,6]
    input %x: f32[5,6]
    input %v: f32[5,6]
    %s: f32[5,6] = Binary("add")(%h, %x)
    %t: f32[5,6] = Binary("mul")(%s, %v)
    %g: f32[5,6] = Unary("tanh")(%t)
    output %g
    output %s
    """
)


def other_cases() -> list[OpCase]:
    """Of ops whose kernels are tested elsewhere, or that have none."""
    rng = rng_of("traits")
    x = rng.permutation(120).astype(np.float32).reshape(4, 5, 6)
    w = rng.integers(-128, 128, (4, 3)).astype(np.int8)
    return [
        OpCase("top_3", TopK(3), (x,)),
        OpCase("least_2", TopK(2, smallest=True), (x,)),
        OpCase("boxes", NonMaxSuppression(3, 6, 0.5), (x[:, :, :4][:1], x[:1, :2, :5])),
        OpCase("max_pool_indices", MaxPoolIndices(Window((2, 2))), (x,)),
        OpCase("per_channel", DequantizeConstant((0.5, 0.25, 2.0, 1.0), (0, 1, 2, 3), 0), (w,), (True,)),
        OpCase("read", ReadRows(0), (x,)),
        OpCase("write", WriteRows(0), (x,)),
        OpCase("page_out", PageOut(0), (x,)),
        OpCase("page_in", PageIn(0), (x,)),
        OpCase("begun", RecurrentGradient("rnn", begun=True), (x[0], x.reshape(20, 6)[:6], x[1])),
        OpCase(
            "repeat",
            Repeat(BODY, 4, 1, (in_turn(4, back=True),), (False,), (0,)),
            (x[0] / 128, x / 128, x[1] / 128),
        ),
        OpCase("batch_norm", BatchNorm(1e-3, 0.9), (x, *x.reshape(20, 6)[:4])),
    ]


def cases_by_op() -> dict[str, list[OpCase]]:
    found: dict[str, list[OpCase]] = defaultdict(list)
    families = (*op_cases_float.FAMILIES.values(), *op_cases_int8.FAMILIES.values(), other_cases)
    for case in (case for family in families for case in family()):
        found[type(case.op).__name__].append(case)
    return found


CASES = cases_by_op()
EVERY = [case for cases in CASES.values() for case in cases]
MOVING = [case for case in EVERY if case.op.traits.moves is not None]


def test_all_operators_have_cases() -> None:
    assert CASES.keys() == OPS.keys()


def test_an_op_that_states_nothing_is_refused() -> None:
    class Silent:
        kernel = "copy"

    with pytest.raises(AssertionError, match="Silent does not state its traits"):
        op(Silent)
    assert "Silent" not in OPS


@pytest.mark.parametrize("case", MOVING, ids=lambda case: case.name)
def test_moved_elements_are_those_of_the_operands(case: OpCase) -> None:
    """Numbers in place of elements, all different: the result has no others. An increasing function may be
    applied before or after; so may any function, if the places do not depend on order."""
    moved, own = _without_own_value(case.op)
    ends = np.cumsum([a.size for a in case.inputs])
    rng = rng_of(case.name)
    order = rng.permutation(ends[-1]).astype(np.int64)
    operands = [o.reshape(a.shape) for o, a in zip(np.split(order, ends[:-1]), case.inputs, strict=True)]
    found = moved.reference(*operands)[0]
    assert found.shape == case.want.shape
    assert set(found.flat) <= {*range(ends[-1]), *own}
    increasing = np.cumsum(rng.integers(1, 9, ends[-1]))
    tables = [increasing]
    if case.op.traits.moves is Moves.BY_PLACE:
        tables += [rng.permutation(ends[-1]), -increasing]
    for table in tables:
        after = moved.reference(*(table[o] for o in operands))[0]
        assert np.array_equal(after, np.where(found < 0, found, table[np.maximum(found, 0)]))


def _without_own_value(op: Any) -> tuple[Any, set[int]]:
    """The op, and what it has of its own: a Pad its value, made one that no element has; a MaxPool the least
    value, for a window that lies in the padding."""
    if isinstance(op, Pad) and op.mode == "constant":
        return replace(op, value=-1.0), {-1}
    return op, {np.iinfo(np.int64).min} if isinstance(op, MaxPool) else set()


def test_order_matters_to_what_says_so() -> None:
    some = [case for case in MOVING if case.op.traits.moves is Moves.BY_ORDER]
    names = {type(case.op).__name__ for case in some}
    assert names == {type(case.op).__name__ for case in some if _depends_on_order(case)} != set()


@pytest.mark.parametrize("name", CASES)
def test_what_permutes_has_every_element_once(name: str) -> None:
    """Others have several operands, or leave out or repeat elements, in some case."""
    permutes = all(_has_every_element_once(case) for case in CASES[name])
    assert {case.op.traits.permutes for case in CASES[name]} == {permutes}


def _has_every_element_once(case: OpCase) -> bool:
    if case.op.traits.moves is None or len(case.inputs) > 1:
        return False
    numbers = np.arange(case.inputs[0].size)
    moved = case.op.reference(numbers.reshape(case.inputs[0].shape))[0]
    return np.array_equal(np.sort(moved, None), numbers)


def _depends_on_order(case: OpCase) -> bool:
    x = rng_of(case.name).permutation(case.inputs[0].size).astype(np.int32).reshape(case.inputs[0].shape)
    return not np.array_equal(case.op.reference(-x)[0], -case.op.reference(x)[0])


CHOOSING = [case for case in EVERY if case.op.traits.chooser is not None]


@pytest.mark.parametrize("case", CHOOSING, ids=lambda case: case.name)
def test_chosen_elements_are_those_of_the_other_operands(case: OpCase) -> None:
    """Numbers in place of elements, all different: any function may be applied before or after."""
    chooser = case.op.traits.chooser
    assert case.op.traits.moves is None
    ends = np.cumsum([0 if k == chooser else a.size for k, a in enumerate(case.inputs)])
    rng = rng_of(case.name)
    parts = np.split(rng.permutation(ends[-1]).astype(np.int64), ends[:-1])
    operands = [
        a if k == chooser else part.reshape(a.shape)
        for k, (part, a) in enumerate(zip(parts, case.inputs, strict=True))
    ]
    (found,) = case.op.reference(*operands)
    assert found.shape == case.want.shape
    assert set(found.flat) <= {*range(ends[-1])}
    table = rng.permutation(ends[-1])
    after = case.op.reference(*(a if k == chooser else table[a] for k, a in enumerate(operands)))[0]
    assert np.array_equal(after, table[found])


OR_THE_LEAST = {"PoolByArgMax"}  # chooses elements of an operand, and has a number of its own beside them


@pytest.mark.parametrize("name", CASES)
def test_what_only_moves_says_so(name: str) -> None:
    """Others give, in some case, elements that none of their operands has."""
    others = [case for case in CASES[name] if case.op.traits.moves is None and case.op.traits.chooser is None]
    assert not others or name in OR_THE_LEAST or any(_changes(case) for case in others)


def _changes(case: OpCase) -> bool:
    had = {value for k in case.activations for value in case.inputs[k].flat}
    return any(value == value and value not in had for value in case.want.flat)


ALIASES = [case for case in EVERY if case.op.traits.alias is not None]


@pytest.mark.parametrize("case", ALIASES, ids=lambda case: case.name)
def test_a_view_has_the_bytes_that_it_says(case: OpCase) -> None:
    assert case.op.traits.moves is Moves.BY_PLACE
    ends = np.cumsum([a.size for a in case.inputs])
    parts = np.split(np.arange(ends[-1]), ends[:-1])
    operands = [part.reshape(a.shape) for part, a in zip(parts, case.inputs, strict=True)]
    (found,) = case.op.reference(*operands)
    match case.op.traits.alias:
        case Alias.SAME:
            assert found.reshape(-1).tolist() == list(range(ends[-1]))
        case Alias.PART:  # where the nest's access finds them, each once
            (read,) = case.nest.reads
            assert len(set(found.flat)) == found.size
            assert np.array_equal(found, _read_by(case.nest, read, operands[0]))
        case Alias.JOIN:  # every operand whole, at its access
            assert sorted(found.flat) == list(range(ends[-1]))
            assert [read.operand for read in case.nest.reads] == list(range(len(operands)))
            for read, part in zip(case.nest.reads, operands, strict=True):
                first = [-index.offset for index in read.index]
                box = tuple(slice(a, a + n) for a, n in zip(first, part.shape, strict=True))
                assert np.array_equal(found[box], part)


def _read_by(nest: Nest, read: Access, x: np.ndarray) -> np.ndarray:
    """The elements that a nest of parallel loops reads, in the order in which it writes."""
    names = [loop.name for loop in nest.loops]
    counters = dict(zip(names, np.indices([loop.extent for loop in nest.loops]), strict=True))
    at = [sum((c * counters[loop] for loop, c in index.terms), index.offset) for index in read.index]
    return x[tuple(np.broadcast_arrays(*at))] if at else x


ELEMENTWISE = {name for name, cases in CASES.items() if all(c.op.traits.elementwise for c in cases)}
COPIES_GOING_ON = {"PageOut", "PageIn"}  # they also read what must stay until a copy is complete
OF_CHANNELS = {"AffineInt8", "BatchNorm"}  # another function in each channel, with numbers for each


@pytest.mark.parametrize("name", CASES)
def test_elementwise_is_by_the_same_function_everywhere(name: str) -> None:
    """Elements in another order give the results in that order, operands being as large as the result."""
    same = [_is_same_everywhere(case) for case in CASES[name]]
    assert all(same) is (name in ELEMENTWISE | OF_CHANNELS | COPIES_GOING_ON)


def _is_same_everywhere(case: OpCase) -> bool:
    tables = {read.operand for read in case.nest.reads if read.index == (None,)}
    flat: list[np.ndarray] = []
    order = rng_of(case.name).permutation(case.want.size)
    for k, x in enumerate(case.inputs):
        if k not in tables:
            try:
                x = np.broadcast_to(x, case.want.shape).reshape(-1)[order]
            except ValueError:
                return False
        flat.append(x)
    try:
        (found,) = case.op.reference(*flat)
    except (ValueError, IndexError):
        return False
    expected = case.want.reshape(-1)[order]
    return found.shape == expected.shape and np.array_equal(
        found, expected, equal_nan=ElementType.of(found).is_float
    )


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_elementwise_ops_read_at_their_own_place(name: str) -> None:
    """Which operands are repeated, and which are tables, is as the loops have it."""
    for case in CASES[name]:
        nest = case.nest
        tables = [read for read in nest.reads if not _is_at_its_place(nest, read)]
        assert bool(tables) is not case.op.traits.broadcasts, case.name
        assert all(case.op.traits.tables and read.index == (None,) for read in tables), case.name


def _is_at_its_place(nest: Nest, read: Access) -> bool:
    own = nest.write.index[len(nest.write.index) - len(read.index) :]
    return all(
        not isinstance(index, Indexed) and (index == at or (index == CONSTANT and extent == 1))
        for index, at, extent in zip(read.index, own, read.shape, strict=True)
    )


@pytest.mark.parametrize("name", CASES)
def test_what_saturates_has_bounds(name: str) -> None:
    """Narrower bounds clip the result, and change nothing else."""
    bounded = {"low", "high"} <= {field.name for field in fields(OPS[name])}
    for case in CASES[name]:
        assert case.op.traits.saturates is bounded
        if bounded:
            assert case.want.dtype == (np.int16 if "Int16" in name else np.int8)
            low, high = max(case.op.low, -3), min(case.op.high, 5)
            narrow = replace(case.op, low=low, high=high)
            assert np.array_equal(narrow.reference(*case.inputs)[0], np.clip(case.want, low, high))


MIXED = {
    "Cast",
    "BitCast",
    "ArgMax",
    "NonMaxSuppression",
    "ClampBits",
    "PoolArgMax",
    "Where",
    "TakeLines",
}  # which go between types, but not by a scale


@pytest.mark.parametrize("name", CASES)
def test_what_converts_goes_between_integers_and_floats(name: str) -> None:
    """Not counting constants, but those of an op that has nothing else."""
    if name in MIXED:
        return
    for case in CASES[name]:
        read = {ElementType.of(case.inputs[k]).is_float for k in case.activations or range(len(case.inputs))}
        goes = ElementType.of(case.want).is_float not in read
        comparison = case.want.dtype == np.bool_
        assert case.op.traits.converts is (goes and not comparison), case.name


@pytest.mark.parametrize("name", CASES)
def test_tables_are_constants(name: str) -> None:
    for case in CASES[name]:
        assert not case.op.traits.tables or len(case.activations) < len(case.inputs), case.name


@pytest.mark.parametrize("size", [0.0, 1e30])
@pytest.mark.parametrize("name", sorted(OPS))
def test_no_reference_warns_however_large_numbers_are(name: str, size: float) -> None:
    """Users of a compile see the warnings of numpy otherwise."""
    for case in cases_by_op()[name]:
        with np.errstate(all="ignore"):
            inputs = [x * x.dtype.type(size) if x.dtype == np.float32 else x for x in case.inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            case.op.reference(*inputs)
