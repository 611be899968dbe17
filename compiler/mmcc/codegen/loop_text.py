# SPDX-License-Identifier: Apache-2.0
"""The body of a loop as C: constant structs of its nodes, and the lines of the function that makes a step."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.codegen.render import Kernel
from mmcc.codegen.statements import Body, columns_of
from mmcc.codegen.structs import NodeText, node_text
from mmcc.codegen.weights import Weights
from mmcc.ir.program import Columns, ProgramNode


@dataclass(frozen=True, slots=True)
class LoopText:
    """What the kernel of a loop prints of its body; `columns` are the lists of columns, by name."""

    nodes: tuple[NodeText, ...]
    columns: dict[tuple[Columns, ...], str]
    functions: tuple[str, ...]
    body: tuple[str, ...]


def loop_text(node: ProgramNode, prefix: str, kernel_of: dict[str, Kernel], weights: Weights) -> LoopText:
    """The text of a loop's body, for the file of kernels, which the step calls."""
    code = node.body
    assert code is not None, f"{node.label} is no loop"
    columns = columns_of([code], f"{node.label}_")
    nodes = {inner.index: inner for inner in code.nodes}
    body = Body(prefix, kernel_of, columns, nodes, code.first, hooks=False)
    structs = tuple(
        node_text(code.first, inner, label, use, kernel_of[label], weights, prefix)
        for inner in code.nodes
        for label, use in inner.uses
    )
    return LoopText(structs, columns, tuple(body.functions(code.body)), tuple(body.lines(code.body)))
