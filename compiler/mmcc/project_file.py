# SPDX-License-Identifier: Apache-2.0
"""mmcc.toml: the models of a project, each compiled again only if something it is made from has changed."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mmcc import __version__
from mmcc.api import CompileOptions, resolve
from mmcc.driver.compile import compile_model
from mmcc.driver.handoff_file import read_rules
from mmcc.driver.options import Progress, silent
from mmcc.errors import CompileError, Exit, did_you_mean
from mmcc.frontend.model_file import external_files
from mmcc.package.record import FOLDER, generated_files, sha256

NAME = "mmcc.toml"
OWN_KEYS = ("file", "output")  # of a model, besides the options of compile_model
LEFT_OUT = ("bind", "initial", "dump")  # arrays, and what is for looking at once
_BUILT = "built-from"  # in the package's folder .mmcc: what it was made from


@dataclass(frozen=True, slots=True)
class Model:
    """One table of the file: a model, its folder, and the options that compile_model takes."""

    name: str
    file: Path
    output: Path
    options: Mapping[str, Any]


def read_project(path: Path) -> tuple[Model, ...]:
    """The models of a file; paths in it are from its folder on. CompileError (MM116) if it is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = 'a file like this:\n[model.digits]\nfile = "digits.onnx"\ntarget = "cortex-m4"\nram = "64K"'
        raise _wrong(f"there is no file {path}", hint) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"{path}: {error}", "the TOML that docs/projects.md shows") from error
    for key in table:
        if key not in ("model", "defaults"):
            raise _wrong(f'{path}: unknown table "{key}"', did_you_mean(key, ("model", "defaults")) + _TABLES)
    models: Any = table.get("model")
    if not isinstance(models, dict) or not models:
        raise _wrong(f"{path} names no model", _TABLES)
    defaults = _options(table.get("defaults", {}), f"{path}, defaults", ())
    found = tuple(_model(path, name, defaults, table["model"][name]) for name in table["model"])
    for k, model in enumerate(found):
        twin = next((m.name for m in found[:k] if m.output.resolve() == model.output.resolve()), None)
        if twin is not None:
            raise _wrong(f"{path}: model.{twin} and model.{model.name} have one output", "an output each")
    return found


_TABLES = 'tables [model.NAME] with file = "model.onnx" and options of mmcc compile; [defaults] for all'


def _model(path: Path, name: str, defaults: Mapping[str, Any], value: Any) -> Model:
    where = f"{path}, model.{name}"
    own = _options(value, where, OWN_KEYS)
    if "file" not in own:
        raise _wrong(f'{where}: "file" is missing', 'file = "model.onnx"')
    folder = path.parent
    output = folder / own.get("output", f"{name}_c")
    options = {"name": name, **defaults, **{k: v for k, v in own.items() if k not in OWN_KEYS}}
    if "/" in options.get("target", "") or options.get("target", "").endswith(".toml"):
        options["target"] = str(folder / options["target"])
    if options.get("handoff"):
        options["handoff"] = str(folder / options["handoff"])
    return Model(name, folder / own["file"], output, options)


def _options(value: Any, where: str, more: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{where} is no table", _TABLES)
    types: dict[str, Any] = {
        **{name: kind for name, kind in get_type_hints(CompileOptions).items() if name not in LEFT_OUT},
        **dict.fromkeys(more, str),
    }
    known = list(types)
    table: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    for key, given in table.items():
        if key not in known:
            raise _wrong(
                f'{where}: unknown key "{key}"', f"{did_you_mean(key, known)}one of {', '.join(known)}"
            )
        if not _suits(given, types[key]):
            hint = "text, numbers, lists, true and false as docs/projects.md shows"
            raise _wrong(f'{where}: "{key}" is not to be a {type(given).__name__}', hint)
    if "packages" in table:
        table["packages"] = tuple(table["packages"])
    return table


def _suits(value: Any, kind: Any) -> bool:
    """True if a value of TOML, where arrays are lists and tables dictionaries, is of an option's type."""
    if get_origin(kind) in (Union, UnionType):
        return any(_suits(value, each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, list)
    if get_origin(kind) is Mapping:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind  # true and false are no integers


def build(model: Model, progress: Progress = silent) -> tuple[dict[str, Any], bool]:
    """Compile one model if it is not up to date; its report, and whether it was compiled.

    Raises CompileError as `compile_model` does, and MM116 for options of the wrong type.
    """
    try:
        options = resolve(dict(model.options))
    except TypeError as error:
        raise _wrong(f"model.{model.name}: {error}", "text and numbers as mmcc compile takes them") from error
    made_from = fingerprint(model.file, model.options)
    record = model.output / FOLDER / _BUILT
    try:
        if made_from and record.read_text() == f"{made_from} {_written(model.output)}":
            return json.loads((model.output / "report.json").read_text()), False
    except (OSError, ValueError):
        pass  # not there, or not whole: it is compiled
    result = compile_model(model.file, model.output, options, progress)
    record.write_text(f"{fingerprint(model.file, model.options)} {_written(model.output)}")
    return result.report, True


def _written(folder: Path) -> str:
    """A digest of all files that mmcc wrote there; OSError if one is missing."""
    files = sorted(generated_files(folder) or ())
    text = json.dumps([[name, sha256(folder / name)] for name in files])
    return hashlib.sha256(text.encode()).hexdigest()


def dependencies(file: Path, options: Mapping[str, Any]) -> tuple[Path, ...]:
    """The files that a package is made from: the model, its external data, a target file, those of functions
    that compute nodes. CompileError MM122 if these are not there."""
    target, handoff = Path(str(options.get("target", ""))), options.get("handoff")
    rules = read_rules(Path(handoff)) if handoff else ()
    given = [Path(handoff), *(source for rule in rules for source in rule.sources)] if handoff else []
    return (file, *external_files(file), *([target] if target.suffix == ".toml" else []), *given)


def fingerprint(file: Path, options: Mapping[str, Any]) -> str:
    """A digest of all that a package is made from; "" if some of it cannot be read."""
    try:
        parts = [sha256(path) for path in dependencies(file, options)]
    except OSError:
        return ""
    text = json.dumps([__version__, {key: options[key] for key in sorted(options)}, parts])
    return hashlib.sha256(text.encode()).hexdigest()


def _wrong(what: str, hint: str) -> CompileError:
    return CompileError("MM116", what, exit=Exit.USAGE, hint=hint)
