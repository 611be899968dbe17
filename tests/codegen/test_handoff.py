# SPDX-License-Identifier: Apache-2.0
"""--handoff: functions of the user's get what they are promised in every plan, and are called right."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from cli_runs import run
from doc_pages import DIGITS
from frontend_models import model_of, save
from handed_off import handed_to_npu
from lowered_programs import HOST, check
from mmcc.checker.plan import check_plan
from mmcc.codegen.lower import lower_entry
from mmcc.driver.handoff import without_handoffs
from mmcc.driver.handoff_file import Rule, read_rules
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.driver.promised import request_from
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.handoff import Handoff
from mmcc.ir.module import RUN, Entry
from mmcc.ir.parse import parse_graph
from mmcc.ir.plan import Plan
from mmcc.ir.regions import SRAM
from mmcc.kernels.contract import contracts
from mmcc.ops import OPS
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from mmcc.project_file import build, read_project
from onnx import helper
from planner_graphs import Build
from tiny_graphs import tiny_graph
from toolchains import ready

TARGET = "cortex-m4"
node = helper.make_node


def handed(graph: Graph, random: Random) -> Graph:
    """The graph with functions of all kinds for some of its nodes."""

    def maybe(k: int) -> Handoff | None:
        op = graph.nodes[k].op
        if op.traits.moves is not None or random.random() < 0.4:
            return None
        whole = random.random() < 0.5
        align = random.choice([1, 8]) if whole else 1
        in_place = op.traits.elementwise and random.random() < 0.5
        return Handoff(f"f{k}", whole, in_place, "", align, random.choice([0, 0, 20]))

    nodes = tuple(replace(each, handoff=maybe(k)) for k, each in enumerate(graph.nodes))
    return replace(graph, nodes=nodes)


def asked(graph: Graph, **options: object) -> PlanRequest:
    align = max([4, *(each.handoff.align for each in graph.nodes if each.handoff)])
    return replace(request_from(contracts(graph, HOST)), align=align, effort=2.0, **options)


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(40))
def test_functions_get_what_they_are_promised_in_every_plan(seed: int) -> None:
    graph = handed(tiny_graph(seed), Random(seed))
    for fuse in (False, True):
        plan = best_plan(graph, asked(graph, fuse=fuse))
        assert check_plan(graph, plan) == [], f"{graph}\n{plan}"
        assert plan.bound <= plan.peak(SRAM)
        assert check(graph, plan, lower_entry(Entry(RUN, graph), plan, HOST)) == []
        ours = without_handoffs(graph)  # as the C for this machine is made
        assert check(ours, plan, lower_entry(Entry(RUN, ours), plan, HOST)) == []


@pytest.mark.quick
def test_a_chain_of_whole_functions_needs_two_tensors_at_a_time() -> None:
    random = Random(3)
    for _ in range(10):
        b = Build("chain")
        x = b.input(random.randint(2, 9), random.randint(1, 5), random.randint(1, 9))
        names = [x]
        for _ in range(random.randint(1, 5)):
            names.append(b.conv(names[-1], random.randint(1, 9), random.choice([1, 3])))
        graph = b.graph(names[-1])
        graph = replace(graph, nodes=tuple(replace(n, handoff=Handoff("f", align=16)) for n in graph.nodes))
        sizes = [-(-graph.tensors[name].bytes // 16) * 16 for name in names]
        plan = best_plan(graph, asked(graph, fuse=True))
        assert plan.peak(SRAM) == plan.bound == max(map(sum, pairwise(sizes)))


@pytest.mark.quick
def test_the_text_of_a_graph_has_its_functions() -> None:
    graph = handed(tiny_graph(5), Random(1))
    assert any(each.handoff for each in graph.nodes)
    read = parse_graph(str(graph), OPS)
    assert [each.handoff for each in read.nodes] == [each.handoff for each in graph.nodes]
    assert str(read) == str(graph)


def convicted(graph: Graph, plan: Plan, word: str) -> bool:
    return any(word in text for text in check_plan(graph, plan))


@pytest.mark.quick
def test_the_checker_sees_what_is_not_as_promised() -> None:
    b = Build("pair")
    x = b.input(9, 3, 4)
    y = b.conv(x, 16, 3)
    graph = b.graph(b.conv(y, 4, 1))
    first, second = graph.nodes[:2]
    plan = best_plan(graph, asked(graph, fuse=False, backward=False))  # the second lies over what it reads
    assert check_plan(graph, plan) == []
    whole = replace(graph, nodes=(first, replace(second, handoff=Handoff("f", align=1))))
    assert convicted(whole, plan, "needs it")  # it may write before it has read
    fused = best_plan(graph, asked(graph, fuse=True))
    assert convicted(whole, fused, "not alone and whole")
    aligned = replace(graph, nodes=(replace(first, handoff=Handoff("f", align=16)), second))
    good = best_plan(aligned, asked(aligned, fuse=False))
    assert check_plan(aligned, good) == []
    buffer = good.slots[y].buffer
    place = good.places[buffer]
    moved = replace(good, places=good.places | {buffer: replace(place, offset=place.offset + 4)})
    assert convicted(aligned, moved, "not aligned to 16")
    slot = good.slots[y]
    ring = replace(good, slots=good.slots | {y: replace(slot, rows=slot.rows - 1)})
    assert convicted(aligned, ring, "not whole and dense")
    working = replace(graph, nodes=(replace(first, handoff=Handoff("f", scratch=32)), second))
    assert convicted(working, good, "has no scratch")


@pytest.mark.parametrize(
    ("lines", "weights"),
    [(("alignment = 16", "scratch = 100"), "HWIO"), (('reads = "rows"', "scratch = 36"), "")],
    ids=["whole", "rows"],
)
def test_functions_run_in_firmware_and_a_wrong_one_is_seen(
    lines: tuple[str, ...], weights: str, tmp_path: Path
) -> None:
    ready(TARGET)
    file = handed_to_npu(tmp_path, "m", *lines, weights=weights)
    out, model = tmp_path / "out", DIGITS / "digits_int8.onnx"
    result = run(
        *("compile", model, "-t", TARGET, "--name", "m", "--ram", "min", "--handoff", file, "-o", out)
    )
    assert result.exit_code == 0, result.output
    assert "npu_conv" in (out / "report.txt").read_text()
    data = ("--data", DIGITS / "test_data.npz", "--limit", 2, "--json")
    for where in ("host", "qemu"):
        found = json.loads(run("verify", out, "--on", where, "--per-node", *data).stdout)
        assert found["ok"]
        assert found["max_lsb"] == 0
    source = tmp_path / "npu.c"
    source.write_text(source.read_text().replace("c->y_zero;", "c->y_zero + (c->groups > 1 ? 40 : 0);"))
    result = run("verify", out, "--on", "qemu", *data)
    assert result.exit_code == 7
    assert not json.loads(result.stdout)["ok"]
    assert json.loads(result.stdout)["functions"] == ["npu_conv"]
    assert json.loads(run("verify", out, *data).stdout)["ok"]  # here mmcc's own kernels run
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (source, file):
        path.rename(moved / path.name)
    assert "is not there any more" in run("verify", out, "--on", "qemu").output
    again = ("compile", model, "-t", TARGET, "--name", "m", "--handoff", moved / file.name, "-o", out)
    assert run(*again).exit_code == 0
    assert "is not there any more" not in run("verify", out, "--on", "qemu").output


LAYER = """#include "m_handoff.h"
void own_conv(const own_conv_call *c)
{
    for (int32_t at = 0; at < c->y.rows * c->y.channels; ++at) {
        float sum = c->bias[at % c->y.channels];
        for (int32_t k = 0; k < c->kernel[0]; ++k) {
            const int32_t row = at / c->y.channels * c->strides[0] + k * c->dilations[0] - c->pads[0];
            for (int32_t i = 0; row >= 0 && row < c->x.rows && i < c->x.channels; ++i) {
                const float *w = c->weights + ((at % c->y.channels) * c->kernel[0] + k) * c->x.channels;
                sum += ((const float *)c->x.data)[row * c->x.channels + i] * w[i];
            }
        }
        ((float *)c->y.data)[at] = sum;
    }
}
"""


def test_functions_compute_steps_and_flush_of_a_stream(tmp_path: Path) -> None:
    """Of layers on top of each other: what masks the first rows between them is none of the functions'."""
    ready(TARGET)
    random = np.random.default_rng(2)
    constants = {"w": random.uniform(-1, 1, (3, 2, 5)), "v": random.uniform(-1, 1, (2, 3, 3))}
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[2, 2]), node("Conv", ["c", "v"], ["y"], pads=[1, 1])]
    floats = {name: data.astype(np.float32) for name, data in constants.items()}
    model = save(model_of(nodes, {"x": np.ones((1, 2, 8), np.float32)}, ["y"], floats), tmp_path)
    file, source, out = tmp_path / "f.toml", tmp_path / "layer.c", tmp_path / "out"
    file.write_text('[[handoff]]\noperators = ["Conv"]\nfunction = "own_conv"\nsources = ["layer.c"]\n')
    source.write_text(LAYER)
    stream = ("compile", model, "-t", TARGET, "--name", "m", "--stream", "x:2", "--handoff", file, "-o", out)
    result = run(*stream, "--no-self-check")
    assert result.exit_code == 0, result.output
    assert "3 rows late, the last 3 rows by flush" in result.output
    assert json.loads(run("verify", out, "--on", "qemu", "--json").stdout)["ok"]
    source.write_text(LAYER.replace("= sum;", "= c->y.rows > 1 ? 9.0f : sum;"))  # in a flush alone
    assert run("verify", out, "--on", "qemu").exit_code == 7


