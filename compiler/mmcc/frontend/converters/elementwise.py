# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that work element by element, with numpy's broadcasting."""

from __future__ import annotations

from math import inf, isnan

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.call import Call
from mmcc.frontend.layouts import reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import MICROSOFT, Layout, converts
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast, Unary, Where

# functions without parameters
PLAIN = {
    "Abs": "abs",
    "Neg": "neg",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Erf": "erf",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "Tanh": "tanh",
    "Atan": "atan",
    "Asin": "asin",
    "Acos": "acos",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Asinh": "asinh",
    "Acosh": "acosh",
    "Atanh": "atanh",
    "Sigmoid": "sigmoid",
    "HardSwish": "hard_swish",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Mish": "mish",
}
# functions whose parameters are float attributes, in the order of ops.elementwise
PARAMETRIC = {
    "LeakyRelu": ("leaky_relu", ("alpha",)),
    "HardSigmoid": ("hard_sigmoid", ("alpha", "beta")),
    "Elu": ("elu", ("alpha",)),
    "Selu": ("selu", ("alpha", "gamma")),
    "Celu": ("celu", ("alpha",)),
    "ThresholdedRelu": ("thresholded_relu", ("alpha",)),
    "Shrink": ("shrink", ("bias", "lambd")),
}
OF_INTEGERS = frozenset(("abs", "neg", "sign"))
BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "And": "and",
    "Or": "or",
    "Xor": "xor",
}
LOGICAL = frozenset(("and", "or", "xor"))


@converts(*PLAIN, layout=Layout.ANY)
def convert_plain(call: Call) -> Value:
    """A function without parameters."""
    function = PLAIN[call.node.op_type]
    x = call.number_input(0) if function in OF_INTEGERS else call.float_input(0)
    return unary(call.build, Unary(function), x)


@converts(*PARAMETRIC, layout=Layout.ANY)
def convert_parametric(call: Call) -> Value:
    """A function whose parameters are attributes."""
    function, names = PARAMETRIC[call.node.op_type]
    parameters = tuple(call.finite(name) for name in names)
    if function == "celu" and parameters[0] == 0:
        raise bad_model("MM104", "alpha is 0")
    return unary(call.build, Unary(function, parameters), call.float_input(0))


@converts("Not", layout=Layout.ANY)
def convert_not(call: Call) -> Value:
    """Logical negation."""
    x = call.input(0)
    if x.dtype != ElementType.BOOL:
        raise bad_model("MM104", f"a bool is wanted, not {x.dtype.name}")
    return unary(call.build, Unary("not"), x)


@converts("Relu", layout=Layout.ANY)
def convert_relu(call: Call) -> Value:
    """Relu is a clamp without an upper bound."""
    return unary(call.build, Unary("clamp", (0.0, inf)), call.number_input(0))


@converts(
    "Clip", notes="bounds as attributes or operands; computed bounds become Max and Min", layout=Layout.ANY
)
def convert_clip(call: Call) -> Value:
    """Clip; either bound may be missing."""
    x = call.number_input(0)
    if call.version < 11:
        low, high = call.number("min", -inf), call.number("max", inf)
        return unary(call.build, Unary("clamp", (low, high)), x)
    bounds = [call.input(k) if call.has(k) else None for k in (1, 2)]
    for bound in bounds:
        if bound is not None and (bound.dtype != x.dtype or bound.size != 1):
            raise bad_model("MM104", f"a bound of {list(bound.shape)} {bound.dtype.name} for {x.dtype.name}")
    known = [b is None or call.build.is_constant(b.tensor) for b in bounds]
    values = [
        d if b is None or not k else call.build.array(b).reshape(-1)[0].item()
        for b, k, d in zip(bounds, known, (-inf, inf), strict=True)
    ]
    if any(isnan(v) for v in values):
        raise bad_model("MM104", "a bound is not a number")
    exact = all(abs(v) == inf or float(np.float32(v)) == v for v in values)
    if all(known) and (exact or x.dtype.is_float):
        return unary(call.build, Unary("clamp", (float(values[0]), float(values[1]))), x)
    for function, bound in zip(("max", "min"), bounds, strict=True):
        if bound is not None:
            x = elementwise(call.build, Binary(function), x, bound.without(range(bound.rank)))
    return x


@converts("Gelu", since=20, notes="exact and tanh", layout=Layout.ANY)
def convert_gelu(call: Call) -> Value:
    """Gelu, exact or by tanh."""
    approximate = call.text("approximate")
    if approximate not in ("none", "tanh"):
        raise bad_model("MM103", f'attribute approximate is "{approximate}"')
    return unary(call.build, Unary("gelu" if approximate == "none" else "gelu_tanh"), call.float_input(0))


@converts("Gelu", domain=MICROSOFT, notes="exact", layout=Layout.ANY)
def convert_gelu_microsoft(call: Call) -> Value:
    """The exact Gelu, before ONNX had one."""
    return unary(call.build, Unary("gelu"), call.float_input(0))


@converts("Swish", since=24, layout=Layout.ANY)
def convert_swish(call: Call) -> Value:
    """x * sigmoid(alpha * x)."""
    return _swish(call, call.finite("alpha", 1.0))


@converts("QuickGelu", domain=MICROSOFT, layout=Layout.ANY)
def convert_quick_gelu(call: Call) -> Value:
    """x * sigmoid(alpha * x)."""
    return _swish(call, call.finite("alpha", 1.702))


def _swish(call: Call, alpha: float) -> Value:
    x = call.float_input(0)
    if alpha == 1:
        return unary(call.build, Unary("silu"), x)
    scaled = elementwise(call.build, Binary("mul"), x, call.build.constant(np.array(alpha, np.float32)))
    return elementwise(call.build, Binary("mul"), x, unary(call.build, Unary("sigmoid"), scaled))


