# SPDX-License-Identifier: Apache-2.0
"""Packages that run hop by hop: the bits of the whole model's C, whatever the hop; verified as others are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mmcc
import numpy as np
import pytest
from cli_runs import run, told
from frontend_models import model_of, save
from int8_models import FloatModel
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.verification.streams import hops, joined
from onnx import TensorProto, helper
from toolchains import ready

STEPS = 24


def network(folder: Path) -> Path:
    """A strided causal convolution, a GRU, and a second output at another rate."""
    rng = np.random.default_rng(3)

    def some(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    constants = {"w": some(6, 4, 3), "b": some(6), "v": some(6, 1, 3)}
    constants |= {"W": some(1, 15, 6), "R": some(1, 15, 5), "B": some(1, 30)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[2, 0], strides=[1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["fine"], pads=[4, 0], dilations=[2], group=6),
        helper.make_node("MaxPool", ["fine"], ["p"], kernel_shape=[2], pads=[1, 0], strides=[2]),
        helper.make_node("Transpose", ["p"], ["t"], perm=[2, 0, 1]),
        helper.make_node("GRU", ["t", "W", "R", "B"], ["h"], hidden_size=5, linear_before_reset=1),
        helper.make_node("Squeeze", ["h", "one"], ["y"]),
    ]
    constants["one"] = np.array([1])
    given = {"x": np.zeros((1, 4, STEPS), np.float32)}
    return save(model_of(nodes, given, ["y", "fine"], constants), folder, "net.onnx")


def mean(folder: Path) -> Path:
    """The mean over the whole sequence decides."""
    rng = np.random.default_rng(4)
    constants = {"w": rng.uniform(-1, 1, (5, 4, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[2, 0]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    given = {"x": np.zeros((1, 4, STEPS), np.float32)}
    return save(model_of(nodes, given, ["y"], constants), folder, "mean.onnx")


def command(*args, exit: int = 0) -> str:
    """What a command printed."""
    result = run(*args)
    assert result.exit_code == exit, result.output
    return told(result)


def sample() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((1, 4, STEPS)).astype(np.float32)


def streamed_twice(folder: Path, x: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The outputs of a package over all its hops, and once more after a reset."""
    package = load_package(folder)
    assert package.stream is not None
    run = host_model(folder, package)
    for _ in range(2):
        run.reset()
        outputs = []
        for hop in hops(package, package.stream, [x]):
            run.forget()
            inputs = [p.to_c(a, package.tensors[p.tensor]) for p, a in zip(package.inputs, hop, strict=True)]
            ports = zip(package.outputs, run.run(inputs), strict=True)
            outputs.append([p.from_c(a, package.tensors[p.tensor]) for p, a in ports])
        yield joined(package.stream, outputs, [])


def test_streamed_is_whole_to_the_bit(tmp_path: Path) -> None:
    model, x = network(tmp_path), sample()
    whole = mmcc.compile_model(model, tmp_path / "whole", name="net").run([x])
    for asked in ("x:2", "x:2:6"):
        made = mmcc.compile_model(model, tmp_path / asked.replace(":", "_"), name="net", stream=asked)
        for outputs in streamed_twice(made.folder, x):
            for one, other in zip(outputs, whole, strict=True):
                assert one.tobytes() == other.tobytes()
    header = (tmp_path / "x_2" / "net.h").read_text()
    for line in ("NET_HOP_IN 2", "NET_HOP_OUT 1", "NET_LATENCY 0", "NET_STATE_BYTES "):
        assert f"#define {line}" in header
    stream = json.loads((tmp_path / "x_2" / "report.json").read_text())["stream"]
    assert (stream["hop"], [each["hop"] for each in stream["outputs"]]) == (2, [1, 2])
    assert 0 <= stream["state_bytes"] - 4 * (2 * 4 + 4 * 6 + 1 * 6 + 5) < 16


def test_a_stream_that_keeps_nothing_has_nothing_to_reset(tmp_path: Path) -> None:
    """Its header speaks of no function that is not there."""
    given = {"x": np.zeros((1, 4, STEPS), np.float32)}
    model = save(model_of([helper.make_node("Relu", ["x"], ["y"])], given, ["y"], {}), tmp_path, "net.onnx")
    mmcc.compile_model(model, tmp_path / "out", name="net", stream="x:2", self_check=False)
    header = (tmp_path / "out" / "net.h").read_text()
    assert "#define NET_STATE_BYTES 0u" in header
    assert "net_init" in header
    assert "net_reset" not in header


