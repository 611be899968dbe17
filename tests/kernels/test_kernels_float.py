# SPDX-License-Identifier: Apache-2.0
"""Float kernels and kernels that move elements: every case in every way a plan may run it, shapes that nobody
thought of, other compilers, and the references themselves against ONNX Runtime."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import WARNINGS, Bench
from mmcc.ir.element_type import ElementType
from mmcc.kernels import catalog  # noqa: F401
from mmcc.kernels.select import LAYERS
from mmcc.ops import OPS
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.elementwise import BINARY, COMPARISONS, OF_BITS, UNARY
from mmcc.ops.movement import Pad, Slice, Transpose
from mmcc.ops.pool import AveragePool
from mmcc.ops.reduce import REDUCTIONS, Reduce
from mmcc.ops.window import Window
from onnx import TensorProto, helper
from op_case import OpCase, rng_of
from op_case_values import LAYER, UNSIGNED, exact, integers, real, values
from op_cases_elementwise import LOGICAL, PARAMETERS, POSITIVE, pair, unary
from op_cases_float import FAMILIES
from random_float import convolutions, seeds, spread, windows

# What the int8 cases cover, what has no kernel, and what calls the user's functions.
ELSEWHERE = {
    *("Lookup", "FlipSign", "MaxPool", "ArgMax", "DequantizeConstant", "ReadRows", "WriteRows"),
    *("PageOut", "PageIn"),
    "BatchNorm",  # no kernel's: tests/training/test_batch_norm.py
    *("TopK", "MaxPoolIndices"),  # test_several_results.py
    "NonMaxSuppression",  # test_suppression.py
    "Repeat",  # tests/codegen/test_repeat_c.py
}

pytestmark = pytest.mark.filterwarnings("ignore:invalid value")  # references of infinities less infinities


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_equal_the_reference(family):
    cases = FAMILIES[family]()
    bench = Bench(cases)
    for case in cases:
        bench.check(case.name)


@pytest.mark.quick
def test_every_operator_has_cases():
    tested = {type(case.op).__name__ for family in FAMILIES.values() for case in family()}
    assert tested == {name for name in OPS if "Int8" not in name and "Int16" not in name} - ELSEWHERE


@pytest.mark.quick
def test_every_operator_has_a_layer():
    missing = {name for name, op in OPS.items() if op not in LAYERS} - {"DequantizeConstant", "BatchNorm"}
    assert not missing


@pytest.mark.quick
def test_no_two_cases_share_a_name():
    names = [case.name for family in FAMILIES.values() for case in family()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("family", ["convolutions", "transposed_convolutions", "matrices", "reductions"])
def test_fused_multiply_add_and_vectors(family, monkeypatch):
    """The code for this machine's own vectors, which a portable build does not use."""
    monkeypatch.setenv("MMCC_BENCH_FLAGS", "-march=native -ffp-contract=off")
    cases = FAMILIES[family]()
    bench = Bench(cases, sanitize=False)
    for case in cases:
        bench.check(case.name)


# ---- other compilers: what they say of types and forms, which no optimizer is needed for

M4 = "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard"
COMPILERS = {
    "gcc_fast": "gcc -O3 -march=native",
    "clang": "clang -O0",
    "cortex_m0": "arm-none-eabi-gcc -O0 -mcpu=cortex-m0plus -mthumb",
    "cortex_m4": f"arm-none-eabi-gcc -O0 {M4}",
    "cortex_m55": "arm-none-eabi-gcc -O0 -mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
    "aarch64": "aarch64-linux-gnu-gcc -O0",
}


class Sources(Bench):
    """The files of a bench; the test compiles them."""

    def _compile(self, files, runner, sanitize):
        return []


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory):
    """Source files with one kernel a template and set of options."""
    folder = tmp_path_factory.mktemp("kernels")
    cases = [case for family in FAMILIES.values() for case in family()]
    for name, text in Sources(cases).package.files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_compiler_warns(compiler, one_of_each):
    command = COMPILERS[compiler].split()
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(
        [*command, *WARNINGS, "-c", "bench_kernels.c", "-o", f"{compiler}.o"], cwd=one_of_each, check=True
    )


