# SPDX-License-Identifier: Apache-2.0
"""The command line. Everything heavy is imported by the command that needs it, so that --help is instant."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from mmcc import __version__
from mmcc.driver.piped import as_file
from mmcc.errors import LONGEST_WARNING, NAME_COLUMNS, CompileError, Exit, printable
from mmcc.sizes import parse_size, readable

if TYPE_CHECKING:
    from mmcc.driver.analyze import Analysis, Point

LINE = 110  # of an error's text
WARNINGS = 12  # shown
COMMON_NAMES = (
    "model",
    "model_int8",
    "model_quant",
    "model_quantized",
    "network",
)  # of files; two would clash
STACK_FROM = {
    "call graph": "worst case, from the call graph",
    "stated": "as stated with --stack",
    "assumed": "assumed, see the warning",
}
_JSON = "mmcc.json"  # key in click's context: errors are printed as JSON, too
_F = TypeVar("_F", bound=Callable[..., Any])
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(click.Group):
    """Turns a CompileError into its message and exit code, and a bug of ours into a short report.

    The message is for people and goes to stderr. With --json, stdout gets it as an object, too: who reads
    results there finds either a result or an "error".
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_JSON] = "--json" in args  # known even if the rest of the command line is wrong
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end)
        try:
            return super().invoke(ctx)
        except CompileError as error:
            self._fail(ctx, error)
        except (KeyboardInterrupt, BrokenPipeError):
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

    def _fail(self, ctx: click.Context, error: CompileError) -> NoReturn:
        click.echo(_wrapped(str(error)), err=True)
        if ctx.meta[_JSON]:
            click.echo(json.dumps(error.to_json(), indent=1))
        ctx.exit(int(error.exit))


def _end(number: int, _: object) -> NoReturn:
    """Leave as an error does: what was begun is taken away."""
    raise SystemExit(128 + number)


