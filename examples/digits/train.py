# SPDX-License-Identifier: Apache-2.0
"""Train, export and quantize the digits model: `python examples/digits/train.py`.

A small CNN on the 8x8 handwritten digits that ship with scikit-learn. The network is one table,
`NETWORK`. Training walks it forwards and backwards in numpy; the ONNX export walks the same table,
so what was trained is what is written. Two runs on one machine write the same bytes.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
SEED = 7
TEST_SAMPLES = 360
CALIBRATION_SAMPLES = 256
EPOCHS = 60
BATCH = 32
PEAK_RATE = 4e-3
WEIGHT_DECAY = 1e-4

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Weights = dict[str, Floats]
# From the gradient of a node's output: the gradients of its inputs, and of its weight and bias.
Backward = Callable[[Floats], tuple[tuple[Floats, ...], tuple[Floats, ...]]]


@dataclass(frozen=True, slots=True)
class Node:
    """One row of the network. `weight` is the shape numpy trains with, channels last."""

    op: str
    output: str
    inputs: tuple[str, ...]
    weight: tuple[int, ...] = ()


NETWORK = (
    Node("Conv", "stem", ("input",), (3, 3, 1, 16)),
    Node("Relu", "stem_relu", ("stem",)),
    Node("Depthwise", "widen_dw", ("stem_relu",), (3, 3, 16)),
    Node("Relu", "widen_dw_relu", ("widen_dw",)),
    Node("Conv", "widen_pw", ("widen_dw_relu",), (1, 1, 16, 32)),
    Node("Relu", "widen_relu", ("widen_pw",)),
    Node("Depthwise", "block_dw", ("widen_relu",), (3, 3, 32)),
    Node("Relu", "block_dw_relu", ("block_dw",)),
    Node("Conv", "block_pw", ("block_dw_relu",), (1, 1, 32, 32)),
    Node("Add", "block_sum", ("block_pw", "widen_relu")),
    Node("Relu", "block_relu", ("block_sum",)),
    Node("MaxPool", "pool", ("block_relu",)),
    Node("Conv", "head", ("pool",), (3, 3, 32, 48)),
    Node("Relu", "head_relu", ("head",)),
    Node("GlobalAveragePool", "mean", ("head_relu",)),
    Node("Flatten", "features", ("mean",)),
    Node("Gemm", "logits", ("features",), (48, 10)),
)


# --- the operators: value and gradient, NHWC --------------------------------------------------


def _pad(x: Floats, kernel: int) -> Floats:
    """Zeros around the image, so that a stride-1 window keeps its size."""
    p = kernel // 2
    return np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))


def _taps(kernel: int, height: int, width: int) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
    """For each kernel position (i, j): the part of a padded image that it multiplies."""
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, (slice(None), slice(i, i + height), slice(j, j + width))


def _crop(padded: Floats, kernel: int) -> Floats:
    p = kernel // 2
    return padded[:, p : padded.shape[1] - p, p : padded.shape[2] - p]


def _conv(x: Floats, w: Floats, b: Floats) -> tuple[Floats, Backward]:
    """im2col: every window becomes a row, so that convolution is one matrix product."""
    k, _, _, channels_out = w.shape
    n, height, width, _ = x.shape
    padded = _pad(x, k)
    windows = sliding_window_view(padded, (k, k), axis=(1, 2))  # N,H,W,C,kh,kw
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * height * width, -1)
    matrix = w.reshape(-1, channels_out)

    def backward(dy: Floats) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        rows = dy.reshape(-1, channels_out)
        d_windows = (rows @ matrix.T).reshape(n, height, width, k, k, -1)
        d_padded = np.zeros_like(padded)
        for i, j, tap in _taps(k, height, width):
            d_padded[tap] += d_windows[:, :, :, i, j]
        return (_crop(d_padded, k),), ((columns.T @ rows).reshape(w.shape), rows.sum(0))

    return (columns @ matrix + b).reshape(n, height, width, channels_out), backward


def _depthwise(x: Floats, w: Floats, b: Floats) -> tuple[Floats, Backward]:
    k, (_, height, width, _) = w.shape[0], x.shape
    padded = _pad(x, k)
    y = np.zeros_like(x) + b
    for i, j, tap in _taps(k, height, width):
        y += padded[tap] * w[i, j]

    def backward(dy: Floats) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        d_padded, dw = np.zeros_like(padded), np.empty_like(w)
        for i, j, tap in _taps(k, height, width):
            d_padded[tap] += dy * w[i, j]
            dw[i, j] = (dy * padded[tap]).sum((0, 1, 2))
        return (_crop(d_padded, k),), (dw, dy.sum((0, 1, 2)))

    return y, backward


def _max_pool(x: Floats) -> tuple[Floats, Backward]:
    """2x2, stride 2. Equal maxima share the gradient."""
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    y = blocks.max((2, 4))
    chosen = (blocks == y[:, :, None, :, None]).astype(np.float32)
    chosen /= chosen.sum((2, 4), keepdims=True)

    def backward(dy: Floats) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        return ((chosen * dy[:, :, None, :, None]).reshape(x.shape),), ()

    return y, backward


def _mean(x: Floats) -> tuple[Floats, Backward]:
    area = np.float32(x.shape[1] * x.shape[2])
    return x.mean((1, 2), keepdims=True), lambda dy: ((np.broadcast_to(dy / area, x.shape),), ())


def _gemm(x: Floats, w: Floats, b: Floats) -> tuple[Floats, Backward]:
    return x @ w + b, lambda dy: ((dy @ w.T,), (x.T @ dy, dy.sum(0)))


def _relu(x: Floats) -> tuple[Floats, Backward]:
    return np.maximum(x, 0), lambda dy: ((dy * (x > 0),), ())


def _add(x: Floats, y: Floats) -> tuple[Floats, Backward]:
    return x + y, lambda dy: ((dy, dy), ())


def _flatten(x: Floats) -> tuple[Floats, Backward]:
    return x.reshape(len(x), -1), lambda dy: ((dy.reshape(x.shape),), ())


OPERATORS: dict[str, Callable[..., tuple[Floats, Backward]]] = {
    "Conv": _conv,
    "Depthwise": _depthwise,
    "MaxPool": _max_pool,
    "GlobalAveragePool": _mean,
    "Gemm": _gemm,
    "Relu": _relu,
    "Add": _add,
    "Flatten": _flatten,
}


# --- training ---------------------------------------------------------------------------------


def initial_weights(rng: np.random.Generator) -> Weights:
    """He initialisation; biases start at 0."""
    weights: Weights = {}
    for node in NETWORK:
        if node.weight:
            fan_in = math.prod(node.weight[:2] if node.op == "Depthwise" else node.weight[:-1])
            scale = math.sqrt(2 / fan_in)
            weights[f"{node.output}.weight"] = rng.normal(0, scale, node.weight).astype(np.float32)
            weights[f"{node.output}.bias"] = np.zeros(node.weight[-1], np.float32)
    return weights


def _names(node: Node) -> tuple[str, ...]:
    return (f"{node.output}.weight", f"{node.output}.bias") if node.weight else ()


def gradients(weights: Weights, images: Floats, labels: Labels) -> Weights:
    """The gradient of the mean cross-entropy for every weight: forwards, then backwards."""
    values, backwards = {"input": images}, {}
    for node in NETWORK:
        operands = [values[name] for name in node.inputs] + [weights[name] for name in _names(node)]
        values[node.output], backwards[node.output] = OPERATORS[node.op](*operands)

    d_values = {"logits": _softmax(values["logits"])}
    d_values["logits"][np.arange(len(labels)), labels] -= 1
    d_values["logits"] /= np.float32(len(labels))
    d_weights: Weights = {}
    for node in reversed(NETWORK):
        d_inputs, d_own = backwards[node.output](d_values[node.output])
        d_weights.update(zip(_names(node), d_own, strict=True))
        for name, d_input in zip(node.inputs, d_inputs, strict=True):
            d_values[name] = d_values[name] + d_input if name in d_values else d_input
    return d_weights


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def train(images: Floats, labels: Labels, rng: np.random.Generator) -> Weights:
    """Adam with decoupled weight decay; the rate falls along half a cosine."""
    weights = initial_weights(rng)
    first = {name: np.zeros_like(w) for name, w in weights.items()}
    second = {name: np.zeros_like(w) for name, w in weights.items()}
    steps = EPOCHS * (len(images) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        for at in range(0, len(images) - BATCH + 1, BATCH):
            picked = order[at : at + BATCH]
            d_weights = gradients(weights, _shifted(images[picked], rng), labels[picked])
            rate = PEAK_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            step += 1
            for name, d in d_weights.items():
                first[name] = 0.9 * first[name] + 0.1 * d
                second[name] = 0.999 * second[name] + 0.001 * d * d
                mean, variance = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                weights[name] -= rate * (mean / (np.sqrt(variance) + 1e-8) + WEIGHT_DECAY * weights[name])
    return weights


def _shifted(images: Floats, rng: np.random.Generator) -> Floats:
    """Each image moved by -1, 0 or 1 pixels along each axis: the only augmentation."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = rng.choice(3, size=(len(images), 2), p=(0.2, 0.6, 0.2))
    return np.stack([p[y : y + 8, x : x + 8] for p, (y, x) in zip(padded, corners, strict=True)])


