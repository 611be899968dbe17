# SPDX-License-Identifier: Apache-2.0
"""Models of one recurrent operator, in every form that ONNX has."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
from frontend_models import model_of
from onnx import helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
NAMES = (
    *("Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu"),
    *("ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"),
)


def layer(
    op: str,
    steps: int = 6,
    sequences: int = 1,
    features: int = 4,
    units: int = 5,
    *,
    direction: str = "forward",
    lengths: list[int] | None = None,
    initial: bool = False,
    given: bool = False,
    peepholes: bool = False,
    bias: bool = True,
    outputs: tuple[str, ...] = ("Y", "Y_h", "Y_c"),
    **attributes,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model and its inputs. Where `given`, lengths and initial state are inputs, and else constants."""
    rng = np.random.default_rng(steps * 100 + sequences)
    directions = 2 if direction == "bidirectional" else 1
    sums = GATES[op] * units

    def some(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    batch_first = attributes.get("layout", 0)
    state = (sequences, directions, units) if batch_first else (directions, sequences, units)
    operands: dict[str, np.ndarray | None] = {
        "x": some(sequences, steps, features) if batch_first else some(steps, sequences, features),
        "W": some(directions, sums, features),
        "R": some(directions, sums, units) / 2,
        "B": some(directions, 2 * sums) if bias else None,
        "lengths": None if lengths is None else np.array(lengths, np.int32),
        "h": some(*state) if initial else None,
        "c": some(*state) if initial and op == "LSTM" else None,
        "P": some(directions, 3 * units) if peepholes else None,
    }
    names = [name if array is not None else "" for name, array in operands.items()]
    while not names[-1]:
        names.pop()
    inputs = {"x", *(("lengths", "h", "c") if given else ())}
    every = ("Y", "Y_h", "Y_c")[: 3 if op == "LSTM" else 2]
    results = [name if name in outputs else "" for name in every]
    node = helper.make_node(op, names, results, hidden_size=units, direction=direction, **attributes)
    arrays = {name: array for name, array in operands.items() if array is not None}
    feeds = {name: array for name, array in arrays.items() if name in inputs}
    constants = {name: array for name, array in arrays.items() if name not in inputs}
    return model_of([node], feeds, [name for name in results if name], constants, opset=14), feeds


def forms() -> dict[str, dict]:
    """Directions, sequences, initial states and lengths of every operator, with other options in turn."""
    found: dict[str, dict] = {}
    ways = product(
        GATES,
        ("forward", "reverse", "bidirectional"),
        ((1, 1), (6, 1), (5, 3)),
        ((False, False), (True, False), (True, True)),
        (False, True),
    )
    for k, (op, direction, (steps, sequences), (initial, given), short) in enumerate(ways):
        form: dict = {"direction": direction, "initial": initial, "given": given, "bias": k % 7 != 0}
        if short:
            form["lengths"] = [max(1, steps - 1 - b) for b in range(sequences)]
        if k % 3 == 0:
            form["clip"] = 0.3
        if k % 2 == 0:
            count = FUNCTIONS[op] * (2 if direction == "bidirectional" else 1)
            form["activations"] = [NAMES[(k + 3 * each) % len(NAMES)] for each in range(count)]
            form |= {"activation_alpha": [0.3, 0.4, 0.5, 0.35, 0.45, 0.55]}
            form |= {"activation_beta": [0.1, 0.2, 0.3, 0.15, 0.25, 0.35]}
        if op == "GRU":
            form["linear_before_reset"] = k // 2 % 2
        if op == "LSTM":
            form |= {"input_forget": int(k % 5 == 0), "peepholes": k % 3 != 1}
        name = f"{op}_{direction}_{steps}x{sequences}_{'h' if initial else ''}{'g' if given else ''}"
        found[f"{name}{'l' if short else ''}"] = {"op": op, "steps": steps, "sequences": sequences, **form}
    return found


def quantized_layer(
    op: str,
    seed: int,
    steps: int = 40,
    sequences: int = 1,
    features: int = 12,
    units: int = 16,
    *,
    both: bool = False,
    initial: float = 0,
    by_rows: bool = True,
    results: tuple[str, ...] = ("Y",),
    **attributes,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A layer between QuantizeLinear and DequantizeLinear, with int8 weights, and one sample of its input.

    `by_rows`: weights have a scale for each row. Each of `results` is quantized; Y's scale is 1/128.
    h and c begin with constants up to `initial`, if that is not 0.
    """
    rng = np.random.default_rng(seed)
    directions, sums = 1 + both, GATES[op] * units
    constants: dict[str, np.ndarray] = {
        "x_s": np.float32(0.021),
        "x_z": np.int8(-9),
        "B": rng.normal(0, 0.5, (directions, 2 * sums)).astype(np.float32),
        "y_s": np.float32(1 / 128),
        "y_z": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
    ]
    for name, inner, spread in (("W", features, 1.5), ("R", units, 1.0)):
        w = rng.normal(0, spread / inner**0.5, (directions, sums, inner))
        node, stored = _dequantized(name, w, by_rows)
        nodes.append(node)
        constants |= stored
    names = ["x_f", "W", "R", "B"]
    if initial:
        shape, begin = (directions, sequences, units), ("h", "c") if op == "LSTM" else ("h",)
        constants |= {name: rng.uniform(-initial, initial, shape).astype(np.float32) for name in begin}
        names += ["", *begin]
    direction = "bidirectional" if both else attributes.pop("direction", "forward")
    made = [name if name in results else "" for name in ("Y", "Y_h")[: 1 + ("Y_h" in results)]]
    nodes.append(helper.make_node(op, names, made, hidden_size=units, direction=direction, **attributes))
    for name in results:
        nodes.append(helper.make_node("QuantizeLinear", [name, "y_s", "y_z"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "y_s", "y_z"], [f"{name}_out"]))
    feeds = {"x": rng.normal(0, 1, (steps, sequences, features)).astype(np.float32)}
    return model_of(nodes, feeds, [f"{name}_out" for name in results], constants, opset=17), feeds


def _dequantized(name: str, w: np.ndarray, by_rows: bool) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    """The node that makes `name` from int8 weights [directions, rows, columns], and its constants."""
    scale = np.abs(w).max((0, 2) if by_rows else None) / 127
    wide = scale.reshape(1, -1, 1) if by_rows else scale
    stored = {f"{name}_q": np.rint(w / wide).astype(np.int8), f"{name}_s": scale.astype(np.float32)}
    axis = {"axis": 1} if by_rows else {}
    return helper.make_node("DequantizeLinear", [*stored], [name], **axis), stored


def behind_convolution(model: onnx.ModelProto, taps: int) -> onnx.ModelProto:
    """A `quantized_layer` whose x is what a quantized convolution over time makes, which looks ahead."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    quantize, dequantize = found.graph.node[0], found.graph.node[1]
    features = found.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    weights = np.random.default_rng(taps).normal(0, taps**-0.5, (features, 1, taps))
    node, stored = _dequantized("ahead", weights, False)
    scale = list(quantize.input[1:])
    front = [
        helper.make_node("QuantizeLinear", ["x", *scale], ["given_q"]),
        helper.make_node("DequantizeLinear", ["given_q", *scale], ["given_f"]),
        helper.make_node("Transpose", ["given_f"], ["given_t"], perm=[1, 2, 0]),
        node,
        helper.make_node("Conv", ["given_t", "ahead"], ["seen_t"], pads=[taps // 2] * 2, group=features),
        helper.make_node("QuantizeLinear", ["seen_t", *scale], [quantize.output[0]]),
        helper.make_node("DequantizeLinear", [quantize.output[0], *scale], ["seen_f"]),
        helper.make_node("Transpose", ["seen_f"], list(dequantize.output), perm=[2, 0, 1]),
    ]
    nodes = [*front, *found.graph.node[2:]]
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    found.graph.initializer.extend(numpy_helper.from_array(data, name) for name, data in stored.items())
    return found
