# SPDX-License-Identifier: Apache-2.0
"""Support vectors of ai.onnx.ml, as scikit-learn's are exported."""

from __future__ import annotations

from itertools import accumulate, combinations

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.classes import Labels, label_of, opposite, transformed
from mmcc.frontend.converters.indexing import gathered
from mmcc.frontend.converters.learned import floats
from mmcc.frontend.converters.matrix import dense
from mmcc.frontend.converters.parts import concat, sliced
from mmcc.frontend.converters.reduction import arg_max, reduced
from mmcc.frontend.layouts import arranged, expanded, reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import LEARNED, converts
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ops.coupling import PairwiseCoupling
from mmcc.ops.elementwise import Binary, Cast, Unary, Where

LEAST_CLASSES = 2
MOST_CLASSES = 64  # whose pairs are counted by a matrix
SURE = 1e-7  # how near to 0 and 1 the probability of a pair may be


@converts("SVMRegressor", domain=LEARNED, notes="LINEAR, POLY, RBF, SIGMOID; one class, too")
def convert_svm_regressor(call: Call) -> Value:
    """A sum of kernels of the row and each support vector."""
    x, build = _rows(call), call.build
    count = call.integer("n_supports", 0)
    coefficients = call.numbers("coefficients", MAX_ELEMENTS) or []
    bias = _constant(build, (call.numbers("rho") or [0.0])[:1])
    if len(coefficients) != (count or x.shape[1]):
        raise bad_model("MM104", f"{len(coefficients)} coefficients, {count} vectors, {list(x.shape)}")
    if count:
        x = _similarities(call, x, count)
    else:
        call.without_effect("kernel_type", "kernel_params", "support_vectors")
    y = dense(build, x, 1, _constant(build, coefficients).padded(2), bias)
    if call.integer("one_class", 0):
        above = elementwise(build, Binary("greater"), y, _constant(build, 0.0))
        return elementwise(build, Where(), above, _constant(build, 1.0), _constant(build, -1.0))
    if call.text("post_transform", "NONE") == "PROBIT":
        raise unsupported("post_transform PROBIT of SVMRegressor, which ONNX Runtime passes over")
    return transformed(call, y)


@converts(
    "SVMClassifier",
    domain=LEARNED,
    notes="as SVMRegressor; probabilities; labels are numbers, or indices of strings",
)
def convert_svm_classifier(call: Call) -> tuple[Value, ...]:
    """A score for each pair of classes; the class that wins most pairs, the first of equals, is the label."""
    x, build = _rows(call), call.build
    names = call.texts("classlabels_strings", MAX_ELEMENTS)
    labels = names or call.integers("classlabels_ints", MAX_ELEMENTS) or []
    sizes = call.integers("vectors_per_class", MAX_ELEMENTS) or []
    coefficients = np.array(call.numbers("coefficients", MAX_ELEMENTS) or [], np.float32)
    rho = call.numbers("rho", MAX_ELEMENTS) or [0.0]
    classes = len(labels)
    if classes < LEAST_CLASSES:
        raise bad_model("MM104", f"{classes} classes")
    if not any(sizes):
        return _of_planes(call, x, coefficients, rho[0], labels)
    if classes > MOST_CLASSES or min(sizes) < 1:
        raise unsupported(
            f"{classes} classes of {min(sizes)} support vectors or more; up to {MOST_CLASSES} of 1"
        )
    similar = _similarities(call, x, sum(sizes))
    pairs = [*combinations(range(classes), 2)]
    if len(sizes) != classes or coefficients.size != (classes - 1) * sum(sizes) or len(rho) != len(pairs):
        raise bad_model("MM104", f"{coefficients.size} coefficients and {len(rho)} rho for {sizes} vectors")
    scores = _scores(build, similar, sizes, coefficients.reshape(classes - 1, -1), rho)
    index = arg_max(build, _votes(build, scores, classes), 1).without([1])
    a, b = (call.numbers(name, MAX_ELEMENTS) or [] for name in ("prob_a", "prob_b"))
    if len(a) != len(b) or len(a) not in (0, len(pairs)):
        raise bad_model("MM104", f"{len(a)} prob_a and {len(b)} prob_b for {len(pairs)} pairs of classes")
    if a:
        result = transformed(call, _probabilities(build, scores, classes, a, b))
    elif len(pairs) == 1:
        result = _of_one_pair(call, scores)
    else:
        result = transformed(call, scores)
    return label_of(build, index, labels), result


def _of_planes(
    call: Call, x: Value, coefficients: NDArray[np.float32], rho: float, labels: Labels
) -> tuple[Value, ...]:
    """Without support vectors: a plane for each class. Of two classes the second wins above a limit."""
    build, classes = call.build, len(labels)
    call.without_effect("kernel_type", "kernel_params", "support_vectors", "prob_a", "prob_b")
    if coefficients.size != classes * x.shape[1]:
        raise bad_model("MM104", f"{coefficients.size} coefficients for {classes} classes, {list(x.shape)}")
    w = build.constant(coefficients.reshape(classes, -1), f"{build.hint}.weights")
    scores = dense(build, x, 1, w, _constant(build, [rho] * classes))
    index = arg_max(build, scores, 1).without([1])
    if classes == LEAST_CLASSES:
        most = reduced(build, scores, "max", [1]).without([1])
        positive = bool((coefficients >= 0).all())
        limit = _constant(build, 0.5 if positive else 0.0)
        wins = elementwise(build, Binary("greater_equal" if positive else "greater"), most, limit)
        second = build.constant(np.array(1, np.int64))
        index = elementwise(build, Where(), wins, second, index)
    return label_of(build, index, labels), transformed(call, scores)


