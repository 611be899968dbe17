# SPDX-License-Identifier: Apache-2.0
"""The gradient of every operator that trains, against central differences in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from mmcc.errors import CompileError
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Tensor
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.cumulative import Cumulative
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import UNARY, Binary, Cast, Unary, Where
from mmcc.ops.elementwise_gradient import DERIVATIVES
from mmcc.ops.fourier import Fourier, ShortTimeFourier, Transform
from mmcc.ops.indexing import ScatterAlong, ScatterLines, TakeAlong, TakeLines
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.loss import CrossEntropy, CrossEntropyGradient
from mmcc.ops.matmul import MatMul, Operands
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.ops.pool import AveragePool, MaxPool, MaxPoolIndices
from mmcc.ops.quantize import QuantizeBy
from mmcc.ops.reduce import ArgMax, Reduce
from mmcc.ops.resize import ResizeLinear, ResizeNearest
from mmcc.ops.softmax import Softmax
from mmcc.ops.topk import TopK
from mmcc.ops.window import Window
from mmcc.passes.draft import Draft
from mmcc.training.differentiate import differentiate
from mmcc.training.gradients.elementwise import FLAT, PAIRS
from mmcc.training.gradients.pooling import REDUCTIONS
from mmcc.training.gradients.registry import RULES
from op_case import rng_of
from op_cases_elementwise import INSIDE, PARAMETERS, POSITIVE
from op_cases_recurrent import recurrent_layers
from op_cases_training import POOLS, WINDOWS

pytestmark = pytest.mark.quick

STEP = 1e-6
Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """An op and its operands; gradients are asked of those in `of`, the others are constants."""

    name: str
    op: Any
    inputs: tuple[Array, ...]
    of: tuple[int, ...] = (0,)


def real(name: str, *shape: int) -> Array:
    return rng_of(name).standard_normal(shape)


def layers() -> list[Case]:
    cases: list[Case] = []
    for name, (shape, filters, window, groups) in WINDOWS.items():
        w = real(f"{name} w", filters, *window.kernel, shape[2] // groups)
        small = (*(min(n, 7) for n in shape[:2]), shape[2])
        x, b = real(name, *small), real("b", filters)
        for act in (None, Clamp(-0.5, 1.5)) if name == "same" else (None,):
            cases.append(Case(f"conv_{name}_{act}", Conv(window, groups, act), (x, w, b), (0, 1, 2)))
    for name, window, size in (
        ("double", Window((2, 2), (2, 2)), (8, 10)),
        ("odd", Window((3, 3), (2, 2), pads=(1, 1, 0, 0)), (7, 9)),
        ("cut", Window((3, 2), (1, 2), (2, 1), (1, 1, 0, 0)), (5, 8)),
        ("padded", Window((2, 2), (3, 3)), (13, 14)),
    ):
        x, w, b = real(name, 4, 5, 3), real(f"{name} w", 6, *window.kernel, 3), real("b", 6)
        op = ConvTranspose(window, size, 1, Leaky(0.3))
        cases.append(Case(f"conv_transpose_{name}", op, (x, w, b), (0, 1, 2)))
    for groups, filters in ((2, 6), (4, 4)):  # 4: depthwise
        window, w = Window((3, 2), (2, 2)), real("grouped", filters, 3, 2, 4 // groups)
        op = ConvTranspose(window, (9, 10), groups)
        operands = real("x", 4, 5, 4), w, real("b", filters)
        cases.append(Case(f"conv_transpose_{groups}_groups", op, operands, (0, 1, 2)))
    for name, rows in (("vector", ()), ("rows", (4,))):
        operands = real(name, *rows, 6), real("w", 5, 6), real("b", 5)
        cases.append(Case(f"dense_{name}", Dense(Clamp(0.0)), operands, (0, 1, 2)))
    cases.append(Case("matmul", MatMul(), (real("a", 3, 4), real("b", 4, 5)), (0, 1)))
    cases.append(Case("matmul_batch", MatMul(), (real("a", 2, 3, 4), real("b", 1, 4, 5)), (0, 1)))
    for turned, heads in ((True, False), (False, True), (True, True)):
        b = (5, 2, 4) if turned and heads else (4, 2, 5) if heads else (2, 5, 4)
        a, op = (3, 2, 4) if heads else (2, 3, 4), MatMul(Operands(turned, heads))
        cases.append(Case(f"matmul_{turned}_{heads}", op, (real("a", *a), real("b", *b)), (0, 1)))
    for turned in (False, True):  # each head of the second operand meets three of the first
        a, b = real("a", 3, 6, 4), real("b", *((5, 2, 4) if turned else (4, 2, 5)))
        cases.append(Case(f"matmul_shared_{turned}", MatMul(Operands(turned, True)), (a, b), (0, 1)))
    for centred in (True, False):
        operands = real("x", 3, 4, 7), real("scale", 7), *([real("bias", 7)] if centred else [])
        of = tuple(range(len(operands)))
        cases.append(Case(f"layer_norm_{centred}", LayerNorm(1e-3, centred), operands, of))
    return cases


def functions() -> list[Case]:
    cases: list[Case] = []
    for function in (*DERIVATIVES, "neg", *FLAT):
        if function == "not":
            continue
        x = 2 * real(function, 3, 4, 5)
        if function in INSIDE:
            low, high = INSIDE[function]
            x = low + (high - low) * (0.05 + 0.9 * rng_of(function).random(x.shape))
        x = np.abs(x) + 0.1 if function in (*POSITIVE, "reciprocal") else x
        parameters = tuple(float(np.float32(p)) for p in PARAMETERS.get(function, ()))
        cases.append(Case(function, Unary(function, parameters), (x,)))
    for function in PAIRS:
        for name, a, b in (
            ("", (3, 4, 5), (3, 4, 5)),
            ("_repeated", (3, 1, 5), (4, 1)),
            ("_vector", (3, 4, 5), (5,)),
        ):
            x, y = real(f"{function} a", *a), real(f"{function} b", *b)
            if function in ("pow", "div", "mod", "fmod"):
                x, y = np.abs(x) + 0.2, np.abs(y) + 0.5
            cases.append(Case(f"{function}{name}", Binary(function), (x, y), (0, 1)))
    taken = rng_of("where").random((3, 4, 5)) < 0.5
    cases.append(Case("where", Where(), (taken, real("a", 3, 4, 5), real("b", 1, 5)), (1, 2)))
    return cases


def pools() -> list[Case]:
    cases: list[Case] = []
    for name, (shape, window) in POOLS.items():
        x = real(name, *shape)
        cases.append(Case(f"max_pool_{name}", MaxPool(window), (x,)))
        for counted in {(0, 0, 0, 0), window.pads}:
            cases.append(Case(f"average_pool_{name}_{counted}", AveragePool(window, counted), (x,)))
        cases.append(Case(f"max_pool_indices_{name}", MaxPoolIndices(window), (x,)))
    for function in REDUCTIONS:
        x = np.abs(real(function, 4, 5, 6)) + 0.1
        x[0, 1, 2] = 0 if function == "prod" else x[0, 1, 2]
        for axes in ((0, 1), (2,), (0, 2), (0, 1, 2)):
            cases.append(Case(f"{function}_{axes}", Reduce(function, axes), (x,)))
    cases += [Case(f"softmax_{log}", Softmax(log), (real("softmax", 3, 7),)) for log in (False, True)]
    return cases


def movements() -> list[Case]:
    x = real("moved", 6, 7, 4)
    weights = np.abs(real("rows", 9, 2)), np.abs(real("cols", 5, 2))
    resize = ResizeLinear((-1, 0, 0, 1, 2, 2, 3, 4, 5), (0, 1, 3, 5, 6), 2)
    return [
        Case("reshape", Reshape((4, 42)), (x,)),
        Case("transpose", Transpose((2, 0, 1)), (x,)),
        Case("expand", Expand((6, 7, 4)), (real("one", 1, 7, 1),)),
        Case("concat", Concat(1), (x, real("more", 6, 2, 4), x[:, :1]), (0, 1, 2)),
        Case("pad", Pad((1, 0, 2), (0, 3, 1), "constant", 0.5), (x,)),
        Case("slice", Slice((1, 2, 0), (1, 1, 1), (4, 5, 3)), (x,)),
        Case("slice_steps", Slice((1, 0, 0), (2, 3, 1), (3, 3, 4)), (x,)),
        Case("slice_backward", Slice((5, 6, 3), (-1, -2, -3), (5, 4, 2)), (x,)),
        Case("gather", Gather(1, (3, 3, 0, 6, 3)), (x,)),
        Case("gather_double", Gather(0, (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)), (x,)),
        Case("gather_many", Gather(1, (3,) * 17 + (0,)), (x,)),
        *(Case(f"pad_{mode}", Pad((2, 0, 3), (1, 3, 0), mode), (x,)) for mode in ("reflect", "edge", "wrap")),
        Case("pad_edge_far", Pad((0, 20, 0), (0, 0, 0), "edge"), (x,)),
        Case("resize", resize, (x, *weights)),
        Case("resize_nearest", ResizeNearest((0, 0, 1, 1, 2, 2, 5, 5), (0, 0, 0, 3, 6, 6)), (x,)),
        Case("sums", Cumulative("sum"), (x,)),
        Case("sums_behind", Cumulative("sum", exclusive=True, reverse=True), (x,)),
        Case("local_response_norm", LocalResponseNorm(3, 0.3, 0.75, 1.5), (x,)),
        Case("local_response_norm_even", LocalResponseNorm(4, 0.5, 0.5, 1.0), (real("lrn", 2, 3, 6),)),
    ]


def transforms() -> list[Case]:
    cases: list[Case] = []
    for length, parts, inverse, onesided in product((9, 20), (1, 2), (False, True), (False, True)):
        transform = Transform(length, parts, inverse, onesided)
        for given in (transform.most, 4):
            x = real("signal", 2, given * parts)
            cases.append(Case(f"{transform} of {given}", Fourier(transform), (x,)))
    for parts, step in ((1, 3), (2, 11)):
        op = ShortTimeFourier(Transform(10, parts, onesided=True), step)
        cases.append(Case(f"frames every {step}", op, (real("frames", 33, parts),)))
        cases.append(Case(f"windows every {step}", op, (real("frames", 33, parts), real("window", 10))))
    return cases


def places() -> list[Case]:
    """Some of the lines, or elements, that are named are so twice, and some are outside."""
    x, lines = real("x", 3, 5, 4), real("lines", 6, 4)
    named = np.array([4, 1, -2, 9, 1], np.int32)
    pairs = np.array([[0, 2], [1, 1], [0, -1]], np.int64)
    each = rng_of("each").integers(-7, 7, (3, 3, 4)).astype(np.int32)
    cases = [
        Case("take_lines", TakeLines((6,)), (lines, named)),
        Case("take_lines_by_two", TakeLines((2, 3)), (lines, pairs)),
        Case("take_along", TakeAlong(), (x, named)),
        Case("take_along_by_rows", TakeAlong(), (x, each[:, :, 0].copy())),
        Case("take_along_by_elements", TakeAlong(), (x, each)),
    ]
    for how in ("none", "add"):
        some = ScatterLines((2, 2), how, 1), (lines, pairs % 2, real("three", 3, 4))
        along = ScatterAlong(how, 1), (x, each[:2], real("two", 2, 3, 4))
        cases += [
            Case(f"scatter_lines_{how}", ScatterLines((6,), how), (lines, named, real("new", 5, 4)), (0, 2)),
            Case(f"scatter_lines_{how}_to_some", *some, (0, 2)),
            Case(f"scatter_along_{how}", ScatterAlong(how), (x, named, real("new", 3, 5, 4)), (0, 2)),
            Case(f"scatter_along_{how}_to_some", *along, (0, 2)),
        ]
    cases += [Case(f"top_k_{way}", TopK(3, way), (real("top", 2, 3, 7),)) for way in (False, True)]
    return cases


def cells() -> list[Case]:
    """Of every kind of layer that a step backward goes through; an LSTM shows c, too."""
    cases: list[Case] = []
    for known in recurrent_layers():
        op = known.op
        if {"lengths", "hops"} & set(op.operands) or op.rounded:
            continue
        op = replace(op, cells=op.cell == "lstm")
        operands = tuple(x.astype(np.float64) for x in known.inputs)
        cases.append(Case(known.name, op, operands, tuple(range(len(operands)))))
    return cases


CASES = [*layers(), *functions(), *pools(), *movements(), *transforms(), *places(), *cells()]


def graph_of(case: Case) -> Graph:
    """One node; its operands and the gradient of its result are tensors without a producer."""
    names = [f"x{k}" for k in range(len(case.inputs))]
    tensors: dict[str, Tensor] = {}
    for name, x in zip(names, case.inputs, strict=True):
        tensors[name] = Tensor(name, x.shape, ElementType.F32 if x.dtype.kind == "f" else ElementType.of(x))
    constants = {
        names[k]: x.astype(np.float32)
        for k, x in enumerate(case.inputs)
        if k not in case.of and x.dtype.kind == "f"
    }
    made = [Tensor("y" * (k + 1), *t) for k, t in enumerate(case.op.results(*tensors.values()))]
    tensors |= {t.name: t for t in made} | {"g": Tensor("g", made[0].shape)}
    node = Node(case.op, tuple(names), tuple(t.name for t in made))
    return Graph("one", tensors, constants, (node,), (), ())


def evaluated(nodes: Sequence[Node], values: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors, in float64."""
    known = dict(values)
    for node in nodes:
        known |= zip(node.outputs, node.op.reference(*(known[name] for name in node.inputs)), strict=True)
    return known


