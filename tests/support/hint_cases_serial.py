# SPDX-License-Identifier: Apache-2.0
"""Hints of boards at a serial line, followed: see test_hints.py."""

from __future__ import annotations

import sys

from frontend_models import save
from hint_runs import RELU, mmcc
from hints import follows
from mmcc.verification import serial_line
from serial_board import board, firmware, line_with
from toolchains import ready


def package(folder, *args):
    ready("cortex-m4")
    out = folder / "out"
    mmcc("compile", save(RELU, folder), "-t", "cortex-m4", "--package", "serial", "-o", out, *args)
    return out


@follows("verification/serial_line.py: \"pip install 'mmcc[serial]'\"")
def without_pyserial(folder, monkeypatch):
    out = folder / "out"
    mmcc("compile", save(RELU, folder), "-o", out)
    monkeypatch.setitem(sys.modules, "serial", None)
    assert "mmcc[serial]" in mmcc("bench", out, "--on", "serial:/dev/nowhere", exit=8)
    monkeypatch.undo()
    assert "/dev/nowhere cannot be opened" in mmcc("bench", out, "--on", "serial:/dev/nowhere", exit=8)


@follows("verification/board.py: 'building the firmware with this package, and --flash-with'")
def another_model_and_no_traces(folder, _):
    out = package(folder)
    elf = firmware(out, folder / "fw", traced=False)
    with board(elf, "cortex-m4") as port:
        assert "the port of your board" in mmcc("bench", out, "--on", port + "0", exit=8)
        mmcc("bench", out, "--on", port)
        assert "_traced.c" in mmcc("verify", out, "--on", port, "--per-node", exit=8)
        package(folder, "--name", "other")
        assert "with this package" in mmcc("bench", out, "--on", port, exit=2)
    with board(firmware(out, folder / "fw2"), "cortex-m4") as port:
        mmcc("verify", out, "--on", port, "--per-node")


@follows(
    "verification/board.py: 'the port of the board itself, without an echo'",
    "verification/serial_line.py: 'the cable, and whether another program has the port open'",
    "verification/serial_line.py: 'the firmware of --package serial on the board, and its --baud'",
    "verification/serial_line.py: '--limit 1, or a look at the board'",
)
def a_line_without_a_board(folder, monkeypatch):
    out = package(folder)
    with line_with(lambda asked: b"") as port:
        monkeypatch.setattr(serial_line, "SECONDS", 0.05)
        assert "its --baud" in mmcc("bench", out, "--on", port, exit=8)
        monkeypatch.undo()
    with line_with(lambda asked: asked) as port:
        assert "without an echo" in mmcc("bench", out, "--on", port, exit=8)
    with line_with(lambda asked: None) as port:
        assert "the cable" in mmcc("bench", out, "--on", port, exit=8)
    with board(firmware(out, folder / "fw"), "cortex-m4") as port:
        monkeypatch.setattr(serial_line, "RUN_SECONDS", 0.0)
        assert "--limit 1" in mmcc("verify", out, "--on", port, exit=8)
        monkeypatch.undo()
        mmcc("verify", out, "--on", port, "--limit", 1)


@follows(
    "cli/options.py: '--on host, qemu, wasm or serial:/dev/ttyACM0'",
    "cli/options.py: '--flash-with pyocd --firmware build/app.elf'",
    "cli/options.py: 'the ELF file that your build made'",
    "toolchain/flash.py: f\"{did_you_mean(tool, TOOLS)}one of {', '.join(TOOLS)}\"",
    "toolchain/flash.py: f'installing {command[0]}'",
    "toolchain/flash.py: 'the options of your tool and board'",
)
def tools_that_flash(folder, monkeypatch):
    model, out = save(RELU, folder), folder / "out"
    mmcc("compile", model, "-o", out)
    assert "--on host" in mmcc("bench", out, "--on", "serial:", exit=2)
    args = ("bench", out, "--on", "host", "--flash-with")
    assert "--firmware" in mmcc(*args, "pyocd", exit=2)
    elf = folder / "app.elf"
    assert "your build made" in mmcc(*args, "pyocd", "--firmware", elf, exit=2)
    elf.touch()
    assert "did you mean pyocd?" in mmcc(*args, "pyocdd", "--firmware", elf, exit=2)
    assert "installing pyocd" in mmcc(*args, "pyocd", "--firmware", elf, exit=8)
    tool = folder / "pyocd"
    tool.write_text('#!/bin/sh\ntest "$3" = -t || test "$2" = -t\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert "options of your tool" in mmcc(*args, "pyocd", "--firmware", elf, exit=8)
    mmcc(*args, "pyocd -t stm32f411re", "--firmware", elf)
