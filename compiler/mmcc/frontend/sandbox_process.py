# SPDX-License-Identifier: Apache-2.0
"""The process that `sandbox.py` asks: a program of its own, which imports nothing of mmcc.

    python -I sandbox_process.py SECONDS MEMORY PATH...

Standard input is a socket. A question is two lengths, a script and the bytes that it is `given`; an answer is
a length and the bytes that the script leaves as `answer`, or FAILED. A script's imports are made here, once,
the rest in a fork with limits.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import struct
import sys
import time

FAILED = 2**64 - 1  # in place of an answer's length
MOST = 2**28  # bytes of an answer
_PART = 1 << 20


def received(connection: socket.socket, size: int) -> bytes:
    """So many bytes; EOFError if the other side is gone before."""
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(_PART, size - len(data)))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _limit(what: int, most: int) -> None:
    """Limits only fall: whoever called us may have less."""
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _run(script: str, given: bytes, write: int, seconds: int, memory: int) -> None:
    """In a fork: what the script leaves goes to a pipe."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_AS, memory)
    names: dict[str, object] = {"given": given}
    exec(script, names)
    answer = names["answer"]
    assert isinstance(answer, bytes)
    with os.fdopen(write, "wb") as pipe:
        pipe.write(answer)


def _answered(
    connection: socket.socket, script: str, given: bytes, seconds: int, memory: int
) -> bytes | None:
    exec("".join(line for line in script.splitlines(True) if line.startswith("import ")), {})
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            connection.close()
            _run(script, given, write, seconds, memory)
            status = 0
        finally:
            os._exit(status)  # whatever was raised
    os.close(write)
    made, until = bytearray(), time.monotonic() + 4 * seconds
    while len(made) <= MOST and select.select([read], [], [], max(0, until - time.monotonic()))[0]:
        part = os.read(read, _PART)
        if not part:
            break
        made += part
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    return None if os.waitpid(child, 0)[1] else bytes(made)


def _serve() -> None:
    seconds, memory = map(int, sys.argv[1:3])
    sys.path[:] = sys.argv[3:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of its input is its end
    with socket.socket(fileno=os.dup(0)) as connection:
        while True:
            try:
                sizes = struct.unpack("<2Q", received(connection, 16))
                script, given = (received(connection, size) for size in sizes)
            except (EOFError, OSError):
                return
            made = _answered(connection, script.decode(), given, seconds, memory)
            connection.sendall(struct.pack("<Q", FAILED if made is None else len(made)) + (made or b""))


if __name__ == "__main__":
    _serve()
