# SPDX-License-Identifier: Apache-2.0
"""Models of one recurrent operator, in every form that ONNX has."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
from frontend_models import model_of
from onnx import helper

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
