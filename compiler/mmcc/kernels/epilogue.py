# SPDX-License-Identifier: Apache-2.0
"""The end of every int8 kernel with multiplications: the fastest requantization, or scaling to float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit
from mmcc.ir.program import Field
from mmcc.kernels.portable.float_fields import activation_fields
from mmcc.kernels.select import Site
from mmcc.ops.activation import Activation

Options = tuple[tuple[str, Any], ...]
Fields = tuple[tuple[str, Field], ...]

RAISED = 128  # what kernels add to outputs until they store them: saturation is cheapest at 0 and 255
HIGH = 33  # least shift for which the high word of the product is all that counts


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Options and fields of a kernel's epilogue, and what it wants of each filter besides its bias.

    `tail` is [OC] shifts, or [OC, 2] factors and offsets where the output is float; `left` is what sums are
    shifted by first.
    """

    options: Options
    fields: Fields
    tail: NDArray[Any]
    left: int = 0

    @property
    def form(self) -> str:
        """What the kernel's option `requantize` is."""
        return dict(self.options)["requantize"]


def epilogue(
    acc_bound: int,
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int8],
    y_zero: int,
    clamp: tuple[int, int],
    bias_bits: int = 0,
) -> Epilogue:
    """The fast form wherever the accumulator's bound allows it.

    Shifting the accumulator left by `left` and scaling by `shift + left` gives the same bits, so any shift
    can become HIGH or more as long as the accumulator keeps within 32 bits. Otherwise the kernel scales in
    64 bits. With `bias_bits`, bound and shifts are those of sums that were shifted left by so many to be
    added to a bias with a fraction.
    """
    wide = np.where(multiplier == 0, np.maximum(shift, HIGH), shift).astype(np.int64)  # 0 at any shift
    more = max(0, HIGH - int(wide.min()))
    fast = acc_bound << more < 2**31
    left = bias_bits + (more if fast else 0)
    form = ("left" if left else "high") if fast else "wide"
    options: list[tuple[str, Any]] = [("requantize", form), ("fraction", bias_bits > 0)]
    fields: list[tuple[str, Field]] = [("zero", 2 * (y_zero + RAISED) + 1 if fast else y_zero + RAISED)]
    if left:
        fields.append(("left", left))
    full = clamp == (-128, 127)
    options.append(("full", full))
    if not full:
        fields += [("low", clamp[0] + RAISED), ("high", clamp[1] + RAISED)]
    stored = wide + more - HIGH if fast else wide - 1  # less the least, so that padding by 0 is valid
    return Epilogue(tuple(options), tuple(fields), stored.astype(np.uint8), left)


def float_epilogue(
    factor: NDArray[np.float32], offset: NDArray[np.float32], activation: Activation | None
) -> Epilogue:
    """For an output in float: sums times a factor and plus an offset, both of each filter."""
    option, limits = activation_fields(activation)
    options: Options = (("requantize", "float"), ("fraction", False), option)
    return Epilogue(options, limits, np.stack((factor, offset), 1).astype(np.float32))


def check_accumulator(bound: int, site: Site) -> None:
    """Refuse a node whose accumulator may leave 32 bits; `bound` is over all int8 inputs."""
    if bound >= 2**31:
        raise CompileError(
            "MM301",
            f"the accumulator of {site.output.tensor.name} may reach {bound}; 32 bits hold {2**31 - 1}",
            exit=Exit.UNSUPPORTED,
            hint="leaving this layer in float (nodes_to_exclude of quantize_static)",
        )
