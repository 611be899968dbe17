# SPDX-License-Identifier: Apache-2.0
"""The data of constants in the text of a graph.

Few elements are written out, and many that are all the same as one. Others are written as a digest: it tells
two constants apart, and the text of a network stays small. A reader that is not given the data makes some up,
always the same, so that structure and shapes can be worked on without the weights. Who writes a text by hand
says `random SEED` instead.
"""

from __future__ import annotations

import hashlib
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType, Kind
from mmcc.ir.text import list_text, string_text
from mmcc.ir.types import Tensor

WRITTEN_OUT = 64  # elements, at most
DIGITS = 16  # of a digest, hexadecimal


def data_text(data: NDArray[Any]) -> str:
    """All elements in the order of memory, the one that all are, or a digest of them."""
    flat = data.reshape(-1)
    if data.size <= WRITTEN_OUT:
        return list_text(_element(value) for value in flat)
    if flat[:1].tobytes() * data.size == flat.tobytes():
        return f"all {_element(flat[0])}"
    return f"digest {string_text(digest(data))}"


def _element(value: Any) -> str:
    """The shortest number that reads back as the same element."""
    if not ElementType.of(value).is_float:
        return str(int(value))
    narrow = ElementType.of(value).code is not None and value.dtype != np.float16
    text = str(float(value) if narrow else value)  # as narrow types write it, -0.0 is the integer -0
    return text if np.isnan(value) or value.dtype.type(float(text)) == value else repr(float(value))


def digest(data: NDArray[Any]) -> str:
    """Some digits of a digest of type, shape and elements."""
    head = f"{ElementType.of(data)} {data.shape} ".encode()
    ordered = data.astype(data.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(head + ordered.tobytes()).hexdigest()[:DIGITS]


def made_up(tensor: Tensor, seed: int) -> NDArray[Any]:
    """Floats between -1 and 1; integers over their range, but within that of 8 bits."""
    rng, dtype = np.random.default_rng(seed), tensor.dtype
    if dtype.is_float:
        return rng.uniform(-1, 1, tensor.shape).astype(dtype.numpy)
    least = -128 if dtype.kind is Kind.SIGNED else 0
    low, high = max(least, int(dtype.least)), min(least + 255, int(dtype.most))
    return rng.integers(low, high, tensor.shape, endpoint=True).astype(dtype.numpy)


def elements(tensor: Tensor, numbers: list[int | float]) -> NDArray[Any]:
    """The data with these elements; ValueError if they are too many, too few, or not of the type."""
    dtype = tensor.dtype
    if len(numbers) != prod(tensor.shape):
        raise ValueError(f"{len(numbers)} elements for {tensor}")
    for n in numbers if not dtype.is_float else ():
        if not isinstance(n, int) or not dtype.least <= n <= dtype.most:
            raise ValueError(f"{n} is no {dtype}")
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype.numpy).reshape(tensor.shape)
