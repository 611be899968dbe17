# SPDX-License-Identifier: Apache-2.0
"""A model that comes through a pipe: kept as a file for as long as it is worked on."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mmcc.errors import CompileError, Exit
from mmcc.scratch import ScratchFolder

STDIN = Path("-")


@contextmanager
def as_file(model: Path) -> Generator[Path]:
    """`model` as a file that can be read more than once; "-" is the standard input.

    CompileError MM101 if the standard input is a terminal, MM106 if what came keeps its weights in other
    files: a pipe has no folder in which they could lie.
    """
    if model != STDIN and not _is_pipe(model):
        yield model
        return
    with ScratchFolder("mmcc-") as folder:
        kept = Path(folder) / "model.onnx"
        if model == STDIN:
            if is_terminal():
                message = "the standard input is a terminal, not a model"
                raise CompileError("MM101", message, exit=Exit.BAD_MODEL, hint="mmcc check - < model.onnx")
            _copy(sys.stdin.buffer, kept)
        else:
            with model.open("rb") as source:
                _copy(source, kept)
        try:
            yield kept
        except CompileError as error:
            if error.code != "MM106":
                raise
            message = f"{error.message}; a model that comes through a pipe has no folder for such files"
            hint = "giving the model as a file, with its data beside it"
            raise CompileError("MM106", message, exit=error.exit, at=error.at, hint=hint) from error


def is_terminal() -> bool:
    """True if there is nobody but a person to write to the standard input."""
    return sys.stdin.isatty()


def _is_pipe(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False  # told by whoever reads it
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _copy(source: BinaryIO, kept: Path) -> None:
    with kept.open("wb") as file:
        shutil.copyfileobj(source, file)
