# SPDX-License-Identifier: Apache-2.0
"""ONNX MatMul and Gemm: a dense layer where one side is constant."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from math import prod

import numpy as np

from mmcc.frontend.blocked import Blocked
from mmcc.frontend.broadcasting import elementwise
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.convolution import bias_of
from mmcc.frontend.layouts import arranged, expanded, innermost, reshaped, shaped
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import converts
from mmcc.frontend.value import Value
from mmcc.ir.op import Op
from mmcc.ops.broadcasting import broadcast_shape
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary
from mmcc.ops.int8_to_float import DenseInt8ToFloat
from mmcc.ops.matmul import MatMul, Operands
from mmcc.ops.movement import Expand, Reshape

MAX_LEADING = 2  # axes before a matrix, in a product of two activations: rows and columns


@converts("MatMul", notes="constant or computed operands of any rank")
def convert_matmul(call: Call) -> Value:
    """The product of two operands by numpy's rules."""
    return matmul(call.build, call.float_input(0), call.float_input(1))


def matmul(build: Builder, a: Value, b: Value) -> Value:
    """The product of `a` and `b` by numpy's rules; also for operators on quantized operands."""
    if a.rank == 0 or b.rank == 0:
        raise bad_model("MM104", "MatMul of a scalar")
    vectors = a.rank == 1, b.rank == 1
    left = a.padded(2) if vectors[0] else a
    right = b.padded(2).transposed((1, 0)) if vectors[1] else b
    if left.shape[-1] != right.shape[-2]:
        raise bad_model("MM104", f"cannot multiply {list(a.shape)} by {list(b.shape)}")
    y = _product(build, left, right)
    return y.without([y.rank - 2 + k for k in (0, 1) if vectors[k]])


def _product(build: Builder, a: Value, b: Value) -> Value:
    """Operands of rank 2 at least."""
    batch = broadcast_shape(a.shape[:-2], b.shape[:-2])
    if build.is_constant(b.tensor) and prod(b.shape[:-2]) == 1 and not build.is_constant(a.tensor):
        w = b.without(range(b.rank - 2)).transposed((1, 0))
        a = a.padded(len(batch) + 2)
        return dense(build, a, a.rank - 1, w, None)
    if build.is_constant(a.tensor) and prod(a.shape[:-2]) == 1 and not build.is_constant(b.tensor):
        w = a.without(range(a.rank - 2))
        b = b.padded(len(batch) + 2)
        return dense(build, b, b.rank - 2, w, None)
    a, b = a.padded(len(batch) + 2), b.padded(len(batch) + 2)
    used = [k for k, extent in enumerate(batch) if extent != 1]
    joined = _joined(a, b, used)
    if len(joined) > MAX_LEADING:  # both in full: then all leading axes are one
        a, b = (expanded(build, x, {k: batch[k] for k in used if x.shape[k] == 1}) for x in (a, b))
        joined = [used]
    if _side_by_side(build, a, b, used):
        return _by_heads(build, a, b, used)
    shared = _of_shared(build, a, b)
    if shared is not None:
        return shared
    transposed = _has_order(build, b, [*used, b.rank - 1, b.rank - 2])
    names: list[str] = []
    for x, last in ((a, (a.rank - 2, a.rank - 1)), (b, _matrix(b, transposed))):
        mine = joined if any(x.shape[k] != 1 for k in used) else []
        names.append(arranged(build, x, [*mine, *((k,) for k in last)]))
    made = build.emit(MatMul(Operands(transposed=transposed)), *names)
    view = (*(batch[k] for k in used), *made.shape[-2:])
    axes = [(used.index(k),) if k in used else () for k in range(len(batch))]
    return Value(made.name, made.dtype, view, (*axes, (len(used),), (len(used) + 1,)))


def _matrix(x: Value, transposed: bool) -> tuple[int, int]:
    return (x.rank - 1, x.rank - 2) if transposed else (x.rank - 2, x.rank - 1)


def _has_order(build: Builder, x: Value, axes: list[int]) -> bool:
    """True of an activation that memory has in this order of axes and, where two go together, no other."""
    several = sum(x.shape[k] != 1 for k in axes[-2:]) == 2
    return several and not build.is_constant(x.tensor) and x.solid == x.atoms(axes)


def _side_by_side(build: Builder, a: Value, b: Value, used: list[int]) -> bool:
    """True if the first operand has a row of all heads before the next row, as queries have.

    What heads have in common is one axis of both then.
    """
    if not used or any(a.shape[k] != b.shape[k] for k in used):
        return False
    if a.shape[-2] == 1:  # one query: as the second operand has it
        ends = (b.rank - 2, b.rank - 1)
        return any(_has_order(build, b, [first, *used, last]) for first, last in (ends, ends[::-1]))
    order = [a.rank - 2, *used, a.rank - 1]
    return not build.is_constant(a.tensor) and a.solid == a.atoms(order)


