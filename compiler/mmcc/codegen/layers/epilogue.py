"""The end of every int8 kernel with multiplications: requantization and saturation in their fastest form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.layers import Site
from mmcc.errors import CompileError, Exit
from mmcc.ir.program import Field

Options = tuple[tuple[str, Any], ...]
Fields = tuple[tuple[str, Field], ...]

RAISED = 128  # what kernels add to outputs until they store them: saturation is cheapest at 0 and 255
HIGH = 33  # least shift for which the high word of the product is all that counts


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Options and fields of a kernel's epilogue, and the shifts as the kernel wants them."""

    options: Options
    fields: Fields
    shift: NDArray[np.uint8]


def epilogue(
    acc_bound: int,
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int8],
    y_zero: int,
    clamp: tuple[int, int],
) -> Epilogue:
    """The fast form wherever the accumulator's bound allows it.

    Shifting the accumulator left by `left` and scaling by `shift + left` gives the same bits, so any shift
    can become HIGH or more as long as the accumulator keeps within 32 bits. Otherwise the kernel scales in
    64 bits.
    """
    wide = np.where(multiplier == 0, np.maximum(shift, HIGH), shift).astype(np.int64)  # 0 at any shift
    left = max(0, HIGH - int(wide.min()))
    fast = acc_bound << left < 2**31
    options: list[tuple[str, Any]] = [("requantize", ("left" if left else "high") if fast else "wide")]
    fields: list[tuple[str, Field]] = [("zero", 2 * (y_zero + RAISED) + 1 if fast else y_zero + RAISED)]
    if fast and left:
        fields.append(("left", left))
    full = clamp == (-128, 127)
    options.append(("full", full))
    if not full:
        fields += [("low", clamp[0] + RAISED), ("high", clamp[1] + RAISED)]
    stored = wide + left - HIGH if fast else wide - 1  # less the least, so that padding by 0 is valid
    return Epilogue(tuple(options), tuple(fields), stored.astype(np.uint8))


def check_accumulator(bound: int, site: Site) -> None:
    """Refuse a node whose accumulator may leave 32 bits; `bound` is over all int8 inputs."""
    if bound >= 2**31:
        raise CompileError(
            "MM301",
            f"the accumulator of {site.output.tensor.name} may reach {bound}; 32 bits hold {2**31 - 1}",
            exit=Exit.UNSUPPORTED,
            hint="keep this layer in float",
        )
