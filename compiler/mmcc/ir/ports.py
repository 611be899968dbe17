# SPDX-License-Identifier: Apache-2.0
"""How an input or output of the model is seen in ONNX and in C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Quant, Shape, Tensor


@dataclass(frozen=True, slots=True)
class Port:
    """How one input or output of the model is seen in ONNX and in C.

    `axes[k]` is the axis of the C array that holds ONNX axis k, or None where an axis of extent 1 was
    dropped. Of a tensor that is no input or output, one axis may hold several, in ONNX's order.
    `quant` is set where the model's own float <-> int8 conversion was left to the caller: the ONNX type is
    float32, the C type int8. `double` is set where the model says float64, which `onnx_dtype` cannot say: it
    is float32 then. `channels` is set where the tensor has only these of the last axis of the model's value,
    since nothing depends on the others; no input or output is such a tensor.
    `called` is the name in C where that is none with a number. An `argument` is a single number that the
    function takes, or writes to where its argument points.
    """

    tensor: str
    onnx_name: str
    onnx_shape: Shape
    onnx_dtype: ElementType
    axes: tuple[int | None, ...]
    quant: Quant | None = None
    double: bool = False
    channels: tuple[int, ...] | None = None
    called: str = ""
    argument: bool = False

    @property
    def model_dtype(self) -> np.dtype[Any]:
        """The model's own type."""
        return np.dtype(np.float64) if self.double else self.onnx_dtype.numpy

    @property
    def model_type(self) -> str:
        """Its name, for people."""
        return "f64" if self.double else self.onnx_dtype.name

    def to_c(self, array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
        """The array the C code wants, for one sample in ONNX's shape and type."""
        kept = [k for k, axis in enumerate(self.axes) if axis is not None]
        order = sorted(kept, key=lambda k: self.axes[k] or 0)
        array = array.reshape(self.onnx_shape).transpose(
            order + [k for k in range(array.ndim) if k not in kept]
        )
        if self.quant is not None:
            scaled = np.rint(array.astype(np.float32) / np.float32(self.quant.scale)) + self.quant.zero_point
            least, most = tensor.dtype.least, tensor.dtype.most
            array = np.clip(np.nan_to_num(scaled, nan=least), least, most)  # NaN as in mmcc_quantize_int8
        if self.channels is not None:
            array = array.reshape(*tensor.shape[:-1], -1)[..., list(self.channels)]
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