def test_a_sum_of_negative_zeros_is_the_same_beside_padding(tmp_path: Path) -> None:
    """A stream adds the zeros of rows before the first, which the whole run leaves out."""
    given = {"x": np.full((1, 1, 8), -0.0, np.float32)}
    constants = {"w": np.ones((1, 1, 2), np.float32), "b": np.array([-0.0], np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 0]),
        helper.make_node("Reciprocal", ["c"], ["y"]),
    ]
    model = save(model_of(nodes, given, ["y"], constants), tmp_path)
    np.savez(tmp_path / "data.npz", input_0=given["x"])
    found: list[np.ndarray] = []
    for name, more in (("whole", ()), ("hops", ("--stream", "x:2"))):
        command("compile", model, "-o", tmp_path / name, *more)
        made = tmp_path / f"{name}.npz"
        run("verify", tmp_path / name, "--data", tmp_path / "data.npz", "--save-outputs", made)
        found.append(np.load(made)["output_0"].reshape(-1))
    np.testing.assert_array_equal(*found)
    assert np.isinf(found[0]).all()


def test_a_flush_gives_the_rows_that_see_the_end(tmp_path: Path) -> None:
    """On this machine and on a board; it changes nothing for the steps that follow."""
    ready("cortex-m4")
    x = sample()[:, :1]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[2, 3])]
    weights = np.random.default_rng(5).standard_normal((2, 1, 4)).astype(np.float32)
    model = save(model_of(nodes, {"x": x}, ["y"], {"w": weights}), tmp_path, "net.onnx")
    out = tmp_path / "out"
    text = command("compile", model, "-o", out, "--stream", "x:2", "-t", "cortex-m4")
    assert "1 row of y (1 row late, the last 3 rows by flush)" in text
    np.savez(tmp_path / "data.npz", input_0=np.concatenate([x, -x]))
    command("verify", out, "--per-node", "--data", tmp_path / "data.npz")
    command("verify", out, "--on", "qemu", "--data", tmp_path / "data.npz")
    assert "#define NET_FLUSH_OUT 3" in (out / "net.h").read_text()
    machine = host_model(out, load_package(out))
    machine.reset()
    rows = [[machine.run([row])[0] for row in x.reshape(-1, 1, 1, 1)]]
    for again in (False, True):
        machine.reset()
        rows.append([])
        for row in x.reshape(-1, 1, 1, 1):
            rows[-1] += machine.run([row])
            machine.run([], 1)
        assert np.array_equal(rows[0], rows[-1]), again


def centred_stack(folder: Path) -> Path:
    """Three centred int8 layers, the last of which halves the rows; then two layers that double them."""
    model = FloatModel(np.random.default_rng(8))
    x, scale = model.float_input(1, 3, STEPS, 1)
    x = model.real(x, float(scale))
    layers = (
        ((4, 3, 5, 1), {"pads": [2, 0, 2, 0]}),
        ((4, 4, 3, 1), {"pads": [2, 0, 2, 0], "dilations": [2, 1]}),
        ((2, 4, 4, 1), {"pads": [1, 0, 1, 0], "strides": [2, 1]}),
    )
    for shape, attributes in layers:
        x, scale = model.requantized(model.conv(x, scale, shape, **attributes), 0.1), np.float32(0.1)
    w, b = model.weights((2, 3, 4, 1), scale, 1)
    x = model.op("ConvTranspose", x, w, b, strides=[2, 1], pads=[1, 0, 1, 0])
    x, twice = model.requantized(x, 0.1), model.constant(np.array([1, 1, 2, 1], np.float32))
    x = model.op("Resize", x, "", twice, mode="linear")
    model.save(model.requantized(x, 0.1), folder / "net.onnx")
    return folder / "net.onnx"


def test_a_stack_of_centred_layers_is_whole_to_the_bit(tmp_path: Path) -> None:
    """Steps and a flush of two sequences, with a reset between them."""
    model = centred_stack(tmp_path)
    x = np.random.default_rng(9).normal(0, 3, (2, 1, 3, STEPS, 1)).astype(np.float32)
    np.savez(tmp_path / "data.npz", input_0=x)
    for name, more in (("whole", ()), ("hops", ("--stream", "x0:2"))):
        out, made = tmp_path / name, tmp_path / f"{name}.npz"
        text = command("compile", model, "-o", out, *more, "--no-self-check")
        command("verify", out, "--data", tmp_path / "data.npz", "--save-outputs", made)
    assert "a hop of 2 rows gives 4 rows of" in text
    assert "(18 rows late, the last 18 rows by flush)" in text
    for op in ("ConvTransposeInt8", "ResizeInt8", "RepeatFirstRow"):
        assert f'"op": "{op}"' in (out / "report.json").read_text()
    np.testing.assert_array_equal(*(np.load(tmp_path / f"{k}.npz")["output_0"] for k in ("whole", "hops")))


