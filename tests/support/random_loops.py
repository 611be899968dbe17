# SPDX-License-Identifier: Apache-2.0
"""Random models with a Loop or a Scan: carried values, slices and rows in all orders, values from around."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from frontend_models import KINDS
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = np.ndarray
node = helper.make_node


@dataclass
class RandomLoop:
    """A model whose one loop is random, and inputs for it; bodies have `nodes` nodes or more."""

    seed: int
    steps: int = 0
    nodes: int = 12
    quantized: bool = False
    inputs: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    made: list[NodeProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng, self.numbers = np.random.default_rng(self.seed), np.random.default_rng([self.seed, 1])
        self.steps = self.steps or int(self.rng.integers(1, 51))
        self.batch, self.units = int(self.rng.integers(1, 3)), int(self.rng.integers(1, 6))
        self.carried, self.slices, self.rows = (int(self.rng.integers(0, 4)) for _ in range(3))
        self.form = "Scan" if self.rng.random() < 0.5 else "Loop"
        if self.form == "Scan":
            self.slices = max(1, self.slices)
        if not self.rows:
            self.carried = max(1, self.carried)
        self.model = self._model()

    def some(self, *shape: int) -> Array:
        return self.numbers.uniform(-1, 1, shape).astype(np.float32)

    def _model(self) -> ModelProto:
        for k in range(self.carried):
            known = self.rng.random() < 0.4
            (self.constants if known else self.inputs)[f"h{k}"] = self.some(self.batch, self.units)
        axes = [int(self.rng.integers(3)) for _ in range(self.slices)]
        for k, axis in enumerate(axes):
            shape = [self.batch, self.units]
            shape.insert(axis, self.steps)
            known = self.rng.random() < 0.2
            (self.constants if known else self.inputs)[f"x{k}"] = self.some(*shape)
        self.inputs["around"] = self.some(self.batch, self.units)
        before = [node("Neg", ["around"], ["outside"])]
        loop, outputs = self._scan(axes) if self.form == "Scan" else self._loop(axes)
        after = [node("Abs", [name], [f"{name}_y"]) for name in outputs]
        graph = helper.make_graph(
            [*before, loop, *after],
            "g",
            [helper.make_tensor_value_info(n, KINDS[a.dtype], a.shape) for n, a in self.inputs.items()],
            [helper.make_tensor_value_info(f"{n}_y", TensorProto.FLOAT, None) for n in outputs],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _body(self, begins: list[str], slices: list[str]) -> tuple[list[str], list[str]]:
        """Write the nodes of a step: names of what it hands on, and of its rows."""
        have = [*begins, *slices, "outside"]
        for k in range(self.nodes):
            self._step_node(have, k)
        ends, rows = [], []
        for k in range(self.carried):
            name = str(self.rng.choice(have[-6:]))
            bounded = self.rng.random() < 0.8
            self.made.append(node("Tanh" if bounded else "Clip", [name], [f"h{k}_out"]))
            ends.append(f"h{k}_out")
        for k in range(self.rows):
            self.made.append(node("Identity", [str(self.rng.choice([*have, *ends]))], [f"row{k}"]))
            rows.append(f"row{k}")
        return ends, rows

    def _step_node(self, have: list[str], k: int) -> None:
        rng, name = self.rng, f"v{k}"
        one, other = (str(name) for name in rng.choice(have[-8:], 2))
        kind = int(rng.integers(7 + 2 * self.quantized))
        if kind == 0:
            self.constants[f"W{k}"] = self.some(self.units, self.units)
            self.made.append(node("MatMul", [one, f"W{k}"], [name]))
        elif kind == 1:
            self.made += [
                node("Greater", [one, other], [f"{name}m"]),
                node("Where", [f"{name}m", other, one], [name]),
            ]
        elif kind == 2:
            self.constants[f"C{k}"] = self.some(self.units)
            self.made.append(node("Add", [one, f"C{k}"], [name]))
        elif kind == 3:
            self.made += [
                node("Concat", [one, other], [f"{name}c"], axis=1),
                node("ReduceMean", [f"{name}c"], [f"{name}r"], axes=[1], keepdims=1),
                node("Sub", [one, f"{name}r"], [name]),
            ]
        elif kind < 7:
            binary = str(rng.choice(["Add", "Mul", "Sub"]))
            self.made += [
                node(binary, [one, other], [f"{name}b"]),
                node(str(rng.choice(["Tanh", "Sigmoid", "Relu"])), [f"{name}b"], [name]),
            ]
        else:
            self._quantized_layer(one, name, k)
        have.append(name)

    def _quantized_layer(self, one: str, name: str, k: int) -> None:
        """A product of int8 between Q and DQ."""
        rng, units = self.rng, self.units
        self.constants |= {
            f"S{k}": np.float32(2.0**-6),
            f"Z{k}": np.int8(rng.integers(-3, 4)),
            f"Q{k}": rng.integers(-100, 101, (units, units)).astype(np.int8),
            f"T{k}": np.float32(2.0**-8),
            f"N{k}": np.int8(0),
        }
        self.made += [
            node("QuantizeLinear", [one, f"S{k}", f"Z{k}"], [f"{name}q"]),
            node("DequantizeLinear", [f"{name}q", f"S{k}", f"Z{k}"], [f"{name}d"]),
            node("DequantizeLinear", [f"Q{k}", f"T{k}", f"N{k}"], [f"{name}w"]),
            node("MatMul", [f"{name}d", f"{name}w"], [f"{name}p"]),
            node("QuantizeLinear", [f"{name}p", f"S{k}", f"Z{k}"], [f"{name}o"]),
            node("DequantizeLinear", [f"{name}o", f"S{k}", f"Z{k}"], [name]),
        ]

    def _scan(self, axes: list[int]) -> tuple[NodeProto, list[str]]:
        begins, slices = [f"g{k}" for k in range(self.carried)], [f"s{k}" for k in range(self.slices)]
        ends, rows = self._body(begins, slices)
        given = [*(f"h{k}" for k in range(self.carried)), *(f"x{k}" for k in range(self.slices))]
        outputs = [*(f"last{k}" for k in range(self.carried)), *(f"all{k}" for k in range(self.rows))]
        floats = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (*begins, *slices)]
        made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (*ends, *rows)]
        ways: dict[str, list[int]] = {
            "scan_input_axes": [axis - 3 if self.rng.random() < 0.3 else axis for axis in axes],
            "scan_input_directions": [int(self.rng.integers(2)) for _ in axes],
        }
        if rows:
            ways |= {
                "scan_output_axes": [int(self.rng.integers(3)) for _ in rows],
                "scan_output_directions": [int(self.rng.integers(2)) for _ in rows],
            }
        body = helper.make_graph(self.made, "body", floats, made)
        return node("Scan", given, outputs, body=body, num_scan_inputs=self.slices, **ways), outputs

    def _loop(self, axes: list[int]) -> tuple[NodeProto, list[str]]:
        """Slices are taken by the step's number, or by a count that is carried beside it."""
        begins, slices = [f"g{k}" for k in range(self.carried)], [f"s{k}" for k in range(self.slices)]
        self.constants |= {"trip": np.int64(self.steps), "yes": np.array(True)}
        self.constants |= {"zero": np.int64(0), "one": np.int64(1)}
        for k, axis in enumerate(axes):
            by = "step" if self.rng.random() < 0.5 else "count"
            self.made.append(node("Gather", [f"x{k}", by], [f"s{k}"], axis=axis))
        ends, rows = self._body(begins, slices)
        self.made += [node("Add", ["count", "one"], ["counted"]), node("Identity", ["on"], ["going"])]
        kinds = [("step", TensorProto.INT64), ("on", TensorProto.BOOL), ("count", TensorProto.INT64)]
        given = [helper.make_tensor_value_info(n, kind, []) for n, kind in kinds]
        given += [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in begins]
        made = [helper.make_tensor_value_info("going", TensorProto.BOOL, [])]
        made.append(helper.make_tensor_value_info("counted", TensorProto.INT64, []))
        made += [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (*ends, *rows)]
        outputs = [*(f"last{k}" for k in range(self.carried)), *(f"all{k}" for k in range(self.rows))]
        body = helper.make_graph(self.made, "body", given, made)
        starts = ["trip", "yes", "zero", *(f"h{k}" for k in range(self.carried))]
        return node("Loop", starts, ["ended", *outputs], body=body), outputs
