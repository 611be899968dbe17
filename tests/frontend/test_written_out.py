# SPDX-License-Identifier: Apache-2.0
"""Operators that mmcc writes out in others, against ONNX's own reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from frontend_models import assert_same, model_of, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend.importer import import_model
from mmcc.ir.interpret import evaluate
from onnx import helper
from onnx.reference import ReferenceEvaluator

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(20)


def real(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def agrees(tmp_path, op, inputs, constants=None, outputs=1, opset=20, **attributes):
    constants = constants or {}
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, [*inputs, *constants], names, **attributes)
    model = model_of([node], inputs, names, constants, opset=opset, ir=9)
    got = evaluate(import_model(save(model, tmp_path)), inputs)
    with np.errstate(all="ignore"):
        want = ReferenceEvaluator(model).run(None, inputs)
    for name, array in zip(names, want, strict=True):
        assert_same(got[name], array)


@pytest.mark.parametrize(
    ("mode", "padding", "aligned"),
    [*product(("nearest", "linear", "cubic"), ("zeros", "border", "reflection"), (0, 1))],
)
def test_grid_sample(tmp_path, mode, padding, aligned):
    """Places on the image, at its borders and far beside it."""
    grid = RNG.uniform(-1.2, 1.2, (2, 3, 4, 2)).astype(np.float32)
    grid[0, 0] = [[-1, 1], [1, -1], [-4.3, 0.2], [7.7, -3.1]]
    inputs = {"x": real(2, 3, 5, 4), "grid": grid}
    agrees(tmp_path, "GridSample", inputs, mode=mode, padding_mode=padding, align_corners=aligned)


def test_grid_sample_of_volumes_and_of_one_column(tmp_path):
    grid = RNG.uniform(-1.3, 1.3, (1, 2, 3, 2, 3)).astype(np.float32)
    agrees(tmp_path, "GridSample", {"x": real(1, 2, 4, 3, 5), "grid": grid}, mode="linear")
    flat = {"x": real(1, 2, 4, 1), "grid": grid[:, :, :, 0, :2]}
    agrees(tmp_path, "GridSample", flat, padding_mode="reflection")


def test_places_that_are_no_numbers_read_nothing_else(tmp_path):
    """NaN and infinity are moved to a pixel, whichever."""
    inputs = {"x": real(1, 1, 3, 3), "grid": np.full((1, 1, 2, 2), np.nan, np.float32)}
    inputs["grid"][0, 0, 1] = np.inf
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], mode="nearest", padding_mode="border")
    model = model_of([node], inputs, ["y"], opset=20, ir=9)
    got = evaluate(import_model(save(model, tmp_path)), inputs)["y"]
    assert np.isin(got, inputs["x"]).all()


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_reverse_sequence(tmp_path, axes):
    inputs = {"x": real(4, 4, 3), "n": np.array([4, 0, 1, 3], np.int64)}
    agrees(tmp_path, "ReverseSequence", inputs, time_axis=axes[0], batch_axis=axes[1])


def test_max_unpool(tmp_path):
    inputs = {"x": real(1, 2, 2, 2), "i": np.array([5, 7, 13, 15, 21, 22, 24, 31]).reshape(1, 2, 2, 2)}
    agrees(tmp_path, "MaxUnpool", inputs, kernel_shape=[2, 2], strides=[2, 2])


@pytest.mark.parametrize(
    ("strides", "pads", "dilations"), [((1, 1), (0, 0, 0, 0), (1, 1)), ((2, 1), (1, 0, 0, 2), (1, 2))]
)
def test_col2im(tmp_path, strides, pads, dilations):
    places = [
        (n + pads[k] + pads[k + 2] - dilations[k] * (b - 1) - 1) // strides[k] + 1
        for k, (n, b) in enumerate(((6, 2), (7, 3)))
    ]
    constants = {"image": np.array([6, 7]), "block": np.array([2, 3])}
    columns = {"x": real(2, 3 * 6, places[0] * places[1])}
    agrees(tmp_path, "Col2Im", columns, constants, strides=strides, pads=pads, dilations=dilations)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("size", [(1, 3, 5, 6), (2, 1, 4, 3), (1, 1, 2, 5, 3), (2, 2, 3, 2, 4)])
def test_affine_grid(tmp_path, size, aligned):
    """Of images and volumes, of one sample too, for which ONNX's own function is wrong."""
    rank = len(size) - 2
    theta = {"theta": real(size[0], rank, rank + 1)}
    agrees(tmp_path, "AffineGrid", theta, {"size": np.array(size)}, align_corners=aligned)