def test_cells_behind_layers_that_look_ahead_begin_with_row_0(tmp_path: Path) -> None:
    """As in networks that spot words: steps and a flush of two sequences are ONNX Runtime's, node by node."""
    rng = np.random.default_rng(3)

    def some(*shape: int) -> np.ndarray:
        return rng.uniform(-0.7, 0.7, shape).astype(np.float32)

    constants = {"w": some(6, 4, 5), "b": some(6), "v": some(6, 6, 4)}
    constants |= {"W": some(1, 15, 6), "R": some(1, 15, 5), "B": some(1, 30), "h": some(1, 1, 5)}
    constants |= {"W2": some(1, 12, 5), "R2": some(1, 12, 3), "B2": some(1, 24), "one": np.array([1])}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[2, 2]),
        helper.make_node("Conv", ["c", "v"], ["half"], pads=[1, 1], strides=[2]),
        helper.make_node("Transpose", ["half"], ["t"], perm=[2, 0, 1]),
        helper.make_node("GRU", ["t", "W", "R", "B", "", "h"], ["g"], hidden_size=5),
        helper.make_node("Squeeze", ["g", "one"], ["s"]),
        helper.make_node("LSTM", ["s", "W2", "R2", "B2"], ["l"], hidden_size=3),
        helper.make_node("Squeeze", ["l", "one"], ["y"]),
    ]
    given = {"x": np.zeros((1, 4, STEPS), np.float32)}
    model, out = save(model_of(nodes, given, ["y"], constants), tmp_path, "crnn.onnx"), tmp_path / "crnn"
    text = command("compile", model, "-o", out, "--stream", "x:2")
    assert "a hop of 2 rows gives 1 row of y (2 rows late, the last 2 rows by flush)" in text
    x = rng.standard_normal((2, 1, 4, STEPS)).astype(np.float32)
    np.savez(tmp_path / "data.npz", input_0=x)
    found = json.loads(command("verify", out, "--data", tmp_path / "data.npz", "--per-node", "--json"))
    assert found["ok"]
    assert any("GRU" in str(node) or "Recurrent" in str(node) for node in found["per_node"])


def test_right_hops_do_not_excuse_wrong_rows_of_a_flush(tmp_path: Path) -> None:
    """A flush that pads one row where it should pad two; nodes of hops, which alone are traced, are right."""
    rng = np.random.default_rng(5)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[2, 2])
    constants = {"w": rng.uniform(-1, 1, (3, 4, 5)).astype(np.float32)}
    given = {"x": np.zeros((1, 4, 12), np.float32)}
    model, out = save(model_of([node], given, ["y"], constants), tmp_path, "cen.onnx"), tmp_path / "cen"
    command("compile", model, "-o", out, "--stream", "x:2")
    assert json.loads(command("verify", out, "--per-node", "--json"))["ok"]
    code = out / "cen.c"
    right = code.read_text()
    wrong = right.replace("cen_conv(memory, &n3, columns_0, 0, 2)", "cen_conv(memory, &n3, columns_0, 0, 1)")
    assert wrong != right
    code.write_text(wrong)
    for asked in ((), ("--per-node",)):
        command("verify", out, *asked, exit=7)


@pytest.mark.parametrize("option", ["--io external", "--io rows", "--weights staged"])
def test_a_flush_with_ports_and_weights_elsewhere(option: str, tmp_path: Path) -> None:
    """Two sequences, with a reset between them; staged weights of both functions are in one file."""
    rng = np.random.default_rng(6)
    constants = {"w": rng.uniform(-1, 1, (2, 1, 4)).astype(np.float32)}
    given = {"x": np.zeros((1, 1, 8), np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 2])]
    model, out = save(model_of(nodes, given, ["y"], constants), tmp_path), tmp_path / "out"
    text = command("compile", model, "-o", out, "--stream", "x:2", "--name", "net", *option.split())
    assert "1 row of y (2 rows late, the last 2 rows by flush)" in text
    np.savez(tmp_path / "data.npz", input_0=rng.standard_normal((2, 1, 1, 8)).astype(np.float32))
    command("verify", out, "--data", tmp_path / "data.npz")
    if "staged" in option:
        weights = json.loads((out / "report.json").read_text())["weights"]
        assert weights["file"] + 16 == (out / "net_weights.bin").stat().st_size  # and what it is known by


