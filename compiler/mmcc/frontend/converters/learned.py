# SPDX-License-Identifier: Apache-2.0
"""Linear models and preprocessing of ai.onnx.ml, as scikit-learn's are exported."""

from __future__ import annotations

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.classes import labelled, of_two, opposite, transformed
from mmcc.frontend.converters.matrix import dense
from mmcc.frontend.converters.parts import concat
from mmcc.frontend.converters.reduction import arg_max, reduced
from mmcc.frontend.layouts import arranged, reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import LEARNED, converts
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast, Unary, Where
from mmcc.ops.indexing import TakeLines


def floats(call: Call, k: int = 0) -> Value:
    """An operand as float32, whatever numbers it has."""
    x = call.number_input(k)
    return x if x.dtype == ElementType.F32 else unary(call.build, Cast(ElementType.F32), x)


def _vector(build: Builder, values: list[float]) -> Value:
    return build.constant(np.array(values, np.float32))


@converts("Scaler", domain=LEARNED)
def convert_scaler(call: Call) -> Value:
    """(x - offset) * scale, a number for each feature or one for all."""
    x, build = floats(call), call.build
    offset, scale = call.numbers("offset", MAX_ELEMENTS), call.numbers("scale", MAX_ELEMENTS)
    for values in (offset, scale):
        if values is not None and len(values) not in (1, x.shape[-1] if x.rank else 1):
            raise bad_model("MM104", f"{len(values)} offsets or scales for {list(x.shape)}")
    if offset and any(offset):
        x = elementwise(build, Binary("sub"), x, _vector(build, offset))
    return elementwise(build, Binary("mul"), x, _vector(build, scale)) if scale else x


@converts("Normalizer", domain=LEARNED)
def convert_normalizer(call: Call) -> Value:
    """Each row divided by its norm; a row of zeros stays."""
    x, build = floats(call), call.build
    norm = call.text("norm", "MAX")
    if norm not in ("MAX", "L1", "L2") or x.rank == 0:
        raise bad_model("MM103", f'norm is "{norm}"')
    size = reduced(build, x, norm.lower(), [x.rank - 1])
    zero, one = (build.constant(np.array(v, np.float32)) for v in (0, 1))
    size = elementwise(build, Where(), elementwise(build, Binary("equal"), size, zero), one, size)
    return elementwise(build, Binary("div"), x, size)


@converts("Binarizer", domain=LEARNED)
def convert_binarizer(call: Call) -> Value:
    """1 above a threshold, else 0."""
    x, build = call.number_input(0), call.build
    limit = build.constant(np.array(call.finite("threshold", 0.0), x.dtype.numpy))
    return unary(build, Cast(x.dtype), elementwise(build, Binary("greater"), x, limit))


@converts("Imputer", domain=LEARNED, notes="of floats")
def convert_imputer(call: Call) -> Value:
    """What is missing (NaN, or a number that stands for it) is replaced."""
    x, build = call.float_input(0), call.build
    values = call.numbers("imputed_value_floats", MAX_ELEMENTS) or []
    replaced = call.any_number("replaced_value_float", 0.0)
    if len(values) not in (1, x.shape[-1] if x.rank else 1):
        raise bad_model("MM104", f"{len(values)} values for {list(x.shape)}")
    same = x if replaced != replaced else build.constant(np.array(replaced, np.float32))
    equal = elementwise(build, Binary("equal"), x, same)
    missing = unary(build, Unary("not"), equal) if replaced != replaced else equal
    return elementwise(build, Where(), missing, _vector(build, values), x)


@converts("FeatureVectorizer", domain=LEARNED)
def convert_feature_vectorizer(call: Call) -> Value:
    """Columns of several operands, side by side."""
    call.without_effect("inputdimensions")
    values = [floats(call, k) for k in range(len(call.inputs))]
    values = [reshaped(call.build, x, (1, x.size)) if x.rank < 2 else x for x in values]
    return concat(call.build, values, 1)


