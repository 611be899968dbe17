# SPDX-License-Identifier: Apache-2.0
"""Why a model fits in no way in the regions that it may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmcc.errors import CompileError, Exit
from mmcc.ir.regions import Region


def no_plan(regions: Sequence[Region], enough: Mapping[Region, int], *, proved: bool) -> CompileError:
    """The error where there is no plan, or none was found; `enough` has what one region alone would need."""
    sizes = " and ".join(f"{region.size:,} of {region}" for region in regions if region.size is not None)
    message = f"the model does not fit in {sizes} bytes, wherever its buffers are"
    if not proved:
        message += ", or no plan was found that does"
    hints = [
        f"{region}={size}  for the arena there instead of {region.size:,}, the others as they are"
        for region, size in enough.items()
    ]
    return CompileError(
        "MM040" if proved else "MM041",
        message,
        exit=Exit.DOES_NOT_FIT if proved else Exit.NO_PLAN,
        hint="\n".join(hints),
    )
