# SPDX-License-Identifier: Apache-2.0
"""runtime_c/mmcc_requantize.h gives the bits of its twin in numpy, at the extremes too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from cffi import FFI
from mmcc.ops.requantize import multiplier_and_shift, requantize

pytestmark = pytest.mark.quick
RUNTIME = Path(__file__).resolve().parents[2] / "runtime_c"
SOURCE = """
#include "mmcc_requantize.h"
void any(const int32_t *acc, const int32_t *m, const int32_t *s, int32_t *y, int32_t n);
void any(const int32_t *acc, const int32_t *m, const int32_t *s, int32_t *y, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) y[i] = mmcc_requantize(acc[i], m[i], s[i]);
}
void high(const int32_t *acc, const int32_t *m, const int32_t *s, int32_t *y, int32_t n);
void high(const int32_t *acc, const int32_t *m, const int32_t *s, int32_t *y, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) y[i] = mmcc_requantize_high(acc[i], m[i], s[i] - 33, 1);
}
"""


@pytest.fixture(
    scope="module", params=["", "-DMMCC_SHORT_MULTIPLY=1"], ids=["64-bit product", "16-bit products"]
)
def library(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("requantize")
    (folder / "r.c").write_text(SOURCE)
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC"]
    flags += ["-fsanitize=undefined", "-fno-sanitize-recover=all", f"-I{RUNTIME}", *request.param.split()]
    subprocess.run(["cc", *flags, folder / "r.c", "-o", folder / "r.so"], check=True)
    ffi = FFI()
    for name in ("any", "high"):
        ffi.cdef(f"void {name}(const int32_t *, const int32_t *, const int32_t *, int32_t *, int32_t);")
    return ffi, ffi.dlopen(str(folder / "r.so"))


def run(library, name, acc, multiplier, shift):
    ffi, lib = library
    y = np.zeros(len(acc), np.int32)
    arrays = [np.ascontiguousarray(a, np.int32) for a in (acc, multiplier, shift)] + [y]
    getattr(lib, name)(*(ffi.cast("int32_t *", a.ctypes.data) for a in arrays), len(acc))
    return y


def cases(low, high):
    rng = np.random.default_rng(1)
    edges = np.array([0, 1, -1, 2**31 - 1, -(2**31), 2**16, -(2**16), 65535, -65535, 2**30, -(2**30)])
    acc = np.concatenate([np.repeat(edges, 400), rng.integers(-(2**31), 2**31, 100_000)])
    acc = np.concatenate([acc, rng.integers(-(2**18), 2**18, 100_000)])
    multiplier = rng.integers(2**30, 2**31, len(acc))
    multiplier[::97] = 2**31 - 1
    multiplier[::89] = 2**30
    shift = rng.integers(low, high + 1, len(acc))
    return acc, multiplier, shift


@pytest.mark.parametrize(("name", "low", "high"), [("any", 1, 62), ("high", 33, 62)])
def test_the_same_bits_as_in_numpy(library, name, low, high):
    acc, multiplier, shift = cases(low, high)
    want = requantize(acc, multiplier, shift)
    limit = 2**30
    np.testing.assert_array_equal(run(library, name, acc, multiplier, shift), np.clip(want, -limit, limit))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.75, 1e-3, 0.333333, 1e-9, 100.0, 2.0**28, 1 - 2**-33])
def test_multipliers_are_the_nearest_of_31_bits(scale):
    multiplier, shift = multiplier_and_shift(scale)
    assert 2**30 <= multiplier < 2**31
    assert abs(multiplier / 2**shift - scale) <= scale * 2**-31


def test_scales_out_of_range():
    assert multiplier_and_shift(1e-40)[0] == 0
    for scale in (-1.0, 2.0**29, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="scale"):
            multiplier_and_shift(scale)
