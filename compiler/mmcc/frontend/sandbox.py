# SPDX-License-Identifier: Apache-2.0
"""ONNX's own code, asked in a process of its own: it takes models at their word.

There are nodes that its C++ aborts on or never ends with, and its Python takes whatever memory a node names.
One process imports ONNX, once, and forks for every question: to begin anew would take most of the time.
"""

from __future__ import annotations

import atexit
import os
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from mmcc.frontend import sandbox_process
from mmcc.frontend.sandbox_process import FAILED, MOST, received

SECONDS, MEMORY = 5, 2**31
MAX_ASKED = 64  # questions of one model: each takes a process


class _Server:
    """The process that answers, and how it is spoken to."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(8 * SECONDS)
        program = [sandbox_process.__file__, str(SECONDS), str(MEMORY), *_import_path()]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-W", "ignore", *program],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a fork has none of the threads
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, script: bytes, given: bytes) -> bytes | None:
        """OSError if the process says nothing, EOFError if it goes."""
        self._ours.sendall(struct.pack("<2Q", len(script), len(given)) + script + given)
        (size,) = struct.unpack("<Q", received(self._ours, 8))
        if size > MOST and size != FAILED:
            raise EOFError
        return None if size == FAILED else received(self._ours, size)

    def end(self) -> None:
        self.forget()
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """Close this end of it only: in a fork it is not ours."""
        self._ours.close()


_lock = threading.Lock()
_server: _Server | None = None


def answer(script: str, given: bytes) -> bytes | None:
    """The bytes that a script leaves as `answer`, with `given` the bytes it gets; None if it fails.

    It has a few seconds and 2 GiB. Lines that begin with "import" may run outside of these.
    """
    global _server
    with _lock:
        try:
            if _server is not None and not _server.alive:
                _end()
            if _server is None:
                _server = _Server()
            return _server.ask(script.encode(), given)
        except (OSError, EOFError):
            _end()
            return None
        except BaseException:  # in the middle of an answer
            _end()
            raise


@atexit.register
def _end() -> None:
    global _server
    if _server is not None:
        _server.end()
        _server = None


def _import_path() -> list[str]:
    """Where this process finds modules, its current folder last: nothing there is run in place of ONNX."""
    try:
        here = "", str(Path.cwd())
    except FileNotFoundError:
        here = ("",)
    return sorted(sys.path, key=lambda folder: folder in here)


def _in_a_fork() -> None:
    """Whoever forked us keeps its process, and may have been in the middle of a question."""
    global _server, _lock
    _lock = threading.Lock()
    if _server is not None:
        _server.forget()
        _server = None


os.register_at_fork(after_in_child=_in_a_fork)


@dataclass(slots=True)
class Sandbox:
    """Answers for one model: what was asked before is known."""

    known: dict[tuple[str, bytes], bytes | None] = field(
        default_factory=dict[tuple[str, bytes], "bytes | None"]
    )

    def answer(self, script: str, given: bytes) -> bytes | None:
        """As `answer`; None, too, once enough was asked."""
        if (script, given) not in self.known:
            if len(self.known) >= MAX_ASKED:
                return None
            self.known[script, given] = answer(script, given)
        return self.known[script, given]
