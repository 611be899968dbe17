# SPDX-License-Identifier: Apache-2.0
"""Outputs over inputs, as near as the planner ever puts them, on emulated boards: every operator's kernel.

A kernel that makes several rows or pixels at once may write over what it has yet to read. Which path it takes
depends on the target, so the C for this machine proves nothing for others. Every bench places outputs so
(`kernel_bench.py`); int8 kernels are run on boards by the tests of their variants, all others here.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from kernel_bench import Bench
from mmcc.ir.nest import Span
from mmcc.ops.window import Window
from op_cases_float import FAMILIES
from op_cases_int8_layers import conv, pads
from qemu_bench import QemuBench
from toolchains import ready

# Not rv64gcv: QEMU 7.2 ends on all of them in one program; tests of that target run its float vector kernels.
TARGETS = ("cortex-m4", "cortex-m55", "aarch64")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("half", [0, 1])
def test_every_operator(target, half):
    """In two programs: boards have no room for the instructions of all."""
    cases = list(chain.from_iterable(family() for family in FAMILIES.values()))
    QemuBench(cases[half::2], ready(target), places="near").check_all()


class RowsInNoOrder(Bench):
    """As if each kernel made the second of two rows before the first."""

    def call(self, arena: np.ndarray, node: int, rows: Span, cols: Span, ins: list[int], out: int) -> None:
        for first in range(rows.lo, rows.hi, 2):
            for row in reversed(range(first, min(first + 2, rows.hi))):
                super().call(arena, node, Span(row, row + 1), cols, ins, out)


@pytest.mark.parametrize("filters", [8, 12])
def test_rows_that_are_not_made_in_order_are_convicted(filters):
    """Nothing else shows it: all other ways give the reference."""
    case = conv("rows", (8, 6, 8), filters, Window((3, 3), pads=pads(1, 1, 1, 1)))
    bench = RowsInNoOrder([case], sanitize=False)
    with pytest.raises(AssertionError, match="rows, over0, 8 rows a call"):
        bench.check("rows")
    bench.over["rows"] = {}
    bench.check("rows")


def test_distances_are_those_of_the_design():
    """3x3 from [6, 8, 4] to [6, 8, 8], as DESIGN.md works it out; 8 pixels made at once are a whole row."""
    case = conv("design", (6, 8, 4), 8, Window((3, 3), pads=pads(1, 1, 1, 1)))
    assert Bench([case], sanitize=False).over["design"] == {"over0": (0, 256), "over0_backward": (0, -64)}
