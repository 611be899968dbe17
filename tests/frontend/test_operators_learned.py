# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import assert_same, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.forest import Forest
from mmcc.ir.interpret import evaluate
from mmcc.ops.trees import LEAF
from mmcc.verification.oracle import Oracle
from onnx import ModelProto, TensorProto, helper
from operator_models import array

pytestmark = pytest.mark.quick

X = np.rint(array(6, 4, low=-4, high=4) * 4).astype(np.float32) / 4
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def model(op: str, x=X, outputs=1, kinds=None, **attributes) -> ModelProto:
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, ["x"], names, domain="ai.onnx.ml", **attributes)
    kinds = kinds or [TensorProto.FLOAT] * outputs
    graph = helper.make_graph(
        [node],
        "learned",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info(n, k, None) for n, k in zip(names, kinds, strict=True)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def compared(tmp_path, made: ModelProto, x=X, rtol=1e-5) -> None:
    want = onnx_runtime(made, {"x": x})
    got = evaluate(import_model(save(made, tmp_path)), {"x": x})
    for name, array_wanted in want.items():
        assert_same(got[name], array_wanted, rtol)


LABELS = [TensorProto.INT64, TensorProto.FLOAT]


def trees(mode: str, seed: int, kind: str, targets: int, positive=False, missing=0) -> dict[str, list]:
    """Three full trees of depth 2 over four features; every leaf says something of one target or two."""
    rng = np.random.default_rng(seed)
    out: dict[str, list] = {}

    def put(**values):
        for name, value in values.items():
            out.setdefault(name, []).append(value)

    for tree in range(3):
        for node in range(7):
            leaf = node > 2
            put(nodes_treeids=tree, nodes_nodeids=node, nodes_modes="LEAF" if leaf else mode)
            put(nodes_featureids=0 if leaf else int(rng.integers(4)))
            put(nodes_values=0.0 if leaf else float(rng.integers(-4, 5)) / 4)
            put(nodes_truenodeids=0 if leaf else 2 * node + 1, nodes_falsenodeids=0 if leaf else 2 * node + 2)
            put(nodes_missing_value_tracks_true=missing)
            for target in rng.permutation(targets)[: 1 + (node % 2)] if leaf else ():
                weight = float(rng.uniform(0 if positive else -1, 1)) / (3 if positive else 1)
                names = (f"{kind}_treeids", f"{kind}_nodeids", f"{kind}_ids", f"{kind}_weights")
                put(**dict(zip(names, (tree, node, int(target), weight), strict=True)))
    return out


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("missing", [0, 1])
def test_every_comparison(tmp_path, mode, missing):
    x = X.copy()
    x[1, :2] = x[3, 2:] = np.nan
    lists = trees(mode, 1, "target", 1, missing=missing)
    compared(tmp_path, model("TreeEnsembleRegressor", n_targets=1, **lists), x)


# beside, between and beyond what float32 has
DOUBLES = [0.1, 0.3, -0.7, 0.25, 1e300, -1e300, 1e-60, float(np.float32(0.1)), 1 + 2.0**-30]


def around(values: list[float]) -> np.ndarray:
    """Rows of four float32, among them those next to each value."""
    near = np.array([np.clip(v, -3e38, 3e38) for v in values], np.float32)
    found = np.concatenate([near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9)), [0]])
    return np.random.default_rng(3).choice(found.astype(np.float32), (200, 4))


@pytest.mark.parametrize("mode", MODES)
def test_thresholds_of_double_are_met_exactly(tmp_path, mode):
    """As scikit-learn's converter writes trees of a float64 input; every value is a float32."""
    lists = trees(mode, 7, "target", 1)
    splits = np.random.default_rng(8).choice(DOUBLES, len(lists["nodes_values"]))
    del lists["nodes_values"]
    weights = helper.make_tensor("w", TensorProto.DOUBLE, [len(lists["target_ids"])], lists["target_weights"])
    del lists["target_weights"]
    x = around(DOUBLES)
    made = model(
        "TreeEnsembleRegressor",
        x.astype(np.float64),
        n_targets=1,
        nodes_values_as_tensor=helper.make_tensor("v", TensorProto.DOUBLE, [len(splits)], splits),
        target_weights_as_tensor=weights,
        base_values_as_tensor=helper.make_tensor("b", TensorProto.DOUBLE, [1], [0.1]),
        **lists,
    )
    (want,) = onnx_runtime(made, {"x": x.astype(np.float64)}).values()
    (got,) = evaluate(import_model(save(made, tmp_path)), {"x": x}).values()
    assert_same(got, want, 1e-5)


