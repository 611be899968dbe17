# SPDX-License-Identifier: Apache-2.0
"""The Python API: what the command line does, as functions. `import mmcc` gives these names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from numpy.typing import ArrayLike

from mmcc.driver.check import check_model
from mmcc.driver.compile import CompileResult
from mmcc.driver.compile import compile_model as _compile
from mmcc.driver.estimate import Estimate, estimate
from mmcc.driver.handoff_file import read_rules
from mmcc.driver.link import link_models as _link
from mmcc.driver.link import named_models
from mmcc.driver.memories import Ram, parse_ram
from mmcc.driver.options import CompileOptions as _Resolved
from mmcc.driver.options import silent
from mmcc.driver.train import compile_training as _compile_training
from mmcc.errors import CompileError
from mmcc.sizes import parse_size
from mmcc.training.options import TrainOptions as _Training
from mmcc.verification.verify import VerifyOptions as _Verify
from mmcc.verification.verify import verify_package

__all__ = [
    "CompileError",
    "CompileOptions",
    "CompileResult",
    "Estimate",
    "TrainOptions",
    "VerifyOptions",
    "check",
    "compile_model",
    "compile_training",
    "estimate",
    "link_models",
    "verify",
]


class CompileOptions(TypedDict, total=False):
    """Options of `compile_model`, with the names and meanings of `mmcc compile`'s."""

    target: str  # a name that `mmcc targets` lists, or the path of a TOML file
    ram: int | str  # limit in bytes, or "256K"; "min": as little as can be; "dtcm=128K,sram=min"; 0: none
    flash: int | str  # limit in bytes, or "1M"; 0: none
    stack: int | str  # bytes of stack to take for granted instead of measuring; 0: measure
    recompute: float  # work at most, in multiples of the model's multiply-accumulates
    name: str  # prefix of all C symbols
    io: Literal["arena", "external", "rows", "rows-again"]
    weights: Literal["", "c", "bin", "staged"]  # "": by size
    dims: Mapping[str, int]  # values of symbolic dimensions
    bind: Mapping[str, ArrayLike]  # values of inputs, which are constants then
    states: Mapping[str, str]  # outputs by the inputs that they are kept for, from run to run
    initial: Mapping[str, ArrayLike]  # what states begin with, by input; 0 if not given
    stream: str  # "INPUT:AXIS", or "INPUT:AXIS:ROWS": hop by hop along this axis
    window: int  # newest rows that are seen by what needs the whole sequence
    float_io: bool  # keep float inputs and outputs of a quantized model
    fp16_math: bool  # layers between tensors in float16 may have their sums in float16
    threads: int  # that kernels are cut for, in chunks that a function of the caller's has made
    background_moves: bool  # buffers may go between memories while the model computes, through callbacks
    weights_in_ram: bool  # init copies weights to what `ram` leaves; if not given, where flash is slower
    handoff: Path | str | None  # TOML file of the nodes that functions of the caller's compute
    time_limit: float  # effort of the solver, in deterministic seconds; below 20 searches look at less, too
    packages: tuple[str, ...]  # as --package: "zephyr", "arduino", ...
    dump: Path | str | None  # folder for the intermediate forms
    self_check: bool  # run the C on this machine before it is written; True if not given


class TrainOptions(TypedDict, total=False):
    """How `compile_training` is to train, with the names and meanings of `mmcc train`'s options."""

    loss: Literal["softmax-cross-entropy", "mse"]
    optimizer: Literal["sgd", "momentum", "adam"]
    update: str  # "all", "last:K", "bias", "auto", or names of parameters between commas, with *
    accumulate: int  # steps whose gradients are summed up for one change
    momentum: float  # decay of the moment
    betas: tuple[float, float]  # of adam
    epsilon: float  # of adam
    early_epsilon: bool  # added before the second moment is corrected, as in ONNX's Adam
    weight_decay: float  # share of a parameter that it loses in a step, times the rate
    clip_value: float  # bound of each gradient; 0: none
    clip_norm: float  # bound of the norm of all gradients; 0: none
    batch_norm: Literal["frozen", "own"]  # statistics: the model's, or in a step the sample's own
    slow_memory: int  # bytes that values of the forward pass may be paged to
    slow_cycles: float  # that a byte takes there or back


