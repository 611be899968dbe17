# SPDX-License-Identifier: Apache-2.0
"""A node of which all that is read is padding is called by nobody: its C would be an unused constant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doc_pages import DIGITS
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan
from mmcc.ir.program import Step
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target


@pytest.mark.quick
def test_only_nodes_that_are_called_are_in_the_c() -> None:
    target = load_target("host")
    module = Module.of(load_graph(DIGITS / "digits_int8.onnx", CompileOptions()))
    plan = best_plan(module.entries[0].graph, PlanRequest(fuse=False))
    program = lower(module, MemoryPlan.of(plan), "net", target)
    (entry,) = program.entries
    first = next(part for part in entry.body if isinstance(part, Step))
    body = tuple(replace(part, body=()) if part is first else part for part in entry.body)
    silent = replace(program, entries=(replace(entry, body=body),))
    texts = [emit(module, each, EmitOptions("net"), target).files["net.c"] for each in (program, silent)]
    assert [text.count("_layer n0 = {") for text in texts] == [1, 0]
    assert [text.count("_layer n1 = {") for text in texts] == [1, 1]
