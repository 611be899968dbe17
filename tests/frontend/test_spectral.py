# SPDX-License-Identifier: Apache-2.0
"""ONNX's Fourier transforms, by stages and by a matrix, against ONNX Runtime and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import assert_same, evaluate, kinds, model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.op import ShapeError
from mmcc.ops.fourier import Transform
from onnx import helper
from operator_models import array, run

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("attributes", [{}, {"onesided": 1}, {"inverse": 1}, {"axis": 2}])
@pytest.mark.parametrize("length", [None, 6, 9])
def test_dft(tmp_path, parts, attributes, length):
    if (attributes.get("onesided") and parts == 2) or (attributes.get("inverse") and parts == 1):
        return
    x = array(2, 7, 8, parts)
    run(tmp_path, "DFT", [x], [] if length is None else [np.array(length)], opset=17, rtol=2e-5, **attributes)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("attributes", [{}, {"onesided": 1}, {"inverse": 1}, {"inverse": 1, "onesided": 1}])
@pytest.mark.parametrize("length", [None, 16, 20, 45, 49, 90])
def test_fast_dft(tmp_path, parts, attributes, length):
    """Against numpy: ONNX Runtime has no onesided inverse."""
    inverse, onesided = attributes.get("inverse"), attributes.get("onesided")
    if onesided and not inverse and parts == 2:
        return
    x = array(3, 48, 2, parts)
    given = [] if length is None else [np.array(length)]
    node = helper.make_node("DFT", ["x", "length"][: 1 + len(given)], ["y"], **attributes)
    model = model_of([node], {"x": x}, ["y"], dict(zip(["length"], given, strict=False)), opset=17)
    graph = import_model(save(model, tmp_path))
    count = length or (94 if inverse and onesided else 48)
    assert ("Fourier" in kinds(graph)) == (count in (48, 16, 20, 45, 90))
    got = evaluate(graph, {"x": x})["y"]
    z = x[..., 0] + 1j * (x[..., 1] if parts == 2 else 0)
    if inverse:
        want = np.fft.irfft(z, count, axis=1) if onesided else np.fft.ifft(z, count, axis=1)
    else:
        want = np.fft.rfft(z.real, count, axis=1) if onesided else np.fft.fft(z, count, axis=1)
    halves = [want] if inverse and onesided else [want.real, want.imag]
    assert_same(got, np.stack(halves, -1).astype(np.float32), 2e-6)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (-5, "DFT of -5 numbers"),
        (0, "DFT of 0 numbers"),
        (8194, "8194 numbers; more than 8192 are supported without factors but 2, 3 and 5, up to 65536"),
        (131072, "131072 numbers"),
    ],
)
def test_lengths_that_dft_cannot_have(tmp_path, length, message):
    x = array(3, 48, 2, 2)
    node = helper.make_node("DFT", ["x", "length"], ["y"])
    model = model_of([node], {"x": x}, ["y"], {"length": np.array(length)}, opset=17)
    with pytest.raises(CompileError, match=message):
        import_model(save(model, tmp_path))


@pytest.mark.parametrize("length", [-4, 0, 7, 2**17])
def test_transforms_that_are_not_fast(length):
    """Also of no numbers, which all factors divide without end."""
    with pytest.raises(ShapeError, match=f"no fast transform of {length} numbers"):
        _ = Transform(length, 2).radices


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("onesided", [0, 1])
def test_lengths_of_frames(tmp_path, parts, onesided):
    """Frames by stages, and by a matrix, against ONNX Runtime."""
    if onesided and parts == 2:
        return
    for length in (15, 24, 25, 28):
        window = np.hamming(length).astype(np.float32)
        given = [np.array(10), window, np.array(length)]
        graph = run(tmp_path, "STFT", [array(2, 70, parts)], given, rtol=2e-5, onesided=onesided)
        assert ("ShortTimeFourier" in kinds(graph)) == (length in (24, 25))


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", [None, np.hanning(16).astype(np.float32)])
def test_stft(tmp_path, onesided, window):
    given = [np.array(8), window, np.array(16)]
    run(tmp_path, "STFT", [array(2, 64, 1)], given, rtol=2e-5, onesided=onesided)
