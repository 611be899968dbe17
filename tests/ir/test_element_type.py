# SPDX-License-Identifier: Apache-2.0
"""Element types: what each says of itself, how memory holds its elements, and Cast between all of them."""

from __future__ import annotations

import re
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from frontend_models import ROOT
from graphs import Builder
from mmcc.errors import CompileError
from mmcc.ir.element_type import ELEMENT_TYPES, ElementType, Kind
from mmcc.ir.types import Tensor
from mmcc.kernels.contract import TYPES, contracts
from mmcc.ops.elementwise import Cast, Unary
from mmcc.passes import optimize
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

pytestmark = pytest.mark.quick

ALL = tuple(ELEMENT_TYPES.values())
PACKED = (ElementType.I2, ElementType.I4, ElementType.U2, ElementType.U4)
NIBBLES = (ElementType.I4, ElementType.U4)
WHOLE = tuple(dtype for dtype in ALL if dtype.is_integer)
ONNX = {
    helper.tensor_dtype_to_np_dtype(number): number
    for number in (
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BOOL,
        TensorProto.BFLOAT16,
        TensorProto.FLOAT4E2M1,
        TensorProto.FLOAT8E4M3FN,
        TensorProto.FLOAT8E4M3FNUZ,
        TensorProto.FLOAT8E5M2,
        TensorProto.FLOAT8E5M2FNUZ,
        TensorProto.INT2,
        TensorProto.UINT2,
        TensorProto.INT4,
        TensorProto.UINT4,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    )
}


def all_codes(dtype: ElementType) -> np.ndarray:
    """Every value that a narrow float has."""
    count = 2 << dtype.code.sign
    return np.arange(count, dtype=np.uint32).astype(dtype.unsigned.numpy).view(dtype.numpy)


HALVES = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)


def bits(array: np.ndarray) -> np.ndarray:
    """Bytes of the elements, so that NaN and zeros are told apart; all NaN are one."""
    if ElementType.of(array).is_float and array.dtype != ElementType.F4E2M1.numpy:
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def by_onnx(x: np.ndarray, to: ElementType) -> np.ndarray:
    source, target = ONNX[x.dtype], ONNX[to.numpy]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=target)],
        "cast",
        [value("x", source, x.shape)],
        [value("y", target, x.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)])
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_types_describe_themselves(dtype: ElementType) -> None:
    """Width, range and cells agree with numpy, with ONNX, and with what the C type says."""
    assert ElementType.named(dtype.name) == dtype
    assert ElementType.of(np.zeros(1, dtype.numpy)) == dtype
    assert dtype.numpy in ONNX
    assert dtype.bits * dtype.per_cell == 8 * dtype.size
    assert (dtype.code is not None) == (dtype.is_float and dtype.bits < 32)
    assert dtype.unsigned.kind is Kind.UNSIGNED
    assert dtype.unsigned.bits == dtype.bits
    if found := re.fullmatch(r"(u?)int(\d+)_t", dtype.ctype):
        assert int(found[2]) == 8 * dtype.size
        assert dtype.header == "stdint.h"
    if dtype.is_integer:
        info = ml_dtypes.iinfo(dtype.numpy)
        assert (dtype.least, dtype.most) == (int(info.min), int(info.max))


def test_the_runtime_declares_what_c_types_need() -> None:
    text = (ROOT / "runtime_c/mmcc_runtime.h").read_text()
    assert {f"#include <{dtype.header}>" for dtype in ALL if dtype.header} <= set(text.splitlines())