def _wrapped(text: str) -> str:
    """Long lines broken between words and indented; places in the model are left whole, to be copied."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + (7 if line.startswith("  = try:") else 4))
        whole = len(line) <= LINE or line.startswith("  -->")
        lines += [line] if whole else _broken(line, indent)
    return "\n".join(lines)


def _broken(line: str, indent: str) -> list[str]:
    return wrap(line, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class _Progress:
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


def _common(function: _F) -> _F:
    function = click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")(function)
    function = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def _sizes_and_inputs(function: _F) -> _F:
    """What a model leaves open: symbolic dimensions, and inputs that are to be constants."""
    function = click.option(
        "--bind",
        multiple=True,
        metavar="NAME=VALUE",
        help="Make an input a constant: a number, a [list], or a file .npy; repeatable.",
    )(function)
    return click.option(
        "--dim", "dims", multiple=True, metavar="NAME=N", help="Value of a symbolic dimension; repeatable."
    )(function)


def _bound(pairs: tuple[str, ...]) -> dict[str, Any]:
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


def _array_in(path: str) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def _dims(pairs: tuple[str, ...]) -> dict[str, int]:
    dims: dict[str, int] = {}
    for pair in pairs:
        name, _, value = pair.rpartition("=")
        if not name or not value.isdigit() or int(value) < 1:
            raise CompileError(
                "MM009", f'--dim "{pair}" is not name=value', exit=Exit.USAGE, hint="--dim height=96"
            )
        dims[name] = int(value)
    return dims


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(__version__, message="mmcc %(version)s")
def main() -> None:
    """Compile an ONNX model to plain C for microcontrollers, under a RAM limit that is proved.

    \b
      mmcc compile model.onnx --target cortex-m4 --ram 64K -o model_c
      mmcc verify model_c --on qemu
      mmcc bench model_c --on qemu

    Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad model, 4 unsupported operator, 5 does not fit,
    6 no plan within the time limit, 7 verification mismatch, 8 a tool is missing.
    """


@main.command(name="compile", short_help="Compile an ONNX file into a folder of C.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write [default: MODEL's name + _c]."
)
@click.option(
    "-t", "--target", default="host", show_default=True, help="A name (mmcc targets) or a TOML file."
)
@click.option(
    "--ram",
    help="Limit of RAM for all: arena, context, static data, stack. 256K; "
    "or min: as little as can be without computing anything twice.",
)
@click.option(
    "--recompute",
    type=click.FloatRange(1.0, 10.0),
    help="Work at most, in multiples of the model's, to save RAM [default: 2 with --ram N, 1 with min].",
)
@click.option("--flash", help="Limit of flash: weights, tables, code.")
@click.option(
    "--name",
    default="",
    help="Prefix of all C symbols [default: from the file's name]; each model in a firmware needs its own.",
)
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
@click.option("--float-io", is_flag=True, help="Keep float inputs and outputs of a quantized model.")
@_sizes_and_inputs
@click.option(
    "--time-limit",
    type=click.FloatRange(0.1, 3600),
    default=20.0,
    show_default=True,
    help="Effort of the planner, in deterministic seconds.",
)
@click.option("--stack", help="Take this as the worst-case stack instead of measuring it with the toolchain.")
@click.option("--dump", type=click.Path(path_type=Path), help="Write the intermediate forms to this folder.")
@click.option(
    "--no-self-check", is_flag=True, help="Do not run the generated C on this machine before it is written."
)
@_common
def compile_command(
    model: Path, output: Path | None, as_json: bool, quiet: bool, verbose: bool, **given: Any
) -> None:
    """Compile MODEL (an ONNX file) into a folder of C."""
    least = (given["ram"] or "").strip().lower() == "min"
    given["ram"] = "" if least else given["ram"]
    limits = {
        key: parse_size(given[key], f"--{key}") if given[key] else 0 for key in ("ram", "flash", "stack")
    }
    if limits["stack"] and limits["flash"]:
        message = "--flash needs the size of the code, which is not measured with --stack"
        raise CompileError("MM003", message, exit=Exit.USAGE, hint="leave out one of them")
    dims, bind = _dims(given["dims"]), _bound(given["bind"])
    from mmcc.driver.compile import compile_model
    from mmcc.driver.options import CompileOptions
    from mmcc.target import load_target

    options = CompileOptions(
        target=given["target"],
        name=given["name"],
        io=given["io"],
        least_ram=least,
        recompute=given["recompute"] or 0.0,
        weights=given["weights"] or "",
        dims=dims,
        bind=bind,
        time_limit=given["time_limit"],
        float_io=given["float_io"],
        dump=given["dump"],
        self_check=not given["no_self_check"],
        **limits,
    )
    progress = _Progress(quiet, verbose)
    try:
        with as_file(model) as path:
            folder = output or Path(f"{model.stem if path is model else path.stem}_c")
            result = compile_model(path, folder, options, progress)
    finally:
        progress.done()
    note = load_target(given["target"]).note
    if note and not quiet:
        click.echo(f"note: {note}", err=True)
    if not given["name"] and model.stem.lower() in COMMON_NAMES and not quiet:
        message = (
            f"symbols begin with {model.stem}_, after the file; --name gives each model of a firmware its own"
        )
        click.echo(f"note: {message}", err=True)
    checked = result.report["self_check"]
    if not checked["done"] and not given["no_self_check"] and not quiet:
        click.echo(f"note: the generated C was not run before it was written: {checked['reason']}", err=True)
    if not quiet:
        _show_warnings(result.report["warnings"], err=True)
    if as_json:
        click.echo(json.dumps(result.report, indent=1))
    elif not quiet:
        title = given["name"] or result.report["model"]["name"]
        _show_compiled(title, result.report, folder)


def _show_warnings(warnings: Sequence[str], *, err: bool) -> None:
    """The first ones: in a model that was quantized the wrong way every node may have one."""
    for warning in warnings[:WARNINGS]:
        click.echo(f"warning: {printable(warning, LONGEST_WARNING)}", err=err)
    if len(warnings) > WARNINGS:
        click.echo(f"warning: and {len(warnings) - WARNINGS} more; --json has them all", err=err)


def _show_compiled(title: str, report: dict[str, Any], folder: Path) -> None:
    from mmcc.report.model import flash_text, proof_text, self_check_text, staged_text, work_text

    ram = report["ram"]
    limit = f" of {readable(ram['limit'])}" if ram["limit"] else ""
    rows = [
        ("RAM", f"{readable(ram['total'], ' bytes')}{limit}"),
        ("  arena", f"{ram['arena']:,}  ({proof_text(report)})"),
        ("  context", f"{ram['context']:,}"),
        ("  static", f"{ram['static']:,}"),
        ("  stack", f"{ram['stack']:,}  ({STACK_FROM[ram['stack_from']]})"),
        ("flash", flash_text(report)),
        ("work", f"{work_text(report)} in {len(report['nodes'])} nodes"),
    ]
    if report["weights"]:
        rows.append(("weights", staged_text(report["weights"])))
    rows.append(("check", self_check_text(report["self_check"])))
    click.echo(f"{printable(title)} for {report['target']}")
    for name, value in rows:
        click.echo(f"  {name:<10}{value}")
    click.echo(f"  written to {folder}; see report.txt there")


@main.command(short_help="Say whether a model can be compiled.")
@click.argument("model", type=click.Path(path_type=Path))
@_sizes_and_inputs
@_common
def check(
    model: Path, dims: tuple[str, ...], bind: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Say whether MODEL can be compiled: operators, shapes, quantization. Plans nothing."""
    from mmcc.driver.check import check_model

    with as_file(model) as path:
        found = check_model(path, _dims(dims), _bound(bind), _Progress(quiet, verbose))
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif not quiet:
        click.echo(f"{found['name']}: {found['macs']:,} multiply-accumulates, {found['params']:,} parameters")
        for kind in ("inputs", "outputs"):
            for port in found[kind]:
                click.echo(f"  {kind[:-1]:<7}{port}")
        click.echo("  nodes  " + ", ".join(f"{count} {op}" for op, count in found["operators"].items()))
        _show_warnings(found["warnings"], err=False)
        click.echo("can be compiled")


