# SPDX-License-Identifier: Apache-2.0
"""Hints about files that are not what they should be, each followed."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from frontend_models import assert_same, check, model_of, onnx_runtime, save
from hint_runs import FLOATS, RELU, X, accepted, mmcc, node, refused
from hints import follows
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.model_file import NEWEST_IR
from mmcc.ir.interpret import evaluate
from onnx import TensorProto, helper, numpy_helper


@follows("frontend/model_file.py: 'exporting or downloading it again'")
def cut_short(folder, _):
    whole = model_of([node("Conv", ["x", "w"], ["y"])], X, ["y"], {"w": FLOATS})
    refused(whole.SerializeToString()[:-40], folder, "again")
    accepted(whole, folder)


@follows("frontend/model_file.py: 'onnx.save_model(..., save_as_external_data=True)'")
def too_large_for_protobuf(folder, monkeypatch):
    model = model_of([node("Conv", ["x", "w"], ["y"])], X, ["y"], {"w": FLOATS})
    monkeypatch.setattr("mmcc.frontend.model_file.MAX_FILE", model.ByteSize() - 1)
    refused(model, folder, "onnx.save_model(..., save_as_external_data=True)")
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, size_threshold=0, location="model.data")
    import_model(path)


@follows("frontend/not_onnx.py: f'{_TF2ONNX} --saved-model FOLDER --output model.onnx'")
def saved_model(folder, _):
    (folder / "saved_model.pb").write_bytes(b"")
    with pytest.raises(CompileError) as caught:
        import_model(folder)
    assert "tf2onnx.convert --saved-model" in caught.value.hint
    accepted(RELU, folder)


@follows("frontend/not_onnx.py: ' or '.join((printable(str(path / name)) for name in inside))")
def a_folder(folder, _):
    save(RELU, folder, "inside.onnx")
    with pytest.raises(CompileError) as caught:
        import_model(folder)
    import_model(caught.value.hint)


@follows("frontend/not_onnx.py: printable(did_you_mean(path.name, beside).strip())")
def a_misspelt_file(folder, _):
    save(RELU, folder, "network.onnx")
    with pytest.raises(CompileError) as caught:
        import_model(folder / "netwrok.onnx")
    import_model(folder / caught.value.hint.removeprefix("did you mean ").rstrip("?"))


@follows("frontend/not_onnx.py: '- for the standard input, or the name of a file'")
def a_device(folder, _):
    assert "- for the standard input" in mmcc("check", "/dev/zero", exit=3)
    assert "can be compiled" in mmcc("check", save(RELU, folder))
    assert "can be compiled" in mmcc("check", "-", data=RELU.SerializeToString())


@follows("driver/piped.py: 'mmcc check - < model.onnx'")
def a_terminal(folder, monkeypatch):
    monkeypatch.setattr("mmcc.driver.piped.is_terminal", lambda: True)
    assert "mmcc check - < model.onnx" in mmcc("check", "-", exit=3)
    monkeypatch.undo()
    assert "can be compiled" in mmcc("check", "-", data=RELU.SerializeToString())


@follows(
    "frontend/model_file.py: f'model.ir_version = {NEWEST_IR} in Python, enough where nothing newer is used'"
)
def ir_version(folder, _):
    for version in (NEWEST_IR + 1, 1):
        model = model_of([node("Relu", ["x"], ["y"])], X, ["y"], ir=version)
        refused(model, folder, f"model.ir_version = {NEWEST_IR}")
        model.ir_version = NEWEST_IR
        accepted(model, folder)


@follows("frontend/load.py: f'exporting for operator set {newest} or older'")
def operator_set(folder, _):
    hint = refused(model_of([node("Relu", ["x"], ["y"])], X, ["y"], opset=999), folder, "or older")
    accepted(model_of([node("Relu", ["x"], ["y"])], X, ["y"], opset=int(hint.split()[-3])), folder)


@follows("frontend/convert.py: CONVERTED if node.op_type == 'Upsample' else ''")
def old_operator(folder, _):
    old = model_of([node("Upsample", ["x"], ["y"], height_scale=2.0, width_scale=2.0)], X, ["y"], opset=1)
    refused(old, folder, "onnx.version_converter.convert_version(model, 13)")
    check(onnx.version_converter.convert_version(old, 13), X, folder)


@follows("frontend/load.py: 'storing them dense, as initializers'")
def sparse_constants(folder, _):
    model = model_of([node("Add", ["x", "w"], ["y"])], X, ["y"])
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [3])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8]))
    refused(model, folder, "storing them dense")
    del model.graph.sparse_initializer[:]
    dense = np.zeros(8, np.float32)
    dense[3] = 2
    model.graph.initializer.append(numpy_helper.from_array(dense, "w"))
    check(model, X, folder)


def _with_external(location):
    model = model_of([node("Conv", ["x", "w"], ["y"])], X, ["y"], {"w": FLOATS})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


@follows("frontend/tensors.py: 'moving the data beside the model (onnx.save_model writes it there)'")
def data_outside(folder, _):
    outside, inside = folder / "w.bin", folder / "sub"
    inside.mkdir()
    outside.write_bytes(FLOATS.tobytes())
    refused(_with_external("../w.bin"), inside, "moving the data beside the model")
    model = onnx.load(save(_with_external("w.bin"), folder))
    onnx.save_model(model, inside / "model.onnx", save_as_external_data=True, size_threshold=0)
    import_model(inside / "model.onnx")


@follows(
    'frontend/tensors.py: "copying it into the model\'s folder; torch writes it as model.onnx.data"',
)
def data_missing(folder, _):
    model = _with_external("model.onnx.data")
    refused(model, folder, "copying it into the model's folder")
    (folder / "model.onnx.data").write_bytes(FLOATS.tobytes())
    accepted(model, folder)


@follows(
    "frontend/tensors.py: 'the file that was saved with the model; or saving it again with onnx.save_model'"
)
def data_of_another_model(folder, _):
    model = _with_external("w.bin")
    digest = hashlib.sha1(FLOATS.tobytes()).hexdigest()
    model.graph.initializer[0].external_data.add(key="checksum", value=digest)
    (folder / "w.bin").write_bytes((FLOATS + 1).tobytes())
    refused(model, folder, "the file that was saved with the model")
    (folder / "w.bin").write_bytes(FLOATS.tobytes())
    accepted(model, folder)
    (folder / "w.bin").write_bytes((FLOATS + 1).tobytes())
    inside = folder / "again"
    inside.mkdir()
    again = onnx.load(save(model, folder))
    onnx.save_model(again, inside / "model.onnx", save_as_external_data=True, size_threshold=0)
    import_model(inside / "model.onnx")


@follows("frontend/importer.py: 'a Cast of it to float32'")
def brain_floats(folder, _):
    narrow = node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)
    refused(model_of([narrow], X, ["y"]), folder, "a Cast of it to float32")
    back = node("Cast", ["n"], ["y"], to=TensorProto.FLOAT)
    narrow.output[0] = "n"
    accepted(model_of([narrow, back], X, ["y"]), folder)


@follows(
    "frontend/builder.py: 'folding them first with ONNX Runtime: SessionOptions.optimized_model_filepath'"
)
def constants_to_fold(folder, _):
    nodes = [node("Conv", ["c", "w"], ["k"]), node("ReduceMax", ["k"], ["m"]), node("Add", ["x", "m"], ["y"])]
    fixed = {"c": np.ones((1, 4, 300, 300), np.float32), "w": FLOATS}
    model = model_of(nodes, X, ["y"], fixed)
    refused(model, folder, "SessionOptions.optimized_model_filepath", max_bytes=10_000)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    graph = import_model(folder / "folded.onnx", max_bytes=10_000)
    assert_same(evaluate(graph, X)["y"], onnx_runtime(model, X)["y"])
