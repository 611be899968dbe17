# SPDX-License-Identifier: Apache-2.0
"""The program checker against planted faults: each is convicted in a sentence that names it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import mmcc
import pytest
from lowered_programs import ALL, Lowered, check, groups, shared, staged, streams, strips
from mmcc.checker.program import check_program
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan
from mmcc.ir.program import (
    ByBlocks,
    Call,
    Columns,
    Constants,
    EntryCode,
    For,
    MakeRows,
    Program,
    Start,
    Stmt,
    View,
    Wait,
)

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("name", ALL)
def test_sound_programs_pass(name: str) -> None:
    assert check(*ALL[name]()) == []


# ---- every number of a program


def places(value: Any, of: type) -> Iterator[Callable[[Callable[[Any], Any]], Any]]:
    """For each value of a type inside a dataclass: how to make the whole again with that one changed."""
    if isinstance(value, of):
        yield lambda change: change(value)
    elif isinstance(value, tuple):
        for k, inner in enumerate(value):
            for made in places(inner, of):
                yield lambda change, k=k, made=made: (*value[:k], made(change), *value[k + 1 :])
    elif isinstance(value, dict):
        for key, inner in value.items():
            for made in places(inner, of):
                yield lambda change, key=key, made=made: value | {key: made(change)}
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for made in places(getattr(value, field.name), of):
                yield lambda change, n=field.name, made=made: replace(value, **{n: made(change)})


def plant(program: EntryCode, of: type, change: Callable[[Any], Any]) -> Iterator[EntryCode]:
    """A program for each value of a type, with that value changed; where `change` gives the same, none."""
    for made in places(program, of):
        planted = made(change)
        if planted != program:
            yield planted


def convict(found: Lowered, of: type, change: Callable[[Any], Any], *words: str) -> int:
    """Each such fault must be told in a sentence with these words; how many there were."""
    graph, plan, program = found
    count = 0
    for planted in plant(program, of, change):
        wrong = check(graph, plan, planted)
        assert any(all(word in text for word in words) for text in wrong), (words, wrong)
        count += 1
    return count


NUMBERS: dict[str, tuple[type, Callable[[Any], Any], tuple[str, ...]]] = {
    "base": (View, lambda v: replace(v, offset=v.offset + 4) if isinstance(v.offset, int) else v, ("byte",)),
    "row stride": (View, lambda v: replace(v, row_stride=v.row_stride + 1) if v.row_stride else v, ("rows",)),
    "column stride": (
        View,
        lambda v: replace(v, col_stride=v.col_stride + 1) if v.row_stride else v,
        ("elements apart",),
    ),
    "ring of one row less": (
        View,
        lambda v: replace(v, rows=v.rows - 1) if v.rows > 1 else v,
        ("rows held",),
    ),
    "memory": (View, lambda v: replace(v, memory="elsewhere"), ("elsewhere",)),
    "first column of a call": (Columns, lambda c: replace(c, begin=c.begin + 1), ("makes columns",)),
    "last column of a call": (Columns, lambda c: replace(c, end=c.end - 1), ("makes columns",)),
    "origin of the output": (
        Columns,
        lambda c: replace(c, output=c.output + 1),
        ("for the first that memory holds of its output",),
    ),
}


@pytest.mark.parametrize("fault", NUMBERS)
def test_every_number(fault: str) -> None:
    of, change, words = NUMBERS[fault]
    names = ("strips", "streams", "groups", "shared", "backward")
    assert sum(convict(ALL[name](), of, change, *words) for name in names)


@pytest.mark.parametrize("operand", [0, 1, 2])
def test_an_operand_with_the_origin_of_another(operand: int) -> None:
    """What Concats in strips did: the first operand's origin was everybody's."""
    other = 0 if operand else 1

    def shared(columns: Columns) -> Columns:
        inputs = [columns.origin(k) for k in range(3)]
        inputs[operand] = inputs[other]
        while inputs and not inputs[-1]:
            inputs.pop()
        return replace(columns, inputs=tuple(inputs)) if columns.inputs else columns

    words = f"for the first that memory holds of operand {operand}"
    assert convict(strips(), Columns, shared, words)


def test_a_kernel_that_looks_up_more_origins_than_columns_have() -> None:
    graph, plan, program = strips()
    nodes = tuple(replace(node, use=replace(node.use, origins=0)) for node in program.nodes)
    wrong = check(graph, plan, replace(program, nodes=nodes))
    assert any("needs the first column of operand 0, but has those of 0 only" in text for text in wrong)


def test_operands_that_are_exchanged() -> None:
    graph, plan, program = strips()
    index = next(k for k, node in enumerate(graph.nodes) if len(node.inputs) == 3)
    names = {"x0": "x1", "x1": "x0"}
    nodes = [
        replace(
            node,
            use=replace(node.use, fields=tuple((names.get(n, n), value) for n, value in node.use.fields)),
        )
        if node.index == index
        else node
        for node in program.nodes
    ]
    wrong = check(graph, plan, replace(program, nodes=tuple(nodes)))
    assert all(f"node {index} " in text and "operand" in text for text in wrong)
    assert len(wrong) == 2


# ---- what callbacks are given


@pytest.mark.parametrize("window", ["row", "rows"])
def test_dense_pixels_where_other_channels_lie_between(window: str) -> None:
    graph, plan, program = streams()
    seen = 0
    for k, node in enumerate(program.nodes):
        options = dict(node.use.options)
        if options.get("window") != "pixel":
            continue
        use = replace(
            node.use,
            options=tuple((options | {"window": window}).items()),
            fields=(*node.use.fields, ("columns", 5)),
        )
        nodes = (*program.nodes[:k], replace(node, use=use), *program.nodes[k + 1 :])
        wrong = check(graph, plan, replace(program, nodes=nodes))
        assert any(f"node {node.index} " in t and "rows of dense pixels" in t for t in wrong), wrong
        seen += 1
    assert seen == 2


def test_dense_rows_where_there_are_gaps() -> None:
    """One call for several rows must know how many pixels a row has."""
    graph, plan, program = streams()
    nodes = [
        replace(
            node,
            use=replace(
                node.use,
                fields=tuple((n, 4 if n == "columns" else value) for n, value in node.use.fields),
            ),
        )
        if dict(node.use.options).get("window") == "rows"
        else node
        for node in program.nodes
    ]
    wrong = check(graph, plan, replace(program, nodes=tuple(nodes)))
    assert any("several dense rows of" in text for text in wrong)


def test_callbacks_of_other_ports() -> None:
    """The first output's rows through the callback of the second, or as another type."""
    graph, plan, program = streams()
    seen = 0
    for k, node in enumerate(program.nodes):
        options = dict(node.use.options)
        for fault in ({"port": "output_1"}, {"port": "input_0"}, {"ctype": "float"}):
            if "window" not in options or fault.items() <= options.items():
                continue
            use = replace(node.use, options=tuple((options | fault).items()))
            nodes = (*program.nodes[:k], replace(node, use=use), *program.nodes[k + 1 :])
            wrong = check(graph, plan, replace(program, nodes=nodes))
            told = next(iter(fault.values()))
            assert any("calls back for" in text and told in text for text in wrong), wrong
            seen += 1
    assert seen == 7


