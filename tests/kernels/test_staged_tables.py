# SPDX-License-Identifier: Apache-2.0
"""Staged constants that only code generation knows of, and those of boards, checked on this machine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mmcc
import numpy as np
import onnx
import op_cases_float
import op_cases_int8
import pytest
from fused_c import request, staging
from mmcc.checker.plan import check_plan
from mmcc.checker.program import check_program
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower, weights_file
from mmcc.codegen.staged import staged_for
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.module import Module
from mmcc.ir.plan import Chunks, MemoryPlan, Plan
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.kernels.contract import contracts
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.planner.api import best_plan
from mmcc.target import Target, load_target
from onnx import TensorProto, helper
from op_case import OpCase
from planner_graphs import Build
from toolchains import ready

TARGETS = ("cortex-m4", "cortex-m55")
FAMILIES = {
    f"{m.__name__}-{name}": make for m in (op_cases_float, op_cases_int8) for name, make in m.FAMILIES.items()
}


def alone(case: OpCase) -> Graph:
    """A model of one node."""
    names = [f"t{k}" for k in range(len(case.inputs))]
    tensors = {name: Tensor(name, t.shape, t.dtype) for name, t in zip(names, case.tensors, strict=True)}
    tensors["y"] = Tensor("y", case.want.shape, ElementType.of(case.want))
    constants = {name: case.inputs[k] for k, name in enumerate(names) if case.is_constant(k)}
    inputs, output = [
        tuple(Port(n, n, (1, *tensors[n].shape), tensors[n].dtype, ()) for n in some)
        for some in ([n for n in names if n not in constants], ["y"])
    ]
    return Graph("alone", tensors, constants, (Node(case.op, tuple(names), ("y",)),), inputs, output)


def generated(graph: Graph, plan: Plan, target: Target) -> int:
    """Bytes of the weights of a staged plan that is sound, lowered right, and can be printed."""
    assert check_plan(graph, plan) == []
    program = lower(Module.of(graph), MemoryPlan.of(plan), "net", target)
    assert check_program(Module.of(graph), MemoryPlan.of(plan), program) == []
    emit(Module.of(graph), program, EmitOptions("net"), target)
    size = sum(len(block) for block in weights_file(Module.of(graph), MemoryPlan.of(plan), target))
    assert size == sum(staged.blocks.total for staged in plan.staged.values())
    return size


@pytest.mark.parametrize("family", FAMILIES)
def test_every_operator_has_a_place_for_its_constants(family: str) -> None:
    """Those of the model, and tables that only kernels have; for each target, and for its twin."""
    for case in FAMILIES[family]():
        graph = alone(case)
        for name in TARGETS:
            target = load_target(name)
            asked = replace(request(graph), staging=staging(graph, target, 1 << 20), effort=2.0)
            plan = best_plan(graph, asked)
            generated(graph, plan, target)
            if plan.staged:
                twin = staged_for(graph, plan, load_target("host"))
                generated(graph, twin, load_target("host"))


def test_a_node_with_constants_only_on_this_machine_is_made_in_one_call_here() -> None:
    """Chunks for threads would all work in the bytes that its constants come to."""
    b = Build("pooled")
    graph = b.graph(b.conv(b.pool(b.input(16, 16, 16), 3), 32, 3))
    board = load_target("cortex-m55")
    asked = replace(request(graph), fuse=False, staging=staging(graph, board, 1 << 20), effort=2.0)
    plan = best_plan(graph, asked)
    assert set(plan.staged) == {1}
    twin = staged_for(graph, replace(plan, chunks={0: Chunks((0, 2, 5))}), load_target("host"))
    assert set(twin.staged) == {0, 1}
    generated(graph, twin, load_target("host"))


@pytest.mark.parametrize("family", FAMILIES)
def test_code_generation_gets_the_kernel_that_was_promised(family: str) -> None:
    """Where tensors are whole: the template; in memory of the plan's: the sums of a node that accumulates."""
    for case in FAMILIES[family]():
        graph = alone(case)
        for name in (*TARGETS, "host"):
            target = load_target(name)
            (promised,) = contracts(graph, target, parts=True)
            plan = best_plan(graph, replace(request(graph), fuse=False))
            if plan.aliases:  # a view of its input has no code
                continue
            (node,) = lower(Module.of(graph), MemoryPlan.of(plan), "net", target).nodes
            assert node.use.template == promised.template, case.name
            if promised.accumulator:
                (group,) = plan.groups
                sums = replace(plan, groups=(replace(group, accumulating=(0,)),))
                sums = replace(sums, accumulators={0: plan.slots["y"].buffer})
                (node,) = lower(Module.of(graph), MemoryPlan.of(sums), "net", target).nodes
                assert node.use.template.startswith("accumulate"), case.name


def tables() -> onnx.ModelProto:
    """A convolution, nodes that have tables only in C, and an output that never changes."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((20, 3, 3, 3)).astype(np.float32)
    fixed = np.arange(5, dtype=np.float32)
    scales, pads = np.array([1, 1, 2, 2], np.float32), np.array([0, 1, 2, 1, 0, 0, 3, 0], np.int64)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], mode="linear"),
        helper.make_node("Gather", ["b", "taken"], ["c"], axis=1),
        helper.make_node("Pad", ["c", "pads", "value"], ["y"]),
    ]
    constants = {
        "w": w,
        "scales": scales,
        "taken": np.array([3, 1, 4, 1, 5], np.int64),
        "pads": pads,
        "value": np.array(0.5, np.float32),
        "fixed": fixed,
    }
    shapes = {"y": [1, 6 + 1, 12 + 2 + 3, 10 + 1], "z": [5]}
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["fixed"], ["z"])],
        "tables",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 5])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in shapes],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.quick
@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler")
@pytest.mark.parametrize("target", ["host", "cortex-m55"])
def test_tables_and_constant_outputs(target: str, tmp_path: Path) -> None:
    """On this machine the package of a board reads its constants as the board does, as many bytes a run."""
    if target != "host":
        ready(target)
    onnx.save(tables(), tmp_path / "tables.onnx")
    found = mmcc.compile_model(tmp_path / "tables.onnx", tmp_path / "net", target=target, weights="staged")
    assert mmcc.verify(tmp_path / "net", on="host")["ok"]
    assert mmcc.verify(tmp_path / "net", on="host", per_node=True)["ok"]
    model = host_model(tmp_path / "net", load_package(tmp_path / "net"))
    model.run([np.zeros((6, 5, 3), np.float32)])
    assert model.weights_read() > 0
    if target == "host":
        report = json.loads((tmp_path / "net" / "report.json").read_text())
        assert model.weights_read() == report["weights"]["read"]
    assert len(found.plan.staged) >= 4