@main.command(short_help="Show the least RAM, and what needing less costs.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-t", "--target", default="cortex-m4", show_default=True, help="Whose cost figures to use.")
@_sizes_and_inputs
@click.option("--svg", type=click.Path(path_type=Path), help="Also draw the frontier into this file.")
@_common
def analyze(
    model: Path,
    target: str,
    dims: tuple[str, ...],
    bind: tuple[str, ...],
    svg: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show how much RAM MODEL needs at least, and what needing less costs. Compiles nothing."""
    from mmcc.driver.analyze import analyze as run

    progress = _Progress(quiet, verbose)
    try:
        with as_file(model) as path:
            found = run(path, target, _dims(dims), _bound(bind), progress)
    finally:
        progress.done()
    if svg:
        svg.write_text(found.to_svg(model.stem))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    elif not quiet:
        _show_analysis(found)


def _show_analysis(found: Analysis) -> None:
    click.echo(f"{'arena':>12}  {'predicted':>12}  {'MACs':>6}  {'groups':>6}  bound by")
    for p in found.frontier:
        click.echo(_analysis_line(p))
    floor = found.frontier[-1]
    proof = "proved" if floor.proved else f"none below {floor.bound:,} is ruled out"
    click.echo(f"\nleast: {floor.arena:,} bytes of arena ({proof})")
    click.echo("\nthe least with other options:")
    for other in found.other:
        p = other.point
        figures = f"{p.arena:>12,}  {p.cost_ratio:>11.3f}x  {p.macs_ratio:>5.2f}x  {p.groups:>6}"
        click.echo(f"{figures}  {other.options:<31}{other.meaning}")


def _analysis_line(p: Point) -> str:
    figures = f"{p.arena:>12,}  {p.cost_ratio:>11.3f}x  {p.macs_ratio:>5.2f}x  {p.groups:>6}"
    return f"{figures}  {printable(p.binding, NAME_COLUMNS)}"


@main.command(short_help="Check that the C computes what the model does.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--on", type=click.Choice(["host", "qemu"]), default="host", show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Inputs (.npz: input_0 ..., perhaps labels).")
@click.option(
    "--expected",
    type=click.Path(path_type=Path),
    help="Outputs (.npz: output_0 ...) [default: ONNX Runtime's].",
)
@click.option(
    "--per-node", is_flag=True, help="Feed each node the model's own inputs; worst node first (host)."
)
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX file, if it has moved.")
@click.option(
    "--samples", type=click.IntRange(1), default=2, show_default=True, help="Made-up samples without --data."
)
@click.option("--limit", type=click.IntRange(1), help="Use only the first samples of --data.")
@click.option("--save-outputs", type=click.Path(path_type=Path), help="Write what the C gave (.npz).")
@click.option("--sanitize", is_flag=True, help="On the host with address and undefined-behaviour sanitizers.")
@_common
def verify(folder: Path, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Check that the package in FOLDER computes what its model computes."""
    from mmcc.verify.verify import VerifyOptions, verify_package

    progress = _Progress(quiet, verbose)
    try:
        found = verify_package(folder, VerifyOptions(**given), progress)
    finally:
        progress.done()
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif not quiet:
        _show_verified(found)
    if not found["ok"]:
        raise click.exceptions.Exit(int(Exit.MISMATCH))


def _show_verified(found: dict[str, Any]) -> None:
    steps = (
        f", at most {found['max_lsb']} steps of the output's scale" if found["max_lsb"] is not None else ""
    )
    click.echo(
        f"{'ok' if found['ok'] else 'MISMATCH'}: {found['samples']} "
        f"{'made-up ' if found['made_up'] else ''}samples on {found['on']}"
    )
    click.echo(
        f"  largest difference {found['max_abs']:.3g}{steps}; {found['mismatch_rate']:.2%} of outputs differ"
    )
    click.echo(f"  same top-1 in {found['top1_agreement']:.2%}")
    if "accuracy" in found:
        right = found["accuracy"]
        click.echo(f"  accuracy {right['correct']} of {right['total']}")
    if found["drift"] and found["ok"]:
        click.echo("  the outputs drift apart, but every node is right")
    if found["per_node"]:
        click.echo("node by node on the host; worst first")
    for row in found["per_node"]:
        lsb = f", at most {row['max_lsb']} LSB" if row["max_lsb"] is not None else ""
        ties = f" ({row['ties']} exact ties)" if row["ties"] else ""
        mark = "ok      " if row["ok"] else "MISMATCH"
        click.echo(
            f"  {mark} {row['index']:>4} {row['op']:<18} {row['mismatches']} of {row['outputs']}{ties}{lsb}"
            f"  {printable(row['name'], NAME_COLUMNS)}"
        )
        if row["fault"]:
            click.echo(f"           the C: {row['fault']}")


@main.command(short_help="Measure time, or instructions in QEMU.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--on", type=click.Choice(["host", "qemu"]), default="host", show_default=True)
@click.option("--profile", is_flag=True, help="Also by function and by instruction (QEMU).")
@_common
def bench(folder: Path, on: str, profile: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Measure the package in FOLDER: time on this machine, or exact instructions in QEMU."""
    from mmcc.package.record import load_package
    from mmcc.verify.bench import bench_host, bench_qemu

    package = load_package(folder)
    if profile and on == "host":
        raise CompileError("MM003", "--profile counts in QEMU", exit=Exit.USAGE, hint="add --on qemu")
    found = bench_host(folder, package) if on == "host" else bench_qemu(folder, package, profile=profile)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif on == "host":
        click.echo(
            f"{found['milliseconds']:.4f} ms, median of {found['runs']} "
            f"(quartiles {found['low']:.4f}, {found['high']:.4f})"
        )
    else:
        _show_bench(found)


def _show_bench(found: dict[str, Any]) -> None:
    from mmcc.verify.bench import numbers

    click.echo(f"{found['instructions']:,} instructions, {found['stack']:,} bytes of stack")
    total = max(1, sum(row["instructions"] for row in found["per_node"]))
    click.echo(f"  {'nodes':>8} {'operators':<32} {'instructions':>14} {'share':>7}")
    for row in found["per_node"]:
        click.echo(
            f"  {numbers(row['nodes']):>8} {row['op']:<32} {row['instructions']:>14,}"
            f" {row['instructions'] / total:>7.1%}"
        )
    for kind in ("functions", "mnemonics"):
        for name, count in list(found.get(kind, {}).items())[:20]:
            click.echo(f"  {name:<40} {count:>14,}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def targets(as_json: bool) -> None:
    """List the targets."""
    from mmcc.target import list_targets, load_target

    rows = {name: load_target(name).description for name in list_targets()}
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for name, description in rows.items():
            click.echo(f"{name:<18}{description}")
        click.echo("\nA TOML file of your own is taken by path: --target ./board.toml")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def ops(as_json: bool) -> None:
    """List the ONNX operators that can be compiled."""
    from mmcc.driver.check import operator_rows

    rows = operator_rows()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for row in rows:
            click.echo(f"{row['name']:<42} {row['versions']:<14} {row['notes']}".rstrip())


if __name__ == "__main__":
    main()
