# SPDX-License-Identifier: Apache-2.0
"""Tensor level: what the model computes. Frozen values; a pass returns a new `Graph`.

Tensors are channels-last and carry no batch axis: an image is [H, W, C], a sequence [T, C], a vector [C].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcc.errors import Where
    from mmcc.ops import Op

Shape = tuple[int, ...]


class DType(Enum):
    """Element types; the value is the C type."""

    F32 = "float"
    I8 = "int8_t"
    U8 = "uint8_t"
    I16 = "int16_t"
    U16 = "uint16_t"
    I32 = "int32_t"
    I64 = "int64_t"
    BOOL = "bool"

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return _NUMPY[self].itemsize

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of the same width."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self is DType.F32

    @staticmethod
    def of(array: NDArray[Any]) -> DType:
        """The element type of a numpy array; KeyError if mmcc has none for it."""
        return _BY_NUMPY[array.dtype]


_NUMPY = {
    d: np.dtype({"float": "float32", "bool": "bool"}.get(d.value, d.value.removesuffix("_t"))) for d in DType
}
_BY_NUMPY = {dtype: d for d, dtype in _NUMPY.items()}


@dataclass(frozen=True, slots=True)
class Quant:
    """Affine quantization of a whole tensor: real = scale * (stored - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named value. `quant` says what the integers of an int8 activation mean."""

    name: str
    shape: Shape
    dtype: DType = DType.F32
    quant: Quant | None = None

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.size

    def __str__(self) -> str:
        return f"%{self.name}: {self.dtype.name.lower()}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Port:
    """How one input or output of the model is seen in ONNX and in C.

    `axes[k]` is the axis of the C array that holds ONNX axis k, or None where an axis of extent 1 was
    dropped. `quant` is set where the model's own float <-> int8 conversion was left to the caller: the
    ONNX type is float32, the C type int8. `double` is set where the model says float64, which `onnx_dtype`
    cannot say: it is float32 then.
    """

    tensor: str
    onnx_name: str
    onnx_shape: Shape
    onnx_dtype: DType
    axes: tuple[int | None, ...]
    quant: Quant | None = None
    double: bool = False

    @property
    def model_dtype(self) -> np.dtype[Any]:
        """The model's own type."""
        return np.dtype(np.float64) if self.double else self.onnx_dtype.numpy

    @property
    def model_type(self) -> str:
        """Its name, for people."""
        return "f64" if self.double else self.onnx_dtype.name.lower()

    def to_c(self, array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
        """The array the C code wants, for one sample in ONNX's shape and type."""
        kept = [k for k, axis in enumerate(self.axes) if axis is not None]
        order = sorted(kept, key=lambda k: self.axes[k] or 0)
        array = array.reshape(self.onnx_shape).transpose(
            order + [k for k in range(array.ndim) if k not in kept]
        )
        if self.quant is not None:
            low, high = np.iinfo(tensor.dtype.numpy).min, np.iinfo(tensor.dtype.numpy).max
            scaled = np.rint(array.astype(np.float32) / np.float32(self.quant.scale))
            array = np.clip(scaled + self.quant.zero_point, low, high)
        return np.array(array.reshape(tensor.shape), tensor.dtype.numpy, order="C")

    def from_c(self, array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
        """One sample in ONNX's shape and type, for the array the C code wrote."""
        kept = [k for k, axis in enumerate(self.axes) if axis is not None]
        order = [self.axes[k] or 0 for k in kept]
        spare = [axis for axis in range(len(tensor.shape)) if axis not in order]  # of extent 1
        array = array.reshape(tensor.shape).transpose(order + spare).reshape(self.onnx_shape)
        if self.quant is not None:
            array = (array.astype(np.int32) - self.quant.zero_point).astype(np.float32)
            array = array * np.float32(self.quant.scale)
        return np.array(array, self.model_dtype, order="C")


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an op. `where` grows when passes merge nodes."""

    op: Op
    inputs: tuple[str, ...]
    output: str
    where: tuple[Where, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """Constants as the model's file has them: bytes, and ONNX's names of element types below 32 bits."""

    bytes: int
    kinds: frozenset[str]


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order; every tensor is written once. Constants are tensors with data."""

    name: str
    tensors: dict[str, Tensor]
    constants: dict[str, NDArray[Any]]
    nodes: tuple[Node, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    warnings: tuple[str, ...] = field(default=())
    origins: dict[str, Port] = field(default_factory=dict[str, Port])  # tensors that are values of the model
    reasons: dict[str, str] = field(default_factory=dict[str, str])  # by tensor: why it is computed in float
    stored: dict[Where, Stored] = field(default_factory=dict["Where", Stored])  # by node of the model

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """For each tensor, the nodes that read it (once each)."""
        table: dict[str, tuple[Node, ...]] = dict.fromkeys(self.tensors, ())
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                table[name] += (node,)
        return table

    @cached_property
    def producer(self) -> dict[str, Node]:
        """The node that writes a tensor; graph inputs and constants have none."""
        return {node.output: node for node in self.nodes}

    @cached_property
    def output_names(self) -> frozenset[str]:
        return frozenset(port.tensor for port in self.outputs)

    @cached_property
    def input_names(self) -> frozenset[str]:
        return frozenset(port.tensor for port in self.inputs)

    def activations(self, node: Node) -> tuple[str, ...]:
        """The inputs of `node` that live in RAM, in operand order."""
        return tuple(name for name in node.inputs if name not in self.constants)

    def operands(self, node: Node) -> tuple[Tensor, ...]:
        return tuple(self.tensors[name] for name in node.inputs)

    def __str__(self) -> str:
        body = [
            f"  {self.tensors[n.output]} = {n.op}({', '.join('%' + i for i in n.inputs)})" for n in self.nodes
        ]
        head = f"graph {self.name}({', '.join(str(self.tensors[p.tensor]) for p in self.inputs)}) {{"
        return "\n".join([head, *body, f"  return {', '.join('%' + p.tensor for p in self.outputs)}", "}"])


def geometry(shape: Shape) -> tuple[int, int, int]:
    """(rows, columns, channels): how every kernel and the planner see a tensor.

    A vector is one pixel, a matrix [N, D] is N rows of one pixel; axes past the second fold into channels.
    """
    match shape:
        case ():
            return 1, 1, 1
        case (channels,):
            return 1, 1, channels
        case (rows, channels):
            return rows, 1, channels
        case _:
            return shape[0], shape[1], prod(shape[2:])
