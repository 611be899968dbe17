# SPDX-License-Identifier: Apache-2.0
"""Render templates: kernels by variant, and the files around them. The only module that imports jinja2."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmcc.codegen.c_layout import tidy
from mmcc.ir.kernel_part import KernelPart
from mmcc.kernels.variants import variant_of
from mmcc.resources import data_dir

MEMBER = re.compile(r"\blayer->(\w+)")


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
    part: bool = False  # of another kernel, which alone calls it

    @property
    def signature(self) -> str:
        """The C function's head; the same for every kernel."""
        head = f"{'static ' if self.part else ''}void {self.name}("
        return (
            f"{head}uint8_t *const *memory, const {self.struct} *layer, "
            f"const {self.prefix}_columns *columns,\n"
            f"{' ' * len(head)}int32_t row_begin, int32_t row_end)"
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


def load_templates() -> None:
    """Load all templates: who makes packages in many processes does it once, before they fork."""
    for name in _environment().list_templates(extensions=["j2"]):
        _environment().get_template(name)


def render_kernel(kernel: Kernel, variants: tuple[str, ...]) -> str:
    """C text of one kernel function."""
    variant = variant_of(kernel.template, variants)
    template = _environment().get_template(f"kernels/{variant}/{kernel.template}.c.j2")
    parts = {part.name: _render_part(kernel, part, variants) for part in kernel.options.get("called", ())}
    return template.render(k=kernel, o=kernel.options, p=kernel.prefix, parts=parts).rstrip() + "\n"


def _render_part(kernel: Kernel, part: KernelPart, variants: tuple[str, ...]) -> str:
    """C text of a kernel that another one calls, for the other's struct, and columns that may be of a tensor
    that no other kernel sees."""
    own = replace(
        kernel,
        name=f"{kernel.name}_{part.name}",
        template=part.template,
        options=dict(part.options),
        part=True,
    )
    members = dict(part.members)
    text = MEMBER.sub(lambda found: f"layer->{members[found[1]]}", render_kernel(own, variants))
    return text.replace(f"const {kernel.prefix}_columns *", f"const {kernel.name}_columns *")


def render_c(template: str, **values: Any) -> str:
    """Text of a C file, laid out for people."""
    return tidy(render(template, **values))


def render(template: str, **values: Any) -> str:
    """Text of a file from a template at the top of templates/."""
    return _environment().get_template(template).render(**values)
