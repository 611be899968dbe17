# SPDX-License-Identifier: Apache-2.0
"""ONNX's own code, asked in a process of its own: it takes models at their word.

There are nodes that its C++ aborts on or never ends with, and its Python takes whatever memory a node names.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

SECONDS, MEMORY = 5, 2**31
MAX_ASKED = 64  # questions of one model: each takes a process
_LIMITS = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
given = sys.stdin.buffer.read()
"""


def answer(script: str, given: bytes) -> bytes | None:
    """What a script writes to its standard output, with `given` the bytes it gets; None if it fails.

    It has a few seconds and 2 GiB.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _LIMITS + script],
            input=given,
            capture_output=True,
            timeout=4 * SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


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