def _by_heads(build: Builder, a: Value, b: Value, used: list[int]) -> Value:
    """Matrices side by side: rows are those of the first operand, and of the second what it meets them with.

    So the rows of a product are the queries' rows, wherever heads were split off, and nothing is transposed.
    """
    transposed = not _has_order(build, b, [b.rank - 2, *used, b.rank - 1])
    names = [arranged(build, a, [(a.rank - 2,), used, (a.rank - 1,)])]
    first, last = _matrix(b, transposed)
    names.append(_shared_heads(build, arranged(build, b, [(first,), used, (last,)])))
    made = build.emit(MatMul(Operands(transposed=transposed, heads=True)), *names)
    view = (made.shape[0], *(a.shape[k] for k in used), made.shape[2])
    axes = [(1 + used.index(k),) if k in used else () for k in range(a.rank - 2)]
    return Value(made.name, made.dtype, view, (*axes, (0,), (len(used) + 1,)))


def _of_shared(build: Builder, a: Value, b: Value) -> Value | None:
    """The product where the second operand repeats each matrix: the partners of one are one with more rows.

    None where it repeats none, or where those of the first operand do not lie one behind the other.
    """
    node = build.producer.get(b.tensor)
    if node is None or not isinstance(node.op, Expand) or node.op.shape != b.view:
        return None
    source = build.tensors[node.inputs[0]]
    repeated = [v for v, extent in enumerate(source.shape) if extent != b.view[v]]
    owners = [k for k in range(b.rank - 2) if b.atoms([k])[-1:] == repeated]
    if len(repeated) != 1 or not owners:
        return None
    (k,), group = owners, b.view[repeated[0]]
    heads = b.shape[k] // group
    if a.shape[k] != b.shape[k] or any(n != 1 for n in a.shape[k + 1 : -2]):
        return None
    lead = (*a.shape[:k], heads, *a.shape[k + 1 : -2])
    joined = a.reshaped((*lead, group * a.shape[-2], a.shape[-1]))
    if joined is None:
        return None
    y = _product(build, joined, replace(b, tensor=source.name, view=source.shape))
    return reshaped(build, y, (*y.shape[:k], a.shape[k], *y.shape[k + 1 : -2], a.shape[-2], y.shape[-1]))


def _joined(a: Value, b: Value, used: list[int]) -> list[list[int]]:
    """Fewer leading axes, where there are many: neighbours that the same operands have become one."""
    if len(used) <= MAX_LEADING:
        return [[k] for k in used]
    groups = groupby(used, lambda k: (a.shape[k] != 1, b.shape[k] != 1))
    return [list(group) for _, group in groups]


