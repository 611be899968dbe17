# SPDX-License-Identifier: Apache-2.0
"""Put firmware onto a board with the user's own tool."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from mmcc.errors import CompileError, Exit, did_you_mean, printable

TOOLS = ("openocd", "probe-rs", "pyocd")
SECONDS = 300.0


def commands(words: str, elf: Path) -> list[list[str]]:
    """The command lines for `words`, a tool and its own options. CompileError (MM003) for another tool."""
    tool, *own = shlex.split(words) or [""]
    if tool not in TOOLS:
        hint = f"{did_you_mean(tool, TOOLS)}one of {', '.join(TOOLS)}"
        raise CompileError(
            "MM003", f'--flash-with "{printable(tool)}" is not known', exit=Exit.USAGE, hint=hint
        )
    if tool == "openocd":
        return [[tool, *own, "-c", f"program {{{elf}}} verify reset exit"]]
    verb = "download" if tool == "probe-rs" else "flash"
    return [[tool, verb, *own, str(elf)], [tool, "reset", *own]]


def flash(words: str, elf: Path) -> None:
    """Run the tool. CompileError: it is missing (MM801), or failed (MM808)."""
    for command in commands(words, elf):
        if shutil.which(command[0]) is None:
            what = f"there is no {command[0]} in PATH"
            raise CompileError("MM801", what, exit=Exit.TOOL_MISSING, hint=f"installing {command[0]}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            failed, said = done.returncode != 0, (done.stderr or done.stdout).strip()
        except subprocess.TimeoutExpired:
            failed, said = True, f"it did not end within {SECONDS:g} s"
        if failed:
            what = f"{shlex.join(command)} failed: {printable(said[-600:], 600)}"
            raise CompileError(
                "MM808", what, exit=Exit.TOOL_MISSING, hint="the options of your tool and board"
            )