def test_pixels_that_are_moved_by_a_matrix(tmp_path):
    """AffineGrid and GridSample as a spatial transformer has them; the identity keeps the image."""
    x = real(1, 2, 4, 5)
    nodes = [
        helper.make_node("AffineGrid", ["theta", "size"], ["grid"], align_corners=1),
        helper.make_node("GridSample", ["x", "grid"], ["y"], align_corners=1),
    ]
    inputs = {"x": x, "theta": np.eye(2, 3, dtype=np.float32)[None]}
    model = model_of(nodes, inputs, ["y"], {"size": np.array(x.shape)}, opset=20, ir=9)
    got = evaluate(import_model(save(model, tmp_path)), inputs)["y"]
    np.testing.assert_allclose(got, x, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (5, 4, 4), (2, 3, 3, 3)])
def test_determinants_of_small_matrices(tmp_path, shape):
    agrees(tmp_path, "Det", {"x": real(*shape)})


def test_the_mask_of_a_dropout(tmp_path):
    agrees(tmp_path, "Dropout", {"x": real(2, 3)}, outputs=2)
    nothing = {"ratio": np.array(0, np.float32), "training": np.array(True)}
    agrees(tmp_path, "Dropout", {"x": real(2, 3)}, nothing, outputs=2)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Det", {"x": real(5, 5)}, {}),
        ("Det", {"x": real(2, 3)}, {}),
        ("GridSample", {"x": real(1, 1, 2, 2), "g": real(1, 1, 1, 2)}, {"mode": "nonsense"}),
        ("GridSample", {"x": real(1, 1, *[2] * 8), "g": real(1, *[1] * 8, 8)}, {"mode": "linear"}),
        ("MaxUnpool", {"x": real(1, 1, 2), "i": np.zeros((1, 1, 2), np.int64)}, {"kernel_shape": [2**40]}),
        ("MaxUnpool", {"x": real(1, 1, 2), "i": np.zeros((1, 1, 2), np.int64)}, {"kernel_shape": [1, 1]}),
    ],
)
def test_numbers_that_make_no_sense(tmp_path, op, inputs, attributes):
    node = helper.make_node(op, [*inputs], ["y"], **attributes)
    with pytest.raises(CompileError):
        import_model(save(model_of([node], inputs, ["y"], opset=20, ir=9), tmp_path))


def test_a_grid_of_one_pixel_between_corners_is_refused(tmp_path):
    """Its corners are one: PyTorch says 0, ONNX's reference -1 and ONNX Runtime 1."""
    node = helper.make_node("AffineGrid", ["theta", "size"], ["y"], align_corners=1)
    inputs, size = {"theta": real(1, 2, 3)}, {"size": np.array([1, 1, 1, 4])}
    with pytest.raises(CompileError):
        import_model(save(model_of([node], inputs, ["y"], size, opset=20, ir=9), tmp_path))


@pytest.mark.parametrize(
    ("groups", "parts", "attributes"),
    [
        (1, 1, {}),
        (2, 2, {"pads": [1, 0, 1, 0], "strides": [2, 1]}),
        (1, 4, {"dilations": [1, 2], "pads": [0, 1, 1, 1]}),
    ],
)
def test_deformable_convolutions(tmp_path, groups, parts, attributes):
    """With a bias and a mask, and with neither; some places are far beside the image."""
    weights, biases = {"w": real(6, 4 // groups, 3, 2)}, {"b": real(6)}
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    pads = attributes.get("pads", [0] * 4)
    out = [
        (n + pads[k] + pads[k + 2] - dilations[k] * (size - 1) - 1) // strides[k] + 1
        for k, (n, size) in enumerate(((6, 3), (7, 2)))
    ]
    x, offsets = real(2, 4, 6, 7), 2 * real(2, parts * 12, *out)
    node = helper.make_node(
        "DeformConv", ["x", "w", "o", "b", "m"], ["y"], offset_group=parts, group=groups, **attributes
    )
    inputs = {"x": x, "o": offsets, "m": real(2, parts * 6, *out)}
    for bare in (False, True):
        if bare:
            del node.input[3:], inputs["m"]
        constants = weights if bare else weights | biases
        model = model_of([node], inputs, ["y"], constants, opset=20, ir=9)
        got = evaluate(import_model(save(model, tmp_path)), inputs)
        assert_same(got["y"], ReferenceEvaluator(model).run(None, inputs)[0], 2e-5)


@pytest.mark.parametrize("opset", [10, 16])
@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_of_an_image(tmp_path, mode, opset, samples):
    """Against ONNX Runtime: regions within the image, beyond it, and smaller than a pixel."""
    regions = [[1, 2, 9, 7], [-3, -2, 5, 20], [4, 4, 4.2, 4.1], [0, 0, 10, 8], [30, 2, 40, 6]]
    inputs = {"x": real(2, 3, 8, 10), "r": np.array(regions, np.float32), "i": np.array([0, 1, 1, 0, 0])}
    given = {"output_height": 3, "output_width": 2, "sampling_ratio": samples, "spatial_scale": 0.75}
    kinds = ("half_pixel", "output_half_pixel") if opset == 16 else (None,)
    for kind in kinds:
        more = {"mode": mode} | ({"coordinate_transformation_mode": kind} if kind else {})
        node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], **given, **more)
        model = model_of([node], inputs, ["y"], opset=opset, ir=9)
        got = evaluate(import_model(save(model, tmp_path)), inputs)
        assert_same(got["y"], onnx_runtime(model, inputs)["y"], 2e-5)


