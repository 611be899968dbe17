# SPDX-License-Identifier: Apache-2.0
"""Rounding to whole numbers, bit by bit: cores without an instruction for it add and take off 2^23."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mmcc.ops.elementwise import Unary
from mmcc.resources import data_dir
from op_case import OpCase
from qemu_bench import QemuBench
from toolchains import ready


class Exact(QemuBench):
    """Compares bits, and so the signs of zeros."""

    def _compare(self, case: OpCase, got: np.ndarray, what: str, tolerance: tuple[float, float]) -> None:
        super()._compare(case, got, what, tolerance)
        if not self.recording:
            numbers = ~np.isnan(case.want)
            np.testing.assert_array_equal(
                got.view(np.uint32)[numbers], case.want.view(np.uint32)[numbers], what
            )


def ends() -> np.ndarray:
    """Ties, their neighbours, the last numbers with bits behind the point, and no numbers."""
    whole = np.array([0, 1, 2, 3, 2**22 - 1, 2**22, 2**23 - 1, 2**23, 2**24, 2**31, 1e30], np.float32)
    ties = (whole + np.float32(0.5)).astype(np.float32)
    near = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    rest = np.array([np.inf, np.nan, 1e-45, 0.25], np.float32)
    values = np.concatenate([whole, ties, *near, rest])
    return np.stack([values, -values])


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4", "cortex-m33", "aarch64"])
def test_ends_of_rounding(target):
    Exact([OpCase("ends", Unary("round"), (ends(),))], ready(target)).check_all()


@pytest.mark.parametrize(
    ("target", "instruction"),
    [("cortex-m4", "vadd"), ("cortex-m7", "vrintx"), ("cortex-m33", "vrintx"), ("cortex-m55", "vrintx")],
)
def test_one_instruction_where_a_core_has_it_and_no_call(target, instruction, tmp_path):
    """gcc 12 says of no Cortex-M that it rounds."""
    board, source, made = ready(target), tmp_path / "rounding.c", tmp_path / "rounding.s"
    source.write_text(
        '#include "mmcc_math.h"\nfloat rounded(float x);\nfloat rounded(float x) { return mmcc_rintf(x); }\n'
    )
    options = ["-std=c99", f"-I{data_dir('runtime_c')}", "-S", "-o", str(made)]
    subprocess.run([board.compiler, *board.flags, *options, str(source)], check=True)
    text = made.read_text()
    assert f"\t{instruction}.f32" in text
    assert not re.search(r"\t(b|bl)\t(?!\.)", text)
    assert ("vadd" in text) == (instruction == "vadd")


def test_kernels_round_by_it_alone():
    templates = Path(data_dir("templates")).rglob("*.j2")
    assert [path.name for path in templates if re.search(r"\brintf\(", path.read_text())] == []