# ---- shapes that nobody thought of


@st.composite
def transposed(draw) -> OpCase:
    groups, depth, size = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 10))
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 6)), groups * depth)
    kernel, strides, dilations = draw(spread(1, 4)), draw(spread(1, 4)), draw(spread(1, 3))
    window = Window(kernel, strides, dilations, (*draw(spread(0, 3)), 0, 0))
    rng = draw(seeds())
    w = exact(rng, groups * size, *kernel, depth)
    op = ConvTranspose(window, draw(spread(1, 18)), groups)
    return OpCase("case", op, (exact(rng, *shape), w, exact(rng, groups * size)), LAYER)


@st.composite
def pools(draw) -> OpCase:
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 9)), draw(st.integers(1, 18)))
    window = draw(windows(shape))
    return OpCase("case", AveragePool(window, window.pads), (exact(draw(seeds()), *shape),))


@st.composite
def shapes(draw, low: int = 0, high: int = 6) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(1, 5), min_size=low, max_size=high)))


@st.composite
def slices(draw) -> OpCase:
    shape = draw(shapes(1))
    starts, steps, sizes = [], [], []
    for extent in shape:
        start = draw(st.integers(0, extent - 1))
        step = draw(st.sampled_from((1, 1, 2, 3, -1, -2)))
        most = (extent - 1 - start) // step if step > 0 else start // -step
        starts, steps = [*starts, start], [*steps, step]
        sizes.append(draw(st.integers(1, most + 1)))
    op = Slice(tuple(starts), tuple(steps), tuple(sizes))
    return OpCase("case", op, (real(draw(seeds()), *shape),))


@st.composite
def transposes(draw) -> OpCase:
    shape = draw(shapes(1))
    perm = tuple(draw(st.permutations(range(len(shape)))))
    dtype = draw(st.sampled_from((ElementType.F32, ElementType.I8)))
    return OpCase("case", Transpose(perm), (values(draw(seeds()), dtype, *shape),))


@st.composite
def padded(draw) -> OpCase:
    shape = draw(shapes(1, 5))
    mode = draw(st.sampled_from(("constant", "reflect", "edge", "wrap")))
    most = [extent - 1 if mode == "reflect" else 3 for extent in shape]
    before, after = (tuple(draw(st.integers(0, m)) for m in most) for _ in range(2))
    return OpCase("case", Pad(before, after, mode, 0.5), (real(draw(seeds()), *shape),))


@st.composite
def reductions(draw) -> OpCase:
    shape = draw(shapes(1, 6))
    axes = tuple(axis for axis in range(len(shape)) if draw(st.booleans()))
    return OpCase("case", Reduce("sum", axes), (exact(draw(seeds()), *shape),))


CASES = st.one_of(convolutions(), transposed(), pools(), slices(), transposes(), padded(), reductions())


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(CASES, min_size=20, max_size=20))
def test_generated_shapes(cases):
    """Several a time: compiling costs more than running."""
    named = [OpCase(f"case{k}", c.op, c.inputs, c.constant) for k, c in enumerate(cases)]
    bench = Bench(named)
    for case in named:
        bench.check(case.name)


# ---- references against ONNX Runtime

ONNX_UNARY = {
    "leaky_relu": ("LeakyRelu", ("alpha",)),
    "hard_sigmoid": ("HardSigmoid", ("alpha", "beta")),
    "hard_swish": ("HardSwish", ()),
    "elu": ("Elu", ("alpha",)),
    "selu": ("Selu", ("alpha", "gamma")),
    "celu": ("Celu", ("alpha",)),
    "thresholded_relu": ("ThresholdedRelu", ("alpha",)),
    "shrink": ("Shrink", ("bias", "lambd")),
}
ONNX_BINARY = {
    "greater_equal": "GreaterOrEqual",
    "less_equal": "LessOrEqual",
    "prelu": "PRelu",
    "fmod": "Mod",
    "bit_and": "BitwiseAnd",
    "bit_or": "BitwiseOr",
    "bit_xor": "BitwiseXor",
}
ONNX_REDUCE = {"l1": "ReduceL1", "l2": "ReduceL2", "sum_square": "ReduceSumSquare"}
ELEMENT = {
    ElementType.F32: TensorProto.FLOAT,
    ElementType.I32: TensorProto.INT32,
    ElementType.I64: TensorProto.INT64,
}


