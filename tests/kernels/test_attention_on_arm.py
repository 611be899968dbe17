# SPDX-License-Identifier: Apache-2.0
"""Products of activations and normalizations with the assembly for Arm cores: lengths in fours, in eights
and in none; values and zero points at both ends."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.ops.matmul import MatMul, Operands
from op_case import OpCase, rng_of
from op_case_values import real
from op_cases_float import FAMILIES
from op_cases_int8 import matmul, normalized
from qemu_bench import QemuBench
from toolchains import ready

LENGTHS = (4, 5, 8, 11, 15, 16, 64, 67)


def products() -> list[OpCase]:
    """Of each length of the inner axis, with outputs that are left over, limits, and the largest sums."""
    cases: list[OpCase] = []
    for k, inner in enumerate(LENGTHS):
        outer, zeros = 4 + k % 5, ((-128, 127), (127, -128), (3, 0))[k % 3]
        limits = {} if k % 2 else {"low": -77, "high": 50}
        name = f"{inner}_{outer}"
        cases += [
            matmul(
                f"rows_{name}",
                (3, inner),
                (outer, inner),
                Operands(transposed=True),
                0.003,
                zeros=zeros,
                **limits,
            ),
            matmul(f"columns_{name}", (3, inner), (inner, outer), Operands(), 0.003, zeros=zeros, **limits),
        ]
    ends = OpCase(
        "ends", matmul("x", (2, 64), (5, 64), Operands(transposed=True), 1e-4, zeros=(127, 127)).op, ()
    )
    low = np.full((2, 64), -128, np.int8), np.full((5, 64), -128, np.int8)
    return [*cases, OpCase("ends", ends.op, low)]


def lines() -> list[OpCase]:
    cases = [
        normalized(f"line_{n}", (3, n), **({"low": -50, "high": 60} if n % 3 else {}))
        for n in (3, *LENGTHS, 20)
    ]
    return [*cases, normalized("line_rms", (3, 24), centred=False, bits=20)]


def float_products() -> list[OpCase]:
    cases: list[OpCase] = []
    for inner in (1, 2, 7, 8, 9, 16, 19):
        for outer in (1, 4, 8, 13):
            rng = rng_of(f"{inner} {outer}")
            a, b, turned = real(rng, 3, inner), real(rng, outer, inner), real(rng, inner, outer)
            cases.append(OpCase(f"rows_{inner}_{outer}", MatMul(Operands(transposed=True)), (a, b)))
            cases.append(OpCase(f"columns_{inner}_{outer}", MatMul(), (a, turned)))
    return cases


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_integers(target):
    QemuBench([*products(), *lines()], ready(target)).check_all()


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33"])
def test_floats(target):
    QemuBench(float_products(), ready(target)).check_all()


def test_float_layers():
    QemuBench([*FAMILIES["matrices"](), *FAMILIES["normalizations"]()], ready("cortex-m4")).check_all()
