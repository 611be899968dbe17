# SPDX-License-Identifier: Apache-2.0
"""Training models that ONNX Runtime's artifacts have, and what its training API learned with them
(tests/support/ort_artifacts.py): mmcc takes the files, and learns the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from mmcc.driver.imported_step import as_imported, taken_over
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.frontend import load, training_step
from mmcc.frontend.step_operators import MEANINGS
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import Module
from mmcc.training.module import STEP, training_module
from mmcc.training.options import TrainOptions
from ort_artifacts import RATE

pytestmark = pytest.mark.quick
FOLDER = Path(__file__).parent / "ort_artifacts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
# in graphs of tests/training/test_imported_step.py, or never in a file: the loss apart from its gradient
ELSEWHERE = {
    "SoftmaxCrossEntropyLossInternal",
    "SoftmaxCrossEntropyLossInternalGrad",
    "LeakyReluGrad",
    "LogSoftmaxGrad",
    "LogSoftmaxGrad_13",
    "MaxPoolGrad",
    "ReluGrad",
    "SigmoidGrad",
    "SoftmaxGrad",
    "TanhGrad",
}

Array = np.ndarray


def values(name: str, when: str) -> dict[str, Array]:
    """Parameters before or after the steps, by name."""
    found = np.load(FOLDER / f"{name}.npz")
    return {key.removesuffix(when): found[key] for key in found if key.endswith(when)}


def imported(file: Path, name: str) -> Module:
    options = CompileOptions(bind=values(name, "_before"))
    step = training_step(load(file))
    assert step is not None
    train = taken_over(step, TrainOptions(), options)
    graph = load_graph(file, options, step=step, training=True)
    return training_module(as_imported(graph, step, file, train, options), train)


@pytest.mark.parametrize("name", NAMES)
def test_what_onnx_runtime_learned_is_learned(name: str) -> None:
    found, before = np.load(FOLDER / f"{name}.npz"), values(name, "_before")
    module = imported(FOLDER / f"{name}.onnx", name)
    step, machine = next(entry.graph for entry in module.entries if entry.name == STEP), Interpreter(module)
    x, label, rate = step.inputs
    losses = list[float]()
    for k in range(len(found["loss"])):
        sample = k % len(found["x"])
        inputs = {rate.tensor: np.full(1, RATE, np.float32)}
        for port, array in ((x, found["x"][sample]), (label, found["label"][sample])):
            tensor = step.tensors[port.tensor]
            array = array.reshape(port.onnx_shape).astype(tensor.dtype.numpy)
            inputs[port.tensor] = port.to_c(array, tensor)
        losses.append(float(machine.call(STEP, inputs)[step.outputs[0].tensor].reshape(-1)[0]))
    np.testing.assert_allclose(losses, found["loss"], rtol=1e-5, atol=1e-5)
    for key, after in values(name, "_after").items():
        state = next(state for state in step.states if state.begin == key)
        theirs, ours = np.argsort(before[key], None), np.argsort(state.initial, None)
        np.testing.assert_array_equal(before[key].reshape(-1)[theirs], state.initial.reshape(-1)[ours])
        learned = machine.states[key].reshape(-1)[ours]
        np.testing.assert_allclose(learned, after.reshape(-1)[theirs], atol=1e-5, err_msg=key)


FAULTS = {
    "padding that counts": ("average", "AveragePoolGrad", "count_include_pad", 1, "another gradient"),
    "padding that counts not": ("average_of_padding", "AveragePoolGrad", "count_include_pad", 0,
                                "another gradient"),
    "ceil_mode": ("average", "AveragePoolGrad", "ceil_mode", 1, "with auto_pad or ceil_mode"),
    "another axis": ("lines", "GatherGrad", "axis", 3, "another gradient|cannot be computed"),
    "a factor": ("attention", "FusedMatMul", "alpha", 2.0, "another gradient"),
    "batches": ("attention", "FusedMatMul", "transBatchA", 1, "with transposed batches"),
    "another slope": ("gelus", "QuickGeluGrad", "alpha", 1.702, "another gradient"),
    "parts": ("parts", "SplitTraining", "axis", 2, "another gradient|cannot be computed"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_another_backward_part_is_refused(fault: str, tmp_path: Path) -> None:
    name, operator, attribute, value, words = FAULTS[fault]
    model = onnx.load(FOLDER / f"{name}.onnx")
    for node in (node for node in model.graph.node if node.op_type == operator):
        kept = [each for each in node.attribute if each.name != attribute]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(attribute, value)])
    onnx.save(model, tmp_path / "step.onnx")
    with pytest.raises(CompileError, match=f"MM202.*({words})"):
        imported(tmp_path / "step.onnx", name)


def test_a_pool_whose_input_has_no_shape_in_the_file_is_refused(tmp_path: Path) -> None:
    """Its gradient has only that of its result as operand."""
    model = onnx.load(FOLDER / "average.onnx")
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "step.onnx")
    with pytest.raises(CompileError, match="AveragePoolGrad, for whose result the file states no shape"):
        imported(tmp_path / "step.onnx", "average")


def test_every_operator_that_is_known_is_in_a_file() -> None:
    files = [onnx.load(FOLDER / f"{name}.onnx") for name in NAMES]
    assert set(MEANINGS) - {node.op_type for model in files for node in model.graph.node} == ELSEWHERE
