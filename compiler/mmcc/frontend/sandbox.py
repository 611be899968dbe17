# SPDX-License-Identifier: Apache-2.0
"""ONNX's own code, asked in a process of its own: it takes models at their word.

There are nodes that its C++ aborts on or never ends with, and its Python takes whatever memory a node names.
One process imports ONNX, once, and forks for every question: to begin anew would take most of the time.
"""

from __future__ import annotations

import atexit
import os
import select
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import IO

SECONDS, MEMORY = 5, 2**31
MAX_ASKED = 64  # questions of one model: each takes a process
_FAILED = 2**64 - 1  # in place of an answer's length

# What the process does: a script's imports itself, the rest in a fork with limits.
_SERVER = """
import os, resource, select, signal, struct, sys, time
seconds, memory, failed = map(int, sys.argv[1:])

def ends(script, given, write):
    os.dup2(write, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    exec(script, {"sys": sys, "given": given})
    sys.stdout.flush()

def answered(script, given):
    exec("".join(line for line in script.splitlines(True) if line.startswith("import ")), {})
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            ends(script, given, write)
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(write)
    parts, until = [], time.monotonic() + 4 * seconds
    while select.select([read], [], [], max(0, until - time.monotonic()))[0]:
        part = os.read(read, 1 << 20)
        if not part:
            break
        parts.append(part)
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    return None if os.waitpid(child, 0)[1] else b"".join(parts)

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of its input is its end
while head := sys.stdin.buffer.read(16):
    script, given = (sys.stdin.buffer.read(size) for size in struct.unpack("<2Q", head))
    made = answered(script.decode(), given)
    sys.stdout.buffer.write(struct.pack("<Q", failed if made is None else len(made)) + (made or b""))
    sys.stdout.flush()
"""


class _Server:
    """The process that answers, and how it is spoken to."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVER, *map(str, (SECONDS, MEMORY, _FAILED))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a fork has none of the threads
        )

    def ask(self, script: bytes, given: bytes) -> bytes | None:
        """OSError if the process is gone, EOFError if it goes or says nothing."""
        to, of = self.process.stdin, self.process.stdout
        assert to is not None
        assert of is not None
        to.write(struct.pack("<2Q", len(script), len(given)) + script + given)
        to.flush()
        if not select.select([of], [], [], 8 * SECONDS)[0]:
            raise EOFError
        (size,) = struct.unpack("<Q", _exactly(of, 8))
        return None if size == _FAILED else _exactly(of, size)

    def end(self) -> None:
        if self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


_lock = threading.Lock()
_server: _Server | None = None


def answer(script: str, given: bytes) -> bytes | None:
    """What a script writes to its standard output, with `given` the bytes it gets; None if it fails.

    It has a few seconds and 2 GiB. Lines that begin with "import" may run outside of these.
    """
    global _server
    with _lock:
        try:
            if _server is None or _server.owner != os.getpid():  # the server of whom forked us is not ours
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