@converts("OneHotEncoder", domain=LEARNED, notes="of numbers; unknown ones give zeros")
def convert_one_hot_encoder(call: Call) -> Value:
    """A column for each category."""
    x, build = call.number_input(0), call.build
    known = call.integers("cats_int64s", MAX_ELEMENTS)
    if known is None or not call.integer("zeros", 1):
        raise unsupported("OneHotEncoder of strings, or without zeros")
    x = reshaped(build, x, (*x.shape, 1))
    table = build.constant(np.array(known, np.int64).astype(x.dtype.numpy))
    return unary(build, Cast(ElementType.F32), elementwise(build, Binary("equal"), x, table))


@converts("LabelEncoder", domain=LEARNED, since=2, notes="of numbers to numbers")
def convert_label_encoder(call: Call) -> Value:
    """Each key is replaced by its value, anything else by the default."""
    x, build = call.number_input(0), call.build
    keys = call.integers("keys_int64s", MAX_ELEMENTS) or call.numbers("keys_floats", MAX_ELEMENTS)
    whole_values = call.integers("values_int64s", MAX_ELEMENTS)
    values = whole_values or call.numbers("values_floats", MAX_ELEMENTS)
    if keys is None or values is None:
        raise unsupported("LabelEncoder of strings or tensors")
    if len(keys) != len(values):
        raise bad_model("MM104", f"{len(keys)} keys and {len(values)} values")
    default = call.integer("default_int64", -1) if whole_values else call.finite("default_float", -0.0)
    dtype = np.int64 if whole_values else np.float32
    lined = reshaped(build, x, (x.size, 1))
    equal = elementwise(build, Binary("equal"), lined, build.constant(np.array(keys).astype(x.dtype.numpy)))
    number = unary(build, Cast(ElementType.U8), equal)
    place = arg_max(build, number, 1).without([1])
    found = reduced(build, number, "max", [1]).without([1])
    table = build.constant(np.array(values, dtype).reshape(-1, 1)).tensor
    made = build.emit(TakeLines((len(values),)), table, arranged(build, place, [(0,)]))
    taken = reshaped(build, whole(made, range(2)), (x.size,))
    chosen = unary(build, Cast(ElementType.BOOL), found)
    other = build.constant(np.array(default, dtype))
    return reshaped(build, elementwise(build, Where(), chosen, taken, other), x.shape)


def _linear(call: Call, x: Value, targets: int) -> Value:
    """x times the coefficients, plus the intercepts: [rows, targets]."""
    build = call.build
    coefficients = call.numbers("coefficients", MAX_ELEMENTS) or []
    intercepts = call.numbers("intercepts", MAX_ELEMENTS) or [0.0] * targets
    if x.rank == 1:
        x = reshaped(build, x, (1, x.size))
    if x.rank != 2 or len(coefficients) != targets * x.shape[1] or len(intercepts) != targets:
        raise bad_model("MM104", f"{len(coefficients)} coefficients, {targets} targets: {list(x.shape)}")
    w = build.constant(np.array(coefficients, np.float32).reshape(targets, -1), f"{build.hint}.weights")
    return dense(build, x, 1, w, _vector(build, intercepts))


@converts("LinearRegressor", domain=LEARNED)
def convert_linear_regressor(call: Call) -> Value:
    """A dense layer."""
    return transformed(call, _linear(call, floats(call), call.integer("targets", 1)))


@converts("LinearClassifier", domain=LEARNED, notes="labels are numbers, or indices of strings")
def convert_linear_classifier(call: Call) -> tuple[Value, ...]:
    """A dense layer, and the label of the largest score."""
    x = floats(call)
    call.without_effect("multi_class")
    labels = call.texts("classlabels_strings", MAX_ELEMENTS) or call.integers(
        "classlabels_ints", MAX_ELEMENTS
    )
    if not labels:
        raise bad_model("MM103", "a classifier without labels")
    count = len(call.numbers("intercepts", MAX_ELEMENTS) or labels)
    scores = _linear(call, x, count)
    if count == 1 and len(labels) == 2:
        kind = call.text("post_transform", "NONE")
        if kind not in ("NONE", "LOGISTIC"):  # which ONNX Runtime passes over here
            raise unsupported(f"post_transform {kind} of one score for two classes")
        probability = kind == "NONE"
        return of_two(call, opposite(call.build, scores, probability=probability), scores, labels, 0.0)
    return labelled(call, scores, labels)
