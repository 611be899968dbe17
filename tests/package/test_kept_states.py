# SPDX-License-Identifier: Apache-2.0
"""`--state IN=OUT`: runs of a package one after the other, against ONNX Runtime fed with its own outputs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from frontend_models import model_of, save
from mmcc.cli.main import main
from mmcc.errors import CompileError
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from onnx import helper
from recurrent_models import layer
from toolchains import ready

BOARDS = ("cortex-m4", "cortex-m55", "rv32imac")
STEPS = 5


def gru(folder: Path) -> Path:
    """One step of a GRU: its h goes in as [1, 1, 5], and comes out as it is."""
    model, _ = layer("GRU", 1, initial=True, given=True, linear_before_reset=1)
    return save(model, folder, "gru.onnx")


def lstm(folder: Path) -> Path:
    """One step of an LSTM, h and c of both directions in and out."""
    model, _ = layer("LSTM", 1, direction="bidirectional", initial=True, given=True)
    return save(model, folder, "lstm.onnx")


def quantized(folder: Path, scale: float = 0.02) -> Path:
    """A buffer of the last four inputs, int8; where the scales differ, the output is scaled for the input."""
    given = {"x": np.zeros((1, 1, 6), np.float32), "old": np.zeros((1, 4, 6), np.float32)}
    numbers = {"s": np.float32(0.02), "t": np.float32(scale), "z": np.int8(-3), "u": np.int8(5)}
    weights = {"w": np.random.default_rng(1).integers(-9, 9, (24, 3)).astype(np.int8), "ws": np.float32(0.01)}
    constants = numbers | weights | {"wz": np.int8(0), "last": [1], "end": [5], "axis": [1], "flat": [1, 24]}

    def through(name: str, scale: str, zero: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_d"]),
        ]

    nodes = [
        *through("x", "s", "z"),
        *through("old", "t", "u"),
        helper.make_node("Concat", ["old_d", "x_d"], ["all"], axis=1),
        *through("all", "s", "z"),
        helper.make_node("Slice", ["all_d", "last", "end", "axis"], ["part"]),
        helper.make_node("QuantizeLinear", ["part", "s", "z"], ["part_q"]),
        helper.make_node("DequantizeLinear", ["part_q", "s", "z"], ["new"]),
        helper.make_node("Reshape", ["new", "flat"], ["row"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["w_d"]),
        helper.make_node("MatMul", ["row", "w_d"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["m_q"]),
        helper.make_node("DequantizeLinear", ["m_q", "s", "z"], ["y"]),
    ]
    return save(model_of(nodes, given, ["y", "new"], constants), folder, "buffer.onnx")


def generator(folder: Path) -> Path:
    """Nothing but a state goes in: each run gives what the last one's value leads to."""
    nodes = [
        helper.make_node("Mul", ["old", "factor"], ["less"]),
        helper.make_node("Add", ["less", "step"], ["new"]),
        helper.make_node("Sin", ["new"], ["y"]),
    ]
    given = {"old": np.zeros((1, 3), np.float32)}
    constants = {"factor": np.float32(0.7), "step": np.float32(0.4)}
    return save(model_of(nodes, given, ["y", "new"], constants), folder, "generator.onnx")


MODELS = {
    "gru": (gru, {"h": "Y_h"}),
    "lstm": (lstm, {"h": "Y_h", "c": "Y_c"}),
    "buffer": (quantized, {"old": "new"}),
    "scaled": (lambda folder: quantized(folder, 0.03), {"old": "new"}),
    "generator": (generator, {"old": "new"}),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [{}, {"ram": "min"}, {"io": "external"}, {"io": "rows", "ram": "min"}])
def test_runs_one_after_the_other(name, options, tmp_path):
    make, states = MODELS[name]
    mmcc.compile_model(make(tmp_path), tmp_path / "m", states=states, **options)
    assert mmcc.verify(tmp_path / "m", per_node=True, samples=STEPS)["ok"]
    assert mmcc.verify(tmp_path / "m", samples=STEPS, sanitize=not options)["ok"]
    assert not {port.onnx_name for port in load_package(tmp_path / "m").inputs} & set(states)


@pytest.mark.parametrize("target", BOARDS)
def test_on_boards(target, tmp_path):
    ready(target)
    for name, (make, states) in MODELS.items():
        mmcc.compile_model(make(tmp_path), tmp_path / name, states=states, target=target)
        assert mmcc.verify(tmp_path / name, on="qemu", samples=STEPS)["ok"]


