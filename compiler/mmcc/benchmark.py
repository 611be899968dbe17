"""How much an inference costs: time on this machine, exact instructions in QEMU, by node and by function."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from mmcc.compare import run_qemu
from mmcc.package import Package
from mmcc.pipeline import host_model
from mmcc.samples import made_up, to_c

REPEATS = 30
LEAST_SECONDS = 0.002  # of one timing: shorter runs are repeated within it


def bench_host(folder: Path, package: Package) -> dict[str, Any]:
    """Median processor time of one inference on this machine, in milliseconds."""
    model = host_model(folder, package)
    model.run(to_c(package.inputs, package.tensors, made_up(package.inputs, 1)[0]))
    began = time.process_time()
    model.run_only()
    inner = max(1, round(LEAST_SECONDS / max(time.process_time() - began, 1e-7)))
    times: list[float] = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(inner):
            model.run_only()
        times.append((time.process_time() - began) / inner * 1e3)
        if sum(times) * inner > 20e3:
            break
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return {
        "milliseconds": statistics.median(times),
        "low": quartiles[0],
        "high": quartiles[2],
        "runs": len(times),
    }


def bench_qemu(folder: Path, package: Package, *, profile: bool = False) -> dict[str, Any]:
    """Exact instructions of one inference, most stack used, and each node's share."""
    samples = made_up(package.inputs, 1)
    _, plain = run_qemu(folder, package, samples, profile=profile)
    _, hooked = run_qemu(folder, package, samples, hooks=True)
    shares = hooked.by_node()
    names = {node["index"]: node["op"] for node in _nodes(folder)}
    result: dict[str, Any] = {
        "instructions": plain.instructions[0] if plain.instructions else None,
        "stack": plain.stack_bytes,
        "per_node": [
            {"index": index, "op": names.get(index, "(start)"), "instructions": count}
            for index, count in shares.items()
            if index in names
        ],
    }
    if profile and plain.profile:
        result["functions"] = dict(plain.profile.functions)
        result["mnemonics"] = dict(plain.profile.mnemonics)
    return result


def _nodes(folder: Path) -> list[dict[str, Any]]:
    import json

    return json.loads((folder / "report.json").read_text())["nodes"]