@pytest.mark.parametrize("mode", range(6))
def test_splits_of_double_are_met_exactly(mode):
    """Of one node, with what its comparison says in float64."""
    x = around(DOUBLES)[:, 0]
    for value in DOUBLES:
        forest = Forest()
        node, yes, no = (forest.add(LEAF, 0.0, 0, 0) for _ in range(3))
        forest.branch(node, MODES[mode], (0, value), (yes, no), missing=False)
        wide = x.astype(np.float64)
        want = (wide <= value, wide < value, wide >= value, wide > value, wide == value, wide != value)[mode]
        got = []
        for each in x:
            at = node
            while forest.feature[at] != LEAF:
                at = (forest.yes if each <= np.float32(forest.threshold[at]) else forest.no)[at]
            got.append(at == yes)
        np.testing.assert_array_equal(got, want, err_msg=str(value))


def test_splits_of_double_are_read_as_they_are(tmp_path):
    """Of a tree as version 5 writes them: float32's 0.1 is above 0.1, and so to the leaf of 1."""
    x = np.array([[0.1], [0.0999]], np.float32)
    made = model(
        "TreeEnsemble",
        x.astype(np.float64),
        kinds=[TensorProto.DOUBLE],
        nodes_splits=helper.make_tensor("s", TensorProto.DOUBLE, [1], [0.1]),
        nodes_modes=helper.make_tensor("m", TensorProto.UINT8, [1], [0]),
        leaf_weights=helper.make_tensor("w", TensorProto.DOUBLE, [2], [2.0, 1.0]),
        **{name: [0] for name in ("nodes_featureids", "nodes_truenodeids", "tree_roots")},
        **{name: [1] for name in ("nodes_falsenodeids", "nodes_trueleafs", "nodes_falseleafs")},
        leaf_targetids=[0, 0],
        n_targets=1,
    )
    made.opset_import[1].version = 5
    (got,) = evaluate(import_model(save(made, tmp_path)), {"x": x}).values()
    np.testing.assert_array_equal(got, [[1], [2]])


def test_a_list_given_as_floats_and_as_a_tensor_is_refused(tmp_path):
    lists = trees("BRANCH_LEQ", 1, "target", 1)
    tensor = helper.make_tensor("v", TensorProto.DOUBLE, [21], lists["nodes_values"])
    made = model("TreeEnsembleRegressor", n_targets=1, nodes_values_as_tensor=tensor, **lists)
    with pytest.raises(CompileError, match=r"a tensor of float64 \[21\] and 21 floats") as caught:
        import_model(save(made, tmp_path))
    assert caught.value.code == "MM103"


@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_targets_and_aggregates(tmp_path, how):
    lists = trees("BRANCH_LEQ", 2, "target", 1)
    made = model("TreeEnsembleRegressor", n_targets=1, aggregate_function=how, base_values=[0.5], **lists)
    compared(tmp_path, made)
    if how == "SUM":
        lists = trees("BRANCH_LEQ", 3, "target", 3)
        compared(tmp_path, model("TreeEnsembleRegressor", n_targets=3, **lists))


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_tree_classifiers(tmp_path, post):
    lists = trees("BRANCH_LEQ", 4, "class", 3)
    attributes = {"classlabels_int64s": [7, -2, 40], "post_transform": post, **lists}
    compared(tmp_path, model("TreeEnsembleClassifier", outputs=2, kinds=LABELS, **attributes))


@pytest.mark.parametrize("named", [0, 1])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("post", ["NONE", "LOGISTIC"])
def test_one_score_for_two_classes(tmp_path, positive, post, named):
    """As XGBoost and LightGBM say it, and as a forest of two classes."""
    lists = trees("BRANCH_LEQ", 5, "class", 1, positive)
    lists["class_ids"] = [named] * len(lists["class_ids"])
    attributes = {"base_values": [0.125], "classlabels_int64s": [0, 1], "post_transform": post, **lists}
    compared(tmp_path, model("TreeEnsembleClassifier", outputs=2, kinds=LABELS, **attributes))


def refused(tmp_path, said: str, made: ModelProto) -> None:
    path = save(made, tmp_path)
    with pytest.raises(CompileError, match=said):
        import_model(path)


