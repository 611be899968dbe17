# SPDX-License-Identifier: Apache-2.0
"""16x8: what stands between Dequantize and Quantize of int16 with zero point 0 is computed in integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import Where as Place
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Quant
from mmcc.ops.activation import Clamp
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Where
from mmcc.ops.int16 import (
    LEAST,
    MOST,
    SUMMED,
    AddInt16,
    ConvInt16,
    DenseInt16,
    MeanInt16,
    MulInt16,
    RescaleInt16,
)
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.matmul import MatMul
from mmcc.ops.movement import Pad
from mmcc.ops.piecewise import EVERY_16, PiecewiseInt16
from mmcc.ops.pool import AveragePool, MaxPool, window_counts
from mmcc.ops.quantize import Dequantize, DequantizeConstant, Quantize
from mmcc.ops.reduce import Reduce
from mmcc.ops.requantize import multiplier_and_shift, multipliers_and_shifts
from mmcc.ops.softmax import Softmax
from mmcc.passes.draft import Draft, sole_reader
from mmcc.passes.fold import constant_value
from mmcc.passes.fuse_activation import as_activation
from mmcc.passes.integer import clamp_range, common_shift, mean_scale
from mmcc.passes.integer16_lines import layer_norm_form_16, matmul_form_16, softmax_form_16
from mmcc.passes.integer_layers import bias_in_products, layer_weights
from mmcc.passes.lookup import evaluate, nearest_source
from mmcc.passes.move_quantize import moved_operands
from mmcc.passes.piecewise import pieces_of
from mmcc.passes.quantized import (
    INT32,
    Form,
    Source,
    StaysFloat,
    Target,
    check_finite,
    computed_by,
    real,
    source_of_16,
)

LOST = 2.0**-8  # of a step: float32 has no more bits behind a sum of 2^15 steps
ONE = 2**14  # steps of a number: as many as integers beside it have, so that one shift suits both in a sum
SAME = (2**30, 30)  # multiplier and shift that change nothing


def quantize_16(graph: Graph) -> Graph:
    """Replace float islands between integers of 16 bits; what must stay float stays, with a reason."""
    draft = Draft(graph)
    reasons: dict[str, str] = {}
    for node in graph.nodes:
        if not _write(draft, node, reasons):
            draft.keep(node)
    return _join_bounds(replace(draft.graph(), reasons=graph.reasons | reasons))


def _write(draft: Draft, node: Node, reasons: dict[str, str]) -> bool:
    """Write what a Quantize and the nodes before it are in integers; False if that is not so."""
    op = node.op
    if not isinstance(op, Quantize) or op.dtype != ElementType.I16:
        return False
    compute, clamps = computed_by(draft.source, node.inputs[0])
    if compute is None or len(compute.outputs) > 1:
        return False
    try:
        form, names = _form(draft, compute, _target(draft, op, compute, clamps))
    except (StaysFloat, ValueError) as error:  # the latter from multiplier_and_shift
        why = str(error)
        try:
            if _write_pieces(draft, node, op):
                return True
        except StaysFloat as too_many:
            why = str(too_many)
        if not op.zero_point:
            reasons[compute.output] = why
        return False
    where = (*compute.where, *(w for clamp in clamps for w in clamp.where), *node.where)
    draft.write(form, names, node.output, where, Quant(op.scale, 0))
    return True


def _target(draft: Draft, op: Quantize, compute: Node, clamps: list[Node]) -> Target:
    """What the integer form of a node must give; StaysFloat if that is not so simple."""
    bounds = [each for each in map(as_activation, clamps) if isinstance(each, Clamp)]
    activation = getattr(compute.op, "activation", None)
    if op.zero_point:
        raise StaysFloat("its result has a zero point")
    if activation is not None and not isinstance(activation, Clamp):
        raise StaysFloat(f"the model does not quantize between it and its {activation}")
    once = all(sole_reader(draft.source, each.output) is not None for each in (compute, *clamps))
    if not once and not isinstance(compute.op, Dequantize):
        raise StaysFloat("its output is needed in float, or quantized in two ways")
    inner = [activation] if activation is not None else []
    return Target(Quant(op.scale, 0), *clamp_range(op, [*inner, *bounds]))


def _write_pieces(draft: Draft, node: Node, op: Quantize) -> bool:
    """Write a Quantize as polynomials if its input is a function of one int16 tensor, element by element;
    StaysFloat if these would be too many."""
    made = draft.now(node.inputs[0])
    source = nearest_source(draft, made, dtype=ElementType.I16)
    if source is None:
        return False
    places: list[Place] = []
    with np.errstate(all="ignore"):
        values = evaluate(draft, made, {source: EVERY_16}, places)
        exact = evaluate(draft, made, {source: EVERY_16}, [], wide=True)
    shape = EVERY_16.shape
    table = pieces_of(op, np.broadcast_to(values, shape), np.broadcast_to(exact, shape), LEAST, MOST)
    names = ("first", "last", "bits", "coefficients")
    tables = (draft.constant(a, f"{node.output}_{what}") for what, a in zip(names, table, strict=True))
    quant = Quant(op.scale, op.zero_point)
    draft.write(PiecewiseInt16(), (source, *tables), node.output, (*places, *node.where), quant)
    return True


def _form(draft: Draft, node: Node, target: Target) -> Form:
    if isinstance(node.op, Dequantize):
        x = source_of_16(draft, node.output)
        scale = _times(x.quant, target.quant)
        return RescaleInt16(*scale, target.low, target.high), (x.name,)
    if moved_operands(node):
        return _moved(draft, node, target)
    convert = FORMS.get(type(node.op))
    if convert is None:
        raise StaysFloat(f"there is no form of {node.op} for int16")
    return convert(draft, node, target)


def _number(draft: Draft, name: str) -> Source | None:
    """A constant as int16 with zero point 0, exactly: of one value, or integers with one scale."""
    value = constant_value(draft, draft.now(name))
    if value is not None and value.size == 1 and np.isfinite(value).all() and value.any():
        steps = (np.sign(value) * ONE).astype(np.int16)
        return Source(draft.constant(steps, f"{name}_steps"), Quant(float(np.abs(value).max()) / ONE, 0))
    node = draft.producer.get(draft.now(name))
    if node is None or not isinstance(node.op, DequantizeConstant) or len(node.op.scales) != 1:
        return None
    check_finite(draft, node)
    centred = draft.constants[node.inputs[0]].astype(np.int64) - node.op.zero_points[0]
    if centred.min() < LEAST or centred.max() > MOST:
        return None
    return Source(draft.constant(centred.astype(np.int16), f"{name}_int16"), Quant(node.op.scales[0], 0))


def _times(x: Quant, y: Quant) -> tuple[int, int]:
    return SAME if x == y else multiplier_and_shift(real(x.scale) / real(y.scale))


def _moved(draft: Draft, node: Node, target: Target) -> Form:
    """What only moves elements moves integers, if their scale is that of the result."""
    moved = moved_operands(node)
    sources = {k: source_of_16(draft, node.inputs[k]) for k in moved}
    same = all(source.quant == target.quant for source in sources.values())
    if not same or (target.low, target.high) != (LEAST, MOST):
        raise StaysFloat("its result has another scale than what it moves")
    op = node.op
    if isinstance(op, Pad) and op.mode == "constant" and op.value:
        raise StaysFloat("it pads with another number than 0")
    if isinstance(op, MaxPool):
        shape = draft.tensors[sources[moved[0]].name].shape
        if not window_counts(op.window, (0, 0, 0, 0), shape).min():
            raise StaysFloat("one of its windows lies in the padding")
    return op, tuple(sources[k].name if k in sources else name for k, name in enumerate(node.inputs))


def _layer(draft: Draft, node: Node, target: Target) -> tuple[str, ...]:
    """The operands of a layer in integers, whose sums fit 32 bits."""
    x = source_of_16(draft, node.inputs[0])
    w, w_zero, w_scales = layer_weights(draft, node.inputs[1])
    if w_zero:
        raise StaysFloat("its weights have a zero point")
    unit = np.broadcast_to(real(x.quant.scale) * w_scales, (w.shape[0],))
    exact = bias_in_products(draft, node.inputs[2], unit)
    if not np.isfinite(exact).all() or np.abs(exact).max(initial=0) > INT32:
        raise StaysFloat("its bias does not fit 32 bits at the scale of its products")
    b = np.rint(exact).astype(np.int64)
    sums = np.abs(w.astype(np.int64)).reshape(len(w), -1).sum(1) * -LEAST + np.abs(b)
    if int(sums.max(initial=0)) > INT32:
        raise StaysFloat(f"its sums may reach {int(sums.max())}, which does not fit 32 bits")
    multiplier, shift = multipliers_and_shifts(unit / real(target.quant.scale))
    numbers: dict[str, NDArray[Any]] = {"bias": b.astype(np.int32), "multiplier": multiplier, "shift": shift}
    stored = draft.producer[draft.now(node.inputs[1])].inputs[0]
    same = draft.constants[stored].dtype == np.int8 and np.array_equal(draft.constants[stored], w)
    kept = stored if same else draft.constant(w, f"{node.inputs[1]}_int8")
    return (x.name, kept, *(draft.constant(a, f"{node.output}_{what}") for what, a in numbers.items()))


def _conv(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Conv)
    return ConvInt16(op.window, op.groups, target.low, target.high), _layer(draft, node, target)


def _dense(draft: Draft, node: Node, target: Target) -> Form:
    return DenseInt16(target.low, target.high), _layer(draft, node, target)


def _is_lost(draft: Draft, x: Source, step: float) -> bool:
    """Whether elements of a constant decide, in exact sums alone, how halves of a step are rounded."""
    constant = draft.constants.get(x.name)
    if constant is None:
        return False
    sizes = np.abs(constant.astype(np.int64)) * (real(x.quant.scale) / step)
    return bool(((sizes > 0) & (sizes < LOST)).any())


def _binary(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Binary)
    if op.function not in ("add", "sub", "mul"):
        raise StaysFloat(f"there is no form of {op} for int16")
    a, b = (_number(draft, name) or source_of_16(draft, name) for name in node.inputs)
    limits, y_scale = (target.low, target.high), real(target.quant.scale)
    if op.function == "mul":
        scale = multiplier_and_shift(real(a.quant.scale) * real(b.quant.scale) / y_scale)
        return MulInt16(*scale, *limits), (a.name, b.name)
    if any(_is_lost(draft, x, y_scale) for x in (a, b)):
        raise StaysFloat("its constant is so small beside a step of the result that float32 loses it")
    sign = -1 if op.function == "sub" else 1
    scales = real(a.quant.scale) / y_scale, sign * real(b.quant.scale) / y_scale
    return AddInt16(*common_shift(*scales, -LEAST), *limits), (a.name, b.name)


def _where(draft: Draft, node: Node, target: Target) -> Form:
    """A choice of integers that mean the same: to choose and to round each element are one in any order."""
    condition, *choices = node.inputs
    names = [condition]
    for name in choices:
        value = constant_value(draft, draft.now(name))
        if value is not None:
            (stored,) = Quantize(target.quant.scale, 0, ElementType.I16).reference(value)
            names.append(draft.constant(np.clip(stored, target.low, target.high), f"{name}_q"))
            continue
        x = source_of_16(draft, name)
        form = RescaleInt16(*_times(x.quant, target.quant), target.low, target.high)
        names.append(draft.add(form, (x.name,), f"{name}_q", node.where, target.quant))
    return Where(), tuple(names)


def _reduce(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Reduce)
    x = source_of_16(draft, node.inputs[0])
    scale = mean_scale(draft, op, x, target, SUMMED)
    return MeanInt16(op.axes, *scale, target.low, target.high), (x.name,)


def _average_pool(draft: Draft, node: Node, target: Target) -> Form:
    """A mean where there is one window; else a depthwise layer of weights of 1, where all windows count as
    many elements."""
    op = node.op
    assert isinstance(op, AveragePool)
    x = source_of_16(draft, node.inputs[0])
    shape = draft.tensors[x.name].shape
    counts = window_counts(op.window, op.counted, shape)
    if not 0 < counts.min() == counts.max() <= SUMMED:
        raise StaysFloat("its windows at the border have fewer elements than others")
    if counts.size == 1 and counts.min() == prod(shape[:2]):
        mean = Reduce("mean", (0, 1))
        scale = mean_scale(draft, mean, x, target, SUMMED)
        return MeanInt16(mean.axes, *scale, target.low, target.high), (x.name,)
    channels = shape[-1]
    multiplier, shift = multipliers_and_shifts(
        np.full(channels, real(x.quant.scale) / real(target.quant.scale) / counts.min())
    )
    numbers = {
        "ones": np.ones((channels, *op.window.kernel, 1), np.int8),
        "bias": np.zeros(channels, np.int32),
        "multiplier": multiplier,
        "shift": shift,
    }
    names = (draft.constant(a, f"{node.output}_{what}") for what, a in numbers.items())
    return ConvInt16(op.window, channels, target.low, target.high), (x.name, *names)


FORMS: dict[type, Callable[[Draft, Node, Target], Form]] = {
    Conv: _conv,
    Dense: _dense,
    Binary: _binary,
    Reduce: _reduce,
    AveragePool: _average_pool,
    Where: _where,
    LayerNorm: layer_norm_form_16,
    MatMul: matmul_form_16,
    Softmax: softmax_form_16,
}


def _join_bounds(graph: Graph) -> Graph:
    """What only clamps is done by the integer op before it; what changes nothing is left out."""
    draft = Draft(graph)
    for node in graph.nodes:
        op = node.op
        if not isinstance(op, RescaleInt16) or (op.multiplier, op.shift) != SAME:
            draft.keep(node)
            continue
        before = draft.producer.get(draft.now(node.inputs[0]))
        joined: Any = before.op if before is not None and before.op.traits.saturates else None
        if (op.low, op.high) == (LEAST, MOST):
            draft.replace(node.output, node.inputs[0], node.where)
        elif before is None or joined is None or sole_reader(graph, node.inputs[0]) is None:
            draft.keep(node)
        else:
            joined = replace(joined, low=max(joined.low, op.low), high=min(joined.high, op.high))
            quant = draft.tensors[node.output].quant
            draft.write(joined, before.inputs, node.output, before.where + node.where, quant)
    return draft.graph()
