# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc compile`: a model to a folder of C."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmcc.cli.options import bound, common, dims_of, paired, planned, sizes_and_inputs
from mmcc.cli.terminal import Progress, show_warnings
from mmcc.driver.piped import as_file
from mmcc.errors import CompileError, Exit, did_you_mean, printable
from mmcc.package.kinds import KINDS
from mmcc.sizes import parse_size, readable

if TYPE_CHECKING:
    from mmcc.driver.options import CompileOptions
    from mmcc.ir.graph import Graph

COMMON_NAMES = (
    "model",
    "model_int8",
    "model_quant",
    "model_quantized",
    "network",
)  # of files; two would clash
MOST_ESTIMATED = 100  # nodes of a float model that is planned once more, to say what int8 would take
STACK_FROM = {
    "call graph": "worst case, from the call graph",
    "stated": "as stated with --stack",
    "assumed": "assumed, see the warning",
}


@click.command(name="compile", short_help="Compile an ONNX file into a folder of C.")
@click.argument("model", type=click.Path(path_type=Path))
@planned
@click.option(
    "--io",
    type=click.Choice(["arena", "external", "rows", "rows-again"]),
    default="arena",
    show_default=True,
    help="Inputs and outputs in the arena, in memory of the caller's, or row by row through callbacks.",
)
@click.option(
    "--weights",
    type=click.Choice(["c", "bin", "staged"]),
    help="Weights as C arrays or as a file that is linked in [default: by size]; or staged: read through "
    "your callbacks while the model runs, a block at a time.",
)
@click.option(
    "--package",
    "packages",
    multiple=True,
    type=click.Choice(KINDS),
    help="Make it at home there, with a sample application; repeatable.",
)
@click.option("--float-io", is_flag=True, help="Keep float inputs and outputs of a quantized model.")
@click.option(
    "--fp16-math",
    is_flag=True,
    help="Convolutions and dense layers between tensors in float16 have their sums in float16, too: faster, "
    "and less exact.",
)
@sizes_and_inputs
@click.option(
    "--stream",
    default="",
    metavar="INPUT:AXIS",
    help="Run hop by hop along this axis: NAME_step takes the next rows and keeps what it needs of those "
    "before; INPUT:AXIS:ROWS for more rows a hop than the model needs.",
)
@click.option(
    "--window",
    type=click.IntRange(1),
    help="With --stream: what needs the whole sequence sees the newest so many rows.",
)
@click.option(
    "--background-moves",
    is_flag=True,
    help="Buffers may go from memory to memory while the model computes, through your callbacks.",
)
@click.option(
    "--weights-in-ram/--no-weights-in-ram",
    default=None,
    help="Init copies weights to RAM, where a core reads them faster than in flash: those that are read most "
    "often, as many as --ram leaves room for [all]. Unless said, so it is with --ram where the target has a "
    "weights_cost.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Kernels are made in chunks that so many threads of yours may run, through a callback.",
)
@click.option(
    "--handoff",
    type=click.Path(path_type=Path),
    help="Nodes that C functions of yours compute, on an accelerator for instance; see docs/handoff.md.",
)
@common
def compile_command(
    model: Path, output: Path | None, as_json: bool, quiet: bool, verbose: bool, **given: Any
) -> None:
    """Compile MODEL (an ONNX file) into a folder of C."""
    from mmcc.driver.compile import compile_model

    given |= of_chip(given)
    options = compile_options(given)
    with Progress(quiet, verbose) as progress, as_file(model) as path:
        folder = output or Path(f"{model.stem if path is model else path.stem}_c")
        result = compile_model(path, folder, options, progress)
    if not quiet:
        for note in (*_assumed(given), *notes(given, model, result.report), *_smaller(model, result.graph)):
            click.echo(f"note: {note}", err=True)
        show_warnings(result.report["warnings"], err=True)
    if as_json:
        click.echo(json.dumps(result.report, indent=1))
    elif not quiet:
        title = given["name"] or result.report["model"]["name"]
        show_compiled(title, result.report, folder)


