# SPDX-License-Identifier: Apache-2.0
"""Packages that train: the C learns what the references learn, by the same bits under every plan."""

from __future__ import annotations

from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.api import CompileResult, TrainOptions
from mmcc.ir.interpret import Interpreter
from mmcc.package.host import host_model, package_sources
from mmcc.package.record import bench_files, load_package
from mmcc.target import load_target
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from mmcc.verification.compare import run_qemu
from mmcc.verification.linked import sanitized_program
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from toolchains import ready

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
RATE = np.array([0.05], np.float32)
STEPS = 6
Array = np.ndarray


def compiled(folder: Path, train: TrainOptions, **given) -> CompileResult:
    return mmcc.compile_training(DIGITS / "digits_fp32.onnx", folder / "net", train, name="net", **given)


def samples() -> list[tuple[Array, Array]]:
    data = np.load(DIGITS / "test_data.npz")
    images = 16 - data["input_0"][:STEPS]
    return [
        (x.reshape(8, 8, 1), np.array([y], np.int32))
        for x, y in zip(images, data["labels"][:STEPS], strict=True)
    ]


def learned(result: CompileResult) -> list[Array]:
    """The loss of each step, and outputs before and after, from the C on this machine."""
    model = host_model(result.folder, load_package(result.folder))
    found = [model.run([samples()[0][0]])[0]]
    for image, label in samples():
        found += model.run([image, label, RATE], 1)
        model.forget()
    return [*found, model.run([samples()[0][0]])[0]]


def expected(result: CompileResult) -> list[Array]:
    machine, first = Interpreter(result.module), {"input": samples()[0][0]}
    found = [machine.call("run", first)["logits"]]
    for image, label in samples():
        found.append(machine.call("train_step", {"input": image, "label_0": label, "rate": RATE})["loss"])
    return [*found, machine.call("run", first)["logits"]]


def test_every_plan_learns_the_same_bits_as_the_references_nearly(tmp_path: Path) -> None:
    train = TrainOptions(update="block*,logits*")
    plain = compiled(tmp_path / "plain", train)
    want, got = expected(plain), learned(plain)
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    assert not np.allclose(got[0], got[-1], rtol=0.01)
    least = compiled(tmp_path / "least", train, ram="min")
    assert least.report["ram"]["arena"] < plain.report["ram"]["arena"]
    for one, other in zip(got, learned(least), strict=True):
        np.testing.assert_array_equal(one, other)


def test_sums_of_steps_are_applied_and_sanitizers_see_no_fault(tmp_path: Path) -> None:
    """Two steps with Adam, two of each, then a run; all of it in one program."""
    train = TrainOptions(optimizer="adam", accumulate=2, update="bias", weight_decay=0.01)
    result = compiled(tmp_path, train, stack=2048)
    text = (result.folder / "net.h").read_text()
    assert "mmcc_status net_train_step(net_context *context, float *loss);" in text
    assert "mmcc_status net_train_apply(net_context *context, float rate);" in text
    program = sanitized_program(result.folder, load_package(result.folder))
    called(result, [1, 1, 2, 0, 1, 1, 2, 0], program, "host", tmp_path / "run")


def called(
    result: CompileResult,
    order: list[int],
    elf: Path,
    target: str,
    work: Path,
    known: dict[str, Array] | None = None,
) -> None:
    machine, (image, label) = Interpreter(result.module), samples()[0]
    known = known or {"input": image, "label_0": label, "rate": RATE}
    inputs, outputs = b"", list[Array]()
    for entry in order:
        graph = result.module.entries[entry].graph
        names = [port.tensor for port in graph.inputs]
        inputs += b"".join(known[name].tobytes() for name in names)
        arrays = machine.call(result.module.entries[entry].name, {name: known[name] for name in names})
        outputs += [arrays[port.tensor] for port in graph.outputs]
    run = run_firmware(elf, load_target(target), inputs, 0, work, calls=bytes(order))
    want = np.concatenate([x.reshape(-1) for x in outputs])
    np.testing.assert_allclose(np.frombuffer(run.outputs, np.float32), want, rtol=1e-4, atol=1e-4)


def firmware_of_40_kib(result: CompileResult, folder: Path) -> Path:
    """A firmware for Cortex-M4 whose linker holds all of it to 40 KiB."""
    return build_firmware(
        load_target("cortex-m4"),
        [*package_sources(result.folder), bench_files(result.folder) / "adapter_firmware.c"],
        [result.folder],
        folder,
        ram_limit=40 * 1024,
        stack_bytes=load_package(result.folder).stack,
    )


