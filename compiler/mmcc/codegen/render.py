# SPDX-License-Identifier: Apache-2.0
"""Render templates: kernels by variant, and the files around them. The only module that imports jinja2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmcc.codegen.c_layout import tidy
from mmcc.kernels.variants import variant_of
from mmcc.resources import data_dir


@dataclass(frozen=True, slots=True)
class Kernel:
    """One C function, shared by all nodes with the same template and options.

    `fields` are the members of its constant struct, (C type, name), largest first.
    """

    name: str
    struct: str
    template: str
    options: dict[str, Any]
    fields: tuple[tuple[str, str], ...]
    prefix: str
    users: tuple[str, ...]

    @property
    def signature(self) -> str:
        """The C function's head; the same for every kernel."""
        p = self.prefix
        return (
            f"void {self.name}(uint8_t *const *memory, const {self.struct} *layer, "
            f"const {p}_columns *columns,\n"
            f"{' ' * (len(self.name) + 6)}int32_t row_begin, int32_t row_end)"
        )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(data_dir("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_kernel(kernel: Kernel, variants: tuple[str, ...]) -> str:
    """C text of one kernel function."""
    variant = variant_of(kernel.template, variants)
    template = _environment().get_template(f"kernels/{variant}/{kernel.template}.c.j2")
    return template.render(k=kernel, o=kernel.options, p=kernel.prefix).rstrip() + "\n"


def render_c(template: str, **values: Any) -> str:
    """Text of a C file, laid out for people."""
    return tidy(render(template, **values))


def render(template: str, **values: Any) -> str:
    """Text of a file from a template at the top of templates/."""
    return _environment().get_template(template).render(**values)
