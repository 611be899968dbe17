# SPDX-License-Identifier: Apache-2.0
"""The C of loops that stay loops: the same bits by every plan, and what ONNX Runtime makes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_format import would_change
from frontend_models import assert_same, onnx_runtime, save
from mmcc.codegen.weights import float_literal
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.frontend import import_model
from mmcc.ir.parse import parse_graph
from mmcc.ops import OPS
from mmcc.ops.repeat import Repeat
from mmcc.passes import optimize
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


def outputs(loop: RandomLoop, package: Path, folder: Path) -> list[bytes]:
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


def test_code_and_weights_do_not_grow_with_the_steps(tmp_path):
    """Once loops stay loops: twice the steps are a number in the code."""
    sizes = []
    for steps in (40, 80):
        loop = RandomLoop(5, steps=steps)
        compile_model(save(loop.model, tmp_path), tmp_path / f"p{steps}", CompileOptions(name="net", stack=1))
        text = (tmp_path / f"p{steps}" / "net_kernels.c").read_text()
        sizes.append((len(text.splitlines()), text.count("step_of")))
    assert sizes[0] == sizes[1]


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
