# SPDX-License-Identifier: Apache-2.0
"""Cases of a sweep on a cluster of dask.distributed. Files go with the cases: workers need not see ours."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmcc import __version__
from mmcc.driver.sweep_cases import DIED, Case, Row, failed
from mmcc.errors import CompileError, Exit, printable
from mmcc.frontend.model_file import external_files
from mmcc.scratch import ScratchFolder

SCHEME = "dask://"
SECONDS = 30.0  # to reach the scheduler


def measured_by(
    address: str, keys: Mapping[str, Case], work: Callable[[Case], Row]
) -> Iterator[tuple[str, Row]]:
    """Results as they come, of all cases by their keys; `address` is dask://HOST:PORT.

    A case whose worker dies goes to another one. The scheduler gives up those that were with several as these
    died (`distributed.scheduler.allowed-failures`), run or waiting. They are tried alone, and if they are
    given up again, have that as their error. What was measured is with the scheduler before its worker goes
    on: it is not done again whatever happens to the worker.

    CompileError: dask.distributed is missing (MM801), nobody answers, or workers have another version of mmcc
    (MM809).
    """
    try:
        import distributed
    except ImportError:
        what = "--executor dask:// needs dask.distributed, which is not installed"
        hint = "pip install 'mmcc[dask]'"
        raise CompileError("MM801", what, exit=Exit.TOOL_MISSING, hint=hint) from None
    dask: Any = distributed
    where = "tcp://" + address.removeprefix(SCHEME)
    try:
        client = dask.Client(where, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        what = f"no scheduler of dask answers at {printable(address)}"
        hint = "dask scheduler, dask worker HOST:PORT, and --executor dask://HOST:PORT"
        raise CompileError("MM809", what, exit=Exit.TOOL_MISSING, hint=hint) from error
    with client:
        _check_versions(client)
        run = uuid.uuid4().hex
        killed: list[str] = []  # with a worker: by a case of their own, or by another one's
        for key, row in _batch(dask, client, run, keys, work):
            if row is None:
                killed.append(key)
            else:
                yield key, row
        for key in killed:  # alone: whoever dies then was the one
            for _, row in _batch(dask, client, run, {key: keys[key]}, work):
                yield key, row if row is not None else failed(keys[key], DIED)


def _batch(
    dask: Any, client: Any, run: str, keys: Mapping[str, Case], work: Callable[[Case], Row]
) -> Iterator[tuple[str, Row | None]]:
    """Results of cases that are there together; None of one that the scheduler gave up."""
    futures = {
        client.submit(_there, work, case, _files(case), f"{run}-{key}", pure=False): key
        for key, case in keys.items()
    }
    for future in dask.as_completed(list(futures), loop=client.loop):
        key, error = futures.pop(future), future.exception()
        if error is not None and not isinstance(error, dask.scheduler.KilledWorker):
            raise error
        yield key, future.result() if error is None else None
        future.release()
        if error is None:
            dask.Variable(f"{run}-{key}", client=client).delete()


def _check_versions(client: Any) -> None:
    others = sorted({found for found in client.run(_version).values() if found != __version__})
    if others:
        what = f"workers have mmcc {', '.join(map(printable, others))}, and this is {__version__}"
        raise CompileError(
            "MM809", what, exit=Exit.USAGE, hint=f"pip install mmcc=={__version__} for workers"
        )


def _version() -> str:
    return __version__


def _files(case: Case) -> dict[str, bytes]:
    """What a case is read from, by name: the model, its external data by their places beside it, a target."""
    model, target = Path(case.model), Path(case.target)
    found: dict[str, bytes] = {}
    if model.is_file():
        found["model.onnx"] = model.read_bytes()
        for path in external_files(model):
            found[str(path.resolve().relative_to(model.parent.resolve()))] = path.read_bytes()
    if target.suffix == ".toml" and target.is_file():
        found["target.toml"] = target.read_bytes()
    return found


def _there(work: Callable[[Case], Row], case: Case, files: Mapping[str, bytes], name: str) -> Row:
    """On a worker: the row of a case, which the scheduler keeps under `name`, unless it has it already."""
    import distributed

    dask: Any = distributed
    kept = dask.Variable(name, client=dask.get_client())
    try:
        return dict(kept.get(timeout=0.05))
    except TimeoutError:
        pass
    row = _measured(work, case, files)
    kept.set(row)
    return row


def _measured(work: Callable[[Case], Row], case: Case, files: Mapping[str, bytes]) -> Row:
    """The case, measured in a folder of its own; the row has the names that were asked for."""
    with ScratchFolder("mmcc-") as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        own = replace(case, model=str(Path(folder) / "model.onnx")) if "model.onnx" in files else case
        if "target.toml" in files:
            own = replace(own, target=str(Path(folder) / "target.toml"))
        return work(own) | {"model": case.model, "target": case.target}