# ---- rows in order


def loops(change: Callable[[For], For]) -> Callable[[Any], Any]:
    return lambda statement: change(statement) if statement.var != "strip" else statement


ORDERS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "a bound one too high": (For, loops(lambda f: replace(f, extent=f"({f.extent}) + 1"))),
    "a bound one too low": (For, loops(lambda f: replace(f, extent=f"({f.extent}) - 1"))),
    "two rows a step": (For, loops(lambda f: replace(f, step=2) if f.fresh and not f.backward else f)),
    "a loop the other way": (For, loops(lambda f: replace(f, backward=not f.backward) if f.fresh else f)),
    "no rows": (Call, lambda c: replace(c, end=c.begin)),
    "rows that come later": (Call, lambda c: replace(c, begin=f"{c.begin} + 1", end=f"{c.end} + 1")),
}


@pytest.mark.parametrize("fault", ORDERS)
@pytest.mark.parametrize("name", ["strips", "groups", "shared", "backward"])
def test_rows_that_are_not_made_when_they_are_due(fault: str, name: str) -> None:
    graph, plan, program = ALL[name]()
    for planted in plant(program, *ORDERS[fault]):
        wrong = check(graph, plan, planted)
        assert any(" is due" in text or "is never made" in text for text in wrong), (fault, wrong)


