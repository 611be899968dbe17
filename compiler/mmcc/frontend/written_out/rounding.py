# SPDX-License-Identifier: Apache-2.0
"""Operators that round to steps which they find themselves: DynamicQuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence

from mmcc.frontend.written_out.body import Body, writes

STEPS = 255.0  # between the ends of uint8


@writes("DynamicQuantizeLinear")
def _dynamic_quantize_linear(body: Body) -> Sequence[str]:
    """As ONNX has it, but with steps of 1 where all elements are 0, as ONNX Runtime: 0 / 0 is no uint8."""
    low = body.add("Min", body.add("ReduceMin", "x0", keepdims=0), 0.0)
    high = body.add("Max", body.add("ReduceMax", "x0", keepdims=0), 0.0)
    step = body.add("Div", body.add("Sub", high, low), STEPS)
    step = body.add("Where", body.add("Equal", step, 0.0), 1.0, step)
    zero = body.add("Sub", 0.0, body.add("Div", low, step))
    zero = body.add("Round", body.add("Clip", zero, 0.0, STEPS))
    zero = body.add("Cast", zero, to=2)
    return [body.add("QuantizeLinear", "x0", step, zero), step, zero]
