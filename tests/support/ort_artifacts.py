# SPDX-License-Identifier: Apache-2.0
"""Writes the files of tests/training/ort_artifacts, with ONNX Runtime's training API, which ended in 2024.

    python tests/support/ort_artifacts.py FOLDER

in an environment of its own: Python 3.11 with onnxruntime-training-cpu 1.19.2, numpy below 2, onnx 1.16.2,
and torch, which that package imports. NAME.onnx is the training model of `generate_artifacts`, as it is.
NAME.npz has samples `x` and labels `label`, the loss of each of STEPS steps of SGD at RATE as its Module and
Optimizer have them, which take the samples in turn, and each parameter before and after these.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

Array = np.ndarray
Net = "tuple[list[NodeProto], Array, dict[str, Array]]"  # nodes from x to y, an x, and constants
STEPS, RATE, SAMPLES, CLASSES = 20, 0.01, 4, 3
RNG = np.random.default_rng(3)
node = helper.make_node


def drawn(*shape: int) -> Array:
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def image(*nodes: NodeProto, **constants: Array) -> Net:
    """A convolution of an image to `a`, and a classifier of `z`, which the nodes between make."""
    first = node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1])
    last = [node("GlobalAveragePool", ["z"], ["g"]), node("Flatten", ["g"], ["f"])]
    last += [node("Gemm", ["f", "m", "n"], ["y"], transB=1)]
    own = {"w": drawn(4, 2, 3, 3), "b": drawn(4), "m": drawn(CLASSES, 4), "n": drawn(CLASSES)}
    return [first, *nodes, *last], np.zeros((1, 2, 8, 8), np.float32), {**own, **constants}


def attention() -> Net:
    nodes = list[NodeProto]()
    for name, axes in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [node("MatMul", ["x", f"w{name}"], [f"{name}1"])]
        nodes += [node("Reshape", [f"{name}1", "heads"], [f"{name}2"])]
        nodes += [node("Transpose", [f"{name}2"], [f"{name}3"], perm=axes)]
    nodes += [
        node("MatMul", ["q3", "k3"], ["scores"]),
        node("Div", ["scores", "root"], ["scaled"]),
        node("Softmax", ["scaled"], ["shares"], axis=-1),
        node("MatMul", ["shares", "v3"], ["mixed"]),
        node("Transpose", ["mixed"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "lines"], ["joined"]),
        node("LayerNormalization", ["joined", "scale", "bias"], ["normal", "mean", "inverse"]),
        node("MatMul", ["normal", "wo"], ["y"]),
    ]
    weights = {f"w{name}": drawn(8, 8) for name in "qkv"} | {"wo": drawn(8, CLASSES)}
    weights |= {"scale": 1 + drawn(8), "bias": drawn(8), "root": np.float32(2)}
    weights |= {"heads": np.array([1, 6, 2, 4]), "lines": np.array([6, 8])}
    return nodes, np.zeros((1, 6, 8), np.float32), weights


def words() -> Net:
    nodes = [
        node("Gather", ["table", "x"], ["g"]),
        node("ReduceMean", ["g"], ["f"], axes=[0], keepdims=1),
        node("Gemm", ["f", "m", "n"], ["y"], transB=1),
    ]
    weights = {"table": drawn(7, 4), "m": drawn(CLASSES, 4), "n": drawn(CLASSES)}
    return nodes, np.zeros(5, np.int64), weights


def gelus() -> Net:
    own = "com.microsoft"
    nodes = [
        node("MatMul", ["x", "w1"], ["a"]),
        node("BiasGelu", ["a", "b1"], ["b"], domain=own),
        node("MatMul", ["b", "w2"], ["c"]),
        node("FastGelu", ["c", "b2"], ["d"], domain=own),
        node("MatMul", ["d", "w3"], ["e"]),
        node("QuickGelu", ["e"], ["f"], domain=own, alpha=1.3),
        node("MatMul", ["f", "w4"], ["g"]),
        node("FastGelu", ["g"], ["h"], domain=own),
        node("Gelu", ["h"], ["i"], domain=own),
        node("MatMul", ["i", "w5"], ["y"]),
    ]
    weights = {f"w{k}": drawn(6, 6) for k in range(1, 5)} | {"w5": drawn(6, CLASSES)}
    return nodes, np.zeros((1, 6), np.float32), weights | {"b1": drawn(6), "b2": drawn(6)}


def nets() -> dict[str, Net]:
    pool = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    return {
        "average": image(node("AveragePool", ["a"], ["z"], **pool)),
        "average_of_padding": image(node("AveragePool", ["a"], ["z"], count_include_pad=1, **pool)),
        "parts": image(
            node("Split", ["a"], ["p", "q"], axis=1),
            node("Mul", ["p", "q"], ["r"]),
            node("Concat", ["q", "r"], ["z"], axis=1),
        ),
        "lines": image(
            node("Gather", ["a", "order"], ["p"], axis=2),
            node("Slice", ["p", "from", "to", "axes", "steps"], ["q"]),
            node("Pad", ["q", "pads"], ["z"]),
            order=np.array([1, 1, -1, 3, 6]),
            **{"from": np.array([1, 1]), "to": np.array([5, 8]), "axes": np.array([2, 3])},
            steps=np.array([2, 3]),
            pads=np.array([0, 0, 1, 1, 0, 0, 1, 2]),
        ),
        "quotient": image(
            node("Conv", ["a", "v"], ["p"]),
            node("Exp", ["p"], ["q"]),
            node("ReduceMean", ["q"], ["r"], axes=[1], keepdims=1),
            node("Div", ["a", "r"], ["z"]),
            v=drawn(2, 4, 1, 1),
        ),
        "attention": attention(),
        "words": words(),
        "gelus": gelus(),
    }


def write(name: str, net: Net, folder: Path) -> None:
    import onnxruntime
    from onnxruntime.training import artifacts
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    nodes, x, constants = net
    kind = TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.INT64
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()]
    ports = [helper.make_tensor_value_info("x", kind, x.shape)]
    lines = 6 if name == "attention" else 1
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [lines, CLASSES])]
    graph = helper.make_graph(nodes, name, ports, outputs, tensors)
    opset = 17 if name == "attention" else 12
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    learned = [key for key, array in constants.items() if array.dtype == np.float32 and array.size > 1]
    with tempfile.TemporaryDirectory() as made:
        artifacts.generate_artifacts(
            model,
            requires_grad=learned,
            loss=artifacts.LossType.CrossEntropyLoss,
            optimizer=artifacts.OptimType.SGD,
            artifact_directory=made,
        )
        at = {key: str(Path(made) / key) for key in ("checkpoint", "training_model.onnx", "eval_model.onnx")}
        state = CheckpointState.load_checkpoint(at["checkpoint"])
        module = Module(at["training_model.onnx"], state, at["eval_model.onnx"], device="cpu")
        optimizer = Optimizer(str(Path(made) / "optimizer_model.onnx"), module)
        optimizer.set_learning_rate(RATE)
        (folder / f"{name}.onnx").write_bytes(Path(at["training_model.onnx"]).read_bytes())
        shape = (SAMPLES, *x.shape)
        given = (
            RNG.random(shape).astype(np.float32) if kind == TensorProto.FLOAT else RNG.integers(0, 7, shape)
        )
        labels = RNG.integers(0, CLASSES, (SAMPLES, lines))
        before = {f"{key}_before": state.parameters[key].data.copy() for key in learned}
        losses: list[float] = []
        module.train()
        for k in range(STEPS):
            losses.append(float(np.asarray(module(given[k % SAMPLES], labels[k % SAMPLES])).reshape(-1)[0]))
            optimizer.step()
            module.lazy_reset_grad()
        after = {f"{key}_after": state.parameters[key].data for key in learned}
    np.savez_compressed(
        folder / f"{name}.npz", x=given, label=labels, loss=np.array(losses), **before, **after
    )
    print(name, losses[0], losses[-1], onnxruntime.__version__)


if __name__ == "__main__":
    for name, net in nets().items():
        write(name, net, Path(sys.argv[1]))
