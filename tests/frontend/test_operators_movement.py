# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that move elements, and Resize, against ONNX Runtime."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from frontend_models import kinds, model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import helper
from operator_models import IMAGE, TABLE, array, floats, ints, run

pytestmark = pytest.mark.quick


def test_transpose(tmp_path):
    run(tmp_path, "Transpose", [array(2, 3, 4)])
    assert not [k for k in kinds(run(tmp_path, "Transpose", [IMAGE], perm=[0, 2, 3, 1])) if k != "Expand"]


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 4), (-1,), (0, -1), (1, 24, 1), (12, 2), (2, 0, 2, -1)])
def test_reshape(tmp_path, shape):
    x = array(6, 4) if shape != (2, 0, 2, -1) else array(2, 3, 4)
    run(tmp_path, "Reshape", [x], [ints(*shape)])


def test_axes(tmp_path):
    run(tmp_path, "Flatten", [IMAGE])
    run(tmp_path, "Flatten", [IMAGE], axis=2)
    run(tmp_path, "Flatten", [IMAGE], axis=-1)
    run(tmp_path, "Flatten", [IMAGE], axis=4)
    run(tmp_path, "Squeeze", [array(1, 3, 1, 4)])
    run(tmp_path, "Squeeze", [array(1, 3, 1, 4)], [ints(-2)])
    run(tmp_path, "Squeeze", [array(1, 3, 1, 4)], opset=11, axes=[0])
    run(tmp_path, "Unsqueeze", [TABLE], [ints(0, -1)])
    run(tmp_path, "Unsqueeze", [TABLE], opset=11, axes=[1, 2])


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_concat(tmp_path, axis):
    shapes = [[1, 6, 7, 9] for _ in range(3)]
    shapes[0][axis], shapes[2][axis] = 1, 3
    values = [array(*shape, seed=k) for k, shape in enumerate(shapes)]
    run(tmp_path, "Concat", values, axis=axis)
    run(tmp_path, "Concat", values[:2], values[2:], axis=axis)
    run(tmp_path, "Concat", values[:1], axis=axis)


def test_split(tmp_path):
    for axis in (1, 2, -1):
        x = array(1, 6, 9, 12)
        run(tmp_path, "Split", [x], outputs=3, axis=axis)
        run(tmp_path, "Split", [x], outputs=3, axis=axis, opset=18, num_outputs=3)
        sizes = [1, 3, x.shape[axis] - 4]
        run(tmp_path, "Split", [x], [ints(*sizes)], outputs=3, axis=axis)
        run(tmp_path, "Split", [x], outputs=3, axis=axis, opset=11, split=sizes)
    run(tmp_path, "Split", [array(7, 2)], outputs=3, opset=18, num_outputs=3)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [5], [2], [2]),
        ([-1], [-9999], [3], [-1]),
        ([0, 2], [9999, -1], [1, -1], [1, 1]),
        ([1, 0], [2, 7], [1, 2], [1, 3]),
        ([5], [0], [3], [-2]),
        ([2**62], [-(2**62)], [3], [-3]),
    ],
)
def test_slice(tmp_path, starts, ends, axes, steps):
    run(tmp_path, "Slice", [IMAGE], [ints(*starts), ints(*ends), ints(*axes), ints(*steps)])
    if min(steps) == max(steps) == 1:
        run(tmp_path, "Slice", [IMAGE], opset=9, starts=starts, ends=ends, axes=axes)


@pytest.mark.parametrize("indices", [1, -1, [2], [0, 2, 1], [[0, 1], [5, -6]], [1, 3, 5], [4, 4]])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(tmp_path, indices, axis):
    run(tmp_path, "Gather", [array(6, 7, 8)], [np.array(indices, np.int64)], axis=axis)


def test_expand_and_tile(tmp_path):
    run(tmp_path, "Expand", [array(3, 1)], [ints(2, 1, 4)])
    run(tmp_path, "Expand", [array(3, 1)], [ints(3, 1)])
    run(tmp_path, "Expand", [array(1, 3, 1, 1)], [ints(1, 3, 5, 6)])
    run(tmp_path, "Expand", [np.array(2.5, np.float32)], [ints(2, 3)])
    run(tmp_path, "Tile", [array(2, 3)], [ints(2, 3)])
    run(tmp_path, "Tile", [array(1, 3, 2, 1)], [ints(1, 2, 1, 3)])
    run(tmp_path, "Tile", [array(1, 3, 2, 1)], [ints(1, 1, 1, 1)])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 0, 3], [0, 2, 0, 0, 0, 1, 0, 0], [0] * 8])
def test_pad(tmp_path, mode, pads):
    run(tmp_path, "Pad", [IMAGE], [ints(*pads)], opset=19, mode=mode)


