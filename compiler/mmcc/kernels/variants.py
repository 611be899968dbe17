# SPDX-License-Identifier: Apache-2.0
"""Which of a target's folders of templates has a kernel."""

from __future__ import annotations

from mmcc.resources import data_dir


def variant_of(template: str, variants: tuple[str, ...]) -> str:
    """The first of the target's variants that has this kernel; "portable" has all."""
    for variant in variants:
        if (data_dir("templates") / "kernels" / variant / f"{template}.c.j2").is_file():
            return variant
    raise LookupError(f"no kernel template {template} in {', '.join(variants)}")
