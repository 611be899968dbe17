# SPDX-License-Identifier: Apache-2.0
"""States in the generated C: what the interpreter keeps from call to call, the C keeps, on every machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmcc.driver.compile import CompileResult, compile_module
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import Module
from mmcc.ir.regions import SRAM
from mmcc.package.host import host_model, package_sources
from mmcc.package.record import bench_files, load_package
from mmcc.passes.stream_ports import stream_ports
from mmcc.target import list_targets, load_target
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import RESET, run_firmware
from mmcc.verification.linked import sanitized_program
from stateful import BY_HAND, accumulator, learner, old_and_new, random_graph
from toolchains import ready

CALLS = 4
Array = np.ndarray


def compiled(module: Module, folder: Path, **given) -> CompileResult:
    """The package; that it has no ONNX file matters to nobody here."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "model.onnx"
    source.write_bytes(b"")
    return compile_module(module, source, folder / "net", CompileOptions(name="net", **given))


def inputs_of(module: Module, entry: int, rng: np.random.Generator) -> list[Array]:
    graph = module.entries[entry].graph
    shapes = [graph.tensors[port.tensor].shape for port in graph.inputs]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def wanted(machine: Interpreter, module: Module, entry: int, inputs: list[Array]) -> list[Array]:
    graph = module.entries[entry].graph
    names = [port.tensor for port in graph.inputs]
    arrays = machine.call(module.entries[entry].name, dict(zip(names, inputs, strict=True)))
    return [arrays[port.tensor] for port in graph.outputs]


def same(got: list[Array], want: list[Array]) -> None:
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, rtol=1e-5, atol=1e-6)


def run_on_this_machine(module: Module, result: CompileResult, order: list[int]) -> None:
    """Call the entries in order, and once more after a reset; in between only states are there."""
    model = host_model(result.folder, load_package(result.folder))
    machine, rng = Interpreter(module), np.random.default_rng(2)
    for _ in range(2):
        machine.reset()
        model.reset()
        for entry in order:
            inputs = inputs_of(module, entry, rng)
            same(model.run(inputs, entry), wanted(machine, module, entry, inputs))
            model.forget()


@pytest.mark.parametrize("given", [{"least_ram": True}, {"io": "external"}, {"ram": 4096}], ids=str)
@pytest.mark.parametrize("name", BY_HAND)
def test_states_live_from_call_to_call(name: str, given: dict, tmp_path: Path) -> None:
    module = Module.of(BY_HAND[name]())
    run_on_this_machine(module, compiled(module, tmp_path, stack=1024, **given), [0] * CALLS)


@pytest.mark.parametrize("name", BY_HAND)
def test_states_beside_rows_that_come_and_go(name: str, tmp_path: Path) -> None:
    """Old and new values that are inputs or outputs too are brought and taken by callbacks."""
    module = Module.of(BY_HAND[name]())
    streamed = module.map(stream_ports)
    result = compiled(streamed, tmp_path, stack=1024, io="rows", least_ram=True)
    run_on_this_machine(module, result, [0] * CALLS)


def test_a_module_that_does_not_fit(tmp_path: Path) -> None:
    """The planner's explanation plans again; the states are counted beside the arena."""
    with pytest.raises(CompileError, match=r"states \(480\)") as caught:
        compiled(Module.of(old_and_new()), tmp_path, ram=1400, stack=512)
    assert caught.value.exit in (Exit.DOES_NOT_FIT, Exit.NO_PLAN)


def test_states_of_random_graphs(tmp_path: Path) -> None:
    for seed in range(200, 210):
        module = Module.of(random_graph(seed))
        run_on_this_machine(module, compiled(module, tmp_path / str(seed), stack=1024), [0] * CALLS)