@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 1), (2, 1), (3, 2), (15, 8), (16, 8)])
@pytest.mark.parametrize("dtype", NIBBLES, ids=str)
def test_sizes_of_packed_tensors(dtype: ElementType, count: int, size: int) -> None:
    """Only the end of the whole is filled up to a byte, whatever the shape: rows of odd length are not."""
    assert Tensor("x", (count,), dtype).bytes == size == dtype.bytes(count)
    if count % 3 == 0:
        assert Tensor("x", (count // 3, 3), dtype).bytes == size


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_elements_survive_memory(dtype: ElementType) -> None:
    rng = np.random.default_rng(3)
    for shape in ((), (1,), (2, 3), (3, 5, 7), (0,)):
        x = rng.integers(0, 2 if dtype == ElementType.BOOL else 1 << min(dtype.bits, 4), shape)
        x = x.astype(np.int8).astype(dtype.numpy)
        cells = dtype.cells(x)
        assert cells.nbytes == Tensor("x", shape, dtype).bytes
        back = dtype.elements(cells, shape)
        assert (back.dtype, back.shape) == (dtype.numpy, shape)
        assert np.array_equal(bits(back), bits(x))


@pytest.mark.parametrize("dtype", PACKED, ids=str)
def test_nibbles_lie_as_onnx_has_them(dtype: ElementType) -> None:
    """All values, in an even and an odd count, against the bytes that the onnx package writes."""
    values = np.arange(int(dtype.least), int(dtype.most) + 1).astype(dtype.numpy)
    for x in (values, values[:-1], values[::-1]):
        assert dtype.cells(x).tobytes() == numpy_helper.from_array(x).raw_data
        assert np.array_equal(dtype.elements(dtype.cells(x), x.shape), x)
    low = np.array([1, 2, 3]).astype(np.int8) & (1 << dtype.bits) - 1
    assert dtype.cells(low.astype(dtype.numpy)).tolist() == ([0x21, 0x03] if dtype.bits == 4 else [0b111001])


def test_halves_are_kept_as_their_bits() -> None:
    cells = ElementType.F16.cells(HALVES)
    assert cells.dtype == np.uint16
    assert np.array_equal(cells, np.arange(1 << 16))
    assert ElementType.F16.elements(cells, HALVES.shape).tobytes() == HALVES.tobytes()


def test_halves_become_floats_and_back() -> None:
    """float32 holds each of the 65,536 halves."""
    (wide,) = Cast(ElementType.F32).reference(HALVES)
    assert np.array_equal(bits(wide), bits(by_onnx(HALVES, ElementType.F32)))
    finite = ~np.isnan(HALVES)
    code = np.arange(1 << 16)
    exponent, fraction = code >> 10 & 31, code & 1023
    units = np.where(exponent, 1024 + fraction, fraction) * 2.0 ** (np.maximum(exponent, 1) - 25)
    meant = np.where(code >> 15, -1, 1) * np.where(exponent == 31, np.inf, units)
    assert np.array_equal(wide[finite], meant[finite].astype(np.float32))
    (narrow,) = Cast(ElementType.F16).reference(wide)
    assert np.array_equal(bits(narrow), bits(HALVES))


def test_floats_round_to_the_nearest_half() -> None:
    """Around each boundary between two halves: ties to even, and infinity from 65,520 on."""
    whole = np.sort(HALVES[np.isfinite(HALVES) & (HALVES >= 0)].astype(np.float64))[1:]
    ties = ((whole[:-1] + whole[1:]) / 2).astype(np.float32)  # exact: one bit more than a half has
    (made,) = Cast(ElementType.F16).reference(ties)
    assert not (made.view(np.uint16) & 1).any()
    (below,) = Cast(ElementType.F16).reference(np.nextafter(ties, np.float32(0)))
    (above,) = Cast(ElementType.F16).reference(np.nextafter(ties, np.float32(np.inf)))
    assert np.array_equal(below.astype(np.float64), whole[:-1])
    assert np.array_equal(above.astype(np.float64), whole[1:])
    ends = np.array([65519.996, 65520, 1e38, np.inf, -65520, np.nan, 2.0**-25, -(2.0**-26)], np.float32)
    (made,) = Cast(ElementType.F16).reference(ends)
    wanted = np.array([65504, np.inf, np.inf, np.inf, -np.inf, np.nan, 0, -0.0], np.float16)
    assert np.array_equal(bits(made), bits(wanted))
    assert np.array_equal(bits(made), bits(by_onnx(ends, ElementType.F16)))


@pytest.mark.parametrize(("source", "target"), [*product(ALL, ALL)], ids=str)
def test_casts_agree_with_onnx(source: ElementType, target: ElementType) -> None:
    """All values of narrow types, and the ends of wide ones; of floats those that the target holds."""
    if source.is_float:
        x = all_codes(source) if source.code else np.linspace(-9e4, 9e4, 4001, dtype=np.float32)
        if target == ElementType.F4E2M1:
            x = x[~np.isnan(x)]  # of which the package makes what it may
        if target.is_integer:
            x = x[np.isfinite(x)]
            wide = x.astype(np.float32).astype(np.float64)
            x = x[(np.trunc(wide) >= target.least) & (wide < target.most)]
    elif source == ElementType.BOOL:
        x = np.array([False, True])
    else:
        least, most = int(source.least), int(source.most)
        some = (
            range(least, most + 1)
            if source.bits <= 16
            else (
                *range(-70000 if least else 0, 70000, 7),
                least,
                least + 1,
                most - 1,
                most,
                most >> 1,
            )
        )
        x = np.array([*some], object).astype(np.int64 if least else np.uint64).astype(source.numpy)
    (made,) = Cast(target).reference(x)
    assert made.dtype == target.numpy
    if {source, target} <= set(PACKED) and source != target:  # the standard: bits are kept
        low = (1 << min(source.bits, target.bits)) - 1
        assert np.array_equal(x.astype(np.int8) & low, made.astype(np.int8) & low)
    else:
        assert np.array_equal(bits(made), bits(by_onnx(x, target)))


@pytest.mark.parametrize("target", WHOLE, ids=str)
@pytest.mark.parametrize("source", [ElementType.F16, ElementType.F32], ids=str)
def test_floats_outside_an_integer_saturate(source: ElementType, target: ElementType) -> None:
    most = float(np.finfo(source.numpy).max)
    (made,) = Cast(target).reference(np.array([np.inf, -np.inf, np.nan, -most, 0.9, -0.9], source.numpy))
    assert [int(v) for v in made[[0, 1, 2, 4, 5]]] == [target.most, target.least, 0, 0, 0]
    assert int(made[3]) == max(int(-most), target.least)


@pytest.mark.parametrize("dtype", PACKED, ids=str)
def test_types_without_kernels_are_refused(dtype: ElementType) -> None:
    """Before anything is planned, and with the place in the model."""
    b = Builder()
    x = b.input("x", 3, 5)
    graph = optimize(b.graph(b.op(Cast(ElementType.F32), b.op(Cast(dtype), x), name="y")))
    with pytest.raises(CompileError, match=rf"type {dtype}, for which there are no kernels") as caught:
        contracts(graph, load_target("host"))
    assert caught.value.code == "MM203"
    assert caught.value.at


@pytest.mark.parametrize("dtype", [dtype for dtype in ALL if dtype.code is not None], ids=str)
def test_arithmetic_on_narrow_floats_is_refused(dtype: ElementType) -> None:
    """Kernels convert them and move their codes; what computes does so in float32."""
    assert dtype not in TYPES
    b = Builder()
    x = b.op(Cast(dtype), b.input("x", 3, 5))
    graph = b.graph(b.op(Cast(ElementType.F32), b.op(Unary("abs"), x), name="y"))
    with pytest.raises(CompileError, match=rf"type {dtype}, for which there are no kernels"):
        contracts(graph, load_target("host"))


def test_halves_are_planned() -> None:
    """A tensor of halves takes two bytes an element."""
    b = Builder()
    x = b.input("x", 6, 5, 4)
    half = b.op(Cast(ElementType.F16), x)
    graph = b.graph(b.op(Cast(ElementType.F32), half, name="y"))
    plan = best_plan(graph, PlanRequest())
    assert plan.proved_optimal
    assert graph.tensors[half].bytes == 240
    assert plan.slots[half].row_stride == 40