# --- data -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Split:
    train_images: Floats
    train_labels: Labels
    test_images: Floats
    test_labels: Labels


def load_split() -> Split:
    """The 1797 digits as [N,1,8,8] in 0..1, shuffled once with SEED; the first 360 are for testing only."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(images))
    test, rest = order[:TEST_SAMPLES], order[TEST_SAMPLES:]
    return Split(images[rest], labels[rest], images[test], labels[test])


# --- export -----------------------------------------------------------------------------------


def export(weights: Weights) -> onnx.ModelProto:
    """The float model: ONNX opset 17, NCHW, one image."""
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(value), name)
        for node in NETWORK
        for name, value in zip(_names(node), _onnx_operands(node, weights), strict=True)
    ]
    graph = helper.make_graph(
        [_onnx_node(node) for node in NETWORK],
        "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 1, 8, 8))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 10))],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "mmcc examples/digits"
    onnx.checker.check_model(model, full_check=True)
    return model


def _onnx_operands(node: Node, weights: Weights) -> tuple[Floats, ...]:
    """Weight and bias in ONNX's layout: OIHW for convolutions, [in, out] for Gemm as it is."""
    if not node.weight:
        return ()
    weight, bias = (weights[name] for name in _names(node))
    if node.op == "Conv":
        return weight.transpose(3, 2, 0, 1), bias
    if node.op == "Depthwise":
        return weight.transpose(2, 0, 1)[:, None], bias
    return weight, bias


