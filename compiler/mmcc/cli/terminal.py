# SPDX-License-Identifier: Apache-2.0
"""What a person sees: progress, warnings, long lines broken."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from mmcc.errors import LONGEST_WARNING, CompileError, printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE = 110  # of an error's text
WARNINGS = 12  # shown


def open_standard_files() -> None:
    """Open what a shell's `2>&-` has closed: the next file that is opened would be taken for it."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode))


def wrapped(text: str) -> str:
    """Long lines broken between words and indented; places in the model are left whole, to be copied."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + (7 if line.startswith("  = try:") else 4))
        whole = len(line) <= LINE or line.startswith("  -->")
        lines += [line] if whole else _broken(line, indent)
    return "\n".join(lines)


def _broken(line: str, indent: str) -> list[str]:
    return wrap(line, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class Progress:
    """What is being done: on a terminal a line on stderr with its time, and a bar where the end is known.

    A context: the line is gone when it ends. With --verbose each step is a line of its own, without pictures.
    What an error proposes is found before that: it may take as long as what failed, and be stopped like it.
    """

    def __init__(self, quiet: bool, verbose: bool) -> None:
        self._lines, self._live = verbose, sys.stderr.isatty() and not quiet and not verbose
        self._bar: RichProgress | None = None

    def __enter__(self) -> Progress:
        if self._live:
            self._bar = _bar()
            self._bar.start()
            self._bar.add_task("starting", total=None)
        return self

    def __exit__(self, _: object, error: BaseException | None, *more: object) -> None:
        try:
            if isinstance(error, CompileError):
                str(error)  # which has the hint
        finally:
            if self._bar is not None:
                self._bar.stop()

    def __call__(self, text: str, /, done: int = 0, of: int = 0) -> None:
        if self._lines:
            click.echo(f"{done} of {of}: {text}" if of else text, err=True)
        elif self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=_escaped(text), completed=done, total=of or None)


def _bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Bar(*columns, console=Console(stderr=True), transient=True)


def _escaped(text: str) -> str:
    """Text as it is: rich takes square brackets for its own."""
    from rich.markup import escape

    return escape(printable(text))


def show_warnings(warnings: Sequence[str], *, err: bool) -> None:
    """The first ones: in a model that was quantized the wrong way every node may have one."""
    for warning in warnings[:WARNINGS]:
        click.echo(f"warning: {printable(warning, LONGEST_WARNING)}", err=err)
    if len(warnings) > WARNINGS:
        click.echo(f"warning: and {len(warnings) - WARNINGS} more; --json has them all", err=err)
