# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: what works, and what every kind of bad input gets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from cli_runs import DIGITS, MODEL, conv_model, run, saved, told
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from mmcc.verification.bench import numbers
from onnx import TensorProto, helper, numpy_helper
from toolchains import ready


@pytest.mark.quick
def test_help_is_instant():
    command = [sys.executable, "-m", "mmcc", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    best = 9.0
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        best = min(best, time.perf_counter() - began)
    empty = 9.0
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import click"], check=True, capture_output=True)
        empty = min(empty, time.perf_counter() - began)
    assert best < max(0.2, 4 * empty)  # the second bound is for machines under load


@pytest.mark.quick
@pytest.mark.parametrize("command", ["compile", "check", "verify", "bench", "targets", "ops"])
def test_every_command_explains_itself(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_compile_verify_and_bench_on_the_host(tmp_path):
    out = tmp_path / "digits"
    result = run("compile", MODEL, "--target", "host", "-o", out, "--name", "digits", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"]["params"] == 16_602
    data = ("--data", DIGITS / "test_data.npz")
    result = run("verify", out, *data, "--json", "--per-node", "--limit", "20")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["ok"]
    assert found["accuracy"]["total"] == 20
    assert {"max_abs", "max_lsb", "mismatch_rate", "top1_agreement", "per_node"} <= set(found)
    assert all(row["ok"] for row in found["per_node"])
    result = run("bench", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["milliseconds"] > 0
    result = run("verify", out, *data, "--sanitize", "--limit", "5", "--json")
    assert result.exit_code == 0, result.output


def test_bench_names_all_nodes_of_a_group(tmp_path):
    out = tmp_path / "digits"
    result = run("compile", MODEL, "-t", "cortex-m4", "--ram", "min", "-o", out, "--json")
    assert result.exit_code == 0, result.output
    groups = [group for group in json.loads(result.stdout)["plan"]["groups"] if len(group) > 1]
    assert groups
    rows = json.loads(run("bench", out, "--on", "qemu", "--json").stdout)["per_node"]
    counted = sorted(node for row in rows for node in row["nodes"])
    assert counted == [node["index"] for node in json.loads((out / "report.json").read_text())["nodes"]]
    assert any(len(row["nodes"]) > 1 and set(row["nodes"]) <= set(groups[0]) for row in rows)
    assert re.search(
        rf"^ +{min(groups[0])}\.\.\d+ \w+ \.\. \w+ ", run("bench", out, "--on", "qemu").stdout, re.M
    )


@pytest.mark.quick
def test_numbers_in_a_row_are_shortened():
    assert numbers([3]) == "3"
    assert numbers([2, 0, 1, 5, 7, 8]) == "0..2, 5, 7..8"


def test_long_names_are_cut_between_words_in_report_and_c(tmp_path):
    name = "net/block_1/Relu;net/block_1/batch_normalization/FusedBatchNormV3;net/block_1/Conv2D"
    out = tmp_path / "out"
    assert run("compile", saved(conv_model(name=name), tmp_path), "-o", out).exit_code == 0
    for file in ("report.txt", "model.c"):
        assert 'Relu;net/block_1/batch_normalization/..."' in (out / file).read_text()
    assert json.loads((out / "report.json").read_text())["nodes"][0]["from"][0]["name"] == name


def test_a_package_is_replaced_and_other_folders_are_left_alone(tmp_path):
    path, out = saved(conv_model(), tmp_path), tmp_path / "out"
    assert run("compile", path, "-o", out).exit_code == 0
    assert run("compile", path, "-o", out).exit_code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    result = run("compile", path, "-o", tmp_path / "mine")
    assert result.exit_code == 2
    assert "left alone" in told(result)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.quick
def test_of_many_warnings_the_first_are_shown(tmp_path):
    """A quantized model in which nothing but the input is quantized."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x0", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y0"]),
    ]
    nodes += [helper.make_node("Softmax", [f"y{k}"], [f"y{k + 1}"]) for k in range(20)]
    path = saved(node_model(*nodes, shapes=[(1, 8)], constants=[("s", np.float32(0.1))]), tmp_path)
    lines = [line for line in run("check", path).output.splitlines() if line.startswith("warning: ")]
    found = json.loads(run("check", path, "--json").stdout)["warnings"]
    assert len(lines) < len(found)
    assert lines[-1] == f"warning: and {len(found) - len(lines) + 1} more; --json has them all"
    assert '""' not in lines[0]  # a node without a name


@pytest.mark.quick
def test_check_plans_nothing(tmp_path):
    result = run("check", MODEL, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["operators"]["ConvInt8"] >= 5


@pytest.mark.quick
@pytest.mark.parametrize("command", ["verify", "bench"])
def test_a_folder_that_is_no_package(command, tmp_path):
    result = run(command, tmp_path)
    assert result.exit_code == 2
    assert "mmcc compile" in told(result)


@pytest.mark.quick
def test_ops_and_targets_list_something():
    rows = {row["name"]: row for row in json.loads(run("ops", "--json").stdout)}
    assert rows["Where"]["versions"] == "9 and newer"  # ONNX has it since then
    assert "LpPool" not in rows["GlobalAveragePool"]["notes"]
    assert "inference" in rows["Dropout"]["notes"]
    assert "inference" not in rows["Identity"]["notes"]
    assert max(map(len, run("ops").output.splitlines())) <= 140
    assert "cortex-m55" in run("targets").output
    assert json.loads(run("targets", "--json").stdout)


def test_data_that_does_not_fit(tmp_path):
    out = tmp_path / "out"
    assert run("compile", saved(conv_model(), tmp_path), "-o", out).exit_code == 0
    np.savez(tmp_path / "wrong.npz", input_0=np.zeros((1, 2, 9, 9), np.float32))
    np.savez(tmp_path / "none.npz", other=np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "objects.npz", input_0=np.array([{}], object))
    np.save(tmp_path / "one.npy", np.zeros((1, 2, 6, 6), np.float32))
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "cut.npz").write_bytes((tmp_path / "wrong.npz").read_bytes()[:-40])
    for name in ("wrong", "none", "text", "absent", "objects", "folder", "cut"):
        result = run("verify", out, "--data", tmp_path / f"{name}.npz")
        assert result.exit_code == 2, result.output
        assert "error[MM007]" in result.output
        assert "pickle" not in told(result)
    right = np.zeros((3, 1, 2, 6, 6), np.float32)
    np.savez(tmp_path / "words.npz", input_0=right, labels=np.array(["cat"] * 3))
    np.savez(tmp_path / "few.npz", input_0=right, labels=np.array([1]))
    for name in ("words", "few"):
        result = run("verify", out, "--data", tmp_path / f"{name}.npz")
        assert result.exit_code == 2, result.output
        assert "labels are" in told(result)
    np.savez(tmp_path / "in.npz", input_0=right)
    np.savez(tmp_path / "out.npz", output_0=np.zeros((2, 1, 3, 4, 4), np.float32))
    result = run("verify", out, "--data", tmp_path / "in.npz", "--expected", tmp_path / "out.npz")
    assert result.exit_code == 2
    assert "--limit 2" in told(result)
    assert run("verify", out, "--expected", tmp_path / "out.npz").exit_code == 2
    assert run("verify", out, "--data", tmp_path / "one.npy").exit_code == 0
    result = run("verify", out, "--data", tmp_path / "model.onnx")
    assert result.exit_code == 2
    assert "is not an .npz file" in told(result)
    assert "numpy.savez" in told(result)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_integers_at_the_ends_of_their_range_are_defined_in_c(dtype, tmp_path):
    """Division, remainder and conversion, in C under a sanitizer and in numpy."""
    info, kind = np.iinfo(dtype), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [info.min, info.min + 1, info.max, 7, 2, 1, 0, -1, -3]
    a, b = (np.array(v, dtype).reshape(-1) for v in np.meshgrid(ends, ends))
    x = np.resize(
        np.array([2**63, 1e19, np.inf, -1e19, -np.inf, np.nan, 2**31, -129.5, 1.5], np.float32), a.shape
    )
    nodes = [
        helper.make_node("Div", ["a", "b"], ["quotient"]),
        helper.make_node("Mod", ["a", "b"], ["rest"]),
        helper.make_node("Mod", ["a", "b"], ["fmod"], fmod=1),
        helper.make_node("Cast", ["x"], ["cast"], to=kind),
    ]
    inputs = [helper.make_tensor_value_info(n, kind, a.shape) for n in "ab"]
    inputs += [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    outputs = [helper.make_tensor_value_info(node.output[0], kind, a.shape) for node in nodes]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = saved(model, tmp_path)
    expected = evaluate(import_model(path), {"a": a, "b": b, "x": x})
    np.savez(tmp_path / "in.npz", input_0=a[None], input_1=b[None], input_2=x[None])
    np.savez(tmp_path / "out.npz", **{f"output_{k}": v[None] for k, v in enumerate(expected.values())})
    assert run("compile", path, "-o", tmp_path / "c").exit_code == 0
    data = ("--data", tmp_path / "in.npz", "--expected", tmp_path / "out.npz")
    result = run("verify", tmp_path / "c", *data, "--sanitize", "--save-outputs", tmp_path / "got.npz")
    assert result.exit_code == 0, result.output
    for k, want in enumerate(expected.values()):
        np.testing.assert_array_equal(np.load(tmp_path / "got.npz")[f"output_{k}"][0], want)


@pytest.mark.parametrize("args", [("analyze", "--svg"), ("compile", "--dump")], ids=["svg", "dump"])
def test_files_that_cannot_be_written(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    result = run(args[0], saved(conv_model(), tmp_path), args[1], tmp_path / "file" / "below")
    assert result.exit_code == 2, result.output
    assert "error[MM006]" in result.output


def node_model(*nodes, shapes, constants=()):
    """A model of nodes in a row: activations x0, x1, ... of these shapes, then constants by name."""
    inputs = [helper.make_tensor_value_info(f"x{k}", TensorProto.FLOAT, s) for k, s in enumerate(shapes)]
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    fixed = [numpy_helper.from_array(np.array(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "g", inputs, [output], fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    "model",
    [
        node_model(
            helper.make_node("MatMul", ["x0", "x1"], ["y"]), shapes=[(2, 3, 2, 4, 6), (2, 3, 2, 6, 5)]
        ),
        node_model(helper.make_node("MatMul", ["x0", "x1"], ["y"]), shapes=[(2, 1, 2, 4, 6), (3, 1, 6, 5)]),
        node_model(
            helper.make_node("Transpose", ["x0"], ["t"], perm=(6, 4, 2, 0, 5, 3, 1)),
            helper.make_node("Reshape", ["t", "n"], ["y"]),
            shapes=[(2, 3, 2, 3, 2, 3, 2)],
            constants=[("n", [-1])],
        ),
        node_model(
            helper.make_node("Tile", ["x0", "n"], ["y"]),
            shapes=[(2, 3, 2, 3)],
            constants=[("n", [2, 3, 2, 2])],
        ),
        node_model(
            helper.make_node("Slice", ["x0", "start", "end", "axes", "step"], ["y"]),
            shapes=[(4,) * 7],
            constants=[("start", [0] * 7), ("end", [4] * 7), ("axes", range(7)), ("step", [2] * 7)],
        ),
        node_model(
            helper.make_node("Add", ["x0", "x1"], ["y"]), shapes=[(2, 3) * 3 + (2,), (2, 1) * 3 + (2,)]
        ),
        node_model(
            helper.make_node("Add", ["x0", "x1"], ["y"]), shapes=[(2, 1) * 3 + (2,), (1, 3) * 3 + (1,)]
        ),
    ],
    ids=["matmul", "matmul_broadcast", "transpose", "tile", "slice", "one_broadcast", "both_broadcast"],
)
def test_many_axes(model, tmp_path):
    out = tmp_path / "out"
    result = run("compile", saved(model, tmp_path), "-o", out)
    assert result.exit_code == 0, result.output
    assert run("verify", out, "--sanitize", "--samples", "1").exit_code == 0


INT8 = helper.make_tensor_value_info("x", TensorProto.INT8, [1, 4, 6, 6])


FLOAT = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])


ENDS = {  # nodes that end in int8: nothing dequantizes what they make
    "pool": (INT8, [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])]),
    "flatten": (INT8, [helper.make_node("Flatten", ["x"], ["y"])]),
    "sum": (INT8, [helper.make_node("Add", ["x", "x"], ["y"])]),
    "cast": (FLOAT, [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT8)]),
    "quantized_pool": (
        FLOAT,
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("MaxPool", ["q"], ["p"], kernel_shape=[2, 2]),
            helper.make_node("Flatten", ["p"], ["y"]),
        ],
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_model_that_ends_in_int8(name, tmp_path):
    port, nodes = ENDS[name]
    fixed = [
        numpy_helper.from_array(np.array(0.5, np.float32), "s"),
        numpy_helper.from_array(np.int8(3), "z"),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.INT8, None)
    graph = helper.make_graph(nodes, "g", [port], [output], fixed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    out = tmp_path / "out"
    result = run("compile", saved(model, tmp_path), "-o", out, "--json")
    assert result.exit_code == 0, result.output
    (port_,) = json.loads(result.stdout)["outputs"]
    assert (port_["scale"], port_["zero_point"]) == ((0.5, 3) if name == "quantized_pool" else (1.0, 0))
    assert run("verify", out, "--samples", "1").exit_code == 0


def test_a_mismatch_is_told(tmp_path):
    out = tmp_path / "out"
    assert run("compile", saved(conv_model(), tmp_path), "-o", out).exit_code == 0
    np.savez(tmp_path / "in.npz", input_0=np.ones((1, 2, 6, 6), np.float32))
    np.savez(tmp_path / "out.npz", output_0=np.full((1, 3, 4, 4), 7.0, np.float32))
    result = run("verify", out, "--data", tmp_path / "in.npz", "--expected", tmp_path / "out.npz")
    assert result.exit_code == 7
    assert "MISMATCH" in result.output


def test_the_generic_target_names_the_specific_ones(tmp_path):
    result = run("compile", saved(conv_model(), tmp_path), "-o", tmp_path / "out", "-t", "cortex-m")
    assert result.exit_code == 0, result.output
    assert "cortex-m55" in result.output


def test_a_user_s_own_file_survives_a_new_compile(tmp_path):
    path, out = saved(conv_model(), tmp_path), tmp_path / "out"
    assert run("compile", path, "-o", out).exit_code == 0
    (out / "notes.txt").write_text("mine")
    assert run("compile", path, "-o", out, "--name", "other").exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "model.h").exists()
    (out / ".mmcc" / "package.json").write_text("{}")
    assert run("compile", path, "-o", out).exit_code == 0


@pytest.mark.parametrize("name", ["all", "help", "m", "test", "install"])
def test_names_that_build_tools_reserve(name, tmp_path):
    out = tmp_path / "out"
    assert run("compile", saved(conv_model(), tmp_path, f"{name}.onnx"), "-o", out).exit_code == 0
    result = run("verify", out, "--json", "--samples", "1")
    assert result.exit_code == 0, result.output


def test_a_target_file_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "board.toml").write_text('same_as = "cortex-m4"\n')
    path = saved(conv_model(), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("compile", path, "-o", "out", "-t", "./board.toml").exit_code == 0
    monkeypatch.chdir("/")
    result = run("verify", tmp_path / "out", "--on", "qemu", "--json", "--samples", "1")
    assert result.exit_code == 0, result.output


@pytest.mark.skipif(not ready("cortex-m7"), reason="needs the M7 toolchain")
@pytest.mark.parametrize(
    ("ram", "said"),
    [("64K", True), ("dtcm=64K", False), ("min", False)],
    ids=["one size", "by memory", "min"],
)
def test_one_size_is_for_one_of_several_memories(ram, said, tmp_path):
    result = run(
        "compile", MODEL, "--chip", "stm32h743", "--ram", ram, "--no-self-check", "-o", tmp_path / "c"
    )
    assert result.exit_code == 0
    what = (
        "note: the arena is in dtcm only, which one size for --ram is about: stm32h743 has axi and ahb, too, "
    )
    assert (what + "which plans use with --ram dtcm=SIZE,axi=SIZE,ahb=SIZE" in told(result)) == said