def slopes(case: Case, g: Array, k: int) -> Array:
    """Central differences of sum(g * y) with respect to operand k."""
    found = np.zeros(case.inputs[k].shape)
    for place in np.ndindex(*found.shape):
        ends: list[float] = []
        for step in (STEP, -STEP):
            moved = case.inputs[k].copy()
            moved[place] += step
            operands = (*case.inputs[:k], moved, *case.inputs[k + 1 :])
            ends.append(float((g * case.op.reference(*operands)[0]).sum()))
        found[place] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def gradients_of(case: Case, g: Array) -> dict[int, Array]:
    graph = graph_of(case)
    draft = Draft(graph)
    for node in graph.nodes:
        draft.keep(node)
    made = differentiate(draft, {"y": "g"}, [f"x{k}" for k in case.of])
    constants = {
        name: x.astype(np.float64) for name, x in draft.constants.items() if name not in graph.constants
    }
    operands = {f"x{k}": x for k, x in enumerate(case.inputs)}
    values = evaluated(draft.nodes, operands | constants | {"g": g})
    return {k: values[made[f"x{k}"]] for k in case.of if f"x{k}" in made}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_are_those_of_central_differences(case: Case) -> None:
    y = case.op.reference(*case.inputs)[0]
    g = real(f"{case.name} g", *y.shape)
    made = gradients_of(case, g)
    for k in case.of:
        want = slopes(case, g, k)
        got = made.get(k, np.zeros_like(want))
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 1e-6 * max(1.0, np.abs(want).max()), f"operand {k}"


