# SPDX-License-Identifier: Apache-2.0
"""Convolutions, transposed ones and pools over three axes of space, against ONNX Runtime."""

from __future__ import annotations

import pytest
from frontend_models import model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from onnx import helper
from operator_models import array, run

pytestmark = pytest.mark.quick

VOLUME = array(2, 4, 5, 6, 7)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 1, 1, 1, 1, 1]},
        {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 0]},
        {"dilations": [2, 1, 1]},
        {"group": 2, "auto_pad": "SAME_UPPER"},
    ],
)
def test_convolutions_of_volumes(tmp_path, attributes):
    w = array(6, 4 // attributes.get("group", 1), 3, 2, 3, seed=1)
    run(tmp_path, "Conv", [VOLUME], [w, array(6)], rtol=2e-5, **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 2, 2]},
        {
            "strides": [4, 1, 2],
            "pads": [1, 0, 1, 0, 1, 0],
            "output_padding": [1, 0, 1],
        },  # layers of bias alone
        {"strides": [3, 2, 1], "dilations": [2, 1, 1], "pads": [2, 0, 0, 1, 0, 0]},
        {"group": 2, "strides": [2, 1, 1], "output_shape": [9, 7, 8]},
    ],
)
def test_transposed_convolutions_of_volumes(tmp_path, attributes):
    w = array(4, 6 // attributes.get("group", 1), 3, 2, 3, seed=1)
    run(tmp_path, "ConvTranspose", [VOLUME], [w, array(6)], rtol=2e-5, **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 3, 1]},
        {"kernel_shape": [3, 2, 2], "strides": [2, 2, 2], "pads": [1, 0, 1, 1, 1, 0]},
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1},
    ],
)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_of_volumes(tmp_path, op, attributes):
    if op == "LpPool" and "ceil_mode" in attributes:
        return
    run(tmp_path, op, [VOLUME], opset=19, **attributes)
    if op == "AveragePool" and "ceil_mode" not in attributes:
        run(tmp_path, op, [VOLUME], opset=19, count_include_pad=1, **attributes)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_are_limited_by_the_layers_of_their_result(tmp_path, op):
    """As convolutions are: a volume of more layers may be read."""
    x = array(1, 2, 201, 1, 2)
    run(tmp_path, op, [x], opset=19, kernel_shape=[3, 1, 1], strides=[2, 1, 1])
    with pytest.raises(CompileError, match="199 layers; up to 128"):
        run(tmp_path, op, [x], opset=19, kernel_shape=[3, 1, 1])


@pytest.mark.parametrize("kernel", [[9, 2, 2], [2, 9, 2]])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_of_more_than_a_volume_are_refused(tmp_path, op, kernel):
    model = model_of([helper.make_node(op, ["x"], ["y"], kernel_shape=kernel)], {"x": VOLUME}, ["y"])
    with pytest.raises(CompileError, match="is larger than"):
        import_model(save(model, tmp_path))
