# SPDX-License-Identifier: Apache-2.0
"""The C of loops that stay loops: the same bits by every plan, and what ONNX Runtime makes."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_format import would_change
from exported_loops import LOOPS, ExportedLoop
from frontend_models import assert_same, model_of, onnx_runtime, save
from mmcc.codegen.weights import float_literal
from mmcc.driver.analyze import analyze
from mmcc.driver.compile import compile_model
from mmcc.driver.estimate import estimate
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.frontend import import_model
from mmcc.ir.module import RESERVED
from mmcc.ir.parse import parse_graph
from mmcc.ops import OPS
from mmcc.ops.repeat import Repeat
from mmcc.package.record import load_package
from mmcc.passes import optimize
from mmcc.report.model import count_params
from mmcc.target import load_target
from mmcc.verification.compare import loaded_as_planned, rounds_floats
from onnx import TensorProto, helper
from random_loops import RandomLoop

MAIN = """
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
static NET_ARENA(arena);
static net_context context;
int main(void)
{
    if (net_init(&context, arena, sizeof arena) != MMCC_OK) return 1;
    for (int run = 0; run < 2; ++run) {
@INPUTS@
        if (net_run(&context) != MMCC_OK) return 2;
@OUTPUTS@
    }
    return 0;
}
"""
PLANS = ({}, {"least_ram": True}, {"recompute": 2.0, "ram": 2**20})


def outputs(loop: RandomLoop | ExportedLoop, package: Path, folder: Path) -> list[bytes]:
    """What the C makes of the loop's inputs, twice, under the address sanitizer."""
    inputs = [np.ascontiguousarray(array) for array in loop.inputs.values()]
    reads, writes = [], []
    for k, array in enumerate(inputs):
        numbers = ", ".join(map(float_literal, array.flat))
        reads.append(f"        static const float given_{k}[] = {{{numbers}}};")
        reads.append(
            f"        for (int i = 0; i < {array.size}; ++i) net_input_{k}(&context)[i] = given_{k}[i];"
        )
    for k in range(len(loop.model.graph.output)):
        size = f"NET_OUTPUT_{k}_ELEMENTS"
        writes.append(f"        fwrite(net_output_{k}(&context), 4, {size}, stdout);")
    text = MAIN.replace("@INPUTS@", "\n".join(reads)).replace("@OUTPUTS@", "\n".join(writes))
    (folder / "main.c").write_text(text)
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    files = [folder / "main.c", *(f for f in sorted(package.glob("*.c")) if "selftest" not in f.name)]
    command = ["gcc", "-std=c99", "-O1", *sanitize, f"-I{package}", *files, "-lm", "-o", folder / "x"]
    subprocess.run(command, check=True)
    done = subprocess.run([folder / "x"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    half = len(done.stdout) // 2
    assert done.stdout[:half] == done.stdout[half:]
    return [done.stdout[:half]]


@pytest.mark.parametrize("seed", [0, 4, 7, 9])
def test_all_plans_give_the_same_bits(seed, tmp_path):
    """Inputs in ONNX's order: those of loops are never images."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    loop = RandomLoop(seed, steps=33 + seed)
    path = save(loop.model, tmp_path)
    graph = optimize(import_model(path))
    assert any(isinstance(node.op, Repeat) for node in graph.nodes)
    found = []
    for number, more in enumerate(PLANS):
        package = tmp_path / f"package{number}"
        compile_model(path, package, CompileOptions(name="net", **more))
        found += outputs(loop, package, tmp_path)
    assert found == found[:1] * len(PLANS)
    at = 0
    for port, (name, want) in zip(graph.outputs, onnx_runtime(loop.model, loop.inputs).items(), strict=True):
        raw = np.frombuffer(found[0], np.float32, want.size, at)
        at += want.nbytes
        assert port.onnx_name == name
        tensor = graph.tensors[port.tensor]
        assert_same(port.from_c(raw.reshape(tensor.shape), tensor), want, 1e-4)


@pytest.mark.parametrize("name", ["windows", "chunks backward", "columns", "nested", "keras"])
def test_loops_of_exporters(name, tmp_path):
    """Slices that overlap, or go backward by more than one row, and a loop in a loop."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    loop = LOOPS[name][0]()
    how = CompileOptions(name="net", least_ram=True, self_check=False)
    compile_model(save(loop.model, tmp_path), tmp_path / "package", how)
    (found,) = outputs(loop, tmp_path / "package", tmp_path)
    want = [array.ravel() for array in onnx_runtime(loop.model, loop.inputs).values()]
    assert_same(np.frombuffer(found, np.float32), np.concatenate(want), 1e-4)


@pytest.mark.parametrize("weights", ["c", "staged"])
def test_nodes_are_looked_at_as_the_package_has_them(weights, tmp_path, monkeypatch):
    """With staged weights loops are unrolled."""
    monkeypatch.setattr("mmcc.frontend.kept_loops.FEW_NODES", 0)
    path = save(RandomLoop(4, steps=2).model, tmp_path)
    how = CompileOptions(name="net", weights=weights, stack=1000, self_check=False)
    made = compile_model(path, tmp_path / "package", how).graph
    seen = loaded_as_planned(load_package(tmp_path / "package"), path).graph
    assert [type(each.op) for each in seen.nodes] == [type(each.op) for each in made.nodes]
    assert any(isinstance(each.op, Repeat) for each in made.nodes) == (weights == "c")


def test_floats_that_a_body_rounds_may_be_others_on_another_machine(tmp_path):
    """So its integers may be, and what it makes of them."""
    loop = RandomLoop(100, steps=24, nodes=14, quantized=True)
    path = save(loop.model, tmp_path)
    how = CompileOptions(name="net", stack=1000, self_check=False)
    graph = compile_model(path, tmp_path / "package", how).graph
    assert any(isinstance(each.op, Repeat) for each in graph.nodes)
    assert rounds_floats(load_package(tmp_path / "package"), path)


def test_code_and_weights_do_not_grow_with_the_steps(tmp_path):
    """Once loops stay loops: twice the steps are a number in the code."""
    sizes = []
    for steps in (40, 80):
        loop = RandomLoop(5, steps=steps)
        compile_model(save(loop.model, tmp_path), tmp_path / f"p{steps}", CompileOptions(name="net", stack=1))
        text = (tmp_path / f"p{steps}" / "net_kernels.c").read_text()
        sizes.append((len(text.splitlines()), text.count("step_of")))
        names = re.findall(r"net_(step_of_\w+)", text)
        assert names
        assert all(map(RESERVED.fullmatch, names))  # no model linked with others is called so
    assert sizes[0] == sizes[1]


def wide_inside(tmp_path) -> Path:
    """A loop whose body is smaller row by row: two layers of 3 x 3, with many channels between them."""
    rng = np.random.default_rng(0)
    inside = [
        helper.make_node("Conv", ["h", "W"], ["wide"], pads=[1] * 4),
        *(helper.make_node("Relu", [f"r{k}" if k else "wide"], [f"r{k + 1}"]) for k in range(5)),
        helper.make_node("Conv", ["r5", "V"], ["d"], pads=[1] * 4),
        helper.make_node("Tanh", ["d"], ["h_out"]),
        helper.make_node("Identity", ["on"], ["going"]),
    ]
    scalars = [("step", TensorProto.INT64), ("on", TensorProto.BOOL)]
    given = [helper.make_tensor_value_info(name, kind, []) for name, kind in scalars]
    given.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, None))
    made = [("going", TensorProto.BOOL), ("h_out", TensorProto.FLOAT)]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in made]
    loop = helper.make_node(
        "Loop", ["trip", "", "h0"], ["y"], body=helper.make_graph(inside, "b", given, outputs)
    )
    constants = {"trip": np.int64(40), "W": rng.uniform(-1, 1, (24, 8, 3, 3)).astype(np.float32)}
    constants["V"] = rng.uniform(-1, 1, (8, 24, 3, 3)).astype(np.float32)
    return save(model_of([loop], {"h0": np.ones((1, 8, 16, 16), np.float32)}, ["y"], constants), tmp_path)