def test_a_function_in_place_of_which_only_the_stack_is_known(tmp_path: Path) -> None:
    ready(TARGET)
    nodes = [node("MaxPool", ["x"], ["m"], kernel_shape=[2, 2]), node("Abs", ["m"], ["y"], name="last")]
    model = save(model_of(nodes, {"x": np.ones((1, 4, 9, 9), np.float32)}, ["y"]), tmp_path)
    file = tmp_path / "f.toml"
    rule = '[[handoff]]\nnodes = ["la*"]\nfunction = "own_abs"\nin_place = true\nstack = 640\n'
    file.write_text(rule)
    reports = []
    for k, more in enumerate(((), ("--handoff", file))):
        out = tmp_path / f"out{k}"
        assert run("compile", model, "-t", TARGET, "-o", out, "--ram", "min", *more).exit_code == 0
        reports.append(json.loads((out / "report.json").read_text())["ram"])
    before, after = reports
    assert before["arena"] == after["arena"] == 4 * 4 * (9 * 9 + 8)
    assert after["stack"] >= 640
    assert run("verify", out, "--json").exit_code == 0
    result = run("verify", out, "--on", "qemu")
    assert result.exit_code == 2
    assert "no sources of it" in result.output
    file.write_text(rule.replace("in_place = true\n", ""))
    assert run("compile", model, "-t", TARGET, "-o", out, "--ram", "min", "--handoff", file).exit_code == 0
    apart = json.loads((out / "report.json").read_text())["ram"]
    assert apart["arena"] == 2 * 4 * 4 * 8 * 8