class VerifyOptions(TypedDict, total=False):
    """Options of `verify`, with the names and meanings of `mmcc verify`'s."""

    on: str  # "host", "qemu", or "serial:PORT"
    baud: int  # of the serial port
    data: Path | str | None  # .npz with input_0, input_1, ..., perhaps labels
    expected: Path | str | None  # .npz with output_0, ...; None: ONNX Runtime's
    per_node: bool
    model: Path | str | None  # the ONNX file, if it has moved
    samples: int  # made-up ones, where there is no data
    limit: int | None  # of the samples in data
    save_outputs: Path | str | None
    sanitize: bool
    entry: str  # of linked models, the one


def compile_model(model: str | Path, out: str | Path, **options: Unpack[CompileOptions]) -> CompileResult:
    """Compile an ONNX file into the folder `out`, which is written whole or not at all.

    The result has `.report` (the content of report.json), `.files` (paths by name) and `.run(arrays)` (one
    inference on this machine: arrays in, arrays out, in the model's own shapes and types).

    Raises CompileError for all that is the caller's to change: the model, a limit, an option, a missing tool.
    """
    return _compile(model, out, resolve(dict(options)))


def link_models(
    models: Mapping[str, str | Path],
    out: str | Path,
    concurrent: Sequence[Sequence[str]] = (),
    **options: Unpack[CompileOptions],
) -> CompileResult:
    """Compile several ONNX files, by the names of their functions, into one folder of C, as `mmcc link` does.

    Models that are named together in a set of `concurrent` may run at the same time. Raises CompileError as
    `compile_model` does, and for names that no function can have, or no model has.
    """
    named = named_models([f"{name}={path}" for name, path in models.items()])
    return _link(named, out, resolve({"name": "models", **options}), silent, concurrent)


def compile_training(
    model: str | Path,
    out: str | Path,
    train: TrainOptions | None = None,
    **options: Unpack[CompileOptions],
) -> CompileResult:
    """Compile an ONNX file into a folder of C that runs it and trains it on the device, as `mmcc train` does.

    Raises CompileError as `compile_model` does, and for a model that cannot be trained so.
    """
    return _compile_training(model, out, _Training(**(train or {})), resolve(dict(options)))


def check(
    model: str | Path,
    dims: Mapping[str, int] | None = None,
    bind: Mapping[str, ArrayLike] | None = None,
    states: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What `mmcc check --json` prints; raises CompileError if the model cannot be compiled."""
    return check_model(Path(model), dict(dims or {}), dict(bind or {}), silent, states)


def verify(folder: str | Path, **options: Unpack[VerifyOptions]) -> dict[str, Any]:
    """What `mmcc verify --json` prints. Raises CompileError if there is nothing to compare."""
    given = dict[str, Any](options)
    for name in ("data", "expected", "model", "save_outputs"):
        given[name] = _path(given.get(name))
    return verify_package(Path(folder), _Verify(**given), silent)


def resolve(options: Mapping[str, Any]) -> _Resolved:
    """Options by the names of CompileOptions, with sizes as numbers. CompileError for sizes that are none."""
    given = dict(options)
    ram = given.pop("ram", 0)
    asked = parse_ram(ram) if isinstance(ram, str) else Ram(ram)
    for size in ("flash", "stack"):
        given[size] = _bytes(given.get(size, 0), size)
    dump, handoff = _path(given.pop("dump", None)), _path(given.pop("handoff", None))
    rules, least = read_rules(handoff), asked.least
    return _Resolved(
        ram=asked.total, least_ram=least, regions=asked.regions, dump=dump, handoff=rules, **given
    )


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _bytes(size: int | str, what: str) -> int:
    return parse_size(size, what) if isinstance(size, str) else size
