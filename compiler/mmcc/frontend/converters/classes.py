# SPDX-License-Identifier: Apache-2.0
"""What classifiers of ai.onnx.ml share: labels, transformed scores, and ZipMap."""

from __future__ import annotations

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


def transformed(call: Call, scores: Value, kind: str | None = None) -> Value:
    """Scores [rows, classes] after the operator's post_transform."""
    build = call.build
    kind = call.text("post_transform", "NONE") if kind is None else kind
    match kind:
        case "NONE":
            return scores
        case "LOGISTIC":
            return unary(build, Unary("sigmoid"), scores)
        case "SOFTMAX":
            return along_last_axis(build, Softmax(), scores, [scores.rank - 1])
        case "SOFTMAX_ZERO":
            zero = build.constant(np.zeros((), np.float32))
            soft = along_last_axis(build, Softmax(), scores, [scores.rank - 1])
            return elementwise(build, Where(), elementwise(build, Binary("equal"), scores, zero), zero, soft)
        case _:
            raise unsupported(f"post_transform {kind}")


def _label_of(build: Builder, index: Value, labels: Labels) -> Value:
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
    return _label_of(call.build, index, labels), transformed(call, scores)


def of_two(call: Call, other: Value, score: Value, labels: Labels, limit: float) -> tuple[Value, ...]:
    """Of two classes where the second's score [rows, 1] decides: above a limit it wins."""
    build = call.build
    wins = elementwise(build, Binary("greater"), score, build.constant(np.array(limit, np.float32)))
    index = unary(build, Cast(ElementType.I64), wins).without([1])
    scores = concat(build, [other, score], 1)
    return _label_of(build, index, labels), transformed(call, scores)


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
