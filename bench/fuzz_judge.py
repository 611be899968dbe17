# SPDX-License-Identifier: Apache-2.0
"""What a model's outputs should be, judged in two steps that leave no room for "nearly".

The numpy references of the compiled graph are held against ONNX Runtime node by node, each fed with ONNX
Runtime's own values: an int8 output may be off by one step only where the value before its QuantizeLinear
lies half-way between two steps. The C is held against the references end to end: int8 bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Node
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.ports import Port
from mmcc.verification.graph_agreement import true_array
from mmcc.verification.oracle import Oracle
from mmcc.verification.samples import Sample
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]
NODE = 2e-5  # of the largest output: floats of one node
WHOLE = 1e-4  # of the largest output: floats of a whole model
SENSITIVITY = 30  # times what a change of 1e-6 in the inputs makes
DRIFT = 1.0  # steps on average, where floats within an int8 model round the other way


class Judge:
    """A model, its graph as it is compiled, and ONNX Runtime."""

    def __init__(self, model: Path) -> None:
        self.graph = load_graph(model, CompileOptions())
        self.before = _before_quantization(onnx.load(model))
        inside = {port.onnx_name for port in self.graph.origins.values()}
        self.outputs = [port.onnx_name for port in self.graph.outputs]
        inputs = {port.onnx_name for port in self.graph.inputs}
        reals = {self.before[name][0] for name in (inside | set(self.outputs)) & set(self.before)}
        names = sorted((inside | reals | set(self.outputs)) - inputs)
        self.oracle, self.names = Oracle(model, names), names

    def values(self, sample: Sample) -> dict[str, Array]:
        """All that ONNX Runtime is asked for, and the inputs."""
        inputs = {port.onnx_name: a for port, a in zip(self.graph.inputs, sample, strict=True)}
        return dict(zip(self.names, self.oracle.run(inputs), strict=True)) | inputs

    @property
    def exact(self) -> bool:
        """No float is computed but at the ports: the C must give the references' bits."""
        graph = self.graph
        ports = {port.tensor for port in (*graph.inputs, *graph.outputs)}
        return not any(
            tensor.dtype.is_float and name not in ports
            for node in graph.nodes
            for name in (*graph.activations(node), *node.outputs)
            for tensor in (graph.tensors[name],)
        ) and any(not graph.tensors[name].dtype.is_float for node in graph.nodes for name in node.outputs)

    @property
    def real(self) -> bool:
        """Nothing is int8."""
        return all(
            t.dtype != ElementType.I8 for n, t in self.graph.tensors.items() if not self.graph.is_constant(n)
        )

    # ---- node by node

    def nodes(self, values: dict[str, Array]) -> list[str]:
        """What is wrong with the references, fed with ONNX Runtime's values."""
        graph, told = self.graph, list[str]()
        truth = {name: self._true(name, port, values) for name, port in graph.origins.items()}
        arrays: dict[str, Array] = dict(graph.constants)
        for port in graph.inputs:
            arrays[port.tensor] = port.to_c(values[port.onnx_name], graph.tensors[port.tensor])
        for node in graph.nodes:
            results = node.op.reference(*(arrays[name] for name in node.inputs))
            for name, made in zip(node.outputs, results, strict=True):
                arrays[name] = made
                if name in truth:
                    port = graph.origins[name]
                    told += self._fault(node, port, made, truth[name], values)
                    arrays[name] = truth[name]
        return told

    def _true(self, name: str, port: Port, values: dict[str, Array]) -> Array:
        return true_array(port, self.graph.tensors[name], values[port.onnx_name])

    def _fault(self, node: Node, port: Port, got: Array, want: Array, values: dict[str, Array]) -> list[str]:
        gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
        if want.dtype.kind == "f":
            same = np.isnan(got) & np.isnan(want) | (got == want)
            wrong = ~same & ~(gap <= 1e-6 + NODE * np.abs(want[np.isfinite(want)]).max(initial=0))
        else:
            wrong = gap > self._tied(port, node, want.shape, values)
        if not wrong.any():
            return []
        where = node.where[-1].node if node.where else "?"
        return [
            f"{type(node.op).__name__} (node {where}): {wrong.sum()} of {wrong.size}, at most {gap.max():g}"
        ]

    def _tied(self, port: Port, node: Node, shape: tuple[int, ...], values: dict[str, Array]) -> Array:
        """1 where the real value is as near to one step as to the next, else 0."""
        if port.onnx_name in self.before:
            name, step = self.before[port.onnx_name]
        elif port.quant is not None:  # the model's float, which is quantized as this tensor
            name, step = port.onnx_name, port.quant.scale
        else:
            return np.zeros(shape, np.int8)
        steps = values[name].astype(np.float64) / step
        half = np.abs(steps - np.floor(steps) - 0.5) < 2e-3 + 1e-5 * np.abs(steps)
        tensor = replace(self.graph.tensors[port.tensor], shape=shape)
        return replace(port, quant=None).to_c(half.astype(np.int8), tensor)

    # ---- end to end

    def references(self, sample: Sample) -> Sample:
        """The outputs that the references give, in ONNX's shapes and types."""
        graph = self.graph
        given = {
            p.tensor: p.to_c(a, graph.tensors[p.tensor]) for p, a in zip(graph.inputs, sample, strict=True)
        }
        arrays = evaluate_tensors(graph, given)
        return [p.from_c(arrays[p.tensor], graph.tensors[p.tensor]) for p in graph.outputs]

    def whole(self, sample: Sample, got: Sample, values: dict[str, Array]) -> list[str]:
        """What is wrong with the outputs of the C."""
        told: list[str] = []
        if self.exact:
            for k, (a, b) in enumerate(zip(got, self.references(sample), strict=True)):
                if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                    wrong = a != b
                    told.append(f"output {k}: {wrong.sum()} of {wrong.size} are not the references'")
            return told
        want = [values[name] for name in self.outputs]
        if not self.real:
            return self._drift(got, self.references(sample))
        rng = np.random.default_rng(0)
        moved = [(a * (1 + 1e-6 * rng.uniform(-1, 1, a.shape))).astype(a.dtype) for a in sample]
        other = self.values(moved)
        for k, (a, b, name) in enumerate(zip(got, want, self.outputs, strict=True)):
            wide = np.abs(b[np.isfinite(b)]).max(initial=0)
            b = b.reshape(a.shape)
            with np.errstate(invalid="ignore"):  # an infinity less itself
                spread = np.nan_to_num(np.abs(other[name].reshape(a.shape) - b)).max(initial=0)
                gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
            if not (gap.max(initial=0) <= WHOLE * wide + SENSITIVITY * spread + 1e-6):
                told.append(f"output {k}: off by {gap.max():g} of {wide:g}")
        return told

    def boards(self, got: Sequence[Sample], want: Sequence[Sample]) -> list[str]:
        """What is wrong with a board's outputs; `want` are the host's."""
        told: list[str] = []
        for here, there in zip(want, got, strict=True):
            if self.exact:
                same = all(a.tobytes() == b.tobytes() for a, b in zip(here, there, strict=True))
                told += [] if same else ["a board's bits are not the host's"]
            elif not self.real:
                told += self._drift(there, here)
            else:
                for a, b in zip(there, here, strict=True):
                    wide = np.abs(b[np.isfinite(b)]).max(initial=0)
                    gap = np.abs(a - b).max(initial=0)
                    told += [] if gap <= 10 * WHOLE * wide + 1e-5 else [f"off by {gap:g} of {wide:g}"]
        return told

    def _drift(self, got: Sample, want: Sequence[Array]) -> list[str]:
        told: list[str] = []
        for k, (a, b, port) in enumerate(zip(got, want, self.graph.outputs, strict=True)):
            quant = port.quant or self.graph.tensors[port.tensor].quant
            step = quant.scale if quant and a.dtype.kind == "f" else 1.0
            if a.dtype.kind == "f" and not quant:
                step = max(1e-6, float(np.abs(b).max(initial=0)) / 64)
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64)).mean() / step if a.size else 0.0
            if not gap <= DRIFT:
                told.append(f"output {k}: {gap:g} steps from the references on average")
        return told


def _before_quantization(model: onnx.ModelProto) -> dict[str, tuple[str, float]]:
    """Names of quantized values, and of those dequantized at once: the real value's name, and the step."""
    constants = {i.name: i for i in model.graph.initializer}
    found: dict[str, tuple[str, float]] = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            found[node.output[0]] = node.input[0], float(numpy_helper.to_array(constants[node.input[1]]))
        elif node.op_type == "DequantizeLinear" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found
