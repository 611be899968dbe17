# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that compare, or choose by where an element is."""

from __future__ import annotations

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call, normal_axis
from mmcc.frontend.converters.indexing import index_input
from mmcc.frontend.converters.parts import sliced
from mmcc.frontend.converters.reduction import arg_max
from mmcc.frontend.layouts import plain, reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.tensors import dtype_of
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast, Unary, Where
from mmcc.ops.suppression import NonMaxSuppression


@converts("Trilu", since=14, notes="a constant k; the other triangle is zeros")
def convert_trilu(call: Call) -> Value:
    """One triangle of each matrix stays, the other becomes zeros."""
    x, build = call.input(0), call.build
    if x.rank < 2:
        raise bad_model("MM104", f"Trilu of {list(x.shape)}")
    shift = int(call.scalar(1, "k") or 0)
    rows, columns = x.shape[-2:]
    build.spend(rows * columns, "Trilu")
    below = np.arange(columns) - np.arange(rows)[:, None]
    kept = below >= shift if call.integer("upper", 1) else below <= shift
    nothing = build.constant(np.zeros((), x.dtype.numpy))
    return elementwise(build, Where(), build.constant(kept), x, nothing)


@converts("OneHot", since=9, notes="constant depth; indices of any type")
def convert_one_hot(call: Call) -> Value:
    """Two values along a new axis: one where the index says, the other everywhere else."""
    build = call.build
    index = call.input(0)
    index = unary(build, Cast(ElementType.I64), index) if index.dtype.is_float else index_input(call, 0)
    depth = int(call.scalar(1, "the depth") or 0)
    values = call.input(2)
    if values.shape != (2,) or not 1 <= depth <= 2**24:
        raise bad_model("MM104", f"OneHot of depth {depth} and values {list(values.shape)}")
    axis = normal_axis(call.integer("axis", -1), index.rank + 1)
    index = reshaped(build, index, (*index.shape[:axis], 1, *index.shape[axis:]))
    build.spend(8 * depth, "OneHot")
    hot = _is_at(build, index, depth, axis, negative=True)
    return elementwise(build, Where(), hot, *(_pick(build, values, k) for k in (1, 0)))


def _pick(build: Builder, values: Value, k: int) -> Value:
    return reshaped(build, sliced(build, values, {0: (k, 1, 1)}), ())


def _is_at(build: Builder, index: Value, depth: int, axis: int, *, negative: bool) -> Value:
    """Along an axis of `depth`, true where it is the index; which may count from the end, too."""
    places = np.arange(depth).astype(index.dtype.numpy).reshape(-1, *(1,) * (index.rank - axis - 1))
    hot = elementwise(build, Binary("equal"), index, build.constant(places))
    if negative:
        ends = build.constant((places - depth).astype(index.dtype.numpy))
        hot = elementwise(build, Binary("or"), hot, elementwise(build, Binary("equal"), index, ends))
    return hot


@converts("Hardmax", notes="before operator set 13 over all axes from `axis` on")
def convert_hardmax(call: Call) -> Value:
    """1 at the first largest element along an axis, 0 elsewhere."""
    x, build = call.float_input(0), call.build
    axis = call.axis(x.rank, -1 if call.version >= 13 else 1)
    shape = x.shape
    if call.version < 13:
        x = reshaped(build, x, (*shape[:axis], -(-x.size // max(1, int(np.prod(shape[:axis]))))))
    hot = _is_at(build, arg_max(build, x, axis), x.shape[axis], axis, negative=False)
    return reshaped(build, unary(build, Cast(ElementType.F32), hot), shape)


@converts("EyeLike", since=9)
def convert_eye_like(call: Call) -> Value:
    """Ones on a diagonal, in the shape of the operand: a constant."""
    x = call.input(0)
    if x.rank != 2:
        raise bad_model("MM104", f"EyeLike of {list(x.shape)}")
    wanted = call.integer("dtype", 0)
    dtype = dtype_of(wanted, "the result of EyeLike", call.build) if wanted else x.dtype
    shift = call.integer("k", 0)
    call.build.spend(dtype.bytes(x.size), "EyeLike")
    on = np.arange(x.shape[1]) - np.arange(x.shape[0])[:, None] == shift
    return call.build.constant(on.astype(dtype.numpy))


@converts("IsNaN", since=9, layout=Layout.ANY)
def convert_is_nan(call: Call) -> Value:
    """What is no number differs from itself."""
    x = call.float_input(0)
    return unary(call.build, Unary("not"), elementwise(call.build, Binary("equal"), x, x))


@converts("IsInf", since=10, layout=Layout.ANY)
def convert_is_inf(call: Call) -> Value:
    """Either infinity, or one of them."""
    x, build = call.float_input(0), call.build
    above, below = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    if not above and not below:
        return build.constant(np.zeros(x.shape, np.bool_))
    magnitude = unary(build, Unary("abs"), x) if above and below else x
    limit = np.array(np.inf if above else -np.inf, np.float32)
    return elementwise(build, Binary("equal"), magnitude, build.constant(limit))


@converts(
    "NonMaxSuppression",
    since=10,
    notes="constant numbers; as many rows as there may be boxes, those behind the last one -1",
)
def convert_non_max_suppression(call: Call) -> Value:
    """The best boxes of each class. How many there are is known at run time only: the others are -1."""
    build = call.build
    boxes, scores = call.float_input(0), call.float_input(1)
    if boxes.rank != 3 or scores.rank != 3 or boxes.shape != (scores.shape[0], scores.shape[2], 4):
        raise bad_model("MM104", f"boxes {list(boxes.shape)} do not fit scores {list(scores.shape)}")
    count = min(int(call.scalar(2, "the number of boxes of a class") or 0), scores.shape[2])
    if count <= 0:
        raise unsupported("max_output_boxes_per_class (operand 2) is 0: the result is empty")
    overlap = call.scalar(3, "the threshold of the overlap") or 0.0
    if not 0 <= overlap <= 1:
        raise bad_model("MM104", f"iou_threshold (operand 3) is {overlap:g}, which is not between 0 and 1")
    rows = scores.shape[0] * scores.shape[1] * count
    op = NonMaxSuppression(
        count,
        rows,
        overlap,
        call.scalar(4, "the threshold of the scores"),
        call.integer("center_point_box", 0) == 1,
    )
    if build.is_constant(boxes.tensor) and build.is_constant(scores.tensor):
        raise unsupported("of constants: how many boxes are found is known")  # ONNX's reference finds them
    build.warn(f"the result has {rows} rows, as many as there may be boxes; those behind the last one are -1")
    made = build.emit(op, plain(build, boxes), plain(build, scores))
    return reshaped(build, whole(made, [0]), (rows, 3))
