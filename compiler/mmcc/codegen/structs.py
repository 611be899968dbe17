# SPDX-License-Identifier: Apache-2.0
"""The kernels of a package and the constant structs of its nodes, as C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmcc.codegen.render import Kernel
from mmcc.codegen.types import smallest_type
from mmcc.codegen.weights import Weights, float_literal
from mmcc.ir.program import Constant, Field, KernelUse, Program, ProgramNode, View

TYPE_SIZE = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2}


@dataclass(frozen=True, slots=True)
class NodeText:
    """One constant struct of the source file."""

    label: str
    struct: str
    comment: str
    members: tuple[tuple[str, str], ...]


def package_kernels(program: Program, prefix: str) -> tuple[tuple[Kernel, ...], dict[str, Kernel]]:
    """One kernel for each template and set of options; nodes that share one are its users.

    None is called as an entry is.
    """
    users: dict[tuple[str, tuple[tuple[str, Any], ...]], dict[str, KernelUse]] = {}
    for node in program.nodes:
        for label, use in node.uses:
            users.setdefault((use.template, use.options), {})[label] = use
    several = [template for template, _ in users]
    kernels: list[Kernel] = []
    kernel_of: dict[str, Kernel] = {}
    taken = {f"{prefix}_{entry.name}" for entry in program.entries}
    for (template, kernel_options), uses in users.items():
        suffix = (
            "" if several.count(template) == 1 else f"_{sum(k.template == template for k in kernels) + 1}"
        )
        name = f"{prefix}_{template}{suffix}"
        while name in taken:
            name += "_kernel"
        fields = _struct_fields([dict(use.fields) for use in uses.values()], prefix)
        kernel = Kernel(
            name,
            f"{name}_layer",
            template,
            dict(kernel_options),
            fields,
            prefix,
            tuple(uses),
        )
        kernels.append(kernel)
        kernel_of |= dict.fromkeys(uses, kernel)
    return tuple(kernels), kernel_of


def _struct_fields(uses: Sequence[dict[str, Field]], prefix: str) -> tuple[tuple[str, str], ...]:
    """Members of a constant struct, largest first, each as small as the values of all users allow."""
    first = uses[0]
    assert all(use.keys() == first.keys() for use in uses), f"users of one kernel differ in fields: {uses}"
    members: list[tuple[str, str]] = []
    for name, value in first.items():
        if isinstance(value, View):
            members.append((f"{prefix}_view", name))
        elif isinstance(value, Constant):
            members.append(("uint32_t", name))
        elif any(isinstance(use[name], float) for use in uses):
            members.append(("float", name))
        else:
            members.append((smallest_type(_integer(use[name]) for use in uses), name))
    return tuple(sorted(members, key=lambda member: -TYPE_SIZE.get(member[0], 4)))


def _integer(value: Field) -> int:
    assert isinstance(value, int)
    return int(value)


def node_text(
    first: int, node: ProgramNode, label: str, use: KernelUse, kernel: Kernel, weights: Weights, prefix: str
) -> NodeText:
    """The constant struct `label` of a node, for one of its kernels; in C nodes count from `first` on."""
    values = dict(use.fields)
    members = tuple((name, _initializer(values[name], weights, prefix)) for _, name in kernel.fields)
    which = ", some blocks of its weights" if use is not node.use else ""
    which = ", some of its channels" if node.others and node.blocks is None else which
    return NodeText(label, kernel.struct, f"{first + node.index}: {node.op}: {node.comment}{which}", members)


def _initializer(value: Field, weights: Weights, prefix: str) -> str:
    match value:
        case View():
            offset = value.offset
            where = f"{offset}u" if isinstance(offset, int) else f"{weights.offsets[offset.name]}u"
            memory = f"{prefix}_memory_{value.memory}".upper()
            return f"{{{where}, {value.row_stride}, {value.col_stride}, {value.rows}, {memory}}}"
        case Constant():
            return f"{weights.offsets[value.name]}u /* {value.name} */"
        case float():
            return float_literal(value)
        case _:
            return str(int(value))


def _views(program: Program) -> list[View]:
    uses = [use for node in program.nodes for _, use in node.uses]
    return [value for use in uses for _, value in use.fields if isinstance(value, View)]


def view_types(program: Program, memories: int) -> dict[str, str]:
    """The smallest C types that the strides and rows of all views, and numbers of memories, fit in."""
    views = _views(program)
    return {
        "row_stride": smallest_type(view.row_stride for view in views),
        "col_stride": smallest_type(view.col_stride for view in views),
        "rows": smallest_type(view.rows for view in views),
        "memory": smallest_type((255, memories - 1)),
    }