def test_nothing_needs_less_than_is_said_to_be_the_least(tmp_path):
    """Bodies are planned for fewest bytes where the least is asked for, by all that tell it."""
    model = wide_inside(tmp_path)
    how = CompileOptions(name="net", target="cortex-m4", stack=1000, self_check=False)
    least = compile_model(model, tmp_path / "least", replace(how, least_ram=True))
    free = compile_model(model, tmp_path / "free", how)
    assert least.report["ram"]["arena"] < free.report["ram"]["arena"]
    assert least.report["plan"]["proved_optimal"]
    assert least.report["plan"]["over_groups"]
    assert not free.report["plan"]["over_groups"]
    floor = analyze(model, "cortex-m4", {}, {}, silent).frontier[-1]
    assert floor.arena == floor.bound == least.report["ram"]["arena"]
    guessed = estimate(model, "cortex-m4")
    assert (guessed.arena, guessed.least_arena) == (free.report["ram"]["arena"], floor.arena)
    size = least.report["plan"]["bound"] + 1024  # a limit of one memory is one of the body's arena, too
    within = replace(how, regions={load_target("cortex-m4").memory[0].name: size + 1000})
    assert compile_model(model, tmp_path / "within", within).report["ram"]["arena"] <= size


def test_weights_in_bodies_are_parameters_of_the_model(tmp_path):
    graph = load_graph(wide_inside(tmp_path), CompileOptions())
    assert count_params(graph) == 2 * 24 * 8 * 9 + 24 + 8


@pytest.mark.parametrize("name", ["net", "keyword_spotting"])
@pytest.mark.parametrize("seed", [0, 4, 9])
def test_the_c_is_laid_out_as_all_of_it(seed, name, tmp_path):
    path = save(RandomLoop(seed, steps=40).model, tmp_path)
    how = CompileOptions(name=name, target="cortex-m4", stack=1000, self_check=False, least_ram=True)
    compile_model(path, tmp_path / name, how)
    assert would_change(sorted((tmp_path / name).glob("*.[ch]"))) == ""


def test_a_loop_as_text_is_read_back(tmp_path):
    graph = optimize(import_model(save(RandomLoop(4, steps=40).model, tmp_path)))
    (op,) = (node.op for node in graph.nodes if isinstance(node.op, Repeat))
    again = parse_graph(str(graph), OPS, graph.constants | op.body.constants)
    assert str(again) == str(graph)
