# SPDX-License-Identifier: Apache-2.0
"""Every micro model with one importer or kernel quirk: compiled and compared, or refused as it should be."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit
from shared_models import MODELS, needs_shared

pytestmark = [needs_shared, pytest.mark.slow]
QUIRKS = MODELS / "quirks"
REFUSED = {  # operators of a later time, or no model at all
    "unknown_op": Exit.UNSUPPORTED,
    "dyn_hw": Exit.BAD_MODEL,
}


def names():
    return sorted(path.stem for path in QUIRKS.glob("*.onnx")) if QUIRKS.is_dir() else []


def compiled(name, tmp_path):
    options = CompileOptions(name="net", stack=4096)  # the stack is measured in other tests
    return compile_model(QUIRKS / f"{name}.onnx", tmp_path / "net", options)


@pytest.mark.parametrize("name", [name for name in names() if name not in REFUSED])
def test_quirk(name, tmp_path):
    result = compiled(name, tmp_path)
    with np.load(QUIRKS / f"{name}.npz") as data:
        inputs = [data[f"input_{k}"] for k in range(sum(n.startswith("input_") for n in data.files))]
        wanted = [data[f"output_{k}"] for k in range(sum(n.startswith("output_") for n in data.files))]
    outputs = result.run(inputs)
    assert len(outputs) == len(wanted)
    for got, want in zip(outputs, wanted, strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        if got.dtype == np.float32:
            scale = float(np.abs(want[np.isfinite(want)]).max(initial=0))
            quantized = name.startswith("q") or "quant" in name
            atol = 0.02 * scale if quantized else 1e-6 + 1e-5 * scale
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=atol)
        elif got.dtype == np.float16:  # ONNX Runtime rounds within a node, too
            wide = [np.asarray(each, np.float32) for each in (got, want)]
            np.testing.assert_allclose(*wide, rtol=2**-9, atol=2**-10)
        elif got.dtype in (np.int8, np.uint8):
            gap = np.abs(got.astype(int) - want.astype(int))
            assert gap.max(initial=0) <= 1
            assert (gap > 0).mean() <= 0.01
        else:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name, tmp_path):
    with pytest.raises(CompileError) as caught:
        compiled(name, tmp_path)
    assert caught.value.exit is REFUSED[name], str(caught.value)
    assert list(tmp_path.iterdir()) == []