def _scores(
    build: Builder, similar: Value, sizes: list[int], coefficients: NDArray[np.float32], rho: list[float]
) -> Value:
    """Of each pair of classes [rows, pairs]: above 0 the first wins.

    `coefficients` [classes - 1, vectors] has, for a vector of class i, row j - 1 for its pair with a later
    class j and row j for that with an earlier one. Each class's vectors are multiplied with all of its rows
    at once, so flash has every coefficient once.
    """
    if len(sizes) == LEAST_CLASSES:
        return dense(build, similar, 1, build.constant(coefficients), _constant(build, rho))
    parts: list[Value] = []
    for start, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
        w = build.constant(coefficients[:, start : start + size].copy())
        one = sliced(build, similar, {1: (start, 1, size)})
        parts.append(dense(build, one, 1, w, None))
    others = len(sizes) - 1
    both = concat(build, parts, 1)
    pairs = [*combinations(range(len(sizes)), 2)]
    sides = ([i * others + j - 1 for i, j in pairs], [j * others + i for i, j in pairs])
    chosen = [gathered(build, both, 1, build.constant(np.array(side, np.int64))) for side in sides]
    total = elementwise(build, Binary("add"), *chosen)
    return elementwise(build, Binary("add"), total, _constant(build, rho))


def _votes(build: Builder, scores: Value, classes: int) -> Value:
    """How many pairs each class wins: [rows, classes]."""
    pairs = [*combinations(range(classes), 2)]
    sign, base = np.zeros((classes, len(pairs)), np.float32), np.zeros(classes, np.float32)
    for k, (first, second) in enumerate(pairs):
        sign[first, k], sign[second, k] = 1, -1
        base[second] += 1
    wins = elementwise(build, Binary("greater"), scores, _constant(build, 0.0))
    return dense(
        build, unary(build, Cast(ElementType.F32), wins), 1, _constant(build, sign), _constant(build, base)
    )


def _probabilities(build: Builder, scores: Value, classes: int, a: list[float], b: list[float]) -> Value:
    """Of each class, by Platt's for each pair and their coupling (Wu, Lin and Weng 2004)."""
    there = elementwise(build, Binary("mul"), scores, _constant(build, [-value for value in a]))
    there = elementwise(build, Binary("sub"), there, _constant(build, b))
    pair = unary(build, Unary("sigmoid"), there)
    pair = elementwise(build, Binary("max"), pair, _constant(build, SURE))
    pair = elementwise(build, Binary("min"), pair, _constant(build, 1 - SURE))
    made = build.emit(PairwiseCoupling(classes), arranged(build, pair, [(0,), (1,)]))
    return whole(made, range(2))


def _of_one_pair(call: Call, score: Value) -> Value:
    """The scores of both classes; but LOGISTIC, ONNX Runtime transforms none."""
    build, kind = call.build, call.text("post_transform", "NONE")
    if kind == "PROBIT":
        raise unsupported("post_transform PROBIT of one score for two classes")
    other = opposite(build, score, probability=kind not in ("NONE", "LOGISTIC"))
    both = concat(build, [other, score], 1)
    return transformed(call, both) if kind == "LOGISTIC" else both


def _rows(call: Call) -> Value:
    """The operand as rows of features."""
    x = floats(call)
    x = reshaped(call.build, x, (1, x.size)) if x.rank == 1 else x
    if x.rank != 2:
        raise bad_model("MM104", f"{list(x.shape)} has no rows of features")
    return x


def _similarities(call: Call, x: Value, count: int) -> Value:
    """How alike each row and each of the support vectors are: [rows, vectors]."""
    vectors = call.numbers("support_vectors", MAX_ELEMENTS) or []
    parameters = call.numbers("kernel_params") or [0.0, 0.0, 0.0]
    if len(vectors) != count * x.shape[1] or len(parameters) != 3:
        raise bad_model("MM104", f"{count} support vectors of {len(vectors)} numbers for {list(x.shape)}")
    support = np.array(vectors, np.float32).reshape(count, -1)
    return _kernel(call.build, x, support, call.text("kernel_type", "LINEAR"), parameters)


def _kernel(
    build: Builder, x: Value, support: NDArray[np.float32], kind: str, parameters: list[float]
) -> Value:
    """How alike each row and each support vector are: [rows, vectors]."""
    gamma, coefficient, degree = parameters
    if kind == "RBF":  # the sum of squares itself: a difference of products would lose digits
        rows = expanded(build, reshaped(build, x, (x.shape[0], 1, x.shape[1])), {1: len(support)})
        gap = elementwise(build, Binary("sub"), rows, build.constant(support))
        square = reduced(build, gap, "sum_square", [2]).without([2])
        return unary(build, Unary("exp"), elementwise(build, Binary("mul"), square, _constant(build, -gamma)))
    product = dense(build, x, 1, build.constant(support), None)
    if kind == "LINEAR":
        return product
    scaled = elementwise(build, Binary("mul"), product, _constant(build, gamma))
    moved = elementwise(build, Binary("add"), scaled, _constant(build, coefficient))
    if kind == "SIGMOID":
        return unary(build, Unary("tanh"), moved)
    if kind != "POLY":
        raise bad_model("MM103", f'kernel_type is "{kind}"')
    return elementwise(build, Binary("pow"), moved, _constant(build, degree))


def _constant(build: Builder, value: float | list[float] | NDArray[np.float32]) -> Value:
    return build.constant(np.array(value, np.float32))
