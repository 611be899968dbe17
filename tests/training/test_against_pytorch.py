# SPDX-License-Identifier: Apache-2.0
"""A hundred steps of training, by the references and on an emulated Cortex-M4, and by PyTorch."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import Module
from mmcc.package.host import package_sources
from mmcc.package.record import bench_files, load_package
from mmcc.target import load_target
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from mmcc.training.module import training_module
from mmcc.training.options import TrainOptions
from onnx import helper
from toolchains import ready

PYTHON, PYTORCH = "/usr/bin/python3", Path(__file__).parents[1] / "support" / "pytorch_learns.py"
KINDS = ("RNN", "GRU", "LSTM", "BN")
STEPS, PROBES, CLOSE = 100, 4, 1e-4
Array = np.ndarray


@dataclass
class Net:
    """A model's file, its weights, and by mmcc's name of each parameter its name for PyTorch and its axes."""

    file: Path
    weights: dict[str, Array]
    parameters: dict[str, tuple[str, tuple[int, ...]]]
    x: Array  # [samples, ...] as PyTorch has it
    label: Array
    axes: tuple[int, ...]  # of a sample, as C has it
    rate: float

    def given(self, file: Path) -> None:
        """For PyTorch: weights, samples, and as probes those samples that nobody learns."""
        data = {"x": self.x[:STEPS], "label": self.label[:STEPS], "probes": self.x[STEPS:]}
        np.savez(file, rate=np.float32(self.rate), **data, **self.weights)

    def calls(self, module: Module) -> list[tuple[int, dict[str, Array]]]:
        """Entry and inputs of all steps, then of a run for each probe."""
        found: list[tuple[int, dict[str, Array]]] = []
        for k in range(STEPS + PROBES):
            entry = int(k < STEPS)
            inputs: dict[str, Array] = {}
            for port in module.entries[entry].graph.inputs:
                shape = module.entries[entry].graph.tensors[port.tensor].shape
                source = {"label_0": self.label, "rate": np.full(STEPS, self.rate)}.get(
                    port.onnx_name, self.x
                )
                array = source[k].transpose(self.axes) if source[k].ndim else source[k]
                inputs[port.tensor] = np.ascontiguousarray(array, np.float32).reshape(shape)
            found.append((entry, inputs))
        return found


def recurrent(kind: str, folder: Path) -> Net:
    rng, units, features, steps = np.random.default_rng(8), 5, 3, 7
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    shapes = {"W": (gates * units, features), "R": (gates * units, units), "B": gates * units}
    weights = {name: rng.uniform(-0.6, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["Bh"] = np.zeros(gates * units, np.float32)
    if kind == "GRU":
        weights["Bh"][-units:] = rng.uniform(-0.6, 0.6, units)
    both = np.concatenate([weights["B"], weights["Bh"]])
    constants = {"w": weights["W"][None], "r": weights["R"][None], "b": both[None]}
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, ["x", "w", "r", "b"], ["Y"], hidden_size=units, **more)
    inputs = {"x": np.zeros((steps, 1, features), np.float32)}
    names = {"Y.input": ("W", (0, 1)), "Y.input.bias": ("B", (0,)), "Y.recurrence": ("R", (0, 1))}
    x = rng.standard_normal((STEPS + PROBES, steps, 1, features)).astype(np.float32)
    label = np.tanh(x @ rng.standard_normal((features, units))).astype(np.float32)
    file = save(model_of([node], inputs, ["Y"], constants), folder)
    return Net(file, weights, names, x, label, (0, 1, 2), 0.5)


def normalized(folder: Path) -> Net:
    rng, momentum = np.random.default_rng(9), 0.75
    shapes = {"w": (4, 2, 3, 3), "v": (3, 4, 1, 1), "b": 3}
    weights = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}
    weights |= {"mean": np.zeros(4, np.float32), "var": np.ones(4, np.float32)}
    operands = ["c", "scale", "bias", "mean", "var"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", operands, ["n"], momentum=momentum, epsilon=1e-3),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "v", "b"], ["y"]),
    ]
    file = save(model_of(nodes, {"x": np.zeros((1, 2, 6, 6), np.float32)}, ["y"], weights), folder)
    names = {name: (name, (0, 2, 3, 1)) for name in "wv"} | {"b": ("b", (0,))}
    names |= {"n.scale": ("scale", (0,)), "n.bias": ("bias", (0,))}
    names |= {"n.mean": ("mean", (0,)), "n.variance": ("var", (0,))}
    x = rng.standard_normal((STEPS + PROBES, 1, 2, 6, 6)).astype(np.float32)
    label = rng.standard_normal((STEPS + PROBES, 1, 3, 4, 4)).astype(np.float32)
    weights["momentum"] = np.float32(momentum)
    return Net(file, weights, names, x, label, (0, 2, 3, 1), 0.05)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Net, dict[str, Array]]]:
    """All nets with what PyTorch makes of them, in one process: it takes seconds to import."""
    nets, words = dict[str, Net](), list[str]()
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        nets[kind] = normalized(folder) if kind == "BN" else recurrent(kind, folder)
        nets[kind].given(folder / "given.npz")
        words += [kind, str(folder / "given.npz"), str(folder / "found.npz")]
    try:
        command = [PYTHON, str(PYTORCH), *words]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError:
        pytest.skip(f"there is no {PYTHON}")
    if "ModuleNotFoundError: No module named" in run.stderr:  # numpy comes with it
        pytest.skip(f"{PYTHON} has no PyTorch (python3-torch)")
    assert run.returncode == 0, run.stderr
    return {kind: (nets[kind], dict(np.load(words[3 * k + 2]))) for k, kind in enumerate(KINDS)}


def outputs_of(net: Net, found: dict[str, Array]) -> Array:
    """PyTorch's losses, then its outputs of the probes, as the board writes them."""
    probes = [each.transpose(net.axes).reshape(-1) for each in found["outputs"]]
    return np.concatenate([found["loss"], *probes])


