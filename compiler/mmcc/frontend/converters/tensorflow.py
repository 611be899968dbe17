# SPDX-License-Identifier: Apache-2.0
"""Operators of TensorFlow's that tf2onnx leaves in ONNX's domain, which has none of that name."""

from __future__ import annotations

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.call import Call
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Binary, Unary


@converts("Erfc", notes="tf2onnx's; 1 - Erf", layout=Layout.ANY)
def convert_erfc(call: Call) -> Value:
    """The complement of the error function, as the half of a GELU that tf2onnx writes has it."""
    one = call.build.constant(np.ones((), np.float32))
    return elementwise(call.build, Binary("sub"), one, unary(call.build, Unary("erf"), call.float_input(0)))


@converts("TFL_GELU", notes="tf2onnx's; exact and tanh", layout=Layout.ANY)
def convert_gelu_lite(call: Call) -> Value:
    """GELU of TensorFlow Lite."""
    approximate = call.integer("approximate", 0)
    if approximate not in (0, 1):
        raise bad_model("MM103", f"attribute approximate is {approximate}")
    return unary(call.build, Unary("gelu_tanh" if approximate else "gelu"), call.float_input(0))
