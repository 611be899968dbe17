# SPDX-License-Identifier: Apache-2.0
"""A package of --package serial on QEMU's MPS2 board: its serial port is a pseudo-terminal here."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from mmcc.package.host import package_sources
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.firmware import build_firmware
from toolchains import ready

LOOP_STACK = 1024  # of the loop, besides the model's


COUNTER = 40  # instructions a tick, of the board's counter at 25 MHz, as QEMU runs below


def firmware(folder: Path, out: Path, *, counter: bool = False, traced: bool = True) -> Path:
    """The package's example with mmcc's own start-up code; with the board's own counter if so asked."""
    package = load_package(folder)
    target = ready(package.target)
    main = (folder / "examples/serial/main.c").read_text()
    if counter:
        function = (
            "static uint32_t ticks(void)\n{\n    return *(volatile uint32_t *)0x40028018u;\n}\n\nint main("
        )
        main = main.replace("int main(", function).replace("transmit, 0}", "transmit, ticks}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "main.c").write_text(main)
    without = ("_traced", "_records") if not traced else (f"{package.name}.c",)
    serial = (folder / "serial").glob("*.[cS]")
    sources = [
        path for path in (*package_sources(folder), *serial) if not any(word in path.name for word in without)
    ]
    if traced:
        sources += [folder / "serial" / f"{package.name}_{what}.c" for what in ("traced", "records")]
    return build_firmware(
        target,
        list(dict.fromkeys(sources)),
        [folder, folder / "serial"],
        out,
        stack_bytes=package.stack + LOOP_STACK,
        flags=[f"-D{package.name.upper()}_HOOKS=1"],
        main=out / "main.c",
    )


@contextlib.contextmanager
def board(elf: Path, target: str) -> Iterator[str]:
    """The board runs; the name of its port as `--on` takes it."""
    qemu = load_target(target).qemu
    assert qemu is not None
    command = [qemu.program, "-M", qemu.machine, *qemu.options, "-nographic", "-monitor", "none"]
    command += ["-serial", "pty", "-semihosting-config", "enable=on,target=native"]
    command += ["-icount", "shift=0", "-kernel", str(elf)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"(/dev/pts/\d+)", said)
        assert found is not None, said
        yield f"serial:{found[1]}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def line_with(answer: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """A line with something else at its other end: what it sends for what it gets; None: it hangs up."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    name = os.ttyname(theirs)
    os.close(theirs)

    def talk() -> None:
        with contextlib.suppress(OSError):
            while (sent := answer(os.read(ours, 4096))) is not None:
                os.write(ours, sent)
        os.close(ours)

    keep = os.open(name, os.O_RDWR | os.O_NOCTTY)  # or the line hangs up before it is opened
    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        yield f"serial:{name}"
    finally:
        os.close(keep)
        talker.join(timeout=5)
