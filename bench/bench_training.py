# SPDX-License-Identifier: Apache-2.0
"""Training on the device in figures: each with its goal, what was found, and what no plan is below.

    python bench/bench_training.py [--only gradients,pytorch,dscnn,last3,resnet8,dscnn-slow,digits,...]

Without --only all lines that take at most a few minutes of processor time; `--list` says which are longer.
Found is what this run saw: packages are compiled, tests run, the emulated board learns, and the large steps
run on this machine, beside the step without a limit (`bench_steps.py`). Steps of papers' machines are planned
only (`papers_training.py`). The last column is CPU seconds, those of compilers and tests included.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bench_steps
import papers_training
from mmcc.driver.options import CompileOptions
from mmcc.driver.train import compile_training
from mmcc.training.options import TrainOptions
from networks import MODELS, model_file, progress

ROOT = Path(__file__).resolve().parents[1]
SUMS = TrainOptions(accumulate=2)  # gradients of weights are summed in the memory of states
VGG19 = "gen_vgg19_224"
VGG_ARENAS = {1.002: 29_600_000, 1.065: 16_900_000, 1.175: 9_400_000}


@dataclass(frozen=True, slots=True)
class Found:
    """One figure: what it is of, the goal, what was seen, how far it is above what nothing is below ("-": not
    known), and whether the goal is reached."""

    what: str
    goal: str
    seen: str
    gap: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Line:
    """Figures that are measured together; `long` if that takes more than a few minutes of processor time."""

    measure: Callable[[], Iterator[Found]]
    long: bool = False


def passed(*paths: str, goal: str) -> Iterator[Found]:
    """Tests, run as they are."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-80:]
    seen = re.sub(r" in [\d.]+s.*", "", last).strip("= ")
    reached = done.returncode == 0 and "skipped" not in seen
    yield Found(" ".join(Path(path).stem for path in paths), goal, seen, "-", reached)


def trained(network: str, train: TrainOptions, share: float, target: str = "cortex-m4") -> dict[str, Any]:
    """The step of a package with as little arena as possible, as the report has it."""
    with tempfile.TemporaryDirectory(prefix="mmcc-bench-") as folder:
        options = CompileOptions(
            target, name="net", least_ram=True, recompute=share, weights="bin", self_check=False
        )
        made = compile_training(model_file(network), Path(folder) / "net", train, options)
        return made.report["entries"][0]


def above(arena: int, bound: int) -> str:
    """How far an arena is above what none is below, where that says something."""
    return f"{arena / bound - 1:.1%}" if 2 * bound > arena else "-"


def arena(network: str, what: str, train: TrainOptions, share: float, most: int) -> Iterator[Found]:
    """The arena of a step in at most so much work."""
    entry = trained(network, train, share)
    plan, saved = entry["plan"], entry["saved"]
    again = saved["macs_again"] / plan["macs"] if saved else 0.0
    bound = saved["bound"] if saved else plan["bound"]
    goal = f"<= {most:,} at <= {share - 1:+.1%}" if share > 1 else f"<= {most:,}"
    seen, reached = f"{plan['arena']:,} at {again:+.1%}", plan["arena"] <= most and again <= share - 1
    yield Found(what, goal, seen, above(plan["arena"], bound), reached)


def paged(network: str, most: int) -> Iterator[Found]:
    """The arena of a step whose values wait in slow memory, and how long it waits for them."""
    entry = trained(network, replace(SUMS, slow_memory=1 << 20, slow_cycles=4.0), 0.0)
    plan, saved = entry["plan"], entry["saved"]
    waits = saved["stalls_predicted"] / saved["predicted"]
    seen = f"{plan['arena']:,}, {waits:.1%} waiting"
    goal = f"<= {most:,}, <= 5 % waiting"
    yield Found("DS-CNN, slow memory", goal, seen, "-", plan["arena"] <= most and waits <= 0.05)


def vgg19() -> Iterator[Found]:
    """Steps that make values again, really run: their arenas, and whether they have the bits of the first."""
    steps = bench_steps.run(model_file(VGG19), bench_steps.ways(SUMS, list(VGG_ARENAS), 0))
    first = next(steps)
    for step, (share, most) in zip(steps, VGG_ARENAS.items(), strict=True):
        same = step.finite and step.digest == first.digest
        goal = f"<= {most:,} at <= {share - 1:+.1%}, gap <= 5 %"
        seen = f"{step.arena:,} at {step.work - 1:+.2%}, {'the same bits' if same else 'OTHER BITS'}"
        near = step.arena <= most and step.work <= share and step.arena <= 1.05 * step.bound
        yield Found(
            f"VGG-19, batch 1, +{share - 1:.1%}", goal, seen, above(step.arena, step.bound), same and near
        )


