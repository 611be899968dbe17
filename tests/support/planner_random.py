# SPDX-License-Identifier: Apache-2.0
"""Random graphs and requests for the planner."""

from __future__ import annotations

from hypothesis import strategies as st
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ops.elementwise import Cast, Unary
from mmcc.ops.movement import Slice, Transpose
from mmcc.planner.request import PlanRequest
from planner_graphs import Build

ROWS, COLS = 6, 4


def grow(b: Build, draw: st.DrawFn, pool: list[str]) -> str:
    """One more random node on tensors in `pool`; all are images of the same dtype or cast to it."""
    x = draw(st.sampled_from(pool))
    h, w, c = b.shape(x)
    kind = draw(
        st.sampled_from(
            ["conv", "wide", "depthwise", "unary", "concat", "slice", "reshape", "sum", "pool", "turn"]
        )
    )
    peers = [n for n in pool if b.shape(n) == b.shape(x)]
    match kind:
        case "conv":
            made = b.conv(
                x,
                draw(st.sampled_from([1, 4, 8])),
                draw(st.sampled_from([1, 3])),
                draw(st.sampled_from([1, 2])),
            )
        case "wide":
            made = b.add(Cast(ElementType.I8), b.add(Cast(ElementType.F32), x))
        case "depthwise":
            made = b.depthwise(x, 3)
        case "unary":
            made = b.add(Unary("abs"), x)
        case "concat":
            axis = draw(st.integers(0, 2))
            rest = [n for n in pool if all(b.shape(n)[k] == b.shape(x)[k] for k in range(3) if k != axis)]
            made = b.concat(axis, x, *draw(st.lists(st.sampled_from(rest), min_size=1, max_size=2)))
        case "slice":
            starts = tuple(draw(st.integers(0, n - 1)) for n in (h, w, c))
            shape = tuple(draw(st.integers(1, n - s)) for n, s in zip((h, w, c), starts, strict=True))
            steps = tuple(draw(st.integers(1, 2)) if n > 1 else 1 for n in shape)
            shape = tuple(-(-n // s) for n, s in zip(shape, steps, strict=True))
            made = b.add(Slice(starts, steps, shape), x)
        case "reshape":
            made = b.reshape(
                x, *draw(st.sampled_from([(h * w, 1, c), (1, h * w, c), (h, w * c, 1), (h, 1, w * c)]))
            )
        case "turn":
            made = b.add(Transpose(draw(st.sampled_from([(1, 0, 2), (0, 2, 1)]))), x)
        case "pool" if min(h, w) >= 2:
            made = b.max_pool(x, 2, 2)
        case _:
            made = b.sum(x, draw(st.sampled_from(peers)))
    return made


@st.composite
def graphs(draw: st.DrawFn, most: int) -> Graph:
    b = Build("random")
    pool = [b.input(ROWS, COLS, draw(st.sampled_from([1, 4]))) for _ in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(1, most))):
        pool.append(grow(b, draw, pool))
    read = {name for node in b.nodes for name in node.inputs}
    ends = [node.output for node in b.nodes if node.output not in read]
    extra = draw(st.lists(st.sampled_from([node.output for node in b.nodes]), max_size=1))
    return b.graph(*dict.fromkeys([*ends, *extra]))


requests = st.builds(
    PlanRequest,
    external_inputs=st.booleans(),
    external_outputs=st.booleans(),
    backward=st.booleans(),
    align=st.sampled_from([1, 4, 16]),
    scratch=st.dictionaries(st.integers(0, 9), st.integers(1, 200), max_size=2),
    effort=st.just(1.0),
)


def usable(graph: Graph, request: PlanRequest) -> PlanRequest:
    nodes = {k: size for k, size in request.scratch.items() if k < len(graph.nodes)}
    return PlanRequest(
        external_inputs=request.external_inputs,
        external_outputs=request.external_outputs,
        backward=request.backward,
        align=request.align,
        scratch=nodes,
        effort=request.effort,
    )
