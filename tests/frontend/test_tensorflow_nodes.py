# SPDX-License-Identifier: Apache-2.0
"""Operators of TensorFlow's that tf2onnx leaves in ONNX's domain: ONNX Runtime knows none of them."""

from __future__ import annotations

from math import erfc, pi, sqrt

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.tensorflow_nodes import FORMS
from mmcc.ir.interpret import evaluate
from mmcc.verification.oracle import Oracle
from onnx import helper

ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.quick
X = np.linspace(-6, 6, 4000, dtype=np.float32).reshape(1, -1)
WIDE = X.astype(np.float64)
ERFC = np.vectorize(erfc)(WIDE)
MEANT = {
    ("Erfc", None): ERFC,
    ("TFL_GELU", None): WIDE / 2 * np.vectorize(erfc)(-WIDE * sqrt(0.5)),
    ("TFL_GELU", 0): WIDE / 2 * np.vectorize(erfc)(-WIDE * sqrt(0.5)),
    ("TFL_GELU", 1): WIDE / 2 * (1 + np.tanh(sqrt(2 / pi) * (WIDE + 0.044715 * WIDE**3))),
}


def left_over(op: str, approximate: int | None):
    attributes = {} if approximate is None else {"approximate": approximate}
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node(op, ["n"], ["y"], **attributes)]
    return model_of(nodes, {"x": X}, ["y"], {}, opset=18)


@pytest.mark.parametrize(("op", "approximate"), MEANT)
def test_they_are_what_tensorflow_means(tmp_path, op, approximate):
    """To us, and in the file that ONNX Runtime is given, by the same name."""
    path = save(left_over(op, approximate), tmp_path)
    with pytest.raises(Exception, match=r"INVALID_GRAPH|No Op registered"):
        ort.InferenceSession(path)
    (got,) = evaluate(import_model(path), {"x": -X}).values()
    named, oracle = Oracle(path, ["n", "y"]).run({"x": -X})
    np.testing.assert_array_equal(named, X)
    for found in (got, oracle):
        np.testing.assert_allclose(found, MEANT[op, approximate], rtol=1e-5, atol=1e-6)


def test_every_one_is_looked_at():
    assert {op for op, _ in MEANT} == set(FORMS)


def test_another_way_to_approximate_is_refused(tmp_path):
    with pytest.raises(CompileError, match="approximate is 2"):
        import_model(save(left_over("TFL_GELU", 2), tmp_path))
