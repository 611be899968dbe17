# SPDX-License-Identifier: Apache-2.0
"""Several models in one package: an entry each, over one arena; kernels and equal constants are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmcc.codegen.names import identifier
from mmcc.driver.compile import CompileResult, compile_module
from mmcc.driver.load import load_graph
from mmcc.driver.memories import regions_of
from mmcc.driver.options import CompileOptions, Progress, silent
from mmcc.errors import CompileError, Exit, did_you_mean, printable
from mmcc.ir.graph import Graph
from mmcc.ir.module import RESERVED, Entry, Module
from mmcc.package.folder import check_output
from mmcc.passes.rename import renamed
from mmcc.target import load_target

ALL = "all"  # what --concurrent calls all models


def named_models(given: Sequence[str]) -> dict[str, Path]:
    """Files by the names of their functions: NAME=FILE, or FILE, by whose name it is called then.

    CompileError MM120 for names that are none, or are there twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        path = Path(file if equals else text)
        name = name if equals else identifier(path.stem).lower()
        if name != identifier(name).lower() or RESERVED.fullmatch(name):
            raise _wrong(f'"{printable(name)}" cannot be the name of a function', "wake=model.onnx")
        if name == ALL:
            raise _wrong(
                f'no model can be called "{ALL}": --concurrent means any two by it', "wake=model.onnx"
            )
        if name in found:
            raise _wrong(f'two models are called "{name}"', f"{name}=A.onnx {name}2=B.onnx")
        found[name] = path
    if len(found) < 2:
        raise _wrong("one model is not several", "mmcc compile, which takes one")
    return found


def link_models(
    models: Mapping[str, Path],
    out: str | Path,
    options: CompileOptions,
    progress: Progress = silent,
    concurrent: Sequence[Sequence[str]] = (),
) -> CompileResult:
    """Compile ONNX files into one folder of C, each the function of its name.

    They run one after the other over the same bytes; models of a set in `concurrent` may run at the same
    time, in threads or interrupts of their own, over bytes of their own. Raises CompileError as
    `compile_model` does, MM120 for names in `concurrent` that no model has, and MM121 for what only a package
    of one model can have.
    """
    out = Path(out)
    target = load_target(options.target)
    check_output(out)
    sets = tuple(_set_of(names, models) for names in concurrent)
    if sets and len(regions_of(options, target)) > 1:
        what = "--concurrent plans one memory"
        hint = f"--ram N, which is of {target.memory[0].name}"
        raise CompileError("MM121", what, exit=Exit.USAGE, hint=hint)
    staged, handed = options.weights == "staged", bool(options.handoff)
    if options.io != "arena" or staged or options.states or options.stream or handed:
        what = "--io, --weights staged, --state, --stream and --handoff are for one model"
        raise CompileError("MM121", what, exit=Exit.USAGE, hint="mmcc compile for each model")
    entries = [Entry(name, _loaded(name, path, options, progress)) for name, path in models.items()]
    first = next(iter(models.values()))
    module = Module("linked", tuple(entries), sets)
    return compile_module(module, first, out, options, progress, linked=models)


def _set_of(names: Sequence[str], models: Mapping[str, Path]) -> tuple[str, ...]:
    """Models that may run at the same time; CompileError MM120 for others."""
    for name in names:
        if name not in models:
            raise _wrong(
                f'--concurrent: no model is called "{printable(name)}"',
                f"{did_you_mean(name, models)}names of models: {', '.join(models)}",
            )
    if len({*names}) != len(names) or len(names) < 2:
        raise _wrong(
            f"--concurrent {printable(','.join(names))}: these are no two models or more", ",".join(models)
        )
    return tuple(names)


def _loaded(name: str, path: Path, options: CompileOptions, progress: Progress) -> Graph:
    progress(f"reading {printable(path.name)}")
    return renamed(load_graph(path, options), lambda tensor: f"{name}/{tensor}")


def _wrong(what: str, hint: str) -> CompileError:
    return CompileError("MM120", f"mmcc link: {what}", exit=Exit.USAGE, hint=hint)
