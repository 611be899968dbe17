# SPDX-License-Identifier: Apache-2.0
"""Each compile looks at what the nodes of loops' bodies write, step by step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mmcc.driver.build
import pytest
from exported_loops import LOOPS
from frontend_models import save
from loop_models import chaotic
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions, silent
from mmcc.errors import CompileError
from mmcc.ir.program import EntryCode, ProgramNode
from mmcc.ops.repeat import with_bodies
from mmcc.verification.verify import VerifyOptions, verify_package

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a compiler for this machine")

HOW = CompileOptions(name="net", stack=1024)  # vouched for, so that nothing is measured


def in_bodies(code: EntryCode, change: Callable[[ProgramNode], ProgramNode]) -> EntryCode:
    nodes = (change(n) if n.body is None else replace(n, body=in_bodies(n.body, change)) for n in code.nodes)
    return replace(code, nodes=tuple(nodes))


def plant(monkeypatch: pytest.MonkeyPatch, change: Callable[[ProgramNode], ProgramNode]) -> None:
    """Let lowering go wrong in bodies of loops, and nobody look at it but the check that runs the C."""
    right = mmcc.driver.build.lower

    def lower(*given: Any) -> Any:
        program = right(*given)
        loops = (
            [n if n.body is None else replace(n, body=in_bodies(n.body, change)) for n in code.nodes]
            for code in program.entries
        )
        found = zip(program.entries, loops, strict=True)
        entries = (replace(code, nodes=tuple(nodes)) for code, nodes in found)
        return replace(program, entries=tuple(entries))

    monkeypatch.setattr(mmcc.driver.build, "check_program", lambda *_: [])
    monkeypatch.setattr(mmcc.driver.build, "lower", lower)


def added(node: ProgramNode) -> ProgramNode:
    """A sum instead of a difference."""
    options = (("function", "add") if each == ("function", "sub") else each for each in node.use.options)
    return replace(node, use=replace(node.use, options=tuple(options)))


def test_a_fault_in_a_body_is_told_with_its_node_and_step(tmp_path, monkeypatch) -> None:
    path = save(chaotic()[0], tmp_path)
    plant(monkeypatch, added)
    with pytest.raises(CompileError) as caught:
        compile_model(path, tmp_path / "net", HOW)
    assert caught.value.code == "MM807"
    assert "node 0.0 (sub): differs from its reference in run 1 of 60" in caught.value.message
    assert [where.op for where in caught.value.at] == ["Sub"]


@pytest.mark.parametrize("name", ["chunks backward", "nested"])
def test_all_nodes_of_bodies_are_looked_at(name, tmp_path) -> None:
    """Also of a loop in a loop, here and by `verify`."""
    path = save(LOOPS[name][0]().model, tmp_path)
    made = compile_model(path, tmp_path / "net", HOW)
    graphs = [*with_bodies(made.graph)]
    assert len(graphs) >= (3 if name == "nested" else 2)
    assert made.report["self_check"]["nodes"] >= 0.7 * sum(len(graph.nodes) for graph in graphs)
    found = verify_package(tmp_path / "net", VerifyOptions(per_node=True, samples=1), silent)
    assert found["ok"]
    assert max(len(row["within"]) for row in found["per_node"]) == (2 if name == "nested" else 1)
