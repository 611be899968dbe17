# SPDX-License-Identifier: Apache-2.0
"""Calls through pointers, whose stack is in no bound: only functions of the caller's may be called so.

The figure is without those, and says so (docs/firmware.md). Whatever else has such a call is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmcc.codegen.emit import Package
from mmcc.errors import CompileError, Exit
from mmcc.toolchain import Footprint

CALLERS = ("read_rows", "write_rows", "page_in", "page_out")  # kernels that call functions of the caller's
# functions of mmcc_parameters.h that do, where the C compiler does not put them into NAME_parameters_save
HELPERS = tuple(f"mmcc_{what}_parameters" for what in ("whole", "newest", "save", "load"))


def check_pointers(footprint: Footprint, generated: Package) -> None:
    """CompileError (MM804) for a function whose call through a pointer is none of the caller's functions."""
    found = {name.partition(".")[0] for bound in footprint.stack.values() for name in bound.indirect}
    kernels = {kernel.name: kernel.template for kernel in generated.kernels}
    given = calls_back(generated) or generated.values["parameters"] or generated.values["tasks"]
    wrong = unexpected(found, kernels, generated.values["p"], calls_back=bool(given))
    if wrong:
        what = f"the stack has no bound: {', '.join(wrong)} calls through a pointer"
        raise CompileError("MM804", what, exit=Exit.INTERNAL)


def calls_back(generated: Package) -> bool:
    """True if a model calls functions of the caller's for rows, weights, moves or pages."""
    return any(generated.values[what] for what in ("streams", "staged", "moves", "pages"))


def unexpected(
    found: Iterable[str], kernels: dict[str, str], prefix: str, *, calls_back: bool
) -> tuple[str, ...]:
    """Of functions with such calls, those that have no business with the caller's; `kernels` are templates
    by function. The functions of entries have: they are all that is named by the prefix and is no kernel."""

    def expected(name: str) -> bool:
        own = name.startswith(f"{prefix}_") and kernels.get(name, CALLERS[0]) in CALLERS
        return calls_back and (own or name in HELPERS)

    return tuple(sorted(name for name in found if not expected(name)))
