# SPDX-License-Identifier: Apache-2.0
"""Many models for many targets under many limits: planned and estimated in several processes, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmcc import __version__
from mmcc.driver.ask import in_one_memory, plan_request
from mmcc.driver.estimate import code_bytes, weights_bytes
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, Progress, silent
from mmcc.driver.rows import best_rows
from mmcc.driver.sweep_cases import DIED, Case, Row, failed
from mmcc.driver.sweep_cluster import SCHEME, measured_by
from mmcc.errors import CompileError, printable
from mmcc.frontend.model_file import external_files
from mmcc.output_file import told
from mmcc.package.record import sha256
from mmcc.passes.separate_states import separate_states
from mmcc.planner.cost import plan_cost
from mmcc.report.model import count_macs
from mmcc.target import load_target

RESULTS, TABLE, PAGE, PARQUET = "results.jsonl", "table.csv", "sweep.html", "table.parquet"
TRIES = 2  # of a case whose process ended without a word


def cases_of(
    models: Sequence[Path], targets: Sequence[str], ways: Sequence[str], limits: Sequence[int]
) -> list[Case]:
    """Every combination; CompileError for a target that is none."""
    for name in targets:
        load_target(name)
    return [Case(str(m), t, way, ram) for m in models for t in targets for way in ways for ram in limits]


def measure(case: Case) -> Row:
    """Plan one case: what it takes, or why it cannot be had. Raises nothing for what is the model's fault."""
    row: Row = {**asdict(case), "fits": False, "error": ""}
    try:
        target = load_target(case.target)
        options = CompileOptions(target=case.target, io=case.io, ram=case.ram, least_ram=not case.ram)
        graph = separate_states(load_graph(Path(case.model), options), outputs_outside=case.io == "external")
        besides = target.stack_bytes + sum(state.initial.nbytes for state in graph.states)
        request = plan_request(options, graph, target, silent)
        request = replace(in_one_memory(request, target), effort=5.0)
        limit = max(0, case.ram - besides) if case.ram else None
        ask = partial(plan_request, options, target=target, progress=silent)
        laid = best_rows(graph, replace(request, fuse=True, limit=limit), ask)
        graph, plan = laid.graph, laid.plan
    except CompileError as error:
        return row | {"error": f"{error.code}: {printable(error.message, 200)}"}
    arena = request.peak(plan)
    return row | {
        "fits": limit is None or arena <= limit,
        "arena": arena,
        "total": arena + besides,
        "predicted": round(plan_cost(graph, plan, target.cost)),
        "macs": count_macs(graph),
        "flash": weights_bytes(graph, plan, target) + code_bytes(graph),
        "proved": plan.proved_optimal and plan.over_groups and not case.ram,
    }


def key_of(case: Case, digests: Mapping[str, str]) -> str:
    """What a result is known by: what it is of, and the version of mmcc.

    `digests` has those of models, their external data included, and of targets that are files.
    """
    own = [digests.get(name, "") for name in (case.model, case.target)]
    text = json.dumps([__version__, asdict(case), own], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _digest(name: str) -> str:
    """Of a file and those that it names as its external data; "" if it is none, or they cannot be read."""
    path = Path(name)
    try:
        return " ".join(sha256(each) for each in (path, *external_files(path))) if path.is_file() else ""
    except OSError:
        return ""


def sweep(
    cases: Sequence[Case],
    out: Path,
    progress: Progress = silent,
    *,
    jobs: int = 0,
    executor: str = "local",
    work: Callable[[Case], Row] = measure,
) -> list[Row]:
    """Measure all cases that `out` has no result of yet; the rows of all, in their order.

    Each result is written as soon as it is there, so that whatever ends the sweep, what was done is kept and
    not done again. A case whose process dies is tried once more, and then has that as its error.
    `executor` is "local", with `jobs` processes here, or dask://HOST:PORT; `measured_by` says what that
    raises.
    """
    with told(out, "-o"):
        out.mkdir(parents=True, exist_ok=True)
        (out / RESULTS).open("ab").close()
    digests = {name: _digest(name) for case in cases for name in (case.model, case.target)}
    keys = {key_of(case, digests): case for case in cases}
    done = {key: row for key, row in _read(out / RESULTS) if key in keys}
    todo = {key: case for key, case in keys.items() if key not in done}
    with (out / RESULTS).open("ab") as stream:
        for key, row in _measured(todo, jobs or os.cpu_count() or 1, executor, work):
            stream.write(json.dumps({"key": key, "row": row}).encode() + b"\n")
            stream.flush()
            done[key] = row
            progress(f"{Path(row['model']).stem} for {row['target']}", len(done), len(keys))
    return [done[key] for key in keys]


def _measured(
    keys: Mapping[str, Case], jobs: int, executor: str, work: Callable[[Case], Row]
) -> Iterator[tuple[str, Row]]:
    if executor.startswith(SCHEME) and keys:
        return measured_by(executor, keys, work)
    return _measured_here(keys, jobs, work)


def _measured_here(
    keys: Mapping[str, Case], jobs: int, work: Callable[[Case], Row]
) -> Iterator[tuple[str, Row]]:
    """Results as they come. A process that dies takes the pool with it: what is open goes to another pool."""
    open_keys = list(keys)
    tries = dict.fromkeys(open_keys, 0)
    together = True
    while open_keys:
        batch = open_keys if together else open_keys[:1]  # alone: whoever dies then was the one
        finished: set[str] = set()
        with _pool(jobs) as pool:
            futures: dict[Future[Row], str] = {pool.submit(work, keys[key]): key for key in batch}
            for future in as_completed(futures):
                key = futures[future]
                try:
                    yield key, future.result()
                except BrokenProcessPool:
                    if together:
                        continue
                    tries[key] += 1
                    if tries[key] < TRIES:
                        continue
                    yield key, failed(keys[key], DIED)
                finished.add(key)
        together = together and len(finished) == len(batch)
        open_keys = [key for key in open_keys if key not in finished]


@contextlib.contextmanager
def _pool(jobs: int) -> Generator[ProcessPoolExecutor]:
    """Processes that end at once where the sweep does: what they were at is done when it goes on."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _read(path: Path) -> Iterator[tuple[str, Row]]:
    """Results that were written; a line that was cut short is as if it were not there."""
    if not path.is_file():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):  # a line was being written: the next must not be glued to it
        path.write_bytes(data[: data.rfind(b"\n") + 1])
    for line in data.splitlines():
        try:
            value = json.loads(line)
            yield str(value["key"]), value["row"]
        except (ValueError, KeyError, TypeError):
            continue


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Of each model, target and way of input, those that no other beats in RAM and predicted work both."""
    names = ("model", "target", "io", "total", "predicted")
    fitting: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row["fits"]:
            fitting.setdefault(tuple(row[name] for name in names), row)  # the first of those that are equal
    return [row for row in fitting.values() if not any(_beats(other, row) for other in fitting.values())]


def _beats(a: Row, b: Row) -> bool:
    same = all(a[key] == b[key] for key in ("model", "target", "io"))
    values = [(a[key], b[key]) for key in ("total", "predicted")]
    return same and all(x <= y for x, y in values) and any(x < y for x, y in values)
