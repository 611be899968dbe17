# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml but for trees against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import assert_same, save
from learned_models import LABELS, X, compared, model, refused, trees
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from mmcc.verification.oracle import Oracle
from onnx import TensorProto, helper
from operator_models import array

pytestmark = pytest.mark.quick


def test_transforms_of_one_score_that_onnx_runtime_passes_over(tmp_path):
    plane = {"coefficients": [0.5, -1.0, 0.25, 2.0]}
    refused(tmp_path, "PROBIT", model("SVMRegressor", post_transform="PROBIT", **plane))
    both = {"outputs": 2, "kinds": LABELS, "classlabels_ints": [3, 4], "intercepts": [0.5], **plane}
    for post in ("SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
        refused(tmp_path, "one score for two", model("LinearClassifier", post_transform=post, **both))
    for post in ("NONE", "LOGISTIC"):
        compared(tmp_path, model("LinearClassifier", post_transform=post, **both))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Scaler", {"offset": [0.5, 1.0, -2.0, 0.25], "scale": [2.0, 0.5, 1.0, 3.0]}),
        ("Scaler", {"offset": [0.5], "scale": [2.0]}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
        ("Normalizer", {"norm": "MAX"}),
        ("Binarizer", {"threshold": 0.5}),
        ("Imputer", {"imputed_value_floats": [9.0], "replaced_value_float": 0.25}),
        (
            "LinearRegressor",
            {"targets": 2, "coefficients": [*map(float, range(8))], "intercepts": [0.5, -1.0]},
        ),
    ],
)
def test_preprocessing_and_regression(tmp_path, op, attributes):
    x = np.concatenate([np.abs(X), np.zeros((1, 4), np.float32)]) if op == "Normalizer" else X
    compared(tmp_path, model(op, x, **attributes), x)


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_linear_classifiers(tmp_path, post):
    coefficients = array(3, 4, seed=8).ravel().tolist()
    attributes = {"coefficients": coefficients, "intercepts": [0.1, 0.2, -0.3], "classlabels_ints": [3, 1, 2]}
    made = model("LinearClassifier", outputs=2, kinds=LABELS, post_transform=post, **attributes)
    compared(tmp_path, made)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(tmp_path, kernel):
    attributes = {
        "kernel_type": kernel,
        "kernel_params": [0.25, 0.5, 2.0],
        "support_vectors": array(5, 4, seed=9).ravel().tolist(),
        "coefficients": [1.0, -0.5, 0.25, 2.0, -1.0],
        "rho": [0.75],
        "n_supports": 5,
    }
    compared(tmp_path, model("SVMRegressor", **attributes), rtol=2e-5)


POSTS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def classifier(classes: int, kernel: str, post: str, probabilities: bool) -> dict[str, object]:
    """Some support vectors for each class, as scikit-learn's exporter writes them."""
    sizes = [2 + k % 3 for k in range(classes)]
    pairs = classes * (classes - 1) // 2
    scale = 0.2 if post == "PROBIT" else 1.0  # of a probability, which scores are not
    made = {
        "kernel_type": kernel,
        "kernel_params": [0.25, 0.5, 2.0],
        "support_vectors": array(sum(sizes), 4, seed=9).ravel().tolist(),
        "vectors_per_class": sizes,
        "coefficients": (array((classes - 1) * sum(sizes), seed=10) * scale / sum(sizes)).tolist(),
        "rho": (0.5 + array(pairs, seed=11) / 8).tolist(),
        "classlabels_ints": [7 - 2 * k for k in range(classes)],
        "post_transform": post,
    }
    if probabilities:
        made |= {
            "prob_a": (-1 - array(pairs, seed=12) ** 2).tolist(),
            "prob_b": array(pairs, seed=13).tolist(),
        }
    return made


@pytest.mark.parametrize("post", ["SOFTMAX", "SOFTMAX_ZERO"])
def test_scores_of_zero(tmp_path, post):
    """SOFTMAX_ZERO leaves them, and what is hardly more, out of the sum."""
    x = np.array([[1, 0, 2], [-3, 0, -1], [0, 0, 5], [1, 1e-8, -2], [1, 2e-7, 2]], np.float32)
    given = {
        "coefficients": np.eye(3).ravel().tolist(),
        "intercepts": [0.0] * 3,
        "classlabels_ints": [0, 1, 2],
    }
    made = model("LinearClassifier", x, outputs=2, kinds=LABELS, post_transform=post, **given)
    compared(tmp_path, made, x)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_support_vector_classifiers(tmp_path, classes, post, probabilities):
    given = classifier(classes, "RBF" if classes == 3 else "LINEAR", post, probabilities)
    made = model("SVMClassifier", outputs=2, kinds=LABELS, **given)
    if (classes, post, probabilities) == (
        2,
        "PROBIT",
        False,
    ):  # whose second score is not defined
        with pytest.raises(CompileError, match="PROBIT of one score for two classes"):
            import_model(save(made, tmp_path))
    else:
        compared(tmp_path, made, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"vectors_per_class": [5, 0, 4]},
        {"vectors_per_class": [-1, 6, 4]},
        {"rho": [0.5]},
        {"classlabels_ints": [*range(4000)]},
        {"support_vectors": [1.0]},
        {"prob_a": [1.0]},
    ],
)
def test_support_vectors_that_do_not_fit_are_refused(tmp_path, change):
    given = classifier(3, "RBF", "NONE", False) | change
    with pytest.raises(CompileError):
        import_model(save(model("SVMClassifier", outputs=2, kinds=LABELS, **given), tmp_path))


