# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, and what their values mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mmcc.errors import CompileError, Exit, printable

_F = TypeVar("_F", bound=Callable[..., Any])


def common(function: _F) -> _F:
    """What every command that works on a model or a package has."""
    function = click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")(function)
    function = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def on_machine(function: _F) -> _F:
    """Where a package is to run; a board gets its firmware first if so asked."""
    options = (
        click.option(
            "--on",
            default="host",
            show_default=True,
            metavar="host|qemu|wasm|serial:PORT",
            help="wasm: Node; serial: a board that runs the loop of --package serial.",
        ),
        click.option(
            "--baud", type=click.IntRange(1), default=115200, show_default=True, help="Of the serial port."
        ),
        click.option(
            "--flash-with",
            metavar="TOOL",
            help="First write --firmware onto the board, by openocd, probe-rs or pyocd with its options: "
            "'openocd -f board.cfg'.",
        ),
        click.option("--firmware", type=click.Path(path_type=Path), help="The ELF file for --flash-with."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def machine(on: str, flash_with: str | None, firmware: Path | None) -> str:
    """The value of --on, with firmware written onto the board. CompileError MM003 for what is no machine."""
    from mmcc.toolchain.flash import flash

    if on not in ("host", "qemu", "wasm") and not (on.startswith("serial:") and on != "serial:"):
        what = f'--on "{printable(on)}" is no machine'
        raise CompileError(
            "MM003", what, exit=Exit.USAGE, hint="--on host, qemu, wasm or serial:/dev/ttyACM0"
        )
    if (flash_with is None) != (firmware is None):
        what = "--flash-with and --firmware go together"
        raise CompileError("MM003", what, exit=Exit.USAGE, hint="--flash-with pyocd --firmware build/app.elf")
    if flash_with is not None and firmware is not None:
        if not firmware.is_file():
            what = f"there is no file {printable(str(firmware))}"
            raise CompileError("MM003", what, exit=Exit.USAGE, hint="the ELF file that your build made")
        flash(flash_with, firmware)
    return on


PLANNED = (
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="Folder to write [default: MODEL's name + _c].",
    ),
    click.option(
        "-t", "--target", default="host", show_default=True, help="A name (mmcc targets) or a TOML file."
    ),
    click.option(
        "--chip",
        help="A product by its name, STM32F411RE: its core as --target, its RAM and flash as --ram and "
        "--flash where these are not given (mmcc targets list).",
    ),
    click.option(
        "--ram",
        help="Limit of RAM for all: arena, context, static data, stack. 256K; "
        "or min: as little as can be without computing anything twice; or of each memory of the target: "
        "dtcm=128K,axi=512K.",
    ),
    click.option(
        "--recompute",
        type=click.FloatRange(1.0, 10.0),
        help="Work at most, in multiples of the model's, to save RAM [default: 2 with --ram N, 1 with min].",
    ),
    click.option(
        "--flash",
        help="Limit of flash: weights, tables, code. What it leaves makes some kernels faster, with larger "
        "weights.",
    ),
    click.option(
        "--name",
        default="",
        help="Prefix of all C symbols [default: from the file's name]; "
        "each model in a firmware needs its own.",
    ),
    click.option(
        "--time-limit",
        type=click.FloatRange(0.1, 3600),
        default=20.0,
        show_default=True,
        help="Effort of the solver, in deterministic seconds. Below the default, "
        "the searches for groups before it look at as many times fewer.",
    ),
    click.option(
        "--stack", help="Take this as the worst-case stack instead of measuring it with the toolchain."
    ),
    click.option(
        "--dump", type=click.Path(path_type=Path), help="Write the intermediate forms to this folder."
    ),
    click.option(
        "--no-self-check",
        is_flag=True,
        help="Do not run the generated C on this machine before it is written.",
    ),
)


def planned(function: _F) -> _F:
    """What every command has that plans a model and writes a package."""
    for option in reversed(PLANNED):
        function = option(function)
    return function


def sizes_and_inputs(function: _F) -> _F:
    """What a model leaves open: symbolic dimensions, and inputs that are to be constants or states."""
    function = click.option(
        "--state",
        "states",
        multiple=True,
        metavar="IN=OUT",
        help="Keep an output as the next run's input; it begins with 0, or as IN=OUT=FILE.npy; repeatable.",
    )(function)
    function = click.option(
        "--bind",
        multiple=True,
        metavar="NAME=VALUE",
        help="Make an input a constant: a number, a [list], or a file .npy; repeatable.",
    )(function)
    return click.option(
        "--dim", "dims", multiple=True, metavar="NAME=N", help="Value of a symbolic dimension; repeatable."
    )(function)


def bound(pairs: tuple[str, ...]) -> dict[str, Any]:
    """The values of --bind by input; CompileError MM112 for what is no number, list or .npy file."""
    bound: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            bound[name] = _array_in(text) if text.endswith(".npy") else json.loads(text)
        except (ValueError, OSError, EOFError) as error:
            reason = f": {error}" if text.endswith(".npy") else ""
            hint = "--bind NAME=16000, NAME=[1,2,3] or NAME=array.npy"
            what = f'--bind "{printable(pair)}" is not NAME=VALUE{reason}'
            raise CompileError("MM112", what, exit=Exit.USAGE, hint=hint) from None
    return bound


def paired(texts: tuple[str, ...]) -> tuple[dict[str, str], dict[str, Any]]:
    """The outputs of --state by input, and what some begin with; CompileError MM113 for what is no pair."""
    pairs: dict[str, str] = {}
    initial: dict[str, Any] = {}
    for text in texts:
        begin, _, rest = text.partition("=")
        end, _, file = rest.partition("=")
        problem = "" if begin and end else " is not IN=OUT"
        if begin in pairs:
            problem = f": {printable(begin)} is paired twice"
        try:
            initial |= {begin: _array_in(file)} if file else {}
        except (ValueError, OSError, EOFError) as error:
            problem = f": {error}"
        if problem:
            hint = "--state h=h_next, or --state h=h_next=first.npy"
            what = f'--state "{printable(text)}"{problem}'
            raise CompileError("MM113", what, exit=Exit.USAGE, hint=hint)
        pairs[begin] = end
    return pairs, initial


def _array_in(path: str) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def dims_of(pairs: tuple[str, ...]) -> dict[str, int]:
    """The values of --dim by symbol; CompileError MM009 for what is no size."""
    dims: dict[str, int] = {}
    for pair in pairs:
        name, _, value = pair.rpartition("=")
        if not name or not value.isdigit() or int(value) < 1:
            raise CompileError(
                "MM009",
                f'--dim "{printable(pair)}" is not NAME=N, with a whole N above 0',
                exit=Exit.USAGE,
                hint="--dim height=96",
            )
        dims[name] = int(value)
    return dims
