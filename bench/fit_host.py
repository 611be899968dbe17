# SPDX-License-Identifier: Apache-2.0
"""Fit the figures of this machine's [cost] table, and what bytes beyond its caches cost, to times of layers.

    python bench/fit_host.py [--models NAME,NAME] [--caches 49152,2097152] [--runs 20]

Compiles networks layer by layer and takes the least time of each layer of some runs, in cycles of the time
stamp counter: what else the machine does makes a layer slower, never faster. Then least squares of the
relative error, as bench/fit_cost.py has it. Caches are what `lscpu -B -C=NAME,ONE-SIZE` says.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fit_cost import features, fit
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.ir.regions import Cache
from mmcc.package.host import package_sources
from mmcc.planner.caches import Caches
from mmcc.resources import data_dir
from mmcc.target import load_target
from networks import MODELS, model_file

NETWORKS = [
    *("kws_dscnn_int8_qdq", "ic_resnet8_int8_qdq", "vww_mbv1_int8_qdq", "ad_autoenc_int8_qdq"),
    *("kws_dscnn_fp32", "ic_resnet8_fp32", "vww_mbv1_fp32", "mbv2_100_224_xt_int8_qdq"),
    *(
        "gen_mobilenetv2_100_224",
        "gen_squeezenet11_224",
        "gen_yolov2_first16_608_fold",
        "gen_tiny_yolov2_416",
    ),
]
Row = tuple[dict[str, float], float]


def layers(path: Path, folder: Path, caches: Sequence[Cache], runs: int) -> Iterator[Row]:
    """Features and cycles of each layer."""
    alone = folder / "alone.toml"  # without caches there are no groups for them
    alone.write_text('same_as = "host"\ncache = []\n')
    options = CompileOptions(target=str(alone), name="network", self_check=False, time_limit=2.0)
    result = compile_model(path, folder / "c", options)
    graph, plan = result.graph, result.plan
    beyond = {cache: Caches(graph, plan.aliases, [Cache(cache.size, 1.0)]) for cache in caches}
    took = _timed(folder, runs)
    for group in plan.groups:
        if len(group.nodes) == 1 and group.nodes[0] in took:
            index = group.nodes[0]
            bytes_ = {f"beyond {cache.size}": of.cost([index]) for cache, of in beyond.items()}
            yield features(graph, index) | bytes_, took[index]


def _timed(folder: Path, runs: int) -> dict[int, float]:
    """Cycles of each node of the package in `folder`."""
    package, built = folder / "c", folder / "timed"
    command = [
        *("cc", "-std=gnu11", *load_target("host").flags),
        *('-DNETWORK_HEADER="network.h"', "-DNETWORK(what)=NETWORK_##what", "-DNETWORK_HOOKS"),
        *(f"-I{package}", f"-I{data_dir('runtime_c')}"),
        str(Path(__file__).with_name("timed_layers.c")),
        *map(str, package_sources(package)),
        *("-o", str(built), "-lm"),
    ]
    subprocess.run(command, check=True)
    done = subprocess.run([built, str(runs)], check=True, stdout=subprocess.PIPE, text=True)
    pairs = (line.split() for line in done.stdout.splitlines())
    return {int(node): float(cycles) for node, cycles in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(NETWORKS), help="names, separated by commas")
    parser.add_argument("--caches", default="2097152", help="bytes of each, separated by commas")
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    if not MODELS.is_dir():
        print(f"the shared models are not at {MODELS} (set MMCC_SHARED)")
        return
    caches = [Cache(int(size), 1.0) for size in arguments.caches.split(",")]
    rows: list[Row] = []
    for name in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows += layers(model_file(name), Path(folder), caches, arguments.runs)
    figures = fit(rows)
    print(f"# fitted to {len(rows)} layers")
    print("\n".join(f"{name} = {value}" for name, value in figures.items()))
    errors = sorted(
        sum(figures.get(name, 0.0) * count for name, count in counts.items()) / cycles
        for counts, cycles in rows
    )
    print(
        "# predicted over measured: " + ", ".join(f"{errors[len(errors) * k // 10]:.2f}" for k in range(10))
    )


if __name__ == "__main__":
    main()
