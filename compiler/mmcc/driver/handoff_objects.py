# SPDX-License-Identifier: Apache-2.0
"""The user's functions as objects: those that a package is measured with, and those it runs with in QEMU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmcc.codegen.handoffs import stand_in
from mmcc.driver.handoff_file import Rule
from mmcc.errors import CompileError, Exit
from mmcc.target import Target
from mmcc.toolchain import compile_objects


def function_objects(
    rules: Sequence[Rule], prefix: str, target: Target, made: Path, work: Path
) -> tuple[tuple[Path, ...], int]:
    """What a package in `made` is linked with to be measured, and bytes of stack that are stated on top.

    A function whose stack is stated does nothing there. CompileError MM802 if a source does not compile.
    """
    if not rules:
        return (), 0
    measured = [rule for rule in rules if rule.stack is None]
    stated = {rule.handoff.function: rule.stack for rule in rules if rule.stack is not None}
    sources = tuple(dict.fromkeys(source for rule in measured for source in rule.sources))
    objects = given_objects(sources, target, made, work / "handoff")
    if stated:
        empty = work / f"{prefix}_handoff_empty.c"
        work.mkdir(parents=True, exist_ok=True)
        empty.write_text(stand_in(prefix, stated))
        objects += compile_objects(target, [empty], work / "handoff", include_dirs=[made])
    return objects, max(stated.values(), default=0)


def given_objects(sources: Sequence[Path], target: Target, package: Path, out: Path) -> tuple[Path, ...]:
    """Compile the user's files, which see the headers of the package; their warnings are the user's."""
    missing = [path for path in sources if not path.is_file()]
    if missing:
        message = f"{missing[0]}, which the package's handoff file names, is not there any more"
        hint = "compiling the model again with the file where it is now"
        raise CompileError("MM122", message, exit=Exit.USAGE, hint=hint)
    folders = list(dict.fromkeys(path.parent for path in sources))
    return tuple(
        compile_objects(target, [path], out / str(k), include_dirs=[package, *folders], flags=["-w"])[0]
        for k, path in enumerate(sources)
    )
