# SPDX-License-Identifier: Apache-2.0
"""Products of two activations, in float, int8 and int16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmcc.ir.program import Field, KernelUse, View
from mmcc.kernels.epilogue import check_accumulator, epilogue
from mmcc.kernels.select import Operand, Site, layer
from mmcc.ops.matmul import MatMul, MatMulInt8, MatMulInt16, Operands


@layer(MatMul)
def matmul(op: MatMul, site: Site) -> KernelUse:
    """Loops over output rows, columns and lines inside a pixel."""
    return KernelUse("matmul", _options(op.operands), _fields(op.operands, site))


@layer(MatMulInt8)
def matmul_int8(op: MatMulInt8, site: Site) -> KernelUse:
    """The same; the second operand's zero point is taken off the sum, since that of a line is one number."""
    far = [max(127 - zero, zero + 128) for zero in op.zeros]
    inner = site.inputs[0].shape[-1]
    bound = inner * far[0] * (far[1] + abs(op.zeros[1]))  # with what is taken off, in any order
    check_accumulator(bound, site)
    scale = np.array([op.multiplier], np.int32), np.array([op.shift], np.int8)
    end = epilogue(bound, *scale, op.y_zero, (op.low, op.high))
    return KernelUse(
        "matmul_int8",
        (*end.options, *_options(op.operands)),
        (
            *_fields(op.operands, site),
            *end.fields,
            ("multiplier", op.multiplier),
            ("shift", int(end.tail[0])),
            ("a_zero", op.zeros[0]),
            ("b_zero", op.zeros[1]),
        ),
    )


@layer(MatMulInt16)
def matmul_int16(op: MatMulInt16, site: Site) -> KernelUse:
    """The same; sums have 64 bits."""
    return KernelUse(
        "matmul_int16",
        _options(op.operands),
        (
            *_fields(op.operands, site),
            ("multiplier", op.multiplier),
            ("right", op.shift - 33),
            ("low", op.low),
            ("high", op.high),
        ),
    )


def _options(operands: Operands) -> tuple[tuple[str, bool], ...]:
    return (("transposed", operands.transposed),)


def _fields(operands: Operands, site: Site) -> tuple[tuple[str, Field], ...]:
    """Views of both operands as rows and columns of the output see them, and the steps inside.

    `a_step` is from a line to the next inside a pixel; `b_step` from a row of the second matrix to the next;
    `group` columns of the output share one of the second operand.
    """
    rank = len(site.output.shape)
    assert rank <= 4, "MatMul of more than two leading axes"
    group, lines = 1, site.output.shape[2] if rank == 4 else 1
    if operands.heads:
        a, b = (_view(site, k) for k in (0, 1))
        a_step, b_step = 0, b.row_stride // site.inputs[1].dtype.size
        b = replace(b, rows=1)
        group = site.output.shape[1] // site.inputs[1].shape[1]
    else:
        a, a_step = _lines(site, 0)
        b, b_step = _lines(site, 1)
    return (
        ("a", a),
        ("b", b),
        ("y", site.output.where()),
        ("lines", lines),
        ("inner", site.inputs[0].shape[-1]),
        ("outer", site.output.shape[-1]),
        ("a_step", a_step),
        ("b_step", b_step),
        ("group", group),
    )


def _lines(site: Site, k: int) -> tuple[View, int]:
    """Operand k as the output's rows and columns see it, and the elements from a line to the next."""
    operand = site.inputs[k]
    view = _view(site, k)
    missing = len(site.output.shape) - len(operand.shape)
    shape = (1,) * missing + operand.shape
    size = operand.dtype.size
    row_step = view.row_stride // size
    own = (*(row_step, view.col_stride, operand.shape[-1])[: len(operand.shape) - 1], 1)
    steps = (0,) * missing + own
    line_step = steps[-2]
    walked = shape[:-2] if k == 1 or len(shape) == 4 else shape[:-1]
    by_row = len(walked) > 0 and shape[0] > 1 and missing == 0
    col_step = steps[1] if len(walked) > 1 and shape[1] > 1 else 0
    return replace(view, rows=view.rows if by_row else 1, col_stride=col_step), line_step


def _view(site: Site, k: int) -> View:
    operand: Operand = site.inputs[k]
    if operand.view is not None:
        return operand.view
    rows, cols, channels = operand.geometry
    constant = site.keep(f"operand{k}", operand.constant())
    return View("weights", constant, operand.dtype.bytes(cols * channels), channels, rows)
