# SPDX-License-Identifier: Apache-2.0
"""ONNX reductions, ArgMax, ArgMin and TopK."""

from __future__ import annotations

from dataclasses import replace

from mmcc.frontend.broadcasting import unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call, normal_axes, normal_axis
from mmcc.frontend.converters.movement import axes_operand
from mmcc.frontend.layouts import arranged, innermost, shaped, viewed, with_axis
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import converts
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.op import Op
from mmcc.ops.cumulative import Cumulative
from mmcc.ops.elementwise import Cast
from mmcc.ops.reduce import ArgMax, Reduce
from mmcc.ops.topk import TopK

FUNCTIONS = {
    "ReduceMean": ("mean", 18),
    "ReduceMax": ("max", 18),
    "ReduceMin": ("min", 18),
    "ReduceProd": ("prod", 18),
    "ReduceSum": ("sum", 13),
    "ReduceL1": ("l1", 18),
    "ReduceL2": ("l2", 18),
    "ReduceSumSquare": ("sum_square", 18),
    "ReduceLogSum": ("log_sum", 18),
    "ReduceLogSumExp": ("log_sum_exp", 18),
}
OF_INTEGERS = frozenset(("sum", "max", "min", "prod"))
OF_ONE_IS_ITSELF = frozenset(("mean", "max", "min", "prod", "sum", "log_sum_exp"))


@converts(*FUNCTIONS, notes="any axes, as attribute or constant operand")
def convert_reduce(call: Call) -> Value:
    """Reduce some axes, or all."""
    function, since = FUNCTIONS[call.node.op_type]
    bools = call.input(0).dtype == ElementType.BOOL and function in ("max", "min")
    x = unary(call.build, Cast(ElementType.U8), call.input(0)) if bools else call.number_input(0)
    if not x.dtype.is_float and function not in OF_INTEGERS:
        raise unsupported(f"{call.node.op_type} of {x.dtype.name}", code="MM203")
    given = axes_operand(call, since)
    none = call.version >= since and call.integer("noop_with_empty_axes", 0) == 1
    if none and not given:  # each element is a sum, a norm, of its own, as ONNX Runtime has it
        call.without_effect("keepdims")
        return call.input(0) if bools else reduced(call.build, x, function, [])
    axes = normal_axes(given, x.rank) if given else list(range(x.rank))
    y = reduced(call.build, x, function, axes)
    y = unary(call.build, Cast(ElementType.BOOL), y) if bools else y
    return y if call.integer("keepdims") == 1 else y.without(axes)


def reduced(build: Builder, x: Value, function: str, axes: list[int]) -> Value:
    """Reduce ONNX axes to extent 1."""
    if x.size == 0:
        raise unsupported(f"a reduction of {list(x.shape)}, which is empty")
    gone = x.atoms(axes)
    if not gone and function in OF_ONE_IS_ITSELF:
        return x
    made = build.emit(Reduce(function, tuple(gone)), viewed(build, x))
    return replace(x, tensor=made.name, view=made.shape)


@converts("CumSum", since=11, notes="a constant axis")
@converts("CumProd", since=26, notes="a constant axis")
def convert_cumulative(call: Call) -> Value:
    """Sums or products of all elements so far along an axis."""
    x = call.number_input(0)
    axis = call.scalar(1, "the axis")
    if axis is None or x.rank == 0:
        raise bad_model("MM104", f"{call.node.op_type} of {list(x.shape)} along axis {axis}")
    function = "sum" if call.node.op_type == "CumSum" else "prod"
    op = Cumulative(function, bool(call.integer("exclusive", 0)), bool(call.integer("reverse", 0)))
    return along_axis(call.build, op, x, normal_axis(int(axis), x.rank))


def along_axis(build: Builder, op: Op, x: Value, axis: int) -> Value:
    """Apply an op along the last axis to an ONNX axis, whose elements are in ONNX's order."""
    groups = [[k] for k in range(x.rank) if k != axis]
    made = build.emit(op, arranged(build, x, [*groups, [axis]]))
    return whole(made, [*range(axis), x.rank - 1, *range(axis, x.rank - 1)])


@converts("ArgMax", "ArgMin", notes="one axis; keepdims, select_last_index")
def convert_arg(call: Call) -> Value:
    """The index of the largest or smallest element along an axis."""
    x = call.number_input(0)
    axis = call.axis(x.rank, 0)
    last = bool(call.integer("select_last_index", 0))
    y = arg_max(call.build, x, axis, smallest=call.node.op_type == "ArgMin", last=last)
    return y if call.integer("keepdims") == 1 else y.without([axis])


def arg_max(build: Builder, x: Value, axis: int, *, smallest: bool = False, last: bool = False) -> Value:
    """The index of the largest element along an ONNX axis, which stays with extent 1."""
    lead, at = with_axis(build, x, axis)
    made = build.emit(ArgMax(at, smallest, last), lead.tensor)
    return replace(lead, tensor=made.name, dtype=made.dtype, view=made.shape)


@converts("TopK", notes="a constant K, one axis; sorted, whatever it says", ignored=("sorted",))
def convert_top_k(call: Call) -> tuple[Value, ...]:
    """The largest or smallest elements along an axis, best first, and their indices."""
    x, build = call.number_input(0), call.build
    if x.rank == 0:
        raise bad_model("MM104", "TopK of a scalar")
    axis = call.axis(x.rank, -1)
    if call.version < 10:
        count = call.integer("k")
    else:
        counts = call.ints_at(1, "K")
        if counts is None or len(counts) != 1:
            raise bad_model("MM104", "K (operand 1) is not one number")
        count = counts[0]
    if count == 0:
        raise unsupported("K is 0: both results are empty")
    if not 0 < count <= x.shape[axis]:
        raise bad_model("MM104", f"K is {count}; axis {axis} of {list(x.shape)} has {x.shape[axis]} elements")
    lead, _ = with_axis(build, x, axis, last=True)
    lead = innermost(build, lead, [axis])
    at = lead.axes[axis][0]
    shape = (*(n for v, n in enumerate(lead.view) if v != at), lead.view[at])
    op = TopK(count, call.version >= 11 and call.integer("largest", 1) == 0)
    made = build.emit_all(op, shaped(build, lead, shape), hints=(None, None))
    view = tuple(count if v == at else n for v, n in enumerate(lead.view))
    return tuple(replace(lead, tensor=tensor.name, dtype=tensor.dtype, view=view) for tensor in made)
