# SPDX-License-Identifier: Apache-2.0
"""Files that were asked for by name: written whole or not at all; a place that is wrong is told early."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from mmcc.errors import CompileError, Exit, printable
from mmcc.scratch import ScratchFolder


def check_file(path: Path, option: str) -> None:
    """CompileError (MM006) if the file that `option` asks for cannot be written; a look, nothing is made."""
    if path.is_dir():
        raise _refused(path, "is a folder, not a file", option)
    parent = path.absolute().parent
    if not parent.is_dir():
        raise _refused(path, f"there is no folder {printable(str(parent))}", option)
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise _refused(path, "cannot be written: permission denied", option)


@contextlib.contextmanager
def whole_file(path: Path, option: str) -> Generator[Path]:
    """A file beside `path` to write to, which takes its place at the end; CompileError (MM006) if it cannot.

    What is no regular file (a pipe, /dev/null) is written itself.
    """
    if path.exists() and not path.is_file():
        with told(path, option):
            yield path
        return
    place = Path(os.path.realpath(path))  # a link stays one
    with told(path, option), ScratchFolder(".mmcc-", place.parent) as scratch:
        made = Path(scratch) / place.name
        yield made
        if place.exists():
            made.chmod(place.stat().st_mode & 0o777)
        made.replace(place)


def write_file(path: Path, data: str | bytes, option: str) -> None:
    """Write a file that `option` asks for, whole or not at all; CompileError (MM006) if it cannot be."""
    with whole_file(path, option) as made:
        made.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def told(path: Path, option: str) -> Generator[None]:
    """What the system refuses of a place, as an error that names it and the option."""
    try:
        yield
    except OSError as error:
        raise _refused(path, f"cannot be written: {error.strerror or error}", option) from error


def _refused(path: Path, what: str, option: str) -> CompileError:
    hint = f"{option} with a path where files of yours can be"
    return CompileError("MM006", f"{printable(str(path))}: {what}", exit=Exit.USAGE, hint=hint)
