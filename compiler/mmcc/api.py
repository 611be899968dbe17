"""The Python API: what the command line does, as functions. `import mmcc` gives these names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcc.checking import check_model
from mmcc.errors import CompileError
from mmcc.pipeline import CompileOptions, CompileResult
from mmcc.pipeline import compile_model as _compile
from mmcc.sizes import parse_size
from mmcc.verifying import VerifyOptions, verify_package

__all__ = ["CompileError", "CompileResult", "check", "compile_model", "verify"]


def compile_model(
    model: str | Path,
    out: str | Path,
    *,
    target: str = "host",
    ram: int | str = 0,
    flash: int | str = 0,
    dims: Mapping[str, int] | None = None,
    **options: Any,
) -> CompileResult:
    """Compile an ONNX file into the folder `out`.

    `ram` and `flash` are limits in bytes, or texts such as "256K"; 0 is none; `ram="min"` asks for as little
    as can be. Other options are the fields of
    `mmcc.pipeline.CompileOptions`: name, io, weights, time_limit, float_io, stack, dump. The result has
    `.report` (the content of report.json), `.files` (paths by name) and `.run(arrays)` (one inference on
    this machine: arrays in, arrays out, in the model's own shapes and types). Raises CompileError.
    """
    least = isinstance(ram, str) and ram.strip().lower() == "min"
    given = CompileOptions(
        target=target,
        ram=0 if least else _bytes(ram, "ram"),
        least_ram=least,
        flash=_bytes(flash, "flash"),
        dims=dict(dims or {}),
        **options,
    )
    return _compile(model, out, given)


def check(model: str | Path, dims: Mapping[str, int] | None = None) -> dict[str, Any]:
    """What `mmcc check --json` prints; raises CompileError if the model cannot be compiled."""
    return check_model(Path(model), dict(dims or {}), _silent)


def verify(folder: str | Path, **options: Any) -> dict[str, Any]:
    """What `mmcc verify --json` prints; options are the fields of `mmcc.verifying.VerifyOptions`."""
    return verify_package(Path(folder), VerifyOptions(**options), _silent)


def _bytes(size: int | str, what: str) -> int:
    return parse_size(size, what) if isinstance(size, str) else size


def _silent(_: str) -> None:
    pass
