# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc quantize`: a float model to int8 or 16x8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.options import common, dims_of
from mmcc.cli.terminal import Progress
from mmcc.errors import CompileError, Exit, printable


@click.command(short_help="Turn a float model into an int8 or 16x8 one (mmcc[quantize]).")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Samples: see above.")
@click.option("--test", type=click.Path(path_type=Path), help="Other samples to judge by [default: --data].")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="[default: MODEL's name + _int8.onnx or _16x8.onnx].",
)
@click.option(
    "-t", "--target", default="cortex-m4", show_default=True, help="For the costs that are printed."
)
@click.option("--samples", type=click.IntRange(1), default=200, show_default=True, help="To calibrate with.")
@click.option("--per-tensor", is_flag=True, help="One scale for all channels of a weight.")
@click.option("--symmetric", is_flag=True, help="Zero points of activations are 0.")
@click.option(
    "--activations",
    type=click.Choice(["int8", "int16"]),
    default="int8",
    show_default=True,
    help="int16: 16x8, nearer to the float model for more RAM, flash and time.",
)
@click.option(
    "--method", type=click.Choice(["minmax", "entropy", "percentile"]), default="minmax", show_default=True
)
@click.option(
    "--mixed",
    type=float,
    metavar="LOSS",
    help="Keep the worst layers in float until at most LOSS points of accuracy are lost; "
    "without labels: until there are LOSS decibels of signal over noise.",
)
@click.option("--no-corrections", is_flag=True, help="Do not try equalized channels and corrected biases.")
@click.option(
    "--mean",
    default="0",
    help="Of images (0 to 255) and sound (-1 to 1), to be subtracted; a list by channel.",
)
@click.option("--std", default="1", help="What they are divided by then.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=N", help="Value of a symbolic dimension.")
@common
def quantize(
    model: Path, output: Path | None, as_json: bool, quiet: bool, verbose: bool, **given: Any
) -> None:
    """Turn the float MODEL into an int8 or 16x8 one, by ONNX Runtime (pip install 'mmcc[quantize]').

    \b
    --data is  .npz           input_0, input_1, ...; labels, if it has them
               .npy           the input, samples stacked in front
               .csv           a line a sample, its label behind
               a folder       of images or WAV files; folders in it are classes
    """
    from mmcc.quantization.quantize import FORMS, QuantizeOptions, quantize_model
    from mmcc.verification.data_files import Preprocessing

    preprocessing = Preprocessing(_numbers(given["mean"], "--mean"), _numbers(given["std"], "--std"))
    options = QuantizeOptions(
        data=given["data"],
        test=given["test"],
        samples=given["samples"],
        per_channel=not given["per_tensor"],
        symmetric=given["symmetric"],
        activations=given["activations"],
        method=given["method"],
        mixed=given["mixed"],
        corrections=not given["no_corrections"],
        target=given["target"],
        preprocessing=preprocessing,
        dims=dims_of(given["dims"]),
    )
    out = output or model.with_name(f"{model.stem}_{FORMS[options.activations]}.onnx")
    with Progress(quiet, verbose) as progress:
        found = quantize_model(model, out, options, progress)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif not quiet:
        _show(found)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or (option == "--std" and 0 in numbers):
        what = f'{option} "{printable(text)}" is no number, and no list of numbers'
        raise CompileError(
            "MM003", what, exit=Exit.USAGE, hint=f"{option} 127.5, or {option} 123.7,116.3,103.5"
        )
    return numbers


def _show(found: dict[str, Any]) -> None:
    counts = found["samples"]
    click.echo(f"calibrated with {counts['calibration']} samples, judged by {counts['judged']}")
    click.echo(f"  {'':<10}{'accuracy':>10} {'SNR':>9} {'RAM':>12} {'flash':>12} {'predicted':>14}")
    for kind, row in (("float", found["float"]), (found["form"], found["quantized"])):
        accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        snr = "-" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB"
        costs = f"{row['ram']:>12,} {row['flash']:>12,} {row['predicted']:>14,}"
        click.echo(f"  {kind:<10}{accuracy:>10} {snr:>9} {costs}")
    click.echo(f"  same top-1 as the float model in {found['quantized']['same_top1']:.2%}; RAM, flash and")
    click.echo("  work are predicted, layer by layer: mmcc compile and mmcc bench measure")
    if found["applied"]:
        click.echo(f"  better with {' and '.join(found['applied'])}: kept")
    click.echo(f"worst layers: signal over noise at the outputs if only this one is {found['form']}")
    for row in found["worst_layers"]:
        kept = "  kept in float" if row["node"] in found["kept_in_float"] else ""
        click.echo(f"  {row['snr_db']:>6.1f} dB  {printable(row['node'], 60)}{kept}")
    click.echo(f"written to {found['model']}")
