# SPDX-License-Identifier: Apache-2.0
"""What one element of a tensor is: its kind and width, and how numpy, C and memory hold it.

Memory is made of *cells*, each of the C type. C99 has neither half precision nor 4-bit integers: the cell of
float16 is a `uint16_t` with its bits, that of 4-bit integers a `uint8_t` with two of them. Floats of 8 bits
and fewer have a byte each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from math import prod
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FloatCode:
    """How a float narrower than 32 bits is coded: a sign, an exponent of this bias, a fraction.

    `most` is the code of the largest value, `over` that of what is larger (infinity, not a number, or the
    largest itself); `nan` that of what is not a number, all without the sign. Where `one_zero`, the code of
    a negative zero is the only one that is not a number.
    """

    fraction: int  # bits
    bias: int
    sign: int  # the sign's bit
    most: int
    over: int
    nan: int
    one_zero: bool = False


class Kind(Enum):
    FLOAT = auto()
    SIGNED = auto()
    UNSIGNED = auto()
    BOOL = auto()


@dataclass(frozen=True, slots=True)
class ElementType:
    """An element type. Two of one name are one type, so only names are compared."""

    name: str  # as in the text of the IR
    kind: Kind = field(compare=False)
    bits: int = field(compare=False)  # of one element in memory
    ctype: str = field(compare=False)  # of a cell
    numpy: np.dtype[Any] = field(compare=False)  # what references compute with: one element each
    header: str | None = field(default=None, compare=False)  # that declares the C type
    per_cell: int = field(default=1, compare=False)  # elements in a cell
    code: FloatCode | None = field(default=None, compare=False)  # of a float narrower than 32 bits

    BF16: ClassVar[ElementType]
    F4E2M1: ClassVar[ElementType]
    F8E4M3FN: ClassVar[ElementType]
    F8E4M3FNUZ: ClassVar[ElementType]
    F8E5M2: ClassVar[ElementType]
    F8E5M2FNUZ: ClassVar[ElementType]
    F16: ClassVar[ElementType]
    F32: ClassVar[ElementType]
    I2: ClassVar[ElementType]
    I4: ClassVar[ElementType]
    I8: ClassVar[ElementType]
    I16: ClassVar[ElementType]
    I32: ClassVar[ElementType]
    I64: ClassVar[ElementType]
    U2: ClassVar[ElementType]
    U4: ClassVar[ElementType]
    U8: ClassVar[ElementType]
    U16: ClassVar[ElementType]
    U32: ClassVar[ElementType]
    U64: ClassVar[ElementType]
    BOOL: ClassVar[ElementType]

    @property
    def size(self) -> int:
        """Bytes of a cell; its address is a multiple of it."""
        return self.bits * self.per_cell // 8

    def bytes(self, count: int) -> int:
        """Bytes of the cells that hold `count` elements, the first of which begins a cell.

        Packed elements follow each other without gaps, the first in the low bits, as in ONNX. Only the end of
        a whole tensor is filled up: a row of an odd count of 4-bit elements ends within a byte, and the next
        one begins there.
        """
        return -(-count // self.per_cell) * self.size

    def cells(self, array: NDArray[Any]) -> NDArray[Any]:
        """The cells that hold the elements of an array.

        In its shape, or flat where elements share cells. What is left of the last cell is zero.
        """
        if self.per_cell == 1:
            return array.view(self.unsigned.numpy) if self.code is not None else array
        flat = np.zeros(-(-array.size // self.per_cell) * self.per_cell, np.uint8)
        flat[: array.size] = array.reshape(-1).view(np.uint8) & (1 << self.bits) - 1
        places = np.arange(self.per_cell, dtype=np.uint8) * self.bits
        return np.bitwise_or.reduce(flat.reshape(-1, self.per_cell) << places, axis=1, dtype=np.uint8)

    def elements(self, cells: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The array of this shape whose elements are in `cells`."""
        if self.per_cell == 1:
            return cells.reshape(shape).view(self.numpy)
        places = np.arange(self.per_cell, dtype=np.uint8) * self.bits
        parts = (cells[:, None] >> places & (1 << self.bits) - 1).reshape(-1)[: prod(shape)].astype(np.int8)
        sign = 1 << (self.bits - 1)
        signed = (parts ^ sign) - sign if self.kind is Kind.SIGNED else parts
        return signed.reshape(shape).astype(self.numpy)

    @property
    def is_float(self) -> bool:
        return self.kind is Kind.FLOAT

    @property
    def is_integer(self) -> bool:
        return self.kind in (Kind.SIGNED, Kind.UNSIGNED)

    @property
    def least(self) -> int | float:
        """What no element is below: minus infinity for floats."""
        if self.is_float:
            return -np.inf
        return -(1 << (self.bits - 1)) if self.kind is Kind.SIGNED else 0

    @property
    def most(self) -> int | float:
        """What no element is above: infinity for floats."""
        if self.is_float:
            return np.inf
        if self.kind is Kind.BOOL:
            return 1
        return (1 << (self.bits - (self.kind is Kind.SIGNED))) - 1

    @property
    def unsigned(self) -> ElementType:
        """The unsigned type of the same width, which holds any other's bits."""
        return _UNSIGNED[self.bits]

    @property
    def moved(self) -> str:
        """The C type that kernels move cells by that they only move: one for all types of this size.

        C takes a float and a `uint32_t` for two things that never lie in one place, so a compiler that sees
        both kernels may exchange them; `mmcc_word` (runtime_c/mmcc_words.h) may lie over either. Of the other
        sizes there are but integers, which are alike with and without a sign.
        """
        return "mmcc_word" if self.size == 4 else self.unsigned.ctype

    @staticmethod
    def of(array: NDArray[Any]) -> ElementType:
        """The element type of a numpy array; KeyError if mmcc has none for it."""
        return _BY_NUMPY[array.dtype]

    @staticmethod
    def named(name: str) -> ElementType:
        """The element type of this name; KeyError if there is none."""
        return ELEMENT_TYPES[name]

    def __str__(self) -> str:
        return self.name