def test_a_state_of_equal_values_is_one_number_in_the_record(tmp_path):
    """Lists of the values of a large state would take more memory than the state."""
    mmcc.compile_model(gru(tmp_path), tmp_path / "m", states={"h": "Y_h"}, self_check=False)
    (state,) = load_package(tmp_path / "m").states
    assert state.initial == 0
    assert state.first.shape == (1, 1, 5)
    assert mmcc.verify(tmp_path / "m", samples=2)["ok"]


def test_what_a_state_begins_with(tmp_path):
    """Given as an array, and given again by reset. A record that says something else is not verified."""
    first = np.linspace(-1, 1, 5, dtype=np.float32).reshape(1, 1, 5)
    path = gru(tmp_path)
    mmcc.compile_model(path, tmp_path / "m", states={"h": "Y_h"}, initial={"h": first})
    assert mmcc.verify(tmp_path / "m", per_node=True, samples=STEPS)["ok"]
    package = load_package(tmp_path / "m")
    model = host_model(tmp_path / "m", package)
    x = [np.ones((1, 4), np.float32)]
    runs = [model.run(x)[0].tobytes() for _ in range(STEPS)]
    assert len(set(runs)) == STEPS
    model.reset()
    assert [model.run(x)[0].tobytes() for _ in range(STEPS)] == runs
    record = tmp_path / "m" / ".mmcc" / "package.json"
    changed = json.loads(record.read_text())
    changed["states"][0]["initial"][0][0][0] = 0.5
    record.write_text(json.dumps(changed))
    assert not mmcc.verify(tmp_path / "m", samples=STEPS)["ok"]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"hh": "Y_h"}, "no input"),
        ({"h": "Y_hh"}, "did you mean Y_h"),
        ({"x": "Y_h"}, r"are f32 \[1, 1, 4\] and f32 \[1, 1, 5\]"),
        ({"h": "Y_h", "x": "Y_h"}, "paired with two inputs"),
    ],
)
def test_refused(states, message, tmp_path):
    with pytest.raises(CompileError, match=message) as caught:
        mmcc.check(gru(tmp_path), states=states)
    assert caught.value.code == "MM113"


@pytest.mark.quick
def test_only_one_is_quantized(tmp_path):
    given = {"x": np.zeros((1, 4), np.float32), "h": np.zeros((1, 4), np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "h"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    path = save(model_of(nodes, given, ["y", "n"], {"s": np.float32(0.1), "z": np.int8(0)}), tmp_path)
    with pytest.raises(CompileError, match="only one is quantized") as caught:
        mmcc.check(path, states={"h": "n"})
    assert "--float-io" in caught.value.hint


@pytest.mark.quick
def test_on_the_command_line(tmp_path):
    path = str(gru(tmp_path))
    np.save(tmp_path / "first.npy", np.zeros((1, 1, 5), np.float32))
    for given in ("h=Y_h", f"h=Y_h={tmp_path / 'first.npy'}"):
        done = CliRunner().invoke(main, ["check", path, "--state", given, "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["states"] == ["h: f32 1x1x5, in C f32 1x5, from Y_h"]
    for wrong in ("h", "h=", "=Y_h", "h=Y_h=no.npy"):
        done = CliRunner().invoke(main, ["check", path, "--state", wrong])
        assert done.exit_code == 2, (wrong, done.output)
        assert "MM113" in done.output
    assert CliRunner().invoke(main, ["analyze", path, "--state", "h=Y_h"]).exit_code == 0


OVERLAPS = """
#include "net.h"
static uint8_t all[3 * 512] MMCC_ALIGNED(16);
_Static_assert(NET_ARENA_SIZE > 16 && NET_ARENA_SIZE <= 512 && NET_STATES_SIZE <= 512, "both fit in all");
int main(void)
{
    net_context net;
    uint8_t *const middle = all + 512;
    for (int32_t k = -512; k <= 512; k += 16) {
        const int shares = k < (int32_t)NET_ARENA_SIZE && -k < (int32_t)NET_STATES_SIZE;
        const mmcc_status status = net_init(&net, middle, NET_ARENA_SIZE, middle + k, NET_STATES_SIZE);
        if (status != (shares ? MMCC_ERROR_OVERLAP : MMCC_OK)) return 1;
        if (net_run(&net) != (shares ? MMCC_ERROR_NOT_INITIALIZED : MMCC_OK)) return 2;
    }
    return 0;
}
"""


def test_states_and_arena_that_share_bytes_are_refused(tmp_path: Path) -> None:
    mmcc.compile_model(gru(tmp_path), tmp_path / "net", name="net", states={"h": "Y_h"})
    (tmp_path / "main.c").write_text(OVERLAPS)
    sources = [path for path in (tmp_path / "net").glob("*.c") if "selftest" not in path.name]
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path / 'net'}", tmp_path / "main.c"]
    subprocess.run([*command, *sources, "-lm", "-o", tmp_path / "main"], check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0