def of_chip(given: dict[str, Any]) -> dict[str, Any]:
    """What --chip says of target, RAM and flash; CompileError (MM001) for a chip that is not known."""
    from mmcc.chips import chips, find_chip, longest_beginning
    from mmcc.target import list_chips

    name = given.pop("chip")
    if name is None:
        return {}
    chip, described = find_chip(name), longest_beginning(name, list_chips())
    if chip is None and described is None:
        hint = f"{did_you_mean(name.lower(), chips())}mmcc targets list, or a target file with its memories"
        raise CompileError("MM001", f'no chip "{printable(name)}"', exit=Exit.USAGE, hint=hint)
    source = click.get_current_context().get_parameter_source("target")
    if source is not None and source.name != "DEFAULT":
        what = "--chip and --target are two ways to say for what"
        raise CompileError("MM003", what, exit=Exit.USAGE, hint="leave out --chip or --target")
    if chip is None:  # its memories are in a file of its own
        return {"target": described, "by_chip": True}
    flash = str(chip.flash) if chip.flash and not given["stack"] else None
    told = {"target": chip.name, "flash": given["flash"] or flash, "by_chip": True}
    if not given["ram"]:  # all of the chip's is no word of what weights may take
        told |= {"ram": str(chip.ram), "weights_in_ram": given.get("weights_in_ram") or False}
    return told


def compile_options(given: dict[str, Any]) -> CompileOptions:
    """What the command line asks for; CompileError for sizes that are none, or that say nothing together."""
    from mmcc.driver.handoff_file import read_rules
    from mmcc.driver.memories import Ram, parse_ram
    from mmcc.driver.options import CompileOptions

    ram = parse_ram(given["ram"]) if given["ram"] else Ram()
    states, initial = paired(given["states"])
    sizes = {"flash": given["flash"], "stack": given["stack"]}
    limits = {key: parse_size(text, f"--{key}") if text else 0 for key, text in sizes.items()}
    if limits["stack"] and limits["flash"]:
        message = "--flash needs the size of the code, which is not measured with --stack"
        raise CompileError("MM003", message, exit=Exit.USAGE, hint="leave out one of them")
    return CompileOptions(
        target=given["target"],
        name=given["name"],
        io=given["io"],
        ram=ram.total,
        least_ram=ram.least,
        regions=ram.regions,
        recompute=given["recompute"] or 0.0,
        weights=given["weights"] or "",
        dims=dims_of(given["dims"]),
        bind=bound(given["bind"]),
        states=states,
        initial=initial,
        stream=given["stream"],
        window=given["window"] or 0,
        time_limit=given["time_limit"],
        packages=given["packages"],
        float_io=given["float_io"],
        fp16_math=given["fp16_math"],
        dump=given["dump"],
        background_moves=given["background_moves"],
        threads=given["threads"],
        weights_in_ram=given["weights_in_ram"],
        handoff=read_rules(given["handoff"]),
        self_check=not given["no_self_check"],
        **limits,
    )


def _assumed(given: dict[str, Any]) -> Iterator[str]:
    """What was taken since nothing was said."""
    source = click.get_current_context().get_parameter_source("target")
    if source is not None and source.name == "DEFAULT" and "by_chip" not in given:
        yield (
            "no --target: this is C for this machine, with its stack and code; -t cortex-m4 or another of "
            "mmcc targets is what firmware wants"
        )


def _smaller(model: Path, graph: Graph) -> Iterator[str]:
    """What int8 would save of a float model, and how to get there."""
    from mmcc.driver.estimate import can_be_quantized, int8_saving

    if not can_be_quantized(graph) or len(graph.nodes) > MOST_ESTIMATED:
        return
    saving = int8_saving(graph)
    yield (
        f"float32: in int8, layer by layer, the arena would take about {saving.arena_int8:,} bytes instead "
        f"of {saving.arena:,}, and constants {saving.constants_int8:,} instead of {saving.constants:,}: "
        f"mmcc quantize {shlex.quote(printable(str(model)))} --data CALIBRATION"
    )


def notes(given: dict[str, Any], model: Path, report: dict[str, Any]) -> Iterator[str]:
    """What the user may not expect, one line each."""
    from mmcc.target import load_target

    if note := load_target(given["target"]).note:
        yield note
    if not given["name"] and model.stem.lower() in COMMON_NAMES:
        clash = "--name gives each model of a firmware its own"
        yield f"symbols begin with {model.stem}_, after the file; {clash}"
    yield from _other_memories(given)
    yield from _weights_in_ram(given, report)
    checked = report["self_check"]
    if not checked["done"] and not given["no_self_check"]:
        yield f"the generated C was not run before it was written: {checked['reason']}"