def test_an_emulated_board_learns_within_its_ram(tmp_path: Path) -> None:
    ready("cortex-m4")
    result = compiled(tmp_path, TrainOptions(update="block*,logits*"), target="cortex-m4", ram="40K")
    elf = firmware_of_40_kib(result, tmp_path / "firmware")
    called(result, [0, 1, 1, 1, 0], elf, "cortex-m4", tmp_path / "run")
    image = samples()[0][0]
    ((got,),), _ = run_qemu(result.folder, load_package(result.folder), [[image.transpose(2, 0, 1)[None]]])
    want = Interpreter(result.module).call("run", {"input": image})["logits"]
    np.testing.assert_allclose(got.reshape(-1), want.reshape(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("head", "update"),
    [(["logits"], "all"), (["head", "head_relu", "mean", "features", "logits"], "head.bias,logits*")],
)
def test_an_emulated_board_trains_a_float_head_behind_int8_layers(
    tmp_path: Path, head: list[str], update: str
) -> None:
    """What ONNX Runtime's quantizer left float learns; integers before it give it what they always did."""
    ready("cortex-m4")
    images = iter([{"input": image[None]} for image in np.load(DIGITS / "test_data.npz")["input_0"][:20]])

    class Images(CalibrationDataReader):
        def get_next(self) -> dict[str, Array] | None:
            return next(images, None)

    quantize_static(
        DIGITS / "digits_fp32.onnx",
        tmp_path / "head.onnx",
        Images(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=head,
    )
    given = {"name": "net", "target": "cortex-m4", "ram": "40K", "self_check": False}
    train = TrainOptions(update=update)
    result = mmcc.compile_training(tmp_path / "head.onnx", tmp_path / "net", train, **given)
    elf = firmware_of_40_kib(result, tmp_path / "firmware")
    step = result.module.entries[1].graph
    kinds = [type(node.op).__name__ for node in step.nodes]
    assert kinds.count("ConvInt8") == 6 - ("head" in head)
    image = np.random.default_rng(0).integers(-128, 128, step.tensors["input"].shape).astype(np.int8)
    known = {"input": image, "label_0": np.array([3], np.int32), "rate": RATE}
    called(result, [0, 1, 1, 1, 0], elf, "cortex-m4", tmp_path / "run", known)


def test_gradients_go_back_to_places_known_at_run_time(tmp_path: Path) -> None:
    """The C of a step that picks elements, puts some elsewhere, mirrors its edges, and enlarges each channel
    by itself: the self-check holds every node to its reference, and three steps have its losses."""
    rng = np.random.default_rng(6)
    constants = {
        "w": rng.standard_normal((4, 2, 3, 3)).astype(np.float32),
        "up": rng.standard_normal((4, 1, 2, 2)).astype(np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "best": np.array([3], np.int64),
        "rest": np.array([-1], np.int64),
        "dense": rng.standard_normal((12, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"], mode="reflect"),
        helper.make_node("Conv", ["padded", "w"], ["c"]),
        helper.make_node("ConvTranspose", ["c", "up"], ["u"], group=4, strides=[2, 2]),
        helper.make_node("GatherElements", ["u", "at"], ["g"], axis=3),
        helper.make_node("ScatterElements", ["u", "at", "g"], ["s"], axis=2),
        helper.make_node("ReduceMax", ["s"], ["m"], axes=[2], keepdims=0),
        helper.make_node("TopK", ["m", "best"], ["k", "places"]),
        helper.make_node("Reshape", ["k", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "dense"], ["y"]),
    ]
    constants["flat"] = np.array([1, 12], np.int64)
    inputs = {"x": np.zeros((1, 2, 3, 3), np.float32), "at": np.zeros((1, 4, 6, 2), np.int64)}
    model = save(model_of(nodes, inputs, ["y"], constants, opset=13), tmp_path)
    result = mmcc.compile_training(model, tmp_path / "net", TrainOptions(loss="mse"), name="net")
    step = result.module.entries[1].graph
    given = dict[str, Array]()
    for port in step.inputs:
        t = step.tensors[port.tensor]
        noise = np.random.default_rng(7).standard_normal(t.shape)
        given[port.tensor] = (noise if t.dtype.is_float else np.abs(2 * noise)).astype(t.dtype.numpy)
    given["rate"][...] = 0.001
    host, want = host_model(result.folder, load_package(result.folder)), Interpreter(result.module)
    losses = [host.run(list(given.values()), 1)[0] for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    for loss in losses:
        np.testing.assert_allclose(loss, want.call("train_step", given)[step.outputs[0].tensor], rtol=1e-4)