def _shared_heads(build: Builder, name: str) -> str:
    """Of heads [rows, heads, channels] that are repeated, next to each other, each once."""
    node = build.producer.get(name)
    while node is not None and isinstance(node.op, Reshape):
        node = build.producer.get(node.inputs[0])
    if node is None or not isinstance(node.op, Expand):
        return name
    rows, heads, channels = build.tensors[name].shape
    old, new = build.tensors[node.inputs[0]].shape, node.op.shape
    repeated = [k for k in range(len(new)) if len(old) == len(new) and old[k] != new[k]]
    if len(repeated) != 1 or prod(new[repeated[0] + 1 :]) != channels or not repeated[0]:
        return name
    kept = (rows, heads // new[repeated[0]], channels)
    return build.emit(Reshape(kept), node.inputs[0]).name if prod(kept) == prod(old) else name


def dense(build: Builder, x: Value, axis: int, w: Value, bias: Value | None) -> Value:
    """Multiply axis `axis` of x, of extent K, by constant weights [N, K]: its extent becomes N.

    x stays in the layout it has if that axis is innermost, be it in a strange order, as in a flattened
    image: the weights are ordered alike. The result has the axis innermost.
    """
    kept = _blocked(build, w) if x.atoms([axis]) == sorted(x.atoms([axis])) else None
    x = innermost(build, x, [axis])
    if kept is not None:
        op, constants = kept.layer()
        names = [build.constant(array).tensor for array in constants]
        more = [bias_of(build, bias, w.shape[0])] if bias is not None else []
        return layer_along(build, op, x, axis, *names, *more)
    return layer_along(build, Dense(), x, axis, _weights(build, x, axis, w), bias_of(build, bias, w.shape[0]))


def dense_sums(build: Builder, x: Value, axis: int, w: Value, zeros: tuple[int, int]) -> Value:
    """As `dense`, of int8 with constant zero points of x and w: sums of whole numbers, rounded to float."""
    x = innermost(build, x, [axis])
    none = np.zeros(w.shape[0])
    arrays = none.astype(np.int32), np.ones(w.shape[0], np.float32), none.astype(np.float32)
    per_filter = (build.constant(array).tensor for array in arrays)
    return layer_along(build, DenseInt8ToFloat(*zeros), x, axis, _weights(build, x, axis, w), *per_filter)


def layer_along(build: Builder, op: Op, x: Value, axis: int, *constants: str) -> Value:
    """A layer over the lines of an axis that is innermost; the result has it innermost."""
    inner = set(x.atoms([axis]))
    rows = [v for v in x.solid if v not in inner]
    left = shaped(build, x, (*([prod(x.view[v] for v in rows)] if rows else []), x.shape[axis]))
    made = build.emit(op, left, *constants)
    axes = [tuple(rows.index(v) for v in old if v in rows) for old in x.axes]
    axes[axis] = (len(rows),)
    return Value(made.name, made.dtype, (*(x.view[v] for v in rows), made.shape[-1]), tuple(axes))


def _weights(build: Builder, x: Value, axis: int, w: Value) -> str:
    """Weights [N, K] with K in the order in which memory has the axis of x."""
    factors = x.atoms([axis])
    columns = [v for v in x.solid if v in set(factors)]
    cut = reshaped(build, w, (w.shape[0], *(x.view[v] for v in factors)))
    return arranged(build, cut, [(0,), [1 + factors.index(v) for v in columns]])


def _blocked(build: Builder, w: Value) -> Blocked | None:
    """Weights [N, K] as the file has them, if it has integers scaled in blocks of inputs."""
    kept = build.blocked.get(w.tensor)
    if kept is None or w.view != kept.integers.shape:
        return None
    kept = kept if w.axes == ((0,), (1,)) else kept.transposed() if w.axes == ((1,), (0,)) else None
    return kept if kept is not None and kept.axis == 1 else None


@converts("Gemm", notes="alpha, beta, transA, transB; C of any shape that broadcasts")
def convert_gemm(call: Call) -> Value:
    """alpha * A' * B' + beta * C."""
    return gemm(call, call.float_input(0), call.float_input(1), call.float_input(2) if call.has(2) else None)


def gemm(call: Call, a: Value, b: Value, c: Value | None) -> Value:
    """alpha * A' * B' + beta * C by the attributes of `call`; also for operators on quantized operands."""
    build = call.build
    if a.rank != 2 or b.rank != 2:
        raise bad_model("MM104", f"Gemm of {list(a.shape)} and {list(b.shape)}")
    alpha, beta = call.finite("alpha", 1.0), call.finite("beta", 1.0)
    a = a.transposed((1, 0)) if call.integer("transA", 0) else a
    b = b.transposed((1, 0)) if call.integer("transB", 0) else b
    if a.shape[1] != b.shape[0]:
        raise bad_model("MM104", f"Gemm of {list(a.shape)} and {list(b.shape)} after transposition")
    rows, columns = a.shape[0], b.shape[1]
    if c is not None and broadcast_shape(c.shape, (rows, columns)) != (rows, columns):
        raise bad_model("MM104", f"C of {list(c.shape)} does not fit {[rows, columns]}")
    if c is not None and beta != 1:
        c = _scaled(build, c, beta) if beta != 0 else None
    if not build.is_constant(b.tensor) or build.is_constant(a.tensor):
        y = _product(build, a, b)
        y = y if alpha == 1 else _scaled(build, y, alpha)
        return y if c is None else elementwise(build, Binary("add"), y, c)
    w = b.transposed((1, 0))
    w = w if alpha == 1 else _scaled(build, w, alpha)
    # a bias for each column; with one row C may be broadcast to it
    fits = c is not None and build.is_constant(c.tensor) and (rows == 1 or prod(c.shape[:-1]) == 1)
    if c is None or not fits:
        y = dense(build, a, 1, w, None)
        return y if c is None else elementwise(build, Binary("add"), y, c)
    bias = reshaped(build, c, (columns,)) if c.size == columns else _repeated(build, c, columns)
    return dense(build, a, 1, w, bias)


def _scaled(build: Builder, x: Value, factor: float) -> Value:
    return elementwise(build, Binary("mul"), x, build.constant(np.array(factor, np.float32)))


def _repeated(build: Builder, c: Value, columns: int) -> Value:
    return build.constant(np.full(columns, build.array(c).reshape(()), np.float32))
