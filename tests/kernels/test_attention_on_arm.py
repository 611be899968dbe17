# SPDX-License-Identifier: Apache-2.0
"""Products of activations and normalizations with the assembly for Arm cores: lengths in fours, in eights
and in none; values and zero points at both ends."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.ops.elementwise import Binary, Where
from mmcc.ops.matmul import MatMul, Operands
from mmcc.ops.recurrent import CellFunction
from op_case import OpCase, rng_of
from op_case_values import real
from op_cases_float import FAMILIES
from op_cases_float_layers import dense
from op_cases_int8 import matmul, normalized
from op_cases_recurrent import layers
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


def tiles() -> list[OpCase]:
    """Several lines for each matrix, along every axis that they may lie on; then too few of them, or columns;
    sums as large as they get. Of 131 values a tile is too large."""
    plain, turned = Operands(), Operands(transposed=True)
    heads, queries = Operands(heads=True), Operands(transposed=True, heads=True)
    cases: list[OpCase] = []
    for k, inner in enumerate((*LENGTHS, 32, 33, 127, 128, 131)):
        outer, count = 4 + k % 6, 4 + k % 3
        more = {"zeros": ((-128, 127), (127, -128), (3, 0), (0, -7))[k % 4]}
        more |= {} if k % 2 else {"low": -77, "high": 50}
        shapes = {
            "rows": ((count, inner), (inner, outer), plain),
            "rows_turned": ((count, inner), (outer, inner), turned),
            "columns": ((2, count, inner), (2, inner, outer), plain),
            "columns_turned": ((2, count, inner), (1, outer, inner), turned),
            "lines": ((2, 3, count, inner), (2, 1, inner, outer), plain),
            "lines_turned": ((2, 1, count, inner), (1, 3, outer, inner), turned),
            "heads": ((count, 4, inner), (inner, 2, outer), heads),
            "queries": ((count, 3, inner), (outer, 3, inner), queries),
        }
        cases += [matmul(f"{k}_{inner}_{outer}", *v, 0.003, **more) for k, v in shapes.items()]
    few = ((1, 9), (3, 9), (5, 3), (5, 1))
    cases += [matmul(f"few_{n}_{m}", (n, 16), (16, m), plain, 0.01) for n, m in few]
    wide = Operands(transposed=True)
    for zero, value in ((127, -128), (-128, 127)):
        op = matmul("x", (4, 128), (5, 128), wide, 1e-5, zeros=(zero, zero)).op
        cases.append(
            OpCase(f"ends_{zero}", op, (np.full((4, 128), value, np.int8), np.full((5, 128), value, np.int8)))
        )
    return cases


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


# instructions a product, of queries times keys, scores times values, and both along 16 values; a little
# above the counts
MOST = {"cortex-m4": (1.2, 1.06), "cortex-m55": (0.41, 0.31, 0.42, 0.42)}


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m55"])
def test_several_lines_meet_one_matrix(target):
    scores = matmul("scores", (64, 32), (64, 32), Operands(transposed=True), 0.005)
    values = matmul("values", (64, 64), (64, 32), Operands(), 0.005)
    few_scores = matmul("few_scores", (64, 16), (64, 16), Operands(transposed=True), 0.005)
    few_values = matmul("few_values", (64, 16), (16, 64), Operands(), 0.005)
    measured = [scores, values, few_scores, few_values]
    bench = QemuBench([*tiles(), *measured], ready(target))
    bench.check_all()
    tiled = [kernel.options for kernel in bench.package.kernels if kernel.template == "matmul_tiles"]
    assert {(each["along"], each["transposed"]) for each in tiled} == {
        (along, transposed) for along in ("rows", "columns", "lines") for transposed in (False, True)
    }
    for case, most in zip(measured, MOST.get(target, ()), strict=False):
        assert bench.instructions(case.name) / case.nest.macs <= most, case.name


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33"])
def test_floats(target):
    QemuBench(float_products(), ready(target)).check_all()


def test_float_layers():
    QemuBench([*FAMILIES["matrices"](), *FAMILIES["normalizations"]()], ready("cortex-m4")).check_all()


# instructions a product, or an element of Where and of a division; a little above the counts
OF_FLOATS = {"dense": 1.26, "lstm": 2.9, "where": 6.7, "scale": 4.8}


def test_floats_are_made_several_at_a_time():
    """Weights are loaded many at once, and elements without a loop's work for each."""
    rng, sigmoid, tanh = rng_of("floats"), CellFunction("sigmoid"), CellFunction("tanh")
    x, mask = real(rng, 8, 128), rng.random(128) < 0.5
    cases = {
        "dense": (dense("dense", (64,), 256), 64 * 256),
        "lstm": (layers("lstm", 4, "lstm", 64, (sigmoid, tanh, tanh), ("h", "c")), 4 * 4 * 64 * 64),
        "where": (OpCase("where", Where(), (mask, np.float32(-3), x), (False, True)), x.size),
        "scale": (OpCase("scale", Binary("div"), (x, np.float32(2.5)), (False, True)), x.size),
    }
    bench = QemuBench([case for case, _ in cases.values()], ready("cortex-m4"))
    bench.check_all()
    taken = {name: bench.instructions(name) / units for name, (_, units) in cases.items()}
    assert all(taken[name] <= most for name, most in OF_FLOATS.items()), taken
