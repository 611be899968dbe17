# SPDX-License-Identifier: Apache-2.0
"""Dense layers and products of two activations, float."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.program import KernelUse, View
from mmcc.kernels.portable.conv_float import activation_fields, pack
from mmcc.kernels.select import Operand, Site, layer
from mmcc.ops.dense import Dense, MatMul


@layer(Dense)
def dense(op: Dense, site: Site) -> KernelUse:
    """Weights in blocks of 8 outputs, as a convolution's."""
    option, limits = activation_fields(op.activation)
    w = site.inputs[1].constant()
    return KernelUse(
        "dense",
        (option,),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("weights", site.keep("weights", pack(w, 1))),
            ("bias", site.keep("bias", pack(site.inputs[2].constant(), 1))),
            *limits,
            ("inputs", w.shape[1]),
            ("outputs", w.shape[0]),
        ),
    )


@layer(MatMul)
def matmul(op: MatMul, site: Site) -> KernelUse:
    """Loops over output rows, columns and lines inside a pixel; each operand has a step for its own lines."""
    rank = len(site.output.shape)
    assert rank <= 4, "MatMul of more than two leading axes"
    a, a_step = _lines(site, 0)
    b, b_step = _lines(site, 1)
    return KernelUse(
        "matmul",
        (),
        (
            ("a", a),
            ("b", b),
            ("y", site.output.where()),
            ("lines", site.output.shape[2] if rank == 4 else 1),
            ("inner", site.inputs[0].shape[-1]),
            ("outer", site.output.shape[-1]),
            ("a_step", a_step),
            ("b_step", b_step),
        ),
    )


def _lines(site: Site, k: int) -> tuple[View, int]:
    """Operand k as the output's rows and columns see it, and the elements from a line to the next."""
    operand = site.inputs[k]
    view = _view(site, operand, k)
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


def _view(site: Site, operand: Operand, k: int) -> View:
    if operand.view is not None:
        return operand.view
    rows, cols, channels = operand.geometry
    constant = site.keep(f"operand{k}", operand.constant())
    return View("weights", constant, operand.dtype.bytes(cols * channels), channels, rows)
