# SPDX-License-Identifier: Apache-2.0
"""Loops whose body is a function of its own: where each step finds what it reads, and puts what it makes."""

from __future__ import annotations

from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.scratch import RepeatWork
from mmcc.kernels.select import Site, layer
from mmcc.ops.repeat import Repeat

TEMPLATE = "repeat"


@layer(Repeat)
def repeat(op: Repeat, site: Site) -> KernelUse:
    """A kernel of its own for each node: its code calls the kernels of the body.

    Options, as the code has them: `handed_on`, for each carried value where steps of even and of odd numbers
    put it, a result ("y1") or a byte of the scratch; `slices`, the number of the operand, the byte at which
    that of the first step begins, and bytes from step to step; `rows`, the result, bytes of each, and whether
    they go backward; `wholes`, the operands that every step sees.
    """
    scanned, made = len(op.scanned), len(op.made)
    slices = range(op.carried, op.carried + scanned)
    results = [_result(k) for k in range(len(site.outputs))]
    work = RepeatWork(op)
    options = (
        ("label", site.label),
        ("steps", op.steps),
        ("handed_on", tuple(work.places(k, results) for k in range(op.carried))),
        (
            "slices",
            tuple(
                (k, taken.first * row, taken.stride * row)
                for k, taken, row in (
                    (k, taken, op.inputs()[k].bytes // taken.extent)
                    for k, taken in zip(slices, op.scanned, strict=True)
                )
            ),
        ),
        (
            "rows",
            tuple(
                (results[len(op.kept) + k], op.outputs()[op.carried + k].bytes, op.made[k])
                for k in range(made)
            ),
        ),
        ("wholes", tuple(range(op.carried + scanned, len(site.inputs)))),
        ("works", work.bytes > 0),
    )
    fields: list[tuple[str, Field]] = [(f"x{k}", source_view(site, k)) for k in range(len(site.inputs))]
    fields += ((name, operand.where()) for name, operand in zip(results, site.outputs, strict=True))
    if work.bytes:
        fields.append(("work", site.work()))
    return KernelUse(TEMPLATE, options, tuple(fields), origins=max(3, len(site.inputs)))


def _result(k: int) -> str:
    return f"y{k}" if k else "y"