def _integer(kind: Kind, bits: int) -> ElementType:
    name = f"{'u' if kind is Kind.UNSIGNED else ''}int{bits}"
    return ElementType(f"{name[0]}{bits}", kind, bits, f"{name}_t", np.dtype(name), "stdint.h")


def _packed(kind: Kind, bits: int) -> ElementType:
    name = f"{'u' if kind is Kind.UNSIGNED else ''}int{bits}"
    held = np.dtype(getattr(ml_dtypes, name))
    return ElementType(f"{name[0]}{bits}", kind, bits, "uint8_t", held, "stdint.h", 8 // bits)


def _narrow(name: str, numpy: Any, code: FloatCode) -> ElementType:
    bits = 8 * np.dtype(numpy).itemsize
    return ElementType(name, Kind.FLOAT, bits, f"uint{bits}_t", np.dtype(numpy), "stdint.h", code=code)


ElementType.BF16 = _narrow("bf16", ml_dtypes.bfloat16, FloatCode(7, 127, 15, 0x7F7F, 0x7F80, 0x7FC0))
ElementType.F16 = _narrow("f16", np.float16, FloatCode(10, 15, 15, 0x7BFF, 0x7C00, 0x7E00))
ElementType.F4E2M1 = _narrow("f4e2m1", ml_dtypes.float4_e2m1fn, FloatCode(1, 1, 3, 7, 7, 0))
ElementType.F8E4M3FN = _narrow("f8e4m3fn", ml_dtypes.float8_e4m3fn, FloatCode(3, 7, 7, 0x7E, 0x7F, 0x7F))
ElementType.F8E4M3FNUZ = _narrow(
    "f8e4m3fnuz", ml_dtypes.float8_e4m3fnuz, FloatCode(3, 8, 7, 0x7F, 0x80, 0x80, one_zero=True)
)
ElementType.F8E5M2 = _narrow("f8e5m2", ml_dtypes.float8_e5m2, FloatCode(2, 15, 7, 0x7B, 0x7C, 0x7E))
ElementType.F8E5M2FNUZ = _narrow(
    "f8e5m2fnuz", ml_dtypes.float8_e5m2fnuz, FloatCode(2, 16, 7, 0x7F, 0x80, 0x80, one_zero=True)
)
ElementType.F32 = ElementType("f32", Kind.FLOAT, 32, "float", np.dtype(np.float32))
ElementType.I2 = _packed(Kind.SIGNED, 2)
ElementType.I4 = _packed(Kind.SIGNED, 4)
ElementType.I8 = _integer(Kind.SIGNED, 8)
ElementType.I16 = _integer(Kind.SIGNED, 16)
ElementType.I32 = _integer(Kind.SIGNED, 32)
ElementType.I64 = _integer(Kind.SIGNED, 64)
ElementType.U2 = _packed(Kind.UNSIGNED, 2)
ElementType.U4 = _packed(Kind.UNSIGNED, 4)
ElementType.U8 = _integer(Kind.UNSIGNED, 8)
ElementType.U16 = _integer(Kind.UNSIGNED, 16)
ElementType.U32 = _integer(Kind.UNSIGNED, 32)
ElementType.U64 = _integer(Kind.UNSIGNED, 64)
ElementType.BOOL = ElementType("bool", Kind.BOOL, 8, "bool", np.dtype(np.bool_), "stdbool.h")

ELEMENT_TYPES = {made.name: made for made in vars(ElementType).values() if isinstance(made, ElementType)}
_BY_NUMPY = {made.numpy: made for made in ELEMENT_TYPES.values()}
_UNSIGNED = {made.bits: made for made in ELEMENT_TYPES.values() if made.kind is Kind.UNSIGNED}