def test_places_on_the_line_beside_an_image(tmp_path):
    """Samples a pixel beside the image count, further ones do not: the last bit of a place decides."""
    inputs = {"x": real(1, 1, 6, 3), "r": np.array([[-2, 2, 0, 10]], np.float32), "i": np.array([0])}
    given = {"output_height": 3, "output_width": 4, "sampling_ratio": 3}
    node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], **given)
    model = model_of([node], inputs, ["y"], opset=10, ir=9)
    got = evaluate(import_model(save(model, tmp_path)), inputs)
    assert_same(got["y"], onnx_runtime(model, inputs)["y"], 2e-5)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("least", "most", "skips"), [(1, 1, 0), (1, 2, 0), (2, 2, 5), (1, 3, 1)])
def test_sequences_are_counted(tmp_path, mode, least, most, skips):
    """Against ONNX Runtime."""
    given = {
        "min_gram_length": least,
        "max_gram_length": most,
        "max_skip_count": skips,
        "ngram_counts": [0, 4, 10],
        "ngram_indexes": [0, 1, 2, 3, 6, 5, 4, 7],
        "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7, 5, 6, 7],
        "weights": [0.5, 1.0, 2.0, 1.5, 0.25, 3.0, 1.25, 0.75],
    }
    for x in (np.array([1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]), RNG.integers(2, 9, (3, 9))):
        node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], mode=mode, **given)
        model = model_of([node], {"x": x}, ["y"], opset=20, ir=9)
        got = evaluate(import_model(save(model, tmp_path)), {"x": x})
        assert_same(got["y"], onnx_runtime(model, {"x": x})["y"])


@pytest.mark.parametrize(
    "change",
    [
        {"max_skip_count": 2**40},
        {"ngram_indexes": [2**40]},
        {"ngram_indexes": [0, 0]},
        {"ngram_indexes": [0, 1]},
        {"ngram_counts": [0, 3]},
        {"max_gram_length": 2**40, "ngram_counts": [0] * 3000},
    ],
)
def test_what_is_to_be_counted_is_bounded(tmp_path, change):
    """Numbers that make no sense end in an error, soon; a distance beyond the row is no occurrence."""
    given = {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0, "mode": "TF"}
    given |= {"ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2], "pool_int64s": [2, 3, 5, 4]} | change
    inputs = {"x": np.array([2, 3, 5, 4, 5])}
    model = model_of(
        [helper.make_node("TfIdfVectorizer", ["x"], ["y"], **given)], inputs, ["y"], opset=20, ir=9
    )
    if "max_skip_count" in change:
        assert evaluate(import_model(save(model, tmp_path)), inputs)["y"].tolist() == [1, 1, 1]
    else:
        with pytest.raises(CompileError):
            import_model(save(model, tmp_path))


@pytest.mark.parametrize(
    "change", [{"output_height": 2**40}, {"output_width": -1}, {"sampling_ratio": 2**30}]
)
def test_samples_of_regions_are_bounded(tmp_path, change):
    given = {"output_height": 2, "output_width": 2, "sampling_ratio": 1} | change
    inputs = {"x": real(1, 2, 4, 4), "r": real(3, 4), "i": np.zeros(3, np.int64)}
    model = model_of([helper.make_node("RoiAlign", [*inputs], ["y"], **given)], inputs, ["y"], opset=16, ir=9)
    with pytest.raises(CompileError):
        import_model(save(model, tmp_path))