@pytest.mark.quick
@pytest.mark.parametrize("kind", KINDS)
def test_the_references_learn_the_same_weights(kind: str, learned) -> None:
    net, found = learned[kind]
    train = TrainOptions(loss="mse", batch_norm="own")
    module = training_module(load_graph(net.file, CompileOptions(), keep_batch_norm=True), train)
    machine, losses = Interpreter(module), list[float]()
    for entry, inputs in net.calls(module)[:STEPS]:
        losses.append(float(machine.call(module.entries[entry].name, inputs)["loss"][0]))
    np.testing.assert_allclose(losses, found["loss"], atol=CLOSE)
    known = net.parameters | ({"Y.bias": ("Bh", (0,))} if kind == "GRU" else {})
    assert set(known) == set(machine.states)
    for name, (theirs, axes) in known.items():
        wanted = found[theirs][-5:] if theirs == "Bh" else found[theirs].transpose(axes)
        np.testing.assert_allclose(machine.states[name], wanted, atol=CLOSE, err_msg=name)
        before = net.weights[theirs]
        assert np.abs(found[theirs] - before).max() > 100 * CLOSE, f"{name} learns nothing to speak of"


@pytest.mark.parametrize("kind", ["RNN", "BN"])
def test_an_emulated_board_learns_what_pytorch_does(kind: str, learned, tmp_path: Path) -> None:
    """The loss of each step, and after them the outputs of samples that it has not seen."""
    ready("cortex-m4")
    net, found = learned[kind]
    result = mmcc.compile_training(
        net.file,
        tmp_path / "net",
        {"loss": "mse", "batch_norm": "own"},
        name="net",
        target="cortex-m4",
        ram="min",
        self_check=False,
    )
    elf = build_firmware(
        load_target("cortex-m4"),
        [*package_sources(result.folder), bench_files(result.folder) / "adapter_firmware.c"],
        [result.folder],
        tmp_path / "firmware",
        ram_limit=result.report["ram"]["total"],
        stack_bytes=load_package(result.folder).stack,
    )
    calls = net.calls(result.module)
    given = b"".join(array.tobytes() for _, inputs in calls for array in inputs.values())
    order = bytes(entry for entry, _ in calls)
    run = run_firmware(elf, load_target("cortex-m4"), given, 0, tmp_path / "run", calls=order)
    got = np.frombuffer(run.outputs, np.float32)
    np.testing.assert_allclose(got, outputs_of(net, found), atol=CLOSE)
