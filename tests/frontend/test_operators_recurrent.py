# SPDX-License-Identifier: Apache-2.0
"""RNN, GRU and LSTM against ONNX Runtime, and where that knows no other layout, against ONNX's reference."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, kinds, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import helper
from onnx.reference import ReferenceEvaluator
from recurrent_models import forms, layer

pytestmark = pytest.mark.quick

FORMS = forms()


@pytest.mark.parametrize("name", FORMS)
def test_every_form(name, tmp_path):
    check(*layer(**FORMS[name]), tmp_path, 1e-4)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("outputs", [("Y",), ("Y_h",), ("Y", "Y_h")])
def test_results_that_nobody_reads(op, outputs, tmp_path):
    """h after the last step is a row of all of them: no result of its own."""
    graph = check(*layer(op, outputs=outputs), tmp_path)
    assert [len(node.outputs) for node in graph.nodes] == [1] * len(graph.nodes)
    assert [kind for kind in kinds(graph) if kind != "Reshape"][:2] == ["Dense", "Recurrent"]


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("sequences", [1, 3])
def test_sequences_first(op, sequences, tmp_path):
    model, feeds = layer(op, sequences=sequences, initial=True, given=True, layout=1)
    graph = import_model(save(model, tmp_path))
    found = evaluate(graph, feeds)
    names = [info.name for info in model.graph.output]
    for name, want in zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True):
        if name == "Y":
            want = want.reshape(found[name].shape)  # the reference leaves its axes in another order
        np.testing.assert_allclose(found[name], want, 1e-4, 1e-5, err_msg=name)


def test_what_starts_at_zero_and_counts_in_full_is_left_out(tmp_path):
    model, feeds = layer("LSTM", initial=True, lengths=[6])
    for tensor in model.graph.initializer:
        if tensor.name in ("h", "c"):
            tensor.raw_data = bytes(len(tensor.raw_data))
    graph = check(model, feeds, tmp_path)
    (cell,) = (node for node in graph.nodes if kinds(graph)[graph.nodes.index(node)] == "Recurrent")
    assert len(cell.inputs) == 2


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"activations": ["Affine"]}, "runtimes disagree"),
        ({"activations": ["ThresholdedRelu"]}, "runtimes disagree"),
        ({"activations": ["Cosine"]}, 'activation "Cosine"'),
        ({"activations": ["Tanh", "Tanh", "Tanh"]}, "3 activations"),
        ({"direction": "reverse", "hidden_size": 4}, "do not fit"),
        ({"clip": float("inf")}, "infinite"),
    ],
)
def test_refused(attributes, message, tmp_path):
    model, _ = layer("RNN")
    (node,) = model.graph.node
    for name, value in attributes.items():
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.append(helper.make_attribute(name, value))
    with pytest.raises(CompileError, match=message):
        import_model(save(model, tmp_path))


def test_weights_must_be_constant(tmp_path):
    model, _ = layer("GRU")
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "R")
    model.graph.initializer.remove(weights)
    info = helper.make_tensor_value_info("R", weights.data_type, weights.dims)
    model.graph.input.append(info)
    with pytest.raises(CompileError, match="is computed at run time"):
        import_model(save(model, tmp_path))
