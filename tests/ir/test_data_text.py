# SPDX-License-Identifier: Apache-2.0
"""Data of constants in the text of a graph: whole, all the same, by digest, or made up."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_text import differences
from ml_dtypes import finfo
from mmcc.ir.data_text import WRITTEN_OUT, digest
from mmcc.ir.element_type import ELEMENT_TYPES, ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.parse import parse_graph
from mmcc.ir.tokens import TextError
from mmcc.ir.types import Tensor
from mmcc.ops import OPS

pytestmark = pytest.mark.quick
# How many different ones there are at least in constants made up, of types that have few values.
FEW_VALUES = {ElementType.BOOL: 1, ElementType.I2: 3, ElementType.U2: 3, ElementType.F4E2M1: 5}


@pytest.mark.parametrize("dtype", ELEMENT_TYPES.values(), ids=str)
def test_small_constants_are_whole(dtype: ElementType) -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 256, (WRITTEN_OUT, dtype.numpy.itemsize)).astype(np.uint8)
    if dtype == ElementType.BOOL or dtype.per_cell > 1:
        raw &= 1 if dtype == ElementType.BOOL else (1 << dtype.bits) - 1
    values = raw.reshape(-1).view(dtype.numpy)
    if dtype.is_float:
        info = finfo(dtype.numpy)
        some = [0.0, -0.0, inf, -inf, nan, 0.1, info.max, info.tiny, info.smallest_subnormal, 1 / 3]
        values = np.array(some, dtype.numpy)
    elif dtype.is_integer:
        values[:2] = dtype.least, dtype.most
    for data in (values, values.reshape(2, -1), values[:1].reshape(()), values[:0]):
        tensor = Tensor("c", data.shape, dtype)
        graph = Graph("g", {"c": tensor}, {"c": data}, (), (), ())
        back = parse_graph(str(graph), OPS)
        assert back.constants["c"].dtype == dtype.numpy
        wide = np.float32 if dtype.is_float else dtype.numpy  # NaNs of narrow types compare as different
        np.testing.assert_array_equal(back.constants["c"].astype(wide), data.astype(wide))
        assert str(back) == str(graph)


@pytest.mark.parametrize("dtype", [ElementType.F16, ElementType.F32], ids=str)
@settings(max_examples=300)
@given(bits=st.integers(0, 2**32 - 1))
def test_floats_survive_to_the_bit(dtype: ElementType, bits: int) -> None:
    data = np.array([bits], np.uint32).view(dtype.numpy)
    data = np.where(np.isnan(data), dtype.numpy.type(nan), data)
    graph = Graph("g", {"c": Tensor("c", data.shape, dtype)}, {"c": data}, (), (), ())
    back = parse_graph(str(graph), OPS).constants["c"]
    assert np.where(np.isnan(back), dtype.numpy.type(nan), back).tobytes() == data.tobytes()


@pytest.mark.parametrize("dtype", ELEMENT_TYPES.values(), ids=str)
def test_large_constants_are_told_apart_and_made_up(dtype: ElementType) -> None:
    text = f'graph "g" {{ constant %c: {dtype}[5,20] = random 3 constant %d: {dtype}[5,20] = random 4 }}'
    graph = parse_graph(text, OPS)
    c, d = graph.constants.values()
    assert c.dtype == d.dtype == dtype.numpy
    assert len({str(v) for v in c.reshape(-1).tolist()}) > FEW_VALUES.get(dtype, 10)
    assert digest(c) != digest(d) != digest(d.reshape(20, 5))
    assert digest(c) in str(graph)
    again = [parse_graph(str(graph), OPS) for _ in range(2)]
    assert differences(*again) == []
    assert differences(parse_graph(str(graph), OPS, graph.constants), graph) == []
    with pytest.raises(TextError, match="another digest"):
        parse_graph(str(graph), OPS, {"c": d})


@pytest.mark.parametrize("value", [0.0, -0.0, nan, 1e-7])
def test_one_element_stands_for_all(value: float) -> None:
    data = np.full((20, 20), value, np.float32)
    graph = Graph("g", {"c": Tensor("c", data.shape)}, {"c": data}, (), (), ())
    assert f"= all {value}\n" in str(graph)
    assert differences(parse_graph(str(graph), OPS), graph) == []
    data[3, 3] = -value if value == 0 else 1
    assert "digest" in str(graph)
