# SPDX-License-Identifier: Apache-2.0
"""Operators that ONNX Runtime's own optimizations write: several of ONNX's in one."""

from __future__ import annotations

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.convolution import conv
from mmcc.frontend.converters.matrix import gemm, matmul
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import MICROSOFT, Layout, converts
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Binary, Unary

# name -> function, how many of the parameters it takes, what they are where none are given
ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "Relu": ("clamp", ()),
    "Sigmoid": ("sigmoid", ()),
    "Tanh": ("tanh", ()),
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "Clip": ("clamp", (-np.inf, np.inf)),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
}


def activated(build: Builder, y: Value, name: str, parameters: list[float]) -> Value:
    """An activation by its name in ONNX."""
    if not name:
        return y
    if name not in ACTIVATIONS:
        raise unsupported(f'activation "{name}"')
    function, usual = ACTIVATIONS[name]
    given = tuple(parameters) or usual
    if len(given) != len(usual):
        raise bad_model("MM103", f"{len(given)} parameters of {name}")
    return unary(build, Unary(function, (0.0, np.inf) if name == "Relu" else given), y)


@converts("FusedConv", domain=MICROSOFT, notes="with a sum and an activation", layout=Layout.CHANNELS_FIRST)
def convert_fused_conv(call: Call) -> Value:
    """A convolution, a tensor added to it, and an activation."""
    y = conv(call, call.float_input(0), call.float_input(1), call.float_input(2) if call.has(2) else None)
    if call.has(3):
        y = elementwise(call.build, Binary("add"), y, call.float_input(3))
    name, parameters = call.text("activation", ""), call.numbers("activation_params") or []
    return activated(call.build, y, name, parameters)


@converts("FusedGemm", domain=MICROSOFT, notes="with an activation")
def convert_fused_gemm(call: Call) -> Value:
    """A Gemm and an activation."""
    y = gemm(call, call.float_input(0), call.float_input(1), call.float_input(2) if call.has(2) else None)
    name = call.text("activation", "")
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    count = len(ACTIVATIONS[name][1]) if name in ACTIVATIONS else 0
    usual = ACTIVATIONS[name][1] if count else ()
    given = [call.finite(n, d) for n, d in zip(names, usual, strict=False)]
    if call.finite(names[2], 0.0):
        raise unsupported("activation_gamma")
    if not count:
        call.without_effect(*names)
    return activated(call.build, y, name, given)


@converts("FusedMatMul", domain=MICROSOFT, notes="transA, transB, alpha")
def convert_fused_matmul(call: Call) -> Value:
    """A product of matrices, either transposed, times a number."""
    build = call.build
    a, b = call.float_input(0), call.float_input(1)
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        raise unsupported("transBatchA and transBatchB")
    a = _turned(a) if call.integer("transA", 0) else a
    b = _turned(b) if call.integer("transB", 0) else b
    alpha = call.finite("alpha", 1.0)
    y = matmul(build, a, b)
    if alpha == 1:
        return y
    return elementwise(build, Binary("mul"), y, build.constant(np.array(alpha, np.float32)))


def _turned(x: Value) -> Value:
    """The last two axes exchanged; a vector stays."""
    return x.transposed([*range(x.rank - 2), x.rank - 1, x.rank - 2]) if x.rank > 1 else x


@converts("BiasGelu", domain=MICROSOFT, layout=Layout.ANY)
@converts("FastGelu", domain=MICROSOFT, notes="with a bias or without", layout=Layout.ANY)
def convert_bias_gelu(call: Call) -> Value:
    """A bias and then Gelu, exact or by tanh."""
    x = call.float_input(0)
    if call.has(1):
        x = elementwise(call.build, Binary("add"), x, call.float_input(1))
    exact = call.node.op_type == "BiasGelu"
    return unary(call.build, Unary("gelu" if exact else "gelu_tanh"), x)