def onnx_result(op_type: str, inputs: list[np.ndarray], **attributes) -> np.ndarray:
    """What ONNX Runtime makes of one node."""
    runtime = pytest.importorskip("onnxruntime")
    names = [f"x{k}" for k in range(len(inputs))]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph([node], "one", ports, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.quick
@pytest.mark.parametrize("function", [f for f in UNARY if f not in ("silu", "not", "bit_not", "saturate")])
def test_functions_of_one_against_onnx_runtime(function):
    x = real(rng_of(function), 400) * 4
    x = np.abs(x) if function in POSITIVE else x
    case = unary(function, function, x)
    parameters = PARAMETERS.get(function, ())
    if function == "clamp":
        got = onnx_result("Clip", [x, *(np.array(p, np.float32) for p in parameters)])
    elif function in ("gelu", "gelu_tanh"):
        got = onnx_result("Gelu", [x], approximate="tanh" if function == "gelu_tanh" else "none")
    else:
        name, attributes = ONNX_UNARY.get(function, (function.capitalize(), ()))
        got = onnx_result(name, [x], **dict(zip(attributes, parameters, strict=True)))
    np.testing.assert_allclose(case.want, got, 1e-5, 1e-6)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", ELEMENT)
@pytest.mark.parametrize("function", [f for f in BINARY if not f.startswith("shift")])
def test_functions_of_two_against_onnx_runtime(function, dtype):
    rng = rng_of(function)
    if function in LOGICAL:
        x, y = rng.random((2, 400)) < 0.5
    elif dtype == ElementType.F32:
        x, y = pair(function, dtype, (400,), (400,), rng)
    else:  # ONNX does not say what overflow gives
        x, y = rng.integers(-9, 10, (2, 400)).astype(dtype.numpy)
        y = np.abs(y) if function == "pow" else y
    if dtype != ElementType.F32 and function in ("div", "mod", "fmod"):
        y = np.where(y == 0, y.dtype.type(1), y)
    floats = dtype == ElementType.F32
    if (function == "prelu" and not floats) or (function in ("mod", *OF_BITS) and floats):
        pytest.skip("not in ONNX")
    name = ONNX_BINARY.get(function, function.capitalize())
    got = onnx_result(name, [x, y], **({"fmod": int(function == "fmod")} if name == "Mod" else {}))
    assert (got.dtype == bool) == (function in COMPARISONS or function in LOGICAL)
    np.testing.assert_allclose(BINARY[function](x, y), got, 1e-5, 1e-6)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", UNSIGNED)
@pytest.mark.parametrize("direction", ["left", "right"])
def test_shifts_against_onnx_runtime(direction, dtype):
    x = integers(rng_of(direction), dtype, 400)
    y = rng_of("by").integers(0, dtype.bits, 400).astype(dtype.numpy)
    if dtype.bits == 16:
        pytest.skip("not in ONNX Runtime")
    got = onnx_result("BitShift", [x, y], direction=direction.upper())
    np.testing.assert_array_equal(BINARY[f"shift_{direction}"](x, y), got)


@pytest.mark.quick
@pytest.mark.parametrize("function", REDUCTIONS)
def test_reductions_against_onnx_runtime(function):
    x = real(rng_of(function), 4, 5, 6)
    x = np.abs(x) if function == "log_sum" else x
    words = "".join(word.capitalize() for word in function.split("_"))
    name = ONNX_REDUCE.get(function, f"Reduce{words}")
    for axes in ((0,), (1, 2), (0, 1, 2)):
        got = onnx_result(name, [x, np.array(axes)])
        np.testing.assert_allclose(Reduce(function, axes).reference(x)[0], got, 1e-5, 1e-6)
