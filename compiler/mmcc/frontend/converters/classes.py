# SPDX-License-Identifier: Apache-2.0
"""What classifiers of ai.onnx.ml share: labels, transformed scores, and ZipMap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.normalization import along_last_axis
from mmcc.frontend.converters.parts import concat
from mmcc.frontend.converters.reduction import arg_max
from mmcc.frontend.layouts import arranged, reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import LEARNED, converts
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast, Unary, Where
from mmcc.ops.indexing import TakeLines
from mmcc.ops.softmax import Softmax

Labels = Sequence[int] | Sequence[str]

WINITZKI = 0.147  # of the approximation of erf
ZERO = 1e-7  # what SOFTMAX_ZERO takes for 0


def transformed(call: Call, scores: Value, kind: str | None = None) -> Value:
    """Scores [rows, classes] after the operator's post_transform; refused of one score, which ONNX Runtime
    passes over but for PROBIT."""
    build = call.build
    kind = call.text("post_transform", "NONE") if kind is None else kind
    if scores.shape[-1] == 1 and kind in ("LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        raise unsupported(
            f"post_transform {kind} of one score, which ONNX Runtime passes over",
            "leaving it out, and a Sigmoid behind the node where that is meant",
        )
    match kind:
        case "NONE":
            return scores
        case "LOGISTIC":
            return unary(build, Unary("sigmoid"), scores)
        case "SOFTMAX":
            return along_last_axis(build, Softmax(), scores, [scores.rank - 1])
        case "SOFTMAX_ZERO":  # scores of 0 stay, and the others' softmax is without them
            size = unary(build, Unary("abs"), scores)
            is_zero = elementwise(build, Binary("less_equal"), size, _number(build, ZERO))
            others = elementwise(build, Where(), is_zero, _number(build, -math.inf), scores)
            return along_last_axis(build, Softmax(), others, [scores.rank - 1])
        case "PROBIT":
            return _probit(build, scores)
        case _:
            raise bad_model("MM103", f'post_transform is "{kind}"')


def _number(build: Builder, value: float) -> Value:
    return build.constant(np.array(value, np.float32))


def _probit(build: Builder, p: Value) -> Value:
    """Where the normal distribution reaches p, with Winitzki's inverse of erf, as ONNX Runtime has it."""

    def number(value: float) -> Value:
        return _number(build, value)

    def of(op: str, a: Value, b: Value) -> Value:
        return elementwise(build, Binary(op), a, b)

    x = of("sub", of("mul", p, number(2)), number(1))
    log = unary(build, Unary("log"), of("mul", of("sub", number(1), x), of("add", number(1), x)))
    half = of("add", of("mul", log, number(0.5)), number(2 / (3.14159 * WINITZKI)))
    inner = of("sub", of("mul", half, half), of("mul", log, number(1 / WINITZKI)))
    square = of("sub", unary(build, Unary("sqrt"), inner), half)
    size = of("mul", unary(build, Unary("sqrt"), square), number(math.sqrt(2)))
    below = of("less", x, number(0))
    return elementwise(build, Where(), below, unary(build, Unary("neg"), size), size)


def label_of(build: Builder, index: Value, labels: Labels) -> Value:
    """The labels for indices [rows]; strings stay indices, with a warning."""
    if isinstance(labels[0], str):
        build.warn("labels are strings in the model; in C each is the index of its class")
        return index
    numbers = np.array(labels, np.int64)
    if np.array_equal(numbers, np.arange(len(numbers))):
        return index
    table = build.constant(numbers.reshape(-1, 1), f"{build.hint}.labels").tensor
    made = build.emit(TakeLines((len(numbers),)), table, arranged(build, index, [(0,)]))
    return reshaped(build, whole(made, range(2)), index.shape)


def labelled(call: Call, scores: Value, labels: Labels) -> tuple[Value, ...]:
    """The label of the largest score of each row, and the scores after the post_transform."""
    if scores.rank != 2 or scores.shape[1] != len(labels) or not labels:
        raise bad_model("MM104", f"{len(labels)} labels for scores {list(scores.shape)}")
    index = arg_max(call.build, scores, 1).without([1])
    return label_of(call.build, index, labels), transformed(call, scores)


def of_two(call: Call, other: Value, score: Value, labels: Labels, limit: float) -> tuple[Value, ...]:
    """Of two classes where the second's score [rows, 1] decides: above a limit it wins."""
    build = call.build
    wins = elementwise(build, Binary("greater"), score, build.constant(np.array(limit, np.float32)))
    index = unary(build, Cast(ElementType.I64), wins).without([1])
    scores = concat(build, [other, score], 1)
    return label_of(build, index, labels), transformed(call, scores)


def opposite(build: Builder, score: Value, *, probability: bool) -> Value:
    """The other class's score: what is left of 1, or the same with another sign."""
    if not probability:
        return unary(build, Unary("neg"), score)
    return elementwise(build, Binary("sub"), build.constant(np.ones((), np.float32)), score)


@converts("ZipMap", domain=LEARNED, notes="dropped: the scores stay a tensor, in the order of the labels")
def convert_zip_map(call: Call) -> Value:
    """A dictionary a row is no tensor: what it is made of is given instead."""
    call.without_effect("classlabels_int64s", "classlabels_strings")
    call.build.warn("ZipMap is dropped: its output is the tensor of scores, one column a class")
    return call.input(0)
