# SPDX-License-Identifier: Apache-2.0
"""Least arenas of networks, planned only: what groups, rings, strips, tiles and row-fed inputs save.

    python bench/bench_least.py [NAME ...] [--recompute 1.3]

Names are those of the model set. Columns: bytes of arena node by node, in groups (input and output in it);
with strips and tiles, input and output in memory of the caller's that can be read again; with an input that
arrives row by row. Each with the seconds of CPU that it took, and * where it is proved that no plan needs
less. All plans are replayed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from mmcc.checker.plan import check_plan
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.driver.promised import request_from
from mmcc.driver.rows import best_rows
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.kernels.contract import contracts
from mmcc.planner.cost import plan_macs
from mmcc.planner.request import PlanRequest
from mmcc.report.model import count_macs
from mmcc.target import load_target
from networks import model_file

NAMES = (
    "kws_dscnn_int8_qdq",
    "ic_resnet8_int8_qdq",
    "vww_mbv1_int8_qdq",
    "ad_autoenc_int8_qdq",
    "mcunet_vww_int8_qdq",
    "gen_mobilenetv2_035_144_qdq_s8s8",
    "gen_mobilenetv2_100_224_qdq_u8s8",
    "gen_yolov2_first16_608_fold",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One plan: its bytes, the work it does over what the model needs, seconds, and whether it is proved."""

    size: int
    work: float
    seconds: float
    proved: bool

    def __str__(self) -> str:
        work = f" x{self.work:.3f}" if self.work > 1 else ""
        return f"{self.size:,}{'*' if self.proved else ' '}{work} {self.seconds:.1f}s"


def measure(graph: Graph, *, external: bool, fuse: bool = True, recompute: float = 1.0) -> Figure:
    """Plan for the least RAM; raise ValueError if the checker convicts the plan."""

    def ask(graph: Graph) -> PlanRequest:
        return replace(
            request_from(contracts(graph, load_target("host"))),
            external_inputs=external,
            external_outputs=external,
            fuse=fuse,
            recompute=recompute,
        )

    start = time.process_time()
    laid = best_rows(graph, ask(graph), ask)
    seconds = time.process_time() - start
    wrong = check_plan(laid.graph, laid.plan)
    if wrong:
        raise ValueError("\n".join(wrong))
    macs = count_macs(graph)
    work = plan_macs(laid.graph, laid.plan) / macs if macs else 1.0
    return Figure(laid.plan.peak(SRAM), work, seconds, laid.plan.proved_optimal)


def row(name: str, model: Path, recompute: float) -> str:
    """The figures of one network."""
    whole = load_graph(model, CompileOptions())
    fed = load_graph(model, CompileOptions(io="rows"))
    figures = [
        measure(whole, external=False, fuse=False),
        measure(whole, external=False),
        measure(whole, external=True, recompute=recompute),
        measure(fed, external=True),
    ]
    return f"{name:36}" + "".join(f"{figure!s:>28}" for figure in figures)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--recompute", type=float, default=1.3)
    options = parser.parse_args(arguments)
    heads = ("node by node", "groups", f"strips, work <= x{options.recompute}", "row-fed")
    print(f"{'network':36}" + "".join(f"{head:>28}" for head in heads))
    failed = 0
    for name in options.names:
        try:
            print(row(name, model_file(name), options.recompute), flush=True)
        except CompileError as error:
            failed += 1
            print(f"{name:36}{error.message}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
