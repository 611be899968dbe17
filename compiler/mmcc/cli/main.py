# SPDX-License-Identifier: Apache-2.0
"""The command mmcc: its commands, and how each of them fails."""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import Any, NoReturn

import click

from mmcc import __version__
from mmcc.cli.analyze import analyze
from mmcc.cli.bench import bench
from mmcc.cli.build import build
from mmcc.cli.check import check
from mmcc.cli.compile import compile_command
from mmcc.cli.link import link
from mmcc.cli.ops import ops
from mmcc.cli.quantize import quantize
from mmcc.cli.report import report
from mmcc.cli.sweep import sweep
from mmcc.cli.targets import targets
from mmcc.cli.terminal import open_standard_files, wrapped
from mmcc.cli.train import train
from mmcc.cli.verify import verify
from mmcc.errors import CompileError, Exit
from mmcc.resources import data_dir
from mmcc.scratch import end_by

_JSON = "mmcc.json"  # key in click's context: errors are printed as JSON, too
_EMPTY = "mmcc.empty"  # the option that is given nothing, or "an argument"; not there where none is
GROUPS = {  # of the commands, in the help
    "From a model to C": ("compile", "link", "build", "quantize", "train"),
    "Before": ("check", "analyze", "sweep", "targets", "ops"),
    "Afterwards": ("verify", "bench", "report"),
}
STOPPED = (
    "stopped by {}: files and folders are as they were; a sweep keeps what it has and goes on from there"
)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """Turns a CompileError into its message and exit code, and a bug of ours into a short report.

    The message is for people and goes to stderr. With --json, stdout gets it as an object, too: who reads
    results there finds either a result or an "error".
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        open_standard_files()
        return super().main(*args, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_JSON] = "--json" in args  # known even if the rest of the command line is wrong
        for before, word in zip(("", *args), args, strict=False):
            option = word.removesuffix("=") if word.startswith("--") and word.endswith("=") else before
            if not word or option is not before:
                ctx.meta.setdefault(_EMPTY, option if option.startswith("-") else "an argument")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if threading.current_thread() is threading.main_thread():
            end_by(signal.SIGTERM, _end)
            end_by(signal.SIGINT, _interrupt)
        try:
            _refuse_empty(ctx)
            return super().invoke(ctx)
        except CompileError as error:
            self._fail(ctx, error)
        except KeyboardInterrupt:
            click.echo(STOPPED.format("SIGINT"), err=True)
            ctx.exit(130)
        except BrokenPipeError:  # whoever read has enough
            ctx.exit(130)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:  # click prints its usage itself
            if ctx.meta[_JSON]:
                usage = CompileError("MM000", error.format_message(), exit=Exit.USAGE)
                click.echo(json.dumps(usage.to_json(), indent=1))
            raise
        except OSError as error:  # a path of the user's, a full disk; what the model holds raises none
            what = f"{error.filename}: " if error.filename else ""
            self._fail(ctx, CompileError("MM006", f"{what}{error.strerror or error}", exit=Exit.USAGE))
        except MemoryError:
            what = "this machine has not enough memory for the model"
            self._fail(ctx, CompileError("MM901", what, exit=Exit.BAD_MODEL))
        except RecursionError:
            self._fail(ctx, CompileError("MM900", "the model nests too deeply", exit=Exit.BAD_MODEL))
        except Exception as error:
            if "-v" in sys.argv or "--verbose" in sys.argv:
                raise
            message = f"a bug in mmcc: {type(error).__name__}: {error}"
            hint = "report it with the model; -v shows where it happened"
            self._fail(ctx, CompileError("MM999", message, exit=Exit.INTERNAL, hint=hint))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for; those of no group come last."""
        grouped = {name for names in GROUPS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in grouped)
        width = max(map(len, self.commands))
        for title, names in {**GROUPS, "Other commands": others}.items():
            known = [(name, self.commands[name]) for name in names if name in self.commands]
            rows = [(name.ljust(width), command.get_short_help_str(80)) for name, command in known]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _fail(self, ctx: click.Context, error: CompileError) -> NoReturn:
        click.echo(wrapped(str(error)), err=True)
        if ctx.meta[_JSON]:
            click.echo(json.dumps(error.to_json(), indent=1))
        ctx.exit(int(error.exit))


def _refuse_empty(ctx: click.Context) -> None:
    """A limit that is written and says nothing must not be as if there were none."""
    if named := ctx.meta.get(_EMPTY):
        raise click.UsageError(
            f"{named} is empty: a variable that is not set? What is not wanted is left out as a whole.", ctx
        )


def _interrupt(_: int) -> NoReturn:
    raise KeyboardInterrupt


def _end(number: int) -> NoReturn:
    """Leave as an error does: what was begun is taken away."""
    click.echo(STOPPED.format(signal.Signals(number).name), err=True)
    raise SystemExit(128 + number)


def _cmake_dir(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(data_dir("runtime_c") / "cmake")
        ctx.exit()


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, message="mmcc %(version)s")
@click.option(
    "--cmake-dir",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_cmake_dir,
    help="Print the folder for CMake's find_package(mmcc).",
)
def main() -> None:
    """Compile an ONNX model to plain C for microcontrollers, under a RAM limit that is proved.

    \b
      mmcc compile model.onnx --target cortex-m4 --ram 64K -o model_c
      mmcc verify model_c --on qemu
      mmcc bench model_c --on qemu

    Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad model, 4 unsupported operator, 5 does not fit,
    6 no plan within the time limit, 7 verification mismatch, 8 a tool is missing.
    """


for command in (
    *(compile_command, link, train, build, quantize, check, analyze),
    *(verify, bench, report, sweep, targets, ops),
):
    main.add_command(command)
