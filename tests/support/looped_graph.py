# SPDX-License-Identifier: Apache-2.0
"""A graph with a loop whose body is planned: carried values, a slice, a row, and what every step sees."""

from __future__ import annotations

from dataclasses import replace

from ir_text import read
from mmcc.driver.bodies import with_planned_bodies
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.ops.repeat import Repeat, in_turn

BODY = read(
    """
    input %h: f32[3,4]
    input %c: f32[3,4]
    input %x: f32[3,4]
    input %v: f32[3,4]
    %s: f32[3,4] = Binary("add")(%h, %x)
    %t: f32[3,4] = Binary("mul")(%s, %v)
    %g: f32[3,4] = Unary("tanh")(%t)
    %d: f32[3,4] = Binary("sub")(%c, %g)
    %r: f32[3,4] = Binary("add")(%t, %d)
    output %g
    output %d
    output %r
    """
)


def loop(steps: int = 5) -> Graph:
    """One loop with two carried values, of which one is kept, a slice taken backward, and a row."""
    graph = read(
        f"""
        input %h0: f32[3,4]
        input %c0: f32[3,4]
        input %xs: f32[{steps},3,4]
        input %around: f32[3,4]
        %n: f32[3,4] = Unary("neg")(%around)
        %last: f32[3,4] = Unary("neg")(%h0)
        %rows: f32[{steps},3,4] = Unary("neg")(%xs)
        output %last
        output %rows
        """
    )
    op = Repeat(BODY, steps, 2, (in_turn(steps, back=True),), (False,), (0,))
    made = replace(graph.nodes[0], op=op, inputs=("h0", "c0", "xs", "n"), outputs=("last", "rows"))
    return with_planned_bodies(replace(graph, nodes=(graph.nodes[0], made)), CompileOptions())
