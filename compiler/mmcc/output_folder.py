"""The folder a package is written to: made beside it and renamed, so that it is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mmcc.errors import CompileError, Exit
from mmcc.package import FOLDER, generated_files, is_package


def check_output(out: Path) -> None:
    """CompileError if a package cannot be written to `out`, or something else would be lost."""
    if out.exists() and not out.is_dir():
        raise CompileError("MM006", f"{out} is a file, not a folder", exit=Exit.USAGE, hint="-o another name")
    if out.is_dir() and any(out.iterdir()) and not is_package(out):
        raise CompileError(
            "MM006",
            f"{out} is not empty and was not written by mmcc, so it is left alone",
            exit=Exit.USAGE,
            hint="-o a new folder; packages that mmcc wrote are replaced",
        )
    parent = _existing_parent(out)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise CompileError("MM006", f"{parent} cannot be written", exit=Exit.USAGE, hint="-o another folder")


def scratch_beside(out: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the same file system, to be renamed; it vanishes if anything fails."""
    try:
        return tempfile.TemporaryDirectory(prefix=".mmcc-", dir=_existing_parent(out))
    except OSError as error:
        message = f"{out} cannot be written: {error.strerror}"
        raise CompileError("MM006", message, exit=Exit.USAGE, hint="-o another folder") from error


def _existing_parent(out: Path) -> Path:
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    return parent


def replace_folder(made: Path, out: Path) -> None:
    """Put the finished folder in place of the old one; files there that mmcc did not write are kept."""
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        old = made.with_name("old")
        if out.exists():
            _keep_others(out, made)
            out.rename(old)
        made.chmod(0o755)
        made.rename(out)
    except OSError as error:
        raise CompileError("MM006", f"{out} cannot be written: {error}", exit=Exit.USAGE) from error


def _keep_others(out: Path, made: Path) -> None:
    """Take over from the old folder what was not generated."""
    written = generated_files(out)
    if written is None:
        return
    for path in out.iterdir():
        if path.name != FOLDER and path.name not in written and not (made / path.name).exists():
            shutil.move(path, made / path.name)