def test_two_entries_share_weights_kernels_and_states(tmp_path: Path) -> None:
    module = learner()
    result = compiled(module, tmp_path)
    run_on_this_machine(module, result, [0, 1, 1, 0, 0, 1, 0])
    text = (result.folder / "net.h").read_text()
    assert "mmcc_status net_run(net_context *context);" in text
    assert "mmcc_status net_learn(net_context *context);" in text
    assert "float *net_learn_input_0(const net_context *context);" in text
    report = json.loads((result.folder / "report.json").read_text())
    alone = compiled(Module("alone", module.entries[:1]), tmp_path / "alone").report
    assert report["flash"]["weights"] == alone["flash"]["weights"], "both entries read one copy"
    kernels = (result.folder / "net_kernels.c").read_text()
    assert kernels.count("void net_dense") == 1
    assert report["entry"] == "run"
    assert [entry["entry"] for entry in report["entries"]] == ["learn"]
    ram = report["ram"]
    assert ram["state"] == 6 * 4 * 4 + 16, "with what alignment adds"
    parts = ("arena", "state", "context", "static", "stack")
    assert ram["total"] == sum(ram[part] for part in parts)
    most = max(plan.peak(SRAM) for plan in result.memory.entries.values())
    assert ram["arena"] == -(-most // SRAM.align) * SRAM.align
    text = (result.folder / "report.txt").read_text()
    assert {state["bytes"] for state in ram["states"]} == {4, 96}
    for name, plan in result.memory.entries.items():
        assert f"arena of {name}" in text
        assert f"Arena of {name}, {plan.peak(SRAM):,} bytes" in text
        assert f"Nodes of {name}" in text
    for state in ram["states"]:
        assert f"{state['offset']} +{state['bytes']}" in text


def test_an_entry_may_be_called_as_a_kernel_is(tmp_path: Path) -> None:
    run, learn = learner().entries
    module = Module("named", (run, replace(learn, name="dense")))
    run_on_this_machine(module, compiled(module, tmp_path), [0, 1, 0])


@pytest.mark.parametrize("target", [name for name in list_targets() if name != "host"])
def test_states_on_boards(target: str, tmp_path: Path) -> None:
    """The accumulator, and both entries of the learner, one after the other in one firmware."""
    ready(target)
    for module, order in (
        (Module.of(accumulator()), [0, 0, RESET, 0]),
        (learner(), [0, 1, 1, 0, RESET, 1, 0]),
    ):
        run_on_board(module, order, target, tmp_path / module.name)


def run_on_board(module: Module, order: list[int], target: str, folder: Path) -> None:
    """Where there is no operating system the linker holds all of it to the RAM that the report names."""
    result = compiled(module, folder, target=target)
    total = result.report["ram"]["total"]
    elf = build_firmware(
        load_target(target),
        [*package_sources(result.folder), bench_files(result.folder) / "adapter_firmware.c"],
        [result.folder],
        folder / "firmware",
        ram_limit=total if load_target(target).bare_metal else None,
        stack_bytes=load_package(result.folder).stack,
    )
    called(module, order, elf, target, folder / "run")


def called(module: Module, order: list[int], elf: Path, target: str, work: Path) -> None:
    """The calls of `order`, in one run of a program."""
    machine, rng = Interpreter(module), np.random.default_rng(2)
    inputs, outputs = list[bytes](), list[Array]()
    for entry in order:
        if entry == RESET:
            machine.reset()
            continue
        given = inputs_of(module, entry, rng)
        inputs += [array.tobytes() for array in given]
        outputs += wanted(machine, module, entry, given)
    run = run_firmware(elf, load_target(target), b"".join(inputs), 0, work, calls=bytes(order))
    got, at = list[Array](), 0
    for want in outputs:
        got.append(np.frombuffer(run.outputs, np.float32, want.size, at))
        at += want.nbytes
    assert at == len(run.outputs)
    same(got, outputs)


def test_sanitizers_see_no_fault(tmp_path: Path) -> None:
    """Both entries in turn; states are a block of their own, of exactly their bytes."""
    module = learner()
    result = compiled(module, tmp_path, stack=1024)
    elf = sanitized_program(result.folder, load_package(result.folder))
    called(module, [0, 1, RESET, 1, 0], elf, "host", tmp_path / "run")
