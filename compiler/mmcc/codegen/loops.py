"""The loop of a group: nested pulled loops over rows, once for each column strip."""

from __future__ import annotations

from mmcc.ir.graph import Graph, geometry
from mmcc.ir.nest import Span
from mmcc.ir.plan import Group, Plan
from mmcc.ir.program import Call, Columns, Count, For, Stmt
from mmcc.planner.walk import Need, linear, needs, rows_of, strip_columns

STRIP = "strip"


def group_body(graph: Graph, plan: Plan, group: Group) -> tuple[Stmt, ...]:
    """The statements of one group; nodes that are aliases have none."""
    members = [index for index in group.nodes if index not in plan.aliases]
    columns = {index: _columns(graph, plan, group, index) for index in members}
    table = needs(graph, group, plan.aliases)
    last = members[-1]
    height = rows_of(graph, graph.nodes[last].output)
    if len(members) == 1:
        body = _single(last, columns[last], height, group)
    else:
        body = _pulled(table, columns, members, height, group.tile_rows or height)
    if len(group.strips) > 1:
        return (For(STRIP, str(len(group.strips)), body),)
    return body


def _single(index: int, columns: tuple[Columns, ...], height: int, group: Group) -> tuple[Stmt, ...]:
    if group.backward and height > 1:
        return (For("row", str(height), (Call(index, columns, "row", "row + 1"),), backward=True),)
    return (Call(index, columns, "0", str(height)),)


def _pulled(
    table: dict[int, tuple[Need, ...]],
    columns: dict[int, tuple[Columns, ...]],
    members: list[int],
    height: int,
    tile: int,
) -> tuple[Stmt, ...]:
    *inner, last = members

    def pulls(index: int, row: str, rows: int) -> tuple[Stmt, ...]:
        return tuple(pull(need, row, rows) for need in table[index])

    def pull(need: Need, row: str, rows: int) -> Stmt:
        """Make the rows that rows `row` .. `row + rows - 1` of the reader need."""
        made = f"y{need.producer}"
        call = Call(need.producer, columns[need.producer], made, f"{made} + 1")
        body = (*pulls(need.producer, made, 1), call)
        return For(made, _bound(need, row, rows), body, fresh=False)

    row = f"y{last}"
    end = f"{row} + {tile}" if height % tile == 0 else f"MIN({row} + {tile}, {height})"
    turn = (*pulls(last, row, tile), Call(last, columns[last], row, end))
    loop = For(row, str(height), turn, step=tile)
    return (*(Count(f"y{index}") for index in inner), loop)


def _bound(need: Need, row: str, rows: int) -> str:
    """C expression for how many rows must be made before row `row + rows - 1` of the reader."""
    limit = max(need.rows)
    at = [need.rows[min(r + rows - 1, len(need.rows) - 1)] for r in range(len(need.rows))]
    found = linear(at, limit)
    if found is None:
        return f"(({row}) < {len(at)} ? ROWS({', '.join(map(str, at))})[{row}] : {limit})"
    slope, start = found
    if slope == 0:
        return str(min(start, limit))
    text = row if slope == 1 else f"{slope} * {row}"
    text = f"{text} + {start}" if start else text
    never_beyond = slope * (len(at) - 1) + start <= limit
    return text if never_beyond else f"MIN({text}, {limit})"


def _columns(graph: Graph, plan: Plan, group: Group, index: int) -> tuple[Columns, ...]:
    """The columns of one node's calls, one entry a strip."""
    node = graph.nodes[index]
    width = geometry(graph.tensors[node.output].shape)[1]
    inside = {graph.nodes[k].output for k in group.nodes[:-1]}
    rows: list[Columns] = []
    for strip in group.strips or (None,):
        if strip is None:
            rows.append(Columns(0, width, (0,) * max(3, len(node.inputs))))
            continue
        held = strip_columns(graph, group, strip.columns)
        own = held.get(node.output, Span(0, width))
        firsts = [held[name].lo if name in inside else 0 for name in node.inputs]
        firsts += [0] * (3 - len(firsts))
        rows.append(Columns(own.lo, own.hi, tuple(firsts), own.lo if node.output in inside else 0))
    return tuple(rows)
