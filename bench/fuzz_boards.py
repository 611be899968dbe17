# SPDX-License-Identifier: Apache-2.0
"""A model as firmware on emulated boards: the host's bits in integers, near them in floats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from fuzz_programs import EFFORT, Model, Refused, Trial, compile_trial
from mmcc.driver.options import CompileOptions
from mmcc.errors import Exit
from mmcc.verification.compare import run_qemu
from mmcc.verification.linked import callbacks_stack
from mmcc.verification.samples import Sample

BOARDS = ("cortex-m4", "cortex-m55", "rv32imac")


def board_trials(most: int, least: int, rng: np.random.Generator) -> Iterator[Trial]:
    """One plan for each board, its stack measured; most and least are the host's RAM."""
    no_fit = frozenset({int(Exit.DOES_NOT_FIT), int(Exit.NO_PLAN)})
    n = int(rng.uniform(least, most + 1))
    ways: list[tuple[str, dict[str, object]]] = [
        ("", {}),
        ("--ram min", {"least_ram": True}),
        (f"--ram {n}", {"ram": n}),
        ("--io external --ram min", {"io": "external", "least_ram": True}),
        ("--io rows", {"io": "rows"}),
        ("--io rows-again --ram min", {"io": "rows-again", "least_ram": True}),
        ("--weights staged", {"weights": "staged"}),
        ("--weights-in-ram", {"weights_in_ram": True}),
        (f"--weights-in-ram --ram {2 * n}", {"weights_in_ram": True, "ram": 2 * n}),
        ("--threads 3", {"threads": 3}),
    ]
    for number, target in enumerate(BOARDS):
        words, chosen = ways[int(rng.integers(len(ways)))]
        options = CompileOptions(
            target=target, name=f"b{number}", time_limit=EFFORT, self_check=False, **chosen
        )  # pyright: ignore
        yield Trial(f"b{number}", options, f"--target {target} {words}".strip(), no_fit)


def on_board(model: Model, trial: Trial, samples: Sequence[Sample], folder: Path) -> list[Sample] | None:
    """The board's outputs; None if the plan is refused. RuntimeError for more stack than was proved."""
    try:
        built = compile_trial(model, folder, trial)
    except Refused:
        return None
    outputs, ran = run_qemu(built.result.folder, built.package, samples)
    proved = built.result.report["ram"]["stack"] + callbacks_stack(built.package)
    if ran.stack_bytes > proved:
        raise RuntimeError(f"{ran.stack_bytes} bytes of stack were used, {proved} are the bound")
    return outputs