def test_every_rule_has_a_case() -> None:
    flat = {ArgMax, Cast, QuantizeBy}  # have no gradient, or none that is not 0
    assert {type(case.op) for case in CASES} == RULES.keys() - flat


def test_every_function_with_a_derivative_is_one_that_there_is() -> None:
    assert DERIVATIVES.keys() <= UNARY.keys()


def test_cross_entropy() -> None:
    logits, label = real("logits", 4, 6), np.array([[2], [0], [5], [6]], np.int32)
    case = Case("cross_entropy", CrossEntropy(), (logits, label))
    (got,) = CrossEntropyGradient().reference(logits, label)
    np.testing.assert_allclose(got, slopes(case, np.ones(1), 0), atol=1e-9)


def test_a_tensor_that_is_read_twice_gets_both_gradients() -> None:
    tensors = {name: Tensor(name, (3, 4)) for name in ("x0", "a", "y", "g")}
    nodes = (Node(Unary("tanh"), ("x0",), ("a",)), Node(Binary("mul"), ("a", "x0"), ("y",)))
    graph = Graph("two", tensors, {}, nodes, (), ())
    draft = Draft(graph)
    for node in nodes:
        draft.keep(node)
    made = differentiate(draft, {"y": "g"}, ["x0"])
    x, g = real("x", 3, 4), real("g", 3, 4)
    values = evaluated(
        draft.nodes, {"x0": x, "g": g} | {k: v.astype(np.float64) for k, v in draft.constants.items()}
    )
    np.testing.assert_allclose(values[made["x0"]], g * (np.tanh(x) + x * (1 - np.tanh(x) ** 2)), atol=1e-12)