def test_more_pads(tmp_path):
    value = np.array(1.5, np.float32)
    run(tmp_path, "Pad", [IMAGE], [ints(0, 1, 0, -1, 0, 0, -2, 3), value])
    run(tmp_path, "Pad", [IMAGE], [ints(1, -1, 2, 1), value, ints(-1, 2)], opset=18)
    run(tmp_path, "Pad", [IMAGE], opset=10, pads=[0, 0, 1, 2, 0, 0, 0, 3], value=0.5)
    run(tmp_path, "Pad", [array(3, dtype=np.int64)], [ints(1, 2), np.array(-7)])
    run(tmp_path, "Pad", [array(1, 4)], [ints(1, 0, 1, 0)])


def test_blocks(tmp_path):
    for mode in ("DCR", "CRD"):
        run(tmp_path, "DepthToSpace", [array(1, 12, 3, 5)], blocksize=2, mode=mode)
    run(tmp_path, "SpaceToDepth", [array(1, 3, 4, 6)], blocksize=2)
    run(tmp_path, "SpaceToDepth", [array(2, 3, 4, 6)], blocksize=2)


MODES = ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"]


@pytest.mark.parametrize("coordinates", [*MODES, "tf_half_pixel_for_nn"])
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("scales", [(2.0, 2.0), (0.5, 1.5), (1.3, 0.7), (1.0, 3.0)])
def test_resize_nearest(tmp_path, coordinates, nearest, scales):
    opset = 19 if coordinates == "half_pixel_symmetric" else 12 if coordinates.startswith("tf") else 17
    run(
        tmp_path,
        "Resize",
        [IMAGE],
        [floats() if opset == 12 else None, floats(1, 1, *scales)],
        opset=opset,
        mode="nearest",
        coordinate_transformation_mode=coordinates,
        nearest_mode=nearest,
    )


