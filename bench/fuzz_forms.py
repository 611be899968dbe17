# SPDX-License-Identifier: Apache-2.0
"""Random models in the other forms that a file may have: operators on integers, float16, weights quantized
alone, trees behind the net, an output that is kept as the next run's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from fuzz_quantize import Widths, quantized
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Values = Mapping[str, NDArray[Any]]
WIDTHS = {
    "int8": Widths(),
    "int16": Widths(activations=16),
    "int4": Widths(weights=4),
    "blocks of int8": Widths(block=2),
    "blocks of int4": Widths(weights=4, block=2),
}
FORMS = ("float", *WIDTHS, "QOperator", "dynamic", "float16")
KEPT = "kept"  # the output of `with_state`


def in_form(form: str, model: onnx.ModelProto, values: Values, rng: np.random.Generator) -> onnx.ModelProto:
    """`model`, a model of floats, in one of `FORMS`; `values` are all its tensors for one sample."""
    seed = int(rng.integers(2**31))
    if form in WIDTHS:
        return quantized(model, values, seed, WIDTHS[form])
    if form == "QOperator":
        return with_operators_on_integers(quantized(model, values, seed))
    if form == "dynamic":
        return with_dynamic_products(model)
    return in_float16(model) if form == "float16" else model


# ---- operators on integers


def with_operators_on_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """QLinearConv and the like for each operator between DequantizeLinear and QuantizeLinear that has one."""
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {o.name for o in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        after = readers.get(node.output[0], [])
        quantizer = after[0] if len(after) == 1 and node.output[0] not in outputs else None
        sources = [made.get(name) for name in node.input]
        quantizes = quantizer is not None and quantizer.op_type == "QuantizeLinear"
        if (
            quantizer
            and quantizes
            and all(s is not None and s.op_type == "DequantizeLinear" for s in sources)
        ):
            operands = [list(s.input) for s in sources if s is not None]
            replaced = _on_integers(node, operands, list(quantizer.input[1:]), quantizer.output[0])
            if replaced is not None:
                nodes.append(replaced)
                continue
        nodes.append(node)
    written = {name for node in nodes for name in node.output}
    known = written | {i.name for i in graph.input} | {i.name for i in graph.initializer}
    nodes = [n for n in nodes if all(name in known or not name for name in n.input)]
    result = _with_nodes(model, _sorted(nodes, known - written))
    result.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return result


def _on_integers(
    node: onnx.NodeProto, operands: list[list[str]], numbers: list[str], output: str
) -> onnx.NodeProto | None:
    """The node on integers; None if there is no such operator, or for these operands."""
    first = operands[0] if operands else []
    flat = [name for operand in operands for name in operand]
    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Conv":
            inputs = [*operands[0], *operands[1], *numbers, *(o[0] for o in operands[2:])]
            return helper.make_node("QLinearConv", inputs, [output], **attributes)
        case "MatMul":
            return helper.make_node("QLinearMatMul", [*flat, *numbers], [output])
        case "Add" | "Mul":
            kind, inputs = f"QLinear{node.op_type}", [*flat, *numbers]
        case "Concat":
            kind, inputs = "QLinearConcat", [*numbers, *flat]
        case "Sigmoid" | "LeakyRelu":
            kind, inputs = f"QLinear{node.op_type}", [*first, *numbers]
        case "GlobalAveragePool":
            kind, inputs = "QLinearGlobalAveragePool", [*first, *numbers]
        case "Softmax":
            kind, inputs, attributes = "QLinearSoftmax", [*first, *numbers], {**attributes, "opset": 13}
        case _:
            return None
    return helper.make_node(kind, inputs, [output], domain="com.microsoft", **attributes)


def _sorted(nodes: list[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """The nodes behind what they read: a replaced node stands where its float was."""
    there, left, placed = set(known), list(nodes), list[onnx.NodeProto]()
    while left:
        ready = [n for n in left if all(name in there or not name for name in n.input)]
        if not ready:
            break
        placed += ready
        there.update(name for n in ready for name in n.output)
        left = [n for n in left if n not in ready]
    return placed


# ---- other numbers


def with_dynamic_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Products by constants as dynamic quantization writes them: of integers, scaled by what was found."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    more: dict[str, NDArray[Any]] = {}
    for node in model.graph.node:
        weights = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weights is None or weights.ndim != 2 or node.input[0] in constants:
            nodes.append(node)
            continue
        name = node.output[0]
        channels = len(nodes) % 2 == 0
        most = np.maximum(np.abs(weights).max(axis=0 if channels else None), 1e-4)
        step = (most / 127).astype(np.float32)
        more[f"{name}_w"] = np.clip(np.rint(weights / step), -127, 127).astype(np.int8)
        more[f"{name}_s"], more[f"{name}_z"] = step, np.zeros(step.shape, np.int8)
        quantized_input = [f"{name}_q", f"{name}_qs", f"{name}_qz"]
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [node.input[0]], quantized_input),
            helper.make_node(
                "MatMulInteger", [f"{name}_q", f"{name}_w", f"{name}_qz", f"{name}_z"], [f"{name}_i"]
            ),
            helper.make_node("Cast", [f"{name}_i"], [f"{name}_f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_qs", f"{name}_s"], [f"{name}_m"]),
            helper.make_node("Mul", [f"{name}_f", f"{name}_m"], [name]),
        ]
    return _with_nodes(model, nodes, more)


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """All floats of the model narrowed: ports, constants and what is between."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for constant in graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            narrow = numpy_helper.to_array(constant).astype(np.float16)
            constant.CopyFrom(numpy_helper.from_array(narrow, constant.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    return result


# ---- what is put behind a net


def with_trees(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """A regressor of a few trees over the first output, one more output."""
    value = model.graph.output[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    features = int(np.prod(shape[1:])) if shape else 1
    targets = int(rng.integers(1, 4))
    table: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes")}
    table |= {k: [] for k in ("truenodeids", "falsenodeids", "missing_value_tracks_true")}
    leaves: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"]
    mode = modes[int(rng.integers(4))] if rng.random() < 0.5 else ""
    for tree in range(int(rng.integers(1, 6))):
        depth = int(rng.integers(0, 4))
        for number in range(2 ** (depth + 1) - 1):
            leaf = number >= 2**depth - 1
            row = {
                "treeids": tree,
                "nodeids": number,
                "featureids": 0 if leaf else int(rng.integers(features)),
                "values": 0.0 if leaf else float(np.float32(rng.normal(0, 0.7))),
                "modes": "LEAF" if leaf else mode or modes[int(rng.integers(4))],
                "truenodeids": 0 if leaf else 2 * number + 1,
                "falsenodeids": 0 if leaf else 2 * number + 2,
                "missing_value_tracks_true": 0,
            }
            for key, item in row.items():
                table[key].append(item)
            for target in range(targets if leaf else 0):
                leaves["treeids"].append(tree)
                leaves["nodeids"].append(number)
                leaves["ids"].append(target)
                leaves["weights"].append(float(np.float32(rng.normal())))
    attributes: dict[str, Any] = {f"nodes_{k}": v for k, v in table.items()}
    attributes |= {f"target_{k}": v for k, v in leaves.items()}
    flat = helper.make_node("Flatten", [value.name], ["trees_in"], axis=1 if shape else 0)
    trees = helper.make_node(
        "TreeEnsembleRegressor", ["trees_in"], ["trees"], domain="ai.onnx.ml", n_targets=targets, **attributes
    )
    result = _with_nodes(model, [*model.graph.node, flat, trees])
    result.graph.output.append(
        helper.make_tensor_value_info("trees", TensorProto.FLOAT, [shape[0] if shape else 1, targets])
    )
    result.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return result


def with_state(model: onnx.ModelProto, rng: np.random.Generator) -> tuple[onnx.ModelProto, str]:
    """One more output, `KEPT`, in the shape of an input, and that input's name."""
    inputs = list(model.graph.input)
    value = inputs[int(rng.integers(len(inputs)))]
    source = model.graph.output[0].name
    nodes = [
        helper.make_node("ReduceMean", [source], ["kept_mean"], keepdims=0),
        helper.make_node("Add", [value.name, "kept_mean"], ["kept_sum"]),
        helper.make_node("Tanh", ["kept_sum"], [KEPT]),
    ]
    result = _with_nodes(model, [*model.graph.node, *nodes])
    output = result.graph.output.add()
    output.CopyFrom(value)
    output.name = KEPT
    return result, value.name


def _with_nodes(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], more: Mapping[str, NDArray[Any]] | None = None
) -> onnx.ModelProto:
    """The model with other nodes and more constants, those alone that are read."""
    read = {name for node in nodes for name in node.input}
    graph = model.graph
    constants = [i for i in graph.initializer if i.name in read]
    constants += [numpy_helper.from_array(a, name) for name, a in (more or {}).items()]
    made = helper.make_graph(nodes, "fuzz", list(graph.input), list(graph.output), constants)
    return helper.make_model(made, opset_imports=list(model.opset_import), ir_version=model.ir_version)
