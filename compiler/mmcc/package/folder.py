# SPDX-License-Identifier: Apache-2.0
"""The folder a package is written to: made beside it and renamed, so that it is there whole or not at all."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mmcc.errors import CompileError, Exit
from mmcc.package.record import FOLDER, generated_files, is_package
from mmcc.scratch import ScratchFolder, held


def check_output(out: Path) -> None:
    """CompileError if a package cannot be written to `out`, or something else would be lost."""
    if any(c < " " or c == "\x7f" for c in str(out)):
        what = f"{str(out)!r} has a line break or another control character in it"
        raise CompileError("MM006", what, exit=Exit.USAGE, hint="-o another name")
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


def scratch_beside(out: Path) -> ScratchFolder:
    """A folder on the same file system, to be renamed; it vanishes if anything fails."""
    try:
        return ScratchFolder(".mmcc-", _existing_parent(out))
    except OSError as error:
        message = f"{out} cannot be written: {error.strerror}"
        raise CompileError("MM006", message, exit=Exit.USAGE, hint="-o another folder") from error


def _place(out: Path) -> Path:
    """Where the folder is; a link to it stays a link."""
    return Path(os.path.realpath(out))


def _existing_parent(out: Path) -> Path:
    parent = _place(out).parent
    while not parent.exists():
        parent = parent.parent
    return parent


def replace_folder(made: Path, out: Path) -> None:
    """Put the finished folder in place of the old one.

    Files there that mmcc did not write are kept; a generated file that is the same as before keeps its time,
    so that nothing is compiled again for it. CompileError if somebody else's file has the name of a new one.
    """
    place = _place(out)
    written = generated_files(place)
    if written is None:  # it does not say what was its own: what is to be written is
        written = frozenset(files_in(made))
    others = _others(place, written, files_in(made)) if place.is_dir() else []
    if taken := [path for path in others if _in_the_way(path, made)]:
        what = f"{out / taken[0]} is not a file that mmcc wrote, and one of this name is to be written"
        raise CompileError("MM006", what, exit=Exit.USAGE, hint="move it, or -o another folder")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        made.chmod(0o755)
        if place.exists():
            _keep_times(place, made)
            with held():
                _swap(made, place, others)
        else:
            made.rename(place)
    except OSError as error:
        raise CompileError("MM006", f"{out} cannot be written: {error}", exit=Exit.USAGE) from error


def files_in(folder: Path) -> tuple[str, ...]:
    """The files of a package that was made, those in folders with their path; not the record's."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return tuple(sorted(path.as_posix() for path in found if path.parts[0] != FOLDER))


def _others(place: Path, written: Iterable[str], to_write: Iterable[str]) -> list[Path]:
    """What others put there, as paths from `place` on: files, and folders that have nothing of ours."""
    ours = {PurePosixPath(name) for name in written}
    folders = {parent for name in (*ours, *map(PurePosixPath, to_write)) for parent in name.parents}
    found: list[Path] = []
    inside = [place]
    while inside:
        for path in sorted(inside.pop().iterdir()):
            name = PurePosixPath(path.relative_to(place).as_posix())
            if name in folders and path.is_dir() and not path.is_symlink():
                inside.append(path)
            elif name not in ours and name != PurePosixPath(FOLDER):
                found.append(path.relative_to(place))
    return found


def _in_the_way(path: Path, made: Path) -> bool:
    """True if something of this name, or a file that would have to be a folder for it, is to be written."""
    return (made / path).exists() or any((made / parent).is_file() for parent in path.parents)


def _keep_times(old: Path, new: Path) -> None:
    for path in new.rglob("*"):
        before = old / path.relative_to(new)
        if path.is_file() and before.is_file() and filecmp.cmp(before, path, shallow=False):
            times = before.stat()
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _swap(made: Path, place: Path, others: list[Path]) -> None:
    """Rename both folders and move `others` over; whatever interrupts it, nothing of theirs is lost."""
    old = made.with_name("old")
    moved: list[Path] = []
    try:
        place.rename(old)
        made.rename(place)
        for path in others:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (old / path).rename(place / path)
            moved.append(path)
    except BaseException:
        if old.exists():
            if place.exists():
                for path in moved:
                    (place / path).rename(old / path)
                place.rename(made)
            old.rename(place)
        raise
