# SPDX-License-Identifier: Apache-2.0
"""Kernels that make four pixels together, two filters at a time, if they are given memory to widen values in.

A weight is then read and widened once for four pixels.
"""

from __future__ import annotations

from typing import Any

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp.filters import PAIR, Packed, constants
from mmcc.kernels.epilogue import Fields
from mmcc.kernels.select import Site

TOGETHER = 4
FEWEST = 3  # pixels in a row for which it pays: those that are missing of four are made for nothing
WIDE = 2  # bytes of a value
TEMPLATES = ("pointwise_four", "conv_four", "patch_four")


def four(site: Site, packed: Packed, pixels: int) -> Fields | None:
    """The fields of such a kernel for rows of `pixels`, or None where the layer has another."""
    if site.scratch is None or packed.form != "scaled" or pixels < FEWEST:
        return None
    views: Fields = (("x", site.inputs[0].where()), ("y", site.output.where()), ("work", site.work()))
    return (*views, *constants(site, packed, PAIR))


def work_bytes(use: KernelUse) -> int:
    """Bytes that the kernel works in: values of four windows, widened, and gathered as they are."""
    if use.template not in TEMPLATES:
        return 0
    fields: dict[str, Any] = dict(use.fields)
    gathered = use.template == "patch_four"
    return int(fields["taps"]) * TOGETHER * (WIDE + gathered)
