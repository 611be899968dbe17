# SPDX-License-Identifier: Apache-2.0
"""Tree ensembles of ai.onnx.ml against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import assert_same, onnx_runtime, save
from learned_models import LABELS, X, compared, model, refused, trees
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.forest import Forest
from mmcc.ir.interpret import evaluate
from mmcc.ops.trees import LEAF
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("missing", [0, 1])
def test_every_comparison(tmp_path, mode, missing):
    x = X.copy()
    x[1, :2] = x[3, 2:] = np.nan
    lists = trees(mode, 1, "target", 1, missing=missing)
    compared(tmp_path, model("TreeEnsembleRegressor", n_targets=1, **lists), x)


DOUBLES = [0.1, 0.3, -0.7, 0.25, 1.2, 1e300, -1e300]  # most between float32, some beyond all


@pytest.mark.parametrize("mode", MODES)
def test_what_equals_a_threshold_of_double_still_does(tmp_path, mode):
    """As scikit-learn's converter writes trees of a float64 input, which is a float32 in C."""
    lists = trees(mode, 7, "target", 1)
    splits = np.random.default_rng(8).choice(DOUBLES, len(lists["nodes_values"]))
    del lists["nodes_values"]
    weights = helper.make_tensor("w", TensorProto.DOUBLE, [len(lists["target_ids"])], lists["target_weights"])
    del lists["target_weights"]
    x = np.random.default_rng(3).choice([*DOUBLES, 0, 2.7], (200, 4))
    made = model(
        "TreeEnsembleRegressor",
        x,
        n_targets=1,
        nodes_values_as_tensor=helper.make_tensor("v", TensorProto.DOUBLE, [len(splits)], splits),
        target_weights_as_tensor=weights,
        base_values_as_tensor=helper.make_tensor("b", TensorProto.DOUBLE, [1], [0.1]),
        **lists,
    )
    (want,) = onnx_runtime(made, {"x": x}).values()
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32)
    (got,) = evaluate(import_model(save(made, tmp_path)), {"x": narrow}).values()
    assert_same(got, want, 1e-5)


@pytest.mark.parametrize("mode", range(6))
def test_splits_of_double_are_compared_as_float32(mode):
    """Of one node, with what float32 next to it say, and what is rounded to the same one."""
    values = [*DOUBLES, 1e-60, float(np.float32(0.1)), 1 + 2.0**-30, np.inf, -np.inf]
    with np.errstate(over="ignore"):
        near = np.array(values, np.float32)
        x = np.concatenate([near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9)), [0]])
    x = x.astype(np.float32)
    for value, split in zip(values, near, strict=True):
        forest = Forest()
        node, yes, no = (forest.add(LEAF, 0.0, 0, 0) for _ in range(3))
        forest.branch(node, MODES[mode], (0, value), (yes, no), missing=False)
        want = (x <= split, x < split, x >= split, x > split, x == split, x != split)[mode]
        got = []
        for each in x:
            at = node
            while forest.feature[at] != LEAF:
                at = (forest.yes if each <= np.float32(forest.threshold[at]) else forest.no)[at]
            got.append(at == yes)
        np.testing.assert_array_equal(got, want, err_msg=str(value))


def test_splits_of_version_5_are_rounded_as_the_input_is(tmp_path):
    """ONNX Runtime says so of the same numbers in float64."""
    x = np.array([[0.1], [0.0999], [0.1001]])
    made = model(
        "TreeEnsemble",
        x,
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
    (want,) = onnx_runtime(made, {"x": x}).values()
    (got,) = evaluate(import_model(save(made, tmp_path)), {"x": x.astype(np.float32)}).values()
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got, [[2], [2], [1]])


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