def test_calls_that_are_exchanged() -> None:
    graph, plan, program = groups()

    def exchanged(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(
            replace(s, body=exchanged(tuple(reversed(s.body)))) if isinstance(s, For) else s for s in body
        )

    steps = tuple(replace(step, body=exchanged(step.body)) for step in program.body)
    assert any(" is due" in text for text in check(graph, plan, replace(program, body=steps)))


CALLS: dict[str, Callable[[MakeRows], MakeRows]] = {
    "a row too many": lambda s: replace(s, until=f"{s.until} + 1"),
    "a row too few": lambda s: replace(s, until=f"{s.until} - 1"),
    "all that were made before": lambda s: replace(s, until="0"),
}


@pytest.mark.parametrize("fault", CALLS)
def test_calls_of_functions_for_other_rows(fault: str) -> None:
    graph, plan, program = shared()
    seen = 0
    for planted in plant(program, MakeRows, CALLS[fault]):
        wrong = check(graph, plan, planted)
        assert any(" is due" in text or "is never made" in text for text in wrong), wrong
        seen += 1
    assert seen > 3


def test_calls_of_other_functions() -> None:
    """Of one that makes rows of another node, that is not there yet, or that is not there at all."""
    graph, plan, program = shared()
    (step,) = program.body
    nodes = [function.node for function in step.functions]
    for k, function in enumerate(step.functions):
        asked = {s.node for s in statements(function.body) if isinstance(s, MakeRows)}
        assert asked <= set(nodes[:k])
    for other in (*nodes, 0, 100):
        for planted in plant(program, MakeRows, lambda s, other=other: replace(s, node=other)):
            wrong = check(graph, plan, planted)
            words = (" is due", "is never made", f"no function before makes rows of node {other}")
            assert any(word in text for word in words for text in wrong), wrong
    for functions in (step.functions[1:], tuple(reversed(step.functions))):
        wrong = check(graph, plan, replace(program, body=(replace(step, functions=functions),)))
        assert any("cannot run: no function before makes rows of node" in text for text in wrong)


def test_functions_that_are_each_others() -> None:
    graph, plan, program = shared()
    (step,) = program.body
    first, second = step.functions[0], step.functions[1]
    exchanged = (replace(first, node=second.node), replace(second, node=first.node), *step.functions[2:])
    wrong = check(graph, plan, replace(program, body=(replace(step, functions=exchanged),)))
    assert any(" is due" in text or "cannot run" in text for text in wrong)


def test_a_function_that_calls_itself() -> None:
    graph, plan, program = shared()
    (step,) = program.body
    first = step.functions[0]
    again = replace(first, body=(MakeRows(first.node, "until - 1"), *first.body))
    planted = replace(step, functions=(again, *step.functions[1:]))
    wrong = check(graph, plan, replace(program, body=(planted,)))
    assert any(f"no function before makes rows of node {first.node}" in text for text in wrong)


def test_counts_that_begin_anew() -> None:
    """A loop that does not go on from where it stood."""
    graph, plan, program = shared()
    for planted in plant(program, For, lambda f: replace(f, fresh=True) if not f.fresh else f):
        wrong = check(graph, plan, planted)
        assert any(" is due" in text or "is never made" in text for text in wrong), wrong


def test_a_node_of_another_group() -> None:
    graph, plan, program = groups()
    for planted in plant(program, Call, lambda c: replace(c, node=c.node + 100)):
        assert any("is not in its group" in text for text in check(graph, plan, planted))


def test_a_strip_that_is_left_out() -> None:
    graph, plan, program = strips()
    for planted in plant(program, Call, lambda c: replace(c, columns=c.columns[:-1])):
        assert any("has columns for" in text for text in check(graph, plan, planted))


def test_a_node_without_code_and_a_step_too_many() -> None:
    graph, plan, program = groups()
    wrong = check(graph, plan, replace(program, nodes=program.nodes[1:]))
    assert any("has code in 0 places" in text for text in wrong)
    wrong = check(graph, plan, replace(program, body=(*program.body, program.body[-1])))
    assert any("steps are groups" in text for text in wrong)


def test_an_arena_too_small_and_a_port_that_is_not_dense() -> None:
    graph, plan, program = groups()
    small = Program("net", {region: size - 1 for region, size in plan.regions().items()}, (program,))
    wrong = check_program(Module.of(graph), MemoryPlan.of(plan), small)
    assert any("ends beyond the arena" in text for text in wrong)
    name, view = next(iter(program.ports.items()))
    wide = replace(program, ports=program.ports | {name: replace(view, col_stride=view.col_stride + 1)})
    assert any(f'"{name}" is not dense' in text for text in check(graph, plan, wide))


def test_less_for_sums_than_kernels_need() -> None:
    graph, plan, program = groups()
    for index, name in plan.accumulators.items():
        needs = next(node.works for node in program.nodes if node.index == index)
        assert needs > 0
        less = tuple(replace(b, size=needs - 1) if b.name == name else b for b in plan.buffers)
        wrong = check(graph, replace(plan, buffers=less), program)
        assert any(f"needs {needs} bytes to keep its sums in" in text for text in wrong), wrong


# ---- constants that are staged


@pytest.mark.parametrize("name", ["offset", "bytes", "last", "count", "step"])
def test_numbers_of_blocks(name: str) -> None:
    graph, plan, program = staged(16_000)
    nodes = [
        replace(node, blocks=replace(node.blocks, **{name: getattr(node.blocks, name) + 1}))
        if node.blocks
        else node
        for node in program.nodes
    ]
    wrong = check(graph, plan, replace(program, nodes=tuple(nodes)))
    assert sum(" are staged as " in text for text in wrong) == len(plan.staged)


def test_constants_that_are_not_read() -> None:
    graph, plan, program = staged(None)
    for step in program.body:
        for left_out in (s for s in step.body if isinstance(s, Wait)):
            body = tuple(
                replace(s, body=tuple(i for i in s.body if i is not left_out)) if s is step else s
                for s in program.body
            )
            wrong = check(graph, plan, replace(program, body=body))
            assert any("looks for its constants before they are read" in text for text in wrong)


def test_constants_that_are_read_over_what_is_alive() -> None:
    """A read that begins steps before its buffer's life does."""
    graph, plan, program = staged(16_000)
    last = program.nodes[-1].index
    first = program.body[0]
    body = (replace(first, body=(Start(Constants(last)), *first.body)), *program.body[1:])
    wrong = check(graph, plan, replace(program, body=body))
    assert any(f"node {last} " in text and "does not live then" in text for text in wrong)


def test_blocks_that_are_called_as_if_they_stayed() -> None:
    graph, plan, program = staged(16_000)
    assert any(isinstance(s, ByBlocks) for s in statements(program.body))
    for planted in plant(program, ByBlocks, lambda s: s.call):
        wrong = check(graph, plan, planted)
        assert any("where they stay, but they come in blocks" in text for text in wrong)


def statements(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    for statement in body:
        yield statement
        yield from statements(getattr(statement, "body", ()))


def test_it_shares_no_code_with_lowering() -> None:
    files = sorted((Path(mmcc.__file__).parent / "checker").glob("*.py"))
    assert len(files) > 5
    for path in files:
        tree = ast.parse(path.read_text())
        used = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        known = ("mmcc.checker.", "mmcc.ir.", "mmcc.ops.", "mmcc.errors")
        others = {m for m in used if m.startswith("mmcc.") and not m.startswith(known)}
        assert not others, (path.name, others)
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert "traits" not in attributes, f"{path.name} believes what ops say of themselves"
