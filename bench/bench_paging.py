# SPDX-License-Identifier: Apache-2.0
"""A training step with its values in slow memory, compared with the step that keeps them: bytes, time, bits.

    python bench/bench_paging.py MODEL.onnx [--slow-memory 256M] [--slow-cycles 4]

Both are compiled for this machine with --ram min and run once, with the callbacks of the test bench: they
copy when they are waited for, so nothing goes on beside the computation, and they look at each byte several
times to see whether an end of the copy was touched. Where a step takes milliseconds, that is most of its
time. The self-check is left out: of a large network the references take long, and the bits are compared here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from mmcc.api import CompileResult, TrainOptions, compile_training
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.sizes import parse_size


def step_of(result: CompileResult) -> tuple[float, np.ndarray, list[np.ndarray], int]:
    """Seconds of a step, its loss, the outputs of the model after it, and the bytes that were paged."""
    model, package = host_model(result.folder, load_package(result.folder)), load_package(result.folder)
    rng, given = np.random.default_rng(1), []
    for entry in package.entries[:2]:
        shapes = [entry.tensors[port.tensor] for port in entry.inputs]
        given.append([np.zeros(t.shape, t.dtype.numpy) for t in shapes])
    given[1][0] = given[0][0] = rng.random(given[0][0].shape, np.float32)
    for port, array in zip(package.entries[1].inputs, given[1], strict=True):
        if port.onnx_name == "rate":
            array[...] = 0.01
    begun = time.process_time()
    (loss,) = model.run(given[1], 1)
    seconds = time.process_time() - begun
    paged = model.bytes_paged() if result.report["entries"][0]["saved"] else 0
    return seconds, loss, model.run(given[0]), paged


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--slow-memory", default="256M")
    parser.add_argument("--slow-cycles", type=float, default=4.0)
    parser.add_argument("--optimizer", choices=["sgd", "momentum"], default="momentum")
    asked = parser.parse_args()
    slow = parse_size(asked.slow_memory, "--slow-memory")
    ways = {"kept": TrainOptions(optimizer=asked.optimizer), "paged": TrainOptions(optimizer=asked.optimizer)}
    ways["paged"] |= TrainOptions(slow_memory=slow, slow_cycles=asked.slow_cycles)
    results: dict[str, tuple[int, float, np.ndarray, list[np.ndarray]]] = {}
    with tempfile.TemporaryDirectory(prefix="mmcc-bench-") as scratch:
        for name, train in ways.items():
            folder = Path(scratch) / name
            result = compile_training(
                asked.model, folder, train, name="net", ram="min", weights="bin", self_check=False
            )
            entry = result.report["entries"][0]
            seconds, loss, outputs, paged = step_of(result)
            results[name] = entry["plan"]["arena"], seconds, loss, outputs
            print(f"{name}: {entry['plan']['arena']:,} bytes of arena, {seconds:.3f} s a step", flush=True)
            if entry["saved"]:
                saved = entry["saved"]
                share = saved["stalls_predicted"] / saved["predicted"]
                print(f"  {len(saved['paged'])} values paged to {saved['slow_bytes']:,} bytes of slow memory")
                print(f"  {saved['bytes_moved']:,} bytes copied (report), {paged:,} (callbacks)")
                print(f"  {100 * share:.2f} % of the predicted time is waiting")
    (before, then, loss, outputs), (after, now, other, others) = results["kept"], results["paged"]
    same = np.array_equal(loss, other) and all(map(np.array_equal, outputs, others))
    print(
        f"arena {100 * (after / before - 1):+.1f} %, time {100 * (now / then - 1):+.1f} %, same bits: {same}"
    )


if __name__ == "__main__":
    main()