def _onnx_node(node: Node) -> onnx.NodeProto:
    operands = node.inputs + _names(node)
    attributes: dict[str, int | list[int]] = {}
    if node.op in ("Conv", "Depthwise"):
        k = node.weight[0]
        attributes = {"kernel_shape": [k, k], "pads": [k // 2] * 4, "strides": [1, 1]}
        attributes["group"] = node.weight[2] if node.op == "Depthwise" else 1
    elif node.op == "MaxPool":
        attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    kind = "Conv" if node.op == "Depthwise" else node.op
    return helper.make_node(kind, operands, [node.output], name=node.output, **attributes)


class _Calibration(CalibrationDataReader):
    """Feeds training images, one at a time, to onnxruntime's calibration."""

    def __init__(self, images: Floats) -> None:
        self._feeds = iter([{"input": image[None]} for image in images])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._feeds, None)


def quantize(model: onnx.ModelProto, images: Floats) -> onnx.ModelProto:
    """Static QDQ by onnxruntime: int8 activations (asymmetric), int8 weights per output channel."""
    logging.getLogger().setLevel(logging.ERROR)  # its advice to preprocess: this graph needs none
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.shape_inference.infer_shapes(model),
            path,
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        quantized = onnx.load(path)
    # Only what the model computes goes into the file: no tool versions.
    quantized.producer_name = model.producer_name
    quantized.ClearField("producer_version")
    del quantized.metadata_props[:]
    return quantized


def classify(model: onnx.ModelProto, images: Floats) -> Labels:
    """What onnxruntime predicts, every node computed as the file says (no graph optimizations)."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {"input": image[None]})[0].argmax() for image in images])


def main() -> None:
    """Train, export, quantize, and say how good both models are on the test split."""
    split = load_split()
    with threadpool_limits(1):  # one BLAS thread: the order of every sum is fixed
        weights = train(
            split.train_images.transpose(0, 2, 3, 1), split.train_labels, np.random.default_rng(SEED)
        )
    float_model = export(weights)
    int8_model = quantize(float_model, split.train_images[:CALIBRATION_SAMPLES])
    (HERE / "digits_fp32.onnx").write_bytes(float_model.SerializeToString(deterministic=True))
    (HERE / "digits_int8.onnx").write_bytes(int8_model.SerializeToString(deterministic=True))
    np.savez_compressed(HERE / "test_data.npz", input_0=split.test_images, labels=split.test_labels)

    print(f"{sum(w.size for w in weights.values())} parameters")
    for name, model in (("float", float_model), ("int8", int8_model)):
        right = int((classify(model, split.test_images) == split.test_labels).sum())
        print(f"{name:>5}: {right} of {TEST_SAMPLES} test digits right ({right / TEST_SAMPLES:.2%})")


if __name__ == "__main__":
    main()