def scan(folder: Path, axis: int, *, last: bool = False, backward: bool = False) -> Path:
    """A convolution, a Scan along its rows that hands on a vector and a number, and one that looks back."""
    rng = np.random.default_rng(6)

    def some(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    constants = {"w": some(4, 4, 3), "v": some(2, 5, 3), "U": some(5, 5), "W": some(4, 5)}
    constants |= {"h0": some(1, 5), "n0": np.float32(0), "rate": np.float32(0.9)}
    inside = [
        helper.make_node("MatMul", ["h", "U"], ["a"]),
        helper.make_node("MatMul", ["row", "W"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("Tanh", ["s"], ["h_out"]),
        helper.make_node("Mul", ["n", "rate"], ["less"]),
        helper.make_node("ReduceMax", ["h_out"], ["top"], keepdims=0),
        helper.make_node("Add", ["less", "top"], ["n_out"]),
        helper.make_node("Mul", ["h_out", "n_out"], ["made"]),
    ]
    body = helper.make_graph(
        inside,
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h", "n", "row")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h_out", "n_out", "made")],
    )
    turned = [0, 2, 1] if axis else [2, 0, 1]
    directions = {"scan_input_directions": [1], "scan_output_directions": [1]} if backward else {}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[2, 0]),
        helper.make_node("Transpose", ["c"], ["t"], perm=turned),
        helper.make_node(
            *("Scan", ["h0", "n0", "t"], ["hn", "nn", "made_all"]),
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[axis],
            scan_output_axes=[axis],
            **directions,
        ),
        helper.make_node("Transpose", ["made_all"], ["m"], perm=turned if axis else [1, 2, 0]),
        helper.make_node("Conv", ["m", "v"], ["y"], pads=[2, 0]),
    ]
    given = {"x": np.zeros((1, 4, STEPS), np.float32)}
    outputs = ["y", "hn"] if last else ["y"]
    return save(model_of(nodes, given, outputs, constants), folder, "scan.onnx")


@pytest.mark.parametrize(("axis", "asked"), [(0, "x:2"), (1, "x:2:6")])
def test_a_loop_over_time_goes_on_from_hop_to_hop(axis: int, asked: str, tmp_path: Path) -> None:
    """It stays a loop, of as many steps as a hop has rows; the bits are those of the whole model's C."""
    model = scan(tmp_path, axis)
    (whole,) = mmcc.compile_model(model, tmp_path / "whole", name="net").run([sample()])
    stream = mmcc.compile_model(model, tmp_path / "stream", name="net", stream=asked)
    assert "Repeat" in command("verify", stream.folder, "--per-node")
    for (rows,) in streamed_twice(stream.folder, sample()):
        assert rows.tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"last": True}, "what it holds after the last step is read"),
        ({"backward": True}, "it goes from the last step to the first"),
    ],
)
def test_a_loop_that_needs_the_whole_sequence_is_refused(change: dict, why: str, tmp_path: Path) -> None:
    said = command(
        *("compile", scan(tmp_path, 0, **change), "--stream", "x:2", "-o", tmp_path / "package"), exit=4
    )
    assert all(part in " ".join(said.split()) for part in ("MM205", why, "(Scan)"))


def test_verify_and_bench_know_streams(tmp_path: Path) -> None:
    ready("cortex-m4")
    model = network(tmp_path)
    out = tmp_path / "out"
    text = command("compile", model, "-o", out, "--name", "net", "--stream", "x:2", "-t", "cortex-m4")
    assert "a hop of 2 rows gives 1 row of y, 2 rows of fine" in text
    np.savez(tmp_path / "data.npz", input_0=np.concatenate([sample(), -sample()]))
    command("verify", out, "--per-node", "--data", tmp_path / "data.npz")
    command(
        "verify", out, "--on", "qemu", "--data", tmp_path / "data.npz", "--save-outputs", tmp_path / "o.npz"
    )
    command("verify", out, "--expected", tmp_path / "o.npz", "--data", tmp_path / "data.npz")
    assert "instructions" in command("bench", out, "--on", "qemu")


def test_a_window_sees_the_newest_rows(tmp_path: Path) -> None:
    model, out = mean(tmp_path), tmp_path / "out"
    text = command("compile", model, "-o", out, "--stream", "x:2", exit=4)
    assert "GlobalAveragePool" in text
    assert "--window" in text
    command("compile", model, "-o", out, "--stream", "x:2", "--window", str(STEPS))
    command("verify", out, "--per-node")


def test_a_window_without_a_stream(tmp_path: Path) -> None:
    assert "--stream INPUT:AXIS" in command("compile", mean(tmp_path), "--window", "24", exit=2)