@pytest.mark.parametrize("base", [None, [0.5, -0.25, 0.75]])
@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_targets_that_no_leaf_names(tmp_path, how, base):
    """ONNX Runtime gives 0 for such a target, without its base value; such a class is no label."""
    lists = trees("BRANCH_LEQ", 3, "target", 3)
    lists["target_ids"] = [0 if target == 1 else target for target in lists["target_ids"]]
    options = {"aggregate_function": how, "base_values": base}
    compared(tmp_path, model("TreeEnsembleRegressor", n_targets=3, **options, **lists))
    lists = trees("BRANCH_LT", 4, "class", 3)
    lists["class_weights"] = [-1 - abs(weight) for weight in lists["class_weights"]]
    first = lists["class_treeids"].count(0)  # of three trees, two say nothing
    for name in ("treeids", "nodeids", "ids", "weights"):
        del lists[f"class_{name}"][first:]
    attributes = {"classlabels_int64s": [7, -2, 40], "base_values": base, **lists}
    compared(tmp_path, model("TreeEnsembleClassifier", outputs=2, kinds=LABELS, **attributes))


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX"])
def test_two_classes_with_leaves_of_both(tmp_path, post):
    """ONNX Runtime's label is whether the second score is above 0: refused where that is no label."""
    lists = trees("BRANCH_LEQ", 4, "class", 1)
    leaves = [*zip(lists["class_treeids"], lists["class_nodeids"], strict=True)]
    lists["class_treeids"], lists["class_nodeids"] = (
        [leaf[k] for leaf in leaves for _ in "01"] for k in (0, 1)
    )
    lists["class_ids"] = [0, 1] * len(leaves)
    weights = [0.8, 0.2, -0.5, -0.25, 0.5, 0.5, 0.25, -0.5]
    lists["class_weights"] = [weights[k % len(weights)] for k in range(2 * len(leaves))]
    options = {"outputs": 2, "kinds": LABELS, "post_transform": post, **lists}
    compared(tmp_path, model("TreeEnsembleClassifier", classlabels_int64s=[0, 1], **options))
    for more in ({"classlabels_int64s": [5, 7]}, {"classlabels_int64s": [0, 1], "base_values": [0.5, 0.5]}):
        refused(tmp_path, "leaves of both", model("TreeEnsembleClassifier", **options, **more))


@pytest.mark.parametrize("post", ["LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_a_transform_that_onnx_runtime_passes_over_is_refused(tmp_path, post):
    lists = trees("BRANCH_LEQ", 2, "target", 1)
    said = "one score, which ONNX Runtime passes over"
    refused(tmp_path, said, model("TreeEnsembleRegressor", n_targets=1, post_transform=post, **lists))
    plane = {"coefficients": [0.5, -1.0, 0.25, 2.0], "post_transform": post}
    refused(tmp_path, said, model("LinearRegressor", targets=1, **plane))
    refused(tmp_path, said, model("SVMRegressor", kernel_type="LINEAR", **plane))


def test_of_other_operators_too(tmp_path):
    plane = {"coefficients": [0.5, -1.0, 0.25, 2.0]}
    refused(tmp_path, "PROBIT", model("SVMRegressor", post_transform="PROBIT", **plane))
    both = {"outputs": 2, "kinds": LABELS, "classlabels_ints": [3, 4], "intercepts": [0.5], **plane}
    for post in ("SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
        refused(tmp_path, "one score for two", model("LinearClassifier", post_transform=post, **both))
    for post in ("NONE", "LOGISTIC"):
        compared(tmp_path, model("LinearClassifier", post_transform=post, **both))


@pytest.mark.parametrize(
    ("labels", "base", "said"), [([4], None, "1 class label"), ([0, 1], [0.5, 0.5], "base values")]
)
def test_a_class_alone_and_two_base_values_of_one_score_are_refused(tmp_path, labels, base, said):
    lists = trees("BRANCH_LEQ", 2, "class", 1)
    options = {"classlabels_int64s": labels, "base_values": base, "outputs": 2, "kinds": LABELS}
    refused(tmp_path, said, model("TreeEnsembleClassifier", **options, **lists))


@pytest.mark.parametrize("mode", MODES)
def test_a_comparison_with_what_is_below_all_numbers(tmp_path, mode):
    x = X.copy()
    x[0], x[1], x[2] = -np.inf, np.inf, np.nan
    lists = trees(mode, 1, "target", 1, missing=1)
    lists["nodes_values"] = [-np.inf] * len(lists["nodes_values"])
    compared(tmp_path, model("TreeEnsembleRegressor", n_targets=1, **lists), x)
    lists["nodes_values"] = [np.nan] * len(lists["nodes_values"])
    refused(tmp_path, "no number", model("TreeEnsembleRegressor", n_targets=1, **lists))


def test_a_tree_that_leads_back_is_refused(tmp_path):
    lists = trees("BRANCH_LEQ", 6, "target", 1)
    lists["nodes_truenodeids"][2] = 2
    with pytest.raises(CompileError, match=r"leads back|no root") as caught:
        import_model(save(model("TreeEnsembleRegressor", n_targets=1, **lists), tmp_path))
    assert caught.value.code == "MM104"


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