def test_a_line_of_zeros_has_no_slope_of_its_length() -> None:
    """As PyTorch has it: 0, of the slopes there, and never 0 / 0."""
    x = real("x", 3, 4)
    x[1] = 0
    made = gradients_of(Case("l2", Reduce("l2", (1,)), (x,)), np.ones((3, 1)))[0]
    np.testing.assert_allclose(made[1], 0)
    for k in (0, 2):
        np.testing.assert_allclose(made[k], x[k] / np.linalg.norm(x[k]))


@pytest.mark.parametrize("reduction", ["mul", "max", "min"])
def test_scattered_products_have_no_gradient(reduction: str) -> None:
    operands = real("x", 6, 4), np.array([4, 1], np.int32), real("new", 2, 4)
    with pytest.raises(CompileError, match=r"MM208.*has no gradient"):
        gradients_of(Case("scatter", ScatterLines((6,), reduction), operands), real("g", 6, 4))


def test_what_is_made_of_integers_has_no_slope() -> None:
    assert (
        gradients_of(Case("cast", Cast(ElementType.F32), (np.arange(4, dtype=np.int32),)), real("g", 4)) == {}
    )


def test_what_has_no_gradient_is_named() -> None:
    case = Case("products", Cumulative("prod"), (real("x", 3, 4),))
    with pytest.raises(CompileError, match=r"MM208.*has no gradient"):
        gradients_of(case, real("g", 3, 4))