@pytest.mark.parametrize("kernel", ["POLY", "SIGMOID"])
def test_support_vector_classifiers_of_other_kernels(tmp_path, kernel):
    given = classifier(4, kernel, "NONE", True)
    compared(tmp_path, model("SVMClassifier", outputs=2, kinds=LABELS, **given), rtol=1e-4)


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_planes_of_classes(tmp_path, classes, positive, post):
    """Without support vectors; of two classes the second is preferred."""
    coefficients = array(classes * 4, seed=14) / 16
    given = {
        "kernel_type": "LINEAR",
        "kernel_params": [0.0, 0.0, 3.0],
        "coefficients": (abs(coefficients) if positive else coefficients).tolist(),
        "rho": [0.5],
        "classlabels_ints": [4, 5, -6][:classes],
        "post_transform": post,
    }
    compared(tmp_path, model("SVMClassifier", outputs=2, kinds=LABELS, **given), rtol=1e-4)


@pytest.mark.parametrize("values", ["ints", "floats"])
def test_labels_of_numbers(tmp_path, values):
    x = np.array([[4, 7], [-1, 5]])
    if values == "ints":
        attributes = {"keys_int64s": [7, 4, 5], "values_int64s": [70, 40, 50], "default_int64": -9}
        made = model("LabelEncoder", x, kinds=[TensorProto.INT64], **attributes)
    else:
        attributes = {"keys_int64s": [7, 4, 5], "values_floats": [0.5, 0.25, 2.0], "default_float": 1.5}
        made = model("LabelEncoder", x, **attributes)
    compared(tmp_path, made, x)


def test_zip_map_is_dropped_and_strings_are_indices(tmp_path):
    attributes = {"coefficients": [1.0, 0.0, -1.0, 0.5] * 2, "intercepts": [0.0, 0.5]}
    attributes["classlabels_strings"] = ["a", "b"]
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["l", "p"],
            domain="ai.onnx.ml",
            **attributes,
        ),
        helper.make_node("ZipMap", ["p"], ["z"], domain="ai.onnx.ml", classlabels_strings=["a", "b"]),
    ]
    made = model("Scaler")
    del made.graph.node[:], made.graph.output[:]
    made.graph.node.extend(nodes)
    made.graph.output.add(name="l").type.tensor_type.elem_type = TensorProto.STRING
    made.graph.output.add(name="z").type.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    graph = import_model(save(made, tmp_path))
    got = evaluate(graph, {"x": X})
    assert got["l"].dtype == np.int64
    assert got["z"].shape == (6, 2)
    np.testing.assert_array_equal(got["l"], got["z"].argmax(1))
    assert any("ZipMap is dropped" in text for text in graph.warnings)
    assert any("index of its class" in text for text in graph.warnings)


@pytest.mark.parametrize("op", ["LinearClassifier", "TreeEnsembleClassifier"])
def test_names_of_classes_are_compared_as_their_indices(tmp_path, op):
    """As scikit-learn's exporter writes classifiers: labels that are strings, and a dictionary a row."""
    names = ["left", "right", "straight"]
    if op == "LinearClassifier":
        given = {"coefficients": array(12).tolist(), "intercepts": array(3).tolist()}
    else:
        given = trees("BRANCH_LEQ", 4, "class", 3)
    made = model(
        op, outputs=2, kinds=[TensorProto.STRING, TensorProto.FLOAT], classlabels_strings=names, **given
    )
    made.graph.node.append(
        helper.make_node("ZipMap", ["y1"], ["z"], domain="ai.onnx.ml", classlabels_strings=names)
    )
    key = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    made.graph.output[1].CopyFrom(helper.make_value_info("z", helper.make_sequence_type_proto(key)))
    path = save(made, tmp_path)
    wanted = dict(zip(("y0", "z"), Oracle(path, ["y0", "z"]).run({"x": X}), strict=True))
    got = evaluate(import_model(path), {"x": X})
    assert wanted["y0"].dtype == np.int64
    for name, values in wanted.items():
        assert_same(got[name], values, 1e-5)
