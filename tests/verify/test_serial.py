# SPDX-License-Identifier: Apache-2.0
"""`--on serial:PORT`: a board that runs the serial loop, here QEMU's at a pseudo-terminal."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run
from doc_pages import DIGITS
from frontend_models import model_of, save
from hypothesis import given
from hypothesis import strategies as st
from mmcc.errors import CompileError
from mmcc.package.record import load_package
from mmcc.toolchain.flash import commands, flash
from mmcc.verification import serial_line
from mmcc.verification.bench import bench_qemu
from mmcc.verification.board import Board, run_board
from mmcc.verification.compare import run_host
from mmcc.verification.samples import made_up
from mmcc.verification.serial_line import MOST, SerialLine, decoded, encoded
from onnx import helper
from serial_board import COUNTER, board, firmware, line_with
from toolchains import ready

TARGET = "cortex-m4"


def compiled(model: Path, out: Path, *args: object) -> Path:
    ready(TARGET)
    result = run("compile", model, "-t", TARGET, "--package", "serial", "--name", "m", "-o", out, *args)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    return compiled(DIGITS / "digits_int8.onnx", folder / "m_c", "--ram", "min", "--no-self-check")


@pytest.mark.quick
@given(st.binary(min_size=2, max_size=8 + MOST), st.integers(0, 255), st.integers(0, 10**6))
def test_frames_have_no_zeros_and_damage_is_seen(payload: bytes, byte: int, at: int) -> None:
    frame = encoded(payload)
    assert frame.count(0) == 1
    assert decoded(frame[:-1]) == payload
    broken = bytearray(frame[:-1])
    broken[at % len(broken)] = byte
    assert decoded(bytes(broken)) == (payload if bytes(broken) == frame[:-1] else None)


def test_a_board_is_verified_and_measured(digits: Path, tmp_path: Path) -> None:
    elf = firmware(digits, tmp_path, counter=True)
    with board(elf, TARGET) as port:
        found = json.loads(run("verify", digits, "--on", port, "--per-node", "--json").stdout)
        counted = json.loads(run("bench", digits, "--on", port, "--json").stdout)
    assert found["ok"]
    assert found["max_lsb"] == 0
    assert found["first_divergence"] is None
    assert len(found["per_node"]) == 10
    assert all(row["ok"] for row in found["per_node"])
    exact = bench_qemu(digits, load_package(digits))
    # looking after each kernel and at the counter is on top
    assert exact["instructions"] < counted["cycles"] * COUNTER < 2 * exact["instructions"]
    rows = {row["index"]: row for row in counted["per_node"]}
    assert rows.keys() == {row["index"] for row in exact["per_node"]}
    assert sum(row["cycles"] for row in rows.values()) == pytest.approx(counted["cycles"], rel=0.1)
    largest = max(exact["per_node"], key=lambda row: row["instructions"])
    assert max(rows.values(), key=lambda row: row["cycles"])["index"] == largest["index"]


def test_the_first_node_that_is_wrong_is_named(digits: Path, tmp_path: Path) -> None:
    other = tmp_path / "m_c"
    shutil.copytree(digits, other)
    weights = other / "m_weights.c"
    text = weights.read_text()
    block = re.search(r"\.n7_weights = \{[^}]*\}", text)
    assert block is not None
    numbers = re.findall(r"-?\d+(?=[,\s])", block[0])
    changed = re.sub(rf"(?<=\s){numbers[len(numbers) // 2]}(?=[,\s])", "287454020", block[0], count=1)
    wrong = text.replace(block[0], changed)
    assert wrong != text
    weights.write_text(wrong)
    elf = firmware(other, tmp_path / "fw")
    with board(elf, TARGET) as port:
        result = run("verify", digits, "--on", port, "--json")
        told = run("bench", digits, "--on", port).output
    found = json.loads(result.stdout)
    assert result.exit_code == 7
    assert not found["ok"]
    first = found["first_divergence"]
    assert first["index"] == 7
    assert "no counter of cycles" in told


def test_a_noisy_line_and_states(tmp_path: Path) -> None:
    """What is damaged comes again; nothing is run twice, or the states would tell."""
    model = model_of(
        [helper.make_node("Add", ["x", "s"], ["n"]), helper.make_node("Neg", ["n"], ["y"])],
        {"x": np.ones((1, 300), np.float32), "s": np.zeros((1, 300), np.float32)},
        ["y", "n"],
    )
    out = compiled(save(model, tmp_path), tmp_path / "m_c", "--state", "s=n")
    package = load_package(out)
    samples = made_up(package.inputs, 3)
    rng = np.random.default_rng(5)

    def noisy(data: bytes) -> bytes:
        broken = bytearray(data)
        if rng.random() < 0.0008 * len(broken):
            broken[int(rng.integers(len(broken)))] ^= 1 << int(rng.integers(8))
        return bytes(broken)

    with board(firmware(out, tmp_path / "fw"), TARGET) as port, Board(package, port[7:], 115200) as there:
        line = there._line
        read, write = line._port.read, line._port.write
        line._port.read = lambda size: noisy(read(size))
        line._port.write = lambda data: write(noisy(data))
        outputs, _ = run_board(there, samples)
    np.testing.assert_array_equal(outputs, run_host(out, package, samples))
    np.testing.assert_allclose(outputs[2][0], -sum(sample[0] for sample in samples), rtol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["H", "R"])
def test_frames_of_somebody_else_do_not_keep_a_question_waiting(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_line, "SECONDS", 0.1)
    monkeypatch.setattr(serial_line, "RUN_SECONDS", 0.5)
    others = encoded(bytes([ord("T"), 99]) + bytes(20)) * 3000
    with line_with(lambda asked: others) as port, SerialLine(port[7:], 115200) as line:
        begun = time.monotonic()
        with pytest.raises(CompileError, match=r"MM808|answers|end its run"):
            line.ask(kind) if kind == "H" else line.run(0)
        assert time.monotonic() - begun < 20


@pytest.mark.quick
def test_a_line_that_hangs_up_is_named() -> None:
    with (
        line_with(lambda asked: None) as port,
        SerialLine(port[7:], 115200) as line,
        pytest.raises(CompileError, match="is gone") as raised,
    ):
        line.ask("H")
    assert port[7:] in raised.value.message


@pytest.mark.quick
def test_firmware_is_written_by_the_users_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elf = tmp_path / "my app.elf"
    elf.touch()
    log = tmp_path / "log"
    for tool in ("openocd", "probe-rs", "pyocd"):
        fake = tmp_path / tool
        fake.write_text(f'#!/bin/sh\necho "{tool}" "$@" >> {log}\n')
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    flash("openocd -f 'a b.cfg'", elf)
    flash("probe-rs --chip STM32F411RE", elf)
    flash("pyocd -t stm32f411re", elf)
    assert log.read_text().splitlines() == [
        f"openocd -f a b.cfg -c program {{{elf}}} verify reset exit",
        f"probe-rs download --chip STM32F411RE {elf}",
        "probe-rs reset --chip STM32F411RE",
        f"pyocd flash -t stm32f411re {elf}",
        "pyocd reset -t stm32f411re",
    ]
    assert commands("pyocd", elf)[0] == ["pyocd", "flash", str(elf)]
    (tmp_path / "pyocd").write_text("#!/bin/sh\necho no probe >&2\nexit 3\n")
    with pytest.raises(CompileError, match="no probe"):
        flash("pyocd", elf)