def _other_memories(given: dict[str, Any]) -> Iterator[str]:
    """That one size is for the first of several memories."""
    from mmcc.driver.memories import parse_ram
    from mmcc.target import load_target

    target = load_target(given["target"])
    first, *others = (region.name for region in target.memory)
    if others and given["ram"] and parse_ram(given["ram"]).total:
        sizes = ",".join(f"{name}=SIZE" for name in (first, *others))
        yield (
            f"the arena is in {first} only, which one size for --ram is about: {target.name} has "
            f"{' and '.join(others)}, too, which plans use with --ram {sizes}"
        )


def _weights_in_ram(given: dict[str, Any], report: dict[str, Any]) -> Iterator[str]:
    """What init copies that nobody asked for, or what it could copy to the bytes that --ram leaves."""
    from mmcc.target import load_target

    ram, target = report["ram"], load_target(given["target"])
    if given.get("weights_in_ram", False) is not None:
        return
    if ram["weights"]:
        yield (
            f"init copies {ram['weights']:,} bytes of weights to RAM that --ram leaves, since {target.name} "
            "reads them faster there; --no-weights-in-ram leaves them in flash"
        )
        return
    left, weights = (ram["limit"] or 0) - ram["total"], report["flash"]["weights"]
    alone = len(target.memory) == 1 and not target.weights_cost and given["weights"] != "staged"
    if target.bare_metal and alone and left >= weights > 0:
        yield (
            f"--ram leaves {left:,} bytes: with --weights-in-ram init copies all {weights:,} bytes of "
            "weights there, which is faster where flash has wait states"
        )


def asked_by_nobody() -> dict[str, Any]:
    """The options of `mmcc compile` as they are without any: what other commands do not have."""
    return compile_command.make_context("compile", ["model"]).params


def show_compiled(title: str, report: dict[str, Any], folder: Path) -> None:
    """Print what a package needs."""
    from mmcc.report.memories import cost_text, regions_text
    from mmcc.report.stream import stream_text
    from mmcc.report.text import (
        dead_text,
        flash_text,
        saved_text,
        self_check_text,
        shared_proof_text,
        staged_text,
        static_text,
        work_text,
    )

    ram = report["ram"]
    limit = f" of {readable(ram['limit'])}" if ram["limit"] else ""
    rows = [
        ("RAM", f"{readable(ram['total'], ' bytes')}{limit}"),
        ("  arena", f"{ram['arena']:,}  ({shared_proof_text(report)})"),
        *([("  states", f"{ram['state']:,}")] if ram["state"] else []),
        ("  context", f"{ram['context']:,}"),
        ("  static", static_text(ram)),
        ("  stack", f"{ram['stack']:,}  ({STACK_FROM[ram['stack_from']]})"),
        *([("  workers", f"{ram['workers']:,}  (stacks of other threads)")] if ram["workers"] else []),
        ("flash", flash_text(report)),
    ]
    entries = [report, *report["entries"]]
    for entry in entries:
        of = f"{entry['entry']}: " if len(entries) > 1 else ""
        rows.append(("work", f"{of}{work_text(entry['plan'])} in {len(entry['nodes'])} nodes"))
        rows += [("saved", f"{of}{saved_text(entry['saved'])}")] if entry["saved"] else []
    if len(ram["regions"]) > 1:
        rows.insert(2, ("  regions", regions_text(report)))
    if report["stream"]:
        rows.append(("stream", stream_text(report["stream"])))
    if report["plan"]["cost"]:
        rows.append(("cost", cost_text(report["plan"], len(report["row_copies"]))))
    if report["dead_channels"]["nodes"]:
        rows.append(("left out", dead_text(report["dead_channels"])))
    if report["weights"]:
        rows.append(("weights", staged_text(report["weights"])))
    rows.append(("check", self_check_text(report["self_check"])))
    click.echo(f"{printable(title)} for {report['target']}")
    for name, value in rows:
        click.echo(f"  {name:<10}{value}")
    click.echo(f"  written to {folder}; see report.html there")
