# SPDX-License-Identifier: Apache-2.0
"""Questions and answers over a serial line: the computer's side of runtime_c/serial/mmcc_serial.c."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from mmcc.errors import CompileError, Exit, printable

PROTOCOL = 1
MOST = 240  # bytes of data in a frame
TRIES = 5
SECONDS = 1.0  # for an answer, besides the time that its bytes take
RUN_SECONDS = 600.0


def encoded(payload: bytes) -> bytes:
    """A frame: payload and its CRC-32, by COBS without zeros, and a zero behind."""
    made = bytearray()
    for block in (payload + struct.pack("<I", zlib.crc32(payload))).split(b"\0"):
        assert len(block) < 0xFE, "a frame is shorter than a group of COBS"
        made += bytes([len(block) + 1]) + block
    return bytes(made) + b"\0"


def decoded(frame: bytes) -> bytes | None:
    """The payload of a frame without its last zero; None if it is damaged."""
    made, at = bytearray(), 0
    while at < len(frame):
        code = frame[at]
        if code == 0 or at + code > len(frame):
            return None
        made += frame[at + 1 : at + code]
        at += code
        if at < len(frame) and code < 0xFF:
            made.append(0)
    payload, crc = bytes(made[:-4]), bytes(made[-4:])
    return payload if len(payload) >= 2 and crc == struct.pack("<I", zlib.crc32(payload)) else None


class SerialLine:
    """An open port. CompileError: pyserial is missing (MM801), or nobody answers as expected (MM808)."""

    def __init__(self, port: str, baud: int) -> None:
        try:
            import serial
        except ImportError:
            what = "--on serial needs pyserial, which is not installed"
            hint = "pip install 'mmcc[serial]'"
            raise CompileError("MM801", what, exit=Exit.TOOL_MISSING, hint=hint) from None
        self._number, self._rest = 0, bytearray()
        self._name, self._byte = port, 10.0 / baud
        try:
            self._port: Any = serial.serial_for_url(port, baudrate=baud, timeout=0.05)
        except (serial.SerialException, ValueError, OSError) as error:
            what = f"{printable(port)} cannot be opened: {printable(str(error))}"
            hint = "the port of your board, which is not open elsewhere; socket://HOST:PORT works, too"
            raise _no_answer(what, hint) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._port.close()

    def ask(self, kind: str, body: bytes = b"", *, size: int = MOST) -> bytes:
        """The answer, of about `size` bytes; a question that is lost, or whose answer is, is asked again."""
        asked = self._asked(kind, body)
        for _ in range(TRIES):
            self._write(asked)
            until = time.monotonic() + SECONDS + 2 * self._byte * (len(body) + size)
            while (found := self._frame(until)) is not None:
                if found[:2] == asked[:2]:
                    return found[2:]
        what = f"nothing that runs mmcc's serial loop answers at {printable(self._name)}"
        raise _no_answer(what, "the firmware of --package serial on the board, and its --baud")

    def run(self, entry: int, *, traced: bool = False) -> tuple[bytes, bytes]:
        """The answer to one run, and what is traced of it."""
        asked = self._asked("R", bytes([entry, traced]))
        trace, wait = bytearray(), SECONDS + 2 * self._byte * MOST
        until = time.monotonic() + RUN_SECONDS
        while time.monotonic() < until:
            self._write(asked)  # again if the answer was lost: it is not run twice
            quiet = time.monotonic() + wait
            while (found := self._frame(quiet)) is not None:
                if found[:2] == asked[:2]:
                    return found[2:], bytes(trace)
                if found[:1] == b"T" and found[1] == asked[1] and len(found) >= 6:
                    if struct.unpack("<I", found[2:6])[0] == len(trace):
                        trace += found[6:]
                    until = time.monotonic() + RUN_SECONDS
                    quiet = time.monotonic() + wait
        what = f"the board at {printable(self._name)} did not end its run within {RUN_SECONDS:g} s"
        raise _no_answer(what, "--limit 1, or a look at the board")

    def _asked(self, kind: str, body: bytes) -> bytes:
        self._number = self._number % 255 + 1
        return kind.encode() + bytes([self._number]) + body

    def _write(self, payload: bytes) -> None:
        with self._connected():
            self._port.write(encoded(payload))

    def _frame(self, until: float) -> bytes | None:
        """The next whole frame; None if none has come by then."""
        while True:
            while (end := self._rest.find(0)) >= 0:
                payload = decoded(bytes(self._rest[:end]))
                del self._rest[: end + 1]
                if payload is not None:
                    return payload
            if time.monotonic() >= until:
                return None
            with self._connected():
                self._rest += self._port.read(max(1, self._port.in_waiting))

    @contextmanager
    def _connected(self) -> Generator[None]:
        try:
            yield
        except OSError as error:  # pyserial's own errors are some
            what = f"{printable(self._name)} is gone: {printable(str(error))}"
            hint = "the cable, and whether another program has the port open"
            raise _no_answer(what, hint) from error


def _no_answer(what: str, hint: str) -> CompileError:
    return CompileError("MM808", what, exit=Exit.TOOL_MISSING, hint=hint)