@converts(*BINARY, notes="broadcasting, that of old operator sets too", layout=Layout.ANY)
def convert_binary(call: Call) -> Value:
    """A function of two operands of one type."""
    function = BINARY[call.node.op_type]
    a, b = call.input(0), call.input(1)
    if (a.dtype == ElementType.BOOL or b.dtype == ElementType.BOOL) != (
        function in LOGICAL
    ) and function != "equal":
        raise bad_model("MM104", f"{function} of {a.dtype.name} and {b.dtype.name}")
    if call.version < 7:
        b = _legacy_broadcast(call, a, b)
    return elementwise(call.build, Binary(function), a, b)


def _legacy_broadcast(call: Call, a: Value, b: Value) -> Value:
    """Before operator set 7 shapes were equal, unless attributes said so and where b's axes lie among a's."""
    if not call.integer("broadcast", 0):
        if a.shape != b.shape:
            raise bad_model("MM104", f"shapes {list(a.shape)} and {list(b.shape)} differ without broadcast=1")
        return b
    axis = call.axis(a.rank, a.rank - b.rank) if a.rank else 0
    behind = a.rank - axis - b.rank
    if behind < 0:
        raise bad_model("MM104", f"{list(b.shape)} does not fit {list(a.shape)} from axis {axis}")
    return reshaped(call.build, b, (*b.shape, *(1,) * behind))


@converts(
    "PRelu", notes="a slope that broadcasts; before operator set 7 one slope a channel", layout=Layout.ANY
)
def convert_prelu(call: Call) -> Value:
    """Leaky Relu with a slope that is a tensor; before operator set 7 one slope a channel."""
    x, slope = call.float_input(0), call.float_input(1)
    if call.version < 7 and slope.rank == 1 and slope.size > 1:
        slope = reshaped(call.build, slope, (slope.size, *(1,) * (x.rank - 2)))
    if slope.rank > x.rank or any(
        n not in (1, m) for n, m in zip(slope.padded(x.rank).shape, x.shape, strict=True)
    ):
        raise bad_model("MM104", f"a slope of {list(slope.shape)} does not fit {list(x.shape)}")
    return elementwise(call.build, Binary("prelu"), x, slope)


@converts(
    "Pow", notes="exponents 2 and 3 become products; integers to an integer power wrap", layout=Layout.ANY
)
def convert_pow(call: Call) -> Value:
    """Powers; the result has the type of the base."""
    x, y = call.number_input(0), call.number_input(1)
    if call.build.is_constant(y.tensor) and y.size == 1 and y.rank <= x.rank and x.dtype.is_float:
        exponent = float(call.build.array(y).reshape(-1)[0])
        if exponent in (2, 3):  # as ONNX Runtime does
            square = elementwise(call.build, Binary("mul"), x, x)
            return square if exponent == 2 else elementwise(call.build, Binary("mul"), square, x)
    if y.dtype.is_float and not x.dtype.is_float:
        power = elementwise(call.build, Binary("pow"), unary(call.build, Cast(y.dtype), x), y)
        return unary(call.build, Cast(x.dtype), power)
    if y.dtype != x.dtype:
        y = unary(call.build, Cast(x.dtype), y)
    return elementwise(call.build, Binary("pow"), x, y)


@converts("Mod", notes="of integers and floats; with fmod, too", layout=Layout.ANY)
def convert_mod(call: Call) -> Value:
    """Remainder with the sign of the divisor, or with fmod that of the dividend."""
    a, b = call.number_input(0), call.number_input(1)
    return elementwise(call.build, Binary("fmod" if call.integer("fmod", 0) else "mod"), a, b)


@converts("Sum", "Mean", notes="any number of float operands", layout=Layout.ANY)
@converts("Max", "Min", notes="any number of operands", layout=Layout.ANY)
def convert_many(call: Call) -> Value:
    """A chain of functions of two operands."""
    kind = call.node.op_type
    function = {"Sum": "add", "Mean": "add", "Max": "max", "Min": "min"}[kind]
    result = call.number_input(0) if kind in ("Max", "Min") else call.float_input(0)
    for k in range(1, len(call.inputs)):
        result = elementwise(call.build, Binary(function), result, call.input(k))
    if kind == "Mean" and len(call.inputs) > 1:
        count = call.build.constant(np.array(len(call.inputs), np.float32))
        result = elementwise(call.build, Binary("div"), result, count)
    return result


@converts("Where", notes="broadcasting", layout=Layout.ANY)
def convert_where(call: Call) -> Value:
    """Choose between two operands."""
    condition, a, b = (call.input(k) for k in range(3))
    if condition.dtype != ElementType.BOOL or a.dtype != b.dtype:
        raise bad_model("MM104", f"Where of {condition.dtype.name}, {a.dtype.name} and {b.dtype.name}")
    return elementwise(call.build, Where(), condition, a, b)


@converts("Identity", notes="makes no code", layout=Layout.ANY)
@converts(
    "Dropout",
    notes="inference: makes no code",
    layout=Layout.ANY,
    ignored=("ratio", "seed", "is_test"),  # of training, where ratio is an operand
)
def convert_identity(call: Call) -> Value | tuple[Value, ...]:
    """Nothing to do, but for Dropout in training."""
    if call.node.op_type == "Dropout":
        training = call.scalar(2, "training_mode") if call.version >= 12 else 0
        ratio = call.scalar(1, "ratio") if training else None
        if training and (ratio is None or ratio != 0):
            raise unsupported("Dropout in training mode", "exporting the model for inference")
        if call.is_read(1):
            x = call.input(0)
            call.build.spend(x.size, "the mask of Dropout")
            return x, call.build.constant(np.ones(x.shape, np.bool_))
    return call.input(0)
