# SPDX-License-Identifier: Apache-2.0
"""A float network as mmcc has it, written as a file of LiteRT: float, or with made-up scales in int8.

Only what classifiers of images are made of. How fast a runtime is does not depend on the values, so int8
has one scale for all activations. LiteRT pads as TensorFlow does ("SAME"): where a window moves by two, it
begins a pixel later than in the ONNX file, and the work is the same.
"""

from __future__ import annotations

import importlib.util
from math import inf
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from mmcc.ir.graph import Graph, Node
from mmcc.ops.activation import Clamp
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Reshape
from mmcc.ops.pool import MaxPool
from mmcc.ops.reduce import Reduce

ACTIVATION_SCALE, WEIGHT_SCALE = 0.05, 0.01


def write_litert(graph: Graph, path: Path, site: Path, *, int8: bool) -> None:
    """Write `graph` to `path`; the schema is that of the wheel which is unpacked in `site`."""
    schema = _schema(site)
    writer = _Writer(schema, graph, int8)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(writer.model().Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def _schema(site: Path) -> Any:
    spec = importlib.util.spec_from_file_location(
        "tflite_schema", site / "ai_edge_litert" / "schema_py_generated.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Writer:
    """The tables of a file: buffers and tensors by number, operators in order."""

    def __init__(self, schema: Any, graph: Graph, int8: bool) -> None:
        self._schema, self._graph, self._int8 = schema, graph, int8
        self._buffers: list[Any] = [schema.BufferT()]  # the first is empty
        self._tensors: list[Any] = []
        self._codes: list[int] = []
        self._operators: list[Any] = []
        self._numbers: dict[str, int] = {}

    def model(self) -> Any:
        schema, graph = self._schema, self._graph
        for port in graph.inputs:
            self._activation(port.tensor)
        for node in graph.nodes:
            self._node(node)
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs = [self._numbers[port.tensor] for port in graph.inputs]
        subgraph.outputs = [self._numbers[port.tensor] for port in graph.outputs]
        model = schema.ModelT()
        model.version, model.buffers, model.subgraphs = 3, self._buffers, [subgraph]
        model.operatorCodes = [self._code(code) for code in self._codes]
        return model

    def _code(self, code: int) -> Any:
        made = self._schema.OperatorCodeT()
        made.builtinCode, made.version = code, self._versions().get(code, 1)
        made.deprecatedBuiltinCode = min(code, 127)
        return made

    def _versions(self) -> dict[int, int]:
        """Of the operators that take int8."""
        builtin = self._schema.BuiltinOperator
        convs, others = (
            (builtin.CONV_2D, builtin.DEPTHWISE_CONV_2D),
            (builtin.ADD, builtin.MEAN, builtin.MAX_POOL_2D),
        )
        newer = dict.fromkeys(convs, 3) | dict.fromkeys(others, 2) | {builtin.FULLY_CONNECTED: 4}
        return newer if self._int8 else {}

    def _tensor(self, name: str, shape: tuple[int, ...], kind: str, buffer: int, scales: Any) -> int:
        made = self._schema.TensorT()
        made.name, made.shape, made.buffer = name, list(shape), buffer
        made.type = getattr(self._schema.TensorType, kind)
        if self._int8 and scales is not None:
            quantization = self._schema.QuantizationParametersT()
            values, axis = scales
            quantization.scale = np.asarray(values, np.float32)
            quantization.zeroPoint = np.zeros(len(values), np.int64)
            quantization.quantizedDimension = axis
            made.quantization = quantization
        self._tensors.append(made)
        return len(self._tensors) - 1

    def _activation(self, name: str) -> int:
        if name not in self._numbers:
            shape = self._graph.tensors[name].shape
            kind = "INT8" if self._int8 else "FLOAT32"
            self._numbers[name] = self._tensor(name, (1, *shape), kind, 0, ([ACTIVATION_SCALE], 0))
        return self._numbers[name]

    def _constant(self, array: np.ndarray, kind: str, scales: Any = None) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._buffers.append(buffer)
        number = len(self._buffers) - 1
        return self._tensor(f"constant{number}", array.shape, kind, number, scales)

    def _weights(self, node: Node, *, depthwise: bool = False) -> list[int]:
        """Weights and bias of a layer, by output channel."""
        w, bias = (self._graph.constants[name] for name in node.inputs[1:])
        if depthwise:  # [1, KH, KW, C]
            w = w.transpose(3, 1, 2, 0)
        axis = 3 if depthwise else 0
        if not self._int8:
            return [self._constant(w.astype(np.float32), "FLOAT32"), self._constant(bias, "FLOAT32")]
        values = np.clip(np.rint(w / WEIGHT_SCALE), -127, 127).astype(np.int8)
        whole = np.rint(bias / (WEIGHT_SCALE * ACTIVATION_SCALE)).astype(np.int32)
        count = bias.size
        return [
            self._constant(values, "INT8", ([WEIGHT_SCALE] * count, axis)),
            self._constant(whole, "INT32", ([WEIGHT_SCALE * ACTIVATION_SCALE] * count, 0)),
        ]

    def _node(self, node: Node) -> None:
        schema, op = self._schema, node.op
        builtin, kinds = schema.BuiltinOperator, schema.BuiltinOptions
        x = self._activation(node.inputs[0])
        if isinstance(op, Conv) and op.groups > 1:
            options = schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = 1
            self._window(options, op.window)
            options.fusedActivationFunction = self._fused(op.activation)
            operands = [x, *self._weights(node, depthwise=True)]
            code, kind = builtin.DEPTHWISE_CONV_2D, kinds.DepthwiseConv2DOptions
        elif isinstance(op, Conv):
            options = schema.Conv2DOptionsT()
            self._window(options, op.window)
            options.fusedActivationFunction = self._fused(op.activation)
            operands = [x, *self._weights(node)]
            code, kind = builtin.CONV_2D, kinds.Conv2DOptions
        elif isinstance(op, MaxPool):
            options = schema.Pool2DOptionsT()
            self._window(options, op.window)
            options.filterHeight, options.filterWidth = op.window.kernel
            operands, code, kind = [x], builtin.MAX_POOL_2D, kinds.Pool2DOptions
        elif isinstance(op, Dense):
            options = schema.FullyConnectedOptionsT()
            options.fusedActivationFunction = self._fused(op.activation)
            operands = [x, *self._weights(node)]
            code, kind = builtin.FULLY_CONNECTED, kinds.FullyConnectedOptions
        elif isinstance(op, Binary):
            options = schema.AddOptionsT()
            operands = [x, self._activation(node.inputs[1])]
            options.fusedActivationFunction = self._fused(getattr(op, "activation", None))
            code, kind = builtin.ADD, kinds.AddOptions
        elif isinstance(op, Unary):  # Relu behind an Add: part of that one, as converters make it
            self._operators[-1].builtinOptions.fusedActivationFunction = self._fused(Clamp(0.0, inf))
            self._numbers[node.outputs[0]] = x
            return
        elif isinstance(op, Reduce):
            options = schema.ReducerOptionsT()
            options.keepDims = True
            operands = [x, self._constant(np.array([1, 2], np.int32), "INT32")]
            code, kind = builtin.MEAN, kinds.ReducerOptions
        elif isinstance(op, Reshape):
            options = schema.ReshapeOptionsT()
            options.newShape = [1, *self._graph.tensors[node.outputs[0]].shape]
            operands = [x, self._constant(np.array(options.newShape, np.int32), "INT32")]
            code, kind = builtin.RESHAPE, kinds.ReshapeOptions
        else:
            raise SystemExit(f"{op} has no form for LiteRT here")
        self._operator(code, kind, options, operands, self._activation(node.outputs[0]))

    def _operator(self, code: int, kind: int, options: Any, operands: list[int], output: int) -> None:
        if code not in self._codes:
            self._codes.append(code)
        made = self._schema.OperatorT()
        made.opcodeIndex = self._codes.index(code)
        made.inputs, made.outputs = operands, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        self._operators.append(made)

    def _window(self, options: Any, window: Any) -> None:
        padding = self._schema.Padding
        options.padding = padding.SAME if any(window.pads) else padding.VALID
        options.strideH, options.strideW = window.strides

    def _fused(self, activation: Any) -> int:
        names = self._schema.ActivationFunctionType
        if activation is None:
            return names.NONE
        return {"relu": names.RELU, "relu6": names.RELU6}[str(activation)]