RULE = '[[handoff]]\nfunction = "f"\n'
ADD = 'operators = ["Add"]\nstack = 0\n'
OTHER = RULE.replace('"f"', '"g"')
TWO = 'operators = ["Conv"]\nstack = 0\n' + RULE + 'operators = ["Add"]\nstack = 8\n'


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "nothing else"),
        ("[[handoff]\n", "Expected"),
        ("handoff = 3\n", "nothing else"),
        ("handoff = [3]\n", "no table"),
        ('[[handoff]]\nfunctions = "f"\n', "did you mean function?"),
        ("[[handoff]]\nfunction = 4\n", "is not to be 4"),
        ('[[handoff]]\nfunction = "int"\noperators = ["Conv"]\n', "no name of a function"),
        ('[[handoff]]\nfunction = "layer"\noperators = ["Conv"]\n', "no name of a function"),
        (RULE + "stack = 0\n", "no operator and no node"),
        (RULE + 'operators = ["Conv"]\n', "stack = 256"),
        (RULE + 'operators = ["Conv"]\nstack = -1\n', "no number of bytes"),
        (RULE + 'operators = ["Conv"]\nsources = ["a.c"]\n', "no file"),
        (RULE + 'operators = ["Conv"]\nsources = ["f.toml"]\n', "assembler"),
        (RULE + 'operators = ["Conv"]\nstack = 0\nreads = "all"\n', "no way to read"),
        (RULE + 'operators = ["Conv"]\nstack = 0\nalignment = 3\n', "or 1, 2, 4, 8"),
        (RULE + 'operators = ["Conv"]\nstack = 0\nalignment = 8\nreads = "rows"\n', "to its elements"),
        (RULE + 'operators = ["Conv"]\nstack = 0\nweights = "ABC"\n', "order of axes"),
        (RULE + 'operators = ["Cnv"]\nstack = 0\n', "operators of this model: Add"),
        (RULE + 'operators = ["Reshape"]\nstack = 0\n', "is for no node"),
        (RULE + 'nodes = ["none"]\nstack = 0\n', "nodes of this model: .*block_dw"),
        (RULE + 'operators = ["Conv", "Gemm"]\nstack = 0\n', "for each kind of node"),
        (RULE + 'operators = ["Add"]\nstack = 0\nweights = "OI"\n', "axes of its weights"),
        (RULE + 'operators = ["Gemm"]\nstack = 0\nin_place = true\n', "in their place"),
        (RULE + TWO, "of one function"),
        (RULE + 'operators = ["Conv"]\nstack = 0\n' + RULE.replace('"f"', '"F"') + ADD, "in capitals only"),
        (RULE.replace('"f"', '"int8_t"') + ADD, "no name of a function"),
        (RULE.replace('"f"', '"mmcc_tensor"') + ADD, "no name of a function"),
        (RULE.replace('"f"', '"digits_int8_run"') + ADD, "another prefix by --name"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(text: str, word: str, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(text)
    model = DIGITS / "digits_int8.onnx"
    with pytest.raises(CompileError) as raised:
        load_graph(model, CompileOptions(handoff=read_rules(file)))
    assert raised.value.code in ("MM122", "MM210")
    assert re.search(word, f"{raised.value.message} {raised.value.hint}")


@pytest.mark.quick
def test_advice_for_nodes_that_cannot_be_handed_off_works(tmp_path: Path) -> None:
    file, model = tmp_path / "f.toml", DIGITS / "digits_int8.onnx"
    conv, gemm = 'operators = ["Conv"]\nstack = 0\n', 'operators = ["Gemm"]\nstack = 0\n'
    both, some = 'operators = ["Conv", "Gemm"]\nstack = 0\n', 'weights = "HWIO"\nnodes = ["*dw"]\n'
    for before, word, after in (
        (RULE + both, "a table, for each kind", RULE + conv + OTHER + gemm),
        (
            RULE + both + 'weights = "HWIO"\n',
            "nodes = [",
            RULE + conv + some,
        ),
    ):
        file.write_text(before)
        with pytest.raises(CompileError) as raised:
            load_graph(model, CompileOptions(handoff=read_rules(file)))
        assert raised.value.code == "MM210"
        assert word in raised.value.hint
        file.write_text(after)
        graph = load_graph(model, CompileOptions(handoff=read_rules(file)))
        assert any(each.handoff for each in graph.nodes)


@pytest.mark.quick
def test_a_convolution_is_one_with_its_pad_folded_in(tmp_path: Path) -> None:
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    weights = {"p": pads, "w": np.ones((3, 2, 3, 3), np.float32)}
    nodes = [node("Pad", ["x", "p"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    model = save(model_of(nodes, {"x": np.ones((1, 2, 5, 6), np.float32)}, ["y"], weights), tmp_path)
    file = tmp_path / "f.toml"
    file.write_text(RULE + 'operators = ["Conv"]\nstack = 0\n')
    graph = load_graph(model, CompileOptions(handoff=read_rules(file)))
    assert [each.handoff is not None for each in graph.nodes] == [True]


def test_a_project_builds_again_when_a_function_changes(tmp_path: Path) -> None:
    ready(TARGET)
    handed_to_npu(tmp_path, "m")
    shutil.copy(DIGITS / "digits_int8.onnx", tmp_path)
    text = '[model.m]\nfile = "digits_int8.onnx"\ntarget = "cortex-m4"\nhandoff = "npu.toml"\n'
    (tmp_path / "mmcc.toml").write_text(text + "self_check = false\n")
    (model,) = read_project(tmp_path / "mmcc.toml")
    assert build(model)[1]
    assert not build(model)[1]
    source = tmp_path / "npu.c"
    source.write_text(source.read_text() + "\n")
    assert build(model)[1]


@pytest.mark.quick
def test_functions_get_no_memory_that_is_not_ours() -> None:
    rules = (Rule(Handoff("f"), ("Conv",), (), (), 0),)
    for options in ({"io": "external"}, {"weights": "staged"}):
        with pytest.raises(CompileError, match="in the arena"):
            CompileOptions(handoff=rules, **options)
    with pytest.raises(CompileError, match="there is no file"):
        read_rules(Path("none.toml"))
