# SPDX-License-Identifier: Apache-2.0
"""What a person sees: progress, warnings, long lines broken."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from textwrap import wrap

import click

from mmcc.errors import LONGEST_WARNING, printable

LINE = 110  # of an error's text
WARNINGS = 12  # shown


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
    """One line on stderr that says what is being done, if stderr is a terminal."""

    def __init__(self, quiet: bool, verbose: bool) -> None:
        self._lines, self._live = verbose, sys.stderr.isatty() and not quiet and not verbose

    def __call__(self, text: str) -> None:
        if self._lines:
            click.echo(text, err=True)
        elif self._live:
            click.echo(f"\r\x1b[K{text} ...", err=True, nl=False)

    def done(self) -> None:
        """Clear the line."""
        if self._live:
            click.echo("\r\x1b[K", err=True, nl=False)


def show_warnings(warnings: Sequence[str], *, err: bool) -> None:
    """The first ones: in a model that was quantized the wrong way every node may have one."""
    for warning in warnings[:WARNINGS]:
        click.echo(f"warning: {printable(warning, LONGEST_WARNING)}", err=err)
    if len(warnings) > WARNINGS:
        click.echo(f"warning: and {len(warnings) - WARNINGS} more; --json has them all", err=err)