@pytest.mark.parametrize("coordinates", MODES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scales", [(2.0, 2.0), (0.5, 1.5), (1.3, 0.7), (1.0, 3.0)])
@pytest.mark.parametrize("by_sizes", [True, False])
def test_resize_smooth(tmp_path, coordinates, mode, scales, by_sizes):
    sizes = ints(1, 6, int(7 * scales[0]), int(9 * scales[1]))
    constants = [None, None, sizes] if by_sizes else [None, floats(1, 1, *scales)]
    given = {"mode": mode, "coordinate_transformation_mode": coordinates}
    run(tmp_path, "Resize", [IMAGE], constants, opset=19, rtol=1e-4, **given)


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_resize_of_every_choice_of_axes(tmp_path, rank):
    """Each axis once, however many of them change: an image's rows and columns are one step, others two."""
    old, new = (2, 3, 4, 5, 3)[:rank], (3, 4, 6, 7, 2)[:rank]
    for chosen in product((False, True), repeat=rank):
        sizes = [after if change else before for change, before, after in zip(chosen, old, new, strict=True)]
        run(tmp_path, "Resize", [array(*old)], [None, None, ints(*sizes)], mode="nearest")


@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scales", [(0.5, 0.6), (0.75, 1.0), (0.7, 2.0)])
def test_resize_with_antialias(tmp_path, mode, scales, exclude):
    given = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    run(tmp_path, "Resize", [IMAGE], [None, floats(1, 1, *scales)], opset=18, rtol=1e-4, **given)


def test_antialias_has_as_many_taps_as_the_filter_is_wide(tmp_path):
    graph = run(
        tmp_path, "Resize", [IMAGE], [None, floats(1, 1, 0.5, 1)], opset=18, mode="linear", antialias=1
    )
    assert [node.op.taps for node in graph.nodes] == [4]
    quarter = {"mode": "linear", "antialias": 1, "axes": [2, 3]}
    run(tmp_path, "Resize", [array(1, 2, 32, 24)], [None, floats(0.25, 0.25)], opset=18, **quarter)


CROP = "tf_crop_and_resize"


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("region", [(0.41, 0.2, 0.83, 0.6), (-0.21, 0.3, 1.23, 0.7), (0.9, 0, 0.07, 1.3)])
def test_resize_of_a_region(tmp_path, mode, region):
    """Within the image, beyond it (where one value stands for all), and turned round."""
    top, left, bottom, right = region
    given = {"mode": mode, "coordinate_transformation_mode": CROP, "extrapolation_value": 7.5}
    constants = [floats(0, 0, top, left, 1, 1, bottom, right), None, ints(1, 6, 5, 4)]
    run(tmp_path, "Resize", [IMAGE], constants, rtol=1e-4, **given)
    constants = [floats(left, top, right, bottom), None, ints(1, 4)]
    run(tmp_path, "Resize", [IMAGE], constants, opset=18, rtol=1e-4, axes=[3, 2], **given)


def test_a_region_of_integers(tmp_path):
    """What stands for all that lies beside is of the input's type: against the formula."""
    given = {"mode": "nearest", "coordinate_transformation_mode": CROP, "extrapolation_value": -300.0}
    node = helper.make_node("Resize", ["x", "r", "", "s"], ["y"], axes=[0], **given)
    x, constants = np.arange(5, dtype=np.int8), {"r": floats(-0.5, 1), "s": ints(4)}
    graph = import_model(save(model_of([node], {"x": x}, ["y"], constants, 18), tmp_path))
    assert evaluate(graph, {"x": x})["y"].tolist() == [-128, 0, 2, 4]


@pytest.mark.parametrize(
    ("constants", "given"),
    [
        ([floats(0.5, 1), None, ints(7)], {"axes": [2], "coordinate_transformation_mode": CROP}),
        (  # of the other axis ONNX Runtime takes the region
            [floats(0, 0.1, 0.5, 0.9), None, ints(7, 5)],
            {"axes": [2, 3], "coordinate_transformation_mode": CROP},
        ),
        ([None, floats(1, 1, 1.1, 1)], {}),
        ([None, floats(1, 1, 1.1, 1)], {"mode": "nearest"}),
        ([None, floats(1, 1, 1.1, 2)], {"antialias": 1}),
    ],
)
def test_elements_that_onnx_moves_and_onnx_runtime_copies(tmp_path, constants, given):
    with pytest.raises(CompileError, match="ONNX Runtime copies them, by ONNX they move by up to"):
        run(tmp_path, "Resize", [IMAGE], constants, opset=18, **{"mode": "linear"} | given)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", MODES)
def test_a_scale_that_an_exporter_rounded_copies(tmp_path, mode, coordinates):
    """Elements at 0.9999 are not those at 0 for `nearest_mode="floor"`, since ONNX Runtime copies."""
    given = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": "floor"}
    graph = run(tmp_path, "Resize", [IMAGE], [None, floats(1, 1, 1.00001, 1)], opset=19, **given)
    assert kinds(graph) == ["Expand"]  # to the output


def test_antialias_of_what_lies_beside(tmp_path):
    given = {"mode": "linear", "coordinate_transformation_mode": CROP, "axes": [2, 3]}
    inside = [floats(0.1, 0.2, 0.9, 0.8), None, ints(5, 6)]
    run(tmp_path, "Resize", [IMAGE], inside, opset=18, rtol=1e-4, antialias=1, **given)
    beyond = [floats(-0.1, 0.2, 0.9, 0.8), None, ints(5, 6)]
    run(tmp_path, "Resize", [IMAGE], beyond, opset=18, rtol=1e-4, **given)
    with pytest.raises(CompileError, match="a region beyond the input"):
        run(tmp_path, "Resize", [IMAGE], beyond, opset=18, antialias=1, **given)


@pytest.mark.parametrize("coordinates", MODES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_volumes(tmp_path, mode, coordinates):
    """Two axes and then the third."""
    given = {"mode": mode, "coordinate_transformation_mode": coordinates}
    run(tmp_path, "Resize", [array(1, 2, 3, 4, 5)], [None, floats(1, 1, 2, 1.5, 0.6)], opset=19, **given)


def test_more_resizes(tmp_path):
    cubic = {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}
    run(tmp_path, "Resize", [IMAGE], [None, floats(1, 1, 2, 1.5)], rtol=1e-4, **cubic)
    run(tmp_path, "Resize", [IMAGE], [floats(1, 1, 2, 3)], opset=10)
    run(tmp_path, "Resize", [IMAGE], [floats(1, 1, 0.6, 0.5)], opset=10)
    run(tmp_path, "Resize", [IMAGE], [floats(1, 1, 2, 3)], opset=10, mode="linear")
    run(tmp_path, "Resize", [array(1, 7, 9, 6)], [None, floats(1, 2, 3, 1)])
    run(tmp_path, "Resize", [IMAGE], [None, floats(2, 3)], opset=18, axes=[2, 3])
    run(tmp_path, "Resize", [IMAGE.round().astype(np.int8)], [None, floats(1, 1, 2, 3)])
    for policy in ("not_larger", "not_smaller"):
        sizes = [None, None, ints(14, 14)]
        given = {"axes": [2, 3], "keep_aspect_ratio_policy": policy}
        run(tmp_path, "Resize", [IMAGE], sizes, opset=18, **given)
    run(tmp_path, "Upsample", [IMAGE], opset=7, scales=[1.0, 1.0, 2.0, 3.0])
    run(tmp_path, "Upsample", [IMAGE], [floats(1, 1, 2, 2)], opset=9, mode="linear")