def spilled() -> Iterator[Found]:
    """A step that pages, really run beside the one without a limit."""
    first, step = bench_steps.run(model_file(VGG19), bench_steps.ways(TrainOptions(), [], 256 << 20))
    same = step.finite and step.digest == first.digest and step.copied == step.reported
    less, longer = 1 - step.arena / first.arena, step.seconds / first.seconds - 1
    seen = (
        f"-{less:.1%}: {step.arena:,}; time {longer:+.1%}, {step.waiting:.1%} waiting predicted; "
        f"{step.copied:,} bytes copied{'' if same else ', OTHER BITS OR BYTES'}"
    )
    reached = same and less >= 0.35 and longer <= 0.21 and step.waiting <= 0.21
    yield Found("VGG-19, spilled", "-35 % at <= +21 % time", seen, "-", reached)


def paper(name: str) -> Iterator[Found]:
    """Plans in the set-up of a paper."""
    for row in papers_training.run(papers_training.SETTINGS[name]):
        if row.goal:
            goal = f"<= {row.goal / 1e6:,.2f} MB at <= {row.at_most:+.1%}"
            reached = row.reached
        else:
            goal, reached = "gap <= 10 %", 0 < row.arena <= 1.1 * row.bound
        seen = f"{row.total / 1e6:,.2f} MB at {row.more_time:+.2%}"
        if row.setting.endswith("whole tensors"):  # what the others are compared with
            goal, reached = "-", True
        yield Found(row.setting, goal, seen, above(row.arena, row.bound), reached)


def digits() -> Iterator[Found]:
    """The demo: an emulated board whose RAM the linker cuts to 40 KiB learns two changes of its images."""
    sys.path.insert(0, str(ROOT / "examples" / "digits"))
    import learn

    goals = {"inverted": 0.80, "shifted": 0.91}
    with (
        tempfile.TemporaryDirectory(prefix="mmcc-bench-") as folder,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        boards = learn.demonstrate(list(goals), Path(folder))
    tested = 360 - learn.LEARN
    for name, least in goals.items():
        board, again = boards[name]
        before, after = board.right[0] / tested, board.right[-1] / tested
        kept = again.right[0] == board.right[-1]
        seen = f"{before:.1%} to {after:.1%} in {learn.RAM:,} bytes{'' if kept else ', NOT KEPT'}"
        yield Found(f"digits, {name}", f">= {least:.0%}, 40 KiB", seen, "-", after >= least and kept)


LAST_3 = replace(SUMS, loss="mse", update="last:3")
LINES = {
    "gradients": Line(
        lambda: passed(
            "tests/training/test_gradients.py", "tests/training/test_module.py", goal="1e-5, float64"
        )
    ),
    "pytorch": Line(lambda: passed("tests/training/test_against_pytorch.py", goal="1e-4 after 100 steps")),
    "dscnn": Line(lambda: arena("kws_dscnn_fp32", "DS-CNN, all layers", SUMS, 1.25, 57_000)),
    "last3": Line(lambda: arena("kws_dscnn_fp32", "DS-CNN, last 3 layers", LAST_3, 2.0, 23_800)),
    "resnet8": Line(lambda: arena("ic_resnet8_fp32", "ResNet-8, all layers", SUMS, 1.15, 131_400)),
    "dscnn-slow": Line(lambda: paged("kws_dscnn_fp32", 32_000)),
    "digits": Line(digits),
    "poet": Line(lambda: paper("poet"), long=True),
    "hascoet": Line(lambda: paper("hascoet"), long=True),
    "monet": Line(lambda: paper("monet"), long=True),
    "resnet50": Line(lambda: paper("resnet50"), long=True),
    "vgg19": Line(vgg19, long=True),
    "spilled": Line(spilled, long=True),
}


def cpu_seconds() -> float:
    """Of this process and those that it started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    short = ",".join(name for name, line in LINES.items() if not line.long)
    parser.add_argument("--only", default=short, help=f"of {', '.join(LINES)}; with commas")
    parser.add_argument("--list", action="store_true", help="the lines, and which are long")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(f"{name:12}{'long' if line.long else ''}".rstrip() for name, line in LINES.items()))
        return 0
    names: list[str] = asked.only.split(",")
    unknown = sorted(set(names) - set(LINES))
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} is none of {', '.join(LINES)}")
    if not MODELS.is_dir():
        print(f"the shared models are not at {MODELS} (set MMCC_SHARED)")
        return 0
    print(f"{'':32} {'goal':40} {'found':56} {'gap':>6} {'reached':>8} {'CPU s':>6}", flush=True)
    every = True
    for name in names:
        progress(name)
        begun = cpu_seconds()
        for found in LINES[name].measure():
            progress("")
            took, begun = cpu_seconds() - begun, cpu_seconds()
            print(
                f"{found.what:32} {found.goal:40} {found.seen:56} {found.gap:>6} "
                f"{'yes' if found.reached else 'no':>8} {took:>6.0f}",
                flush=True,
            )
            every = every and found.reached
    return 0 if every else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
