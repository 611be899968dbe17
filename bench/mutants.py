# SPDX-License-Identifier: Apache-2.0
"""Models with something changed in them, on the level of ONNX's messages or of bytes; by a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from mmcc.frontend.registry import REGISTRY
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

INTEGERS = [
    *range(-3, 9),
    16,
    1000,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**33,
    2**62,
    2**63 - 1,
    -(2**31),
    -(2**63),
]
EXTENTS = [*range(9), 16, 17, 100, 2**16, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e38, 3e-39, float("nan"), float("inf"), float("-inf")]
TEXTS = ["", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "linear", "nearest", "cubic", "edge", "reflect"]
TEXTS += ["tf_crop_and_resize", "align_corners", "half_pixel", "CRD", "DCR", "\x1b[31m", "x" * 5000, "a\0b"]
NAMES = ["", "x", "y", "\x1b[31mred", "n" * 5000, "a b", "\u202egnol", "line\nbreak", "nul\0", "../../up"]
OPERATORS = sorted({op for _, op in REGISTRY})
OTHERS = ["LSTM", "GRU", "Einsum", "TopK", "LayerNormalization", "If", "Loop", "Nonsense", "Foo\x1b[31m", ""]
TYPES = list(TensorProto.DataType.values())
ATTRIBUTES = ["axis", "axes", "perm", "pads", "strides", "dilations", "kernel_shape", "group", "mode", "to"]
ATTRIBUTES += [
    "auto_pad",
    "alpha",
    "beta",
    "ceil_mode",
    "keepdims",
    "blocksize",
    "epsilon",
    "value",
    "surprise",
]


def mutant(data: bytes, rng: Random) -> bytes:
    """The model with one to four changes."""
    if rng.random() < 0.06:
        return _bytes_changed(data, rng)
    model = ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        change = rng.choice(CHANGES)
        try:
            change(model, rng)
        except Exception:  # nothing there to change; protobuf or onnx has no such number, file, type
            continue
    made = model.SerializeToString()
    return _bytes_changed(made, rng) if rng.random() < 0.02 else made


def _bytes_changed(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    match rng.randrange(4):
        case 0:
            return bytes(changed[: rng.randrange(len(changed) + 1)])
        case 1:
            for _ in range(rng.choice((1, 2, 8, 64))):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        case 2:
            at = rng.randrange(len(changed))
            del changed[at : at + rng.choice((1, 2, 16))]
        case _:
            at = rng.randrange(len(changed))
            changed[at:at] = changed[at : at + rng.choice((1, 4, 100, 1000))]
    return bytes(changed)


def _node(model: ModelProto, rng: Random) -> NodeProto:
    return rng.choice(model.graph.node)


def _value(graph: GraphProto, rng: Random) -> str:
    names = [name for node in graph.node for name in node.output]
    names += [info.name for info in graph.input] + [tensor.name for tensor in graph.initializer]
    return rng.choice(names) if rng.random() < 0.9 else rng.choice(NAMES)


def swap_operator(model: ModelProto, rng: Random) -> None:
    node = _node(model, rng)
    node.op_type = rng.choice(OPERATORS if rng.random() < 0.8 else OTHERS)
    if rng.random() < 0.1:
        node.domain = rng.choice(["", "ai.onnx", "com.microsoft", "ai.onnx.ml", "x" * 2000, "\x1b"])
    if rng.random() < 0.5:
        del node.attribute[:]


def change_attribute(model: ModelProto, rng: Random) -> None:
    attribute = rng.choice(rng.choice([node for node in model.graph.node if node.attribute]).attribute)
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = rng.choice(INTEGERS)
        case AttributeProto.FLOAT:
            attribute.f = rng.choice(FLOATS)
        case AttributeProto.STRING:
            attribute.s = rng.choice(TEXTS).encode()
        case AttributeProto.INTS:
            _change_list(attribute.ints, INTEGERS, rng)
        case AttributeProto.FLOATS:
            _change_list(attribute.floats, FLOATS, rng)
        case AttributeProto.TENSOR:
            _change_tensor(attribute.t, rng)
        case _:
            attribute.type = rng.randrange(1, 12)


def _change_list(values: Any, choices: list[Any], rng: Random) -> None:
    match rng.randrange(6):
        case 0 | 1 | 2:
            values[rng.randrange(len(values))] = rng.choice(choices)
        case 3:
            del values[rng.randrange(len(values))]
        case 4:
            values.append(rng.choice(choices))
        case _:
            values.extend([rng.choice(choices)] * rng.choice((1, 20, 100, 5000)))


def drop_attribute(model: ModelProto, rng: Random) -> None:
    node = rng.choice([node for node in model.graph.node if node.attribute])
    del node.attribute[rng.randrange(len(node.attribute))]


def add_attribute(model: ModelProto, rng: Random) -> None:
    name = rng.choice(ATTRIBUTES)
    value = rng.choice(
        [rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice(TEXTS), [1, 1], [0, 0, 1, 1], [2]]
    )
    _node(model, rng).attribute.append(helper.make_attribute(name, value))


def retype_attribute(model: ModelProto, rng: Random) -> None:
    node = rng.choice([node for node in model.graph.node if node.attribute])
    rng.choice(node.attribute).type = rng.randrange(0, 15)


def rewire(model: ModelProto, rng: Random) -> None:
    node = rng.choice([node for node in model.graph.node if node.input])
    node.input[rng.randrange(len(node.input))] = _value(model.graph, rng)


def change_operands(model: ModelProto, rng: Random) -> None:
    node = _node(model, rng)
    match rng.randrange(4):
        case 0:
            del node.input[rng.randrange(len(node.input))]
        case 1:
            node.input.append(_value(model.graph, rng))
        case 2:
            node.input[rng.randrange(len(node.input))] = ""
        case _:
            node.input.extend([_value(model.graph, rng)] * rng.choice((1, 3, 300)))


def change_outputs(model: ModelProto, rng: Random) -> None:
    node = _node(model, rng)
    match rng.randrange(4):
        case 0:
            del node.output[rng.randrange(len(node.output))]
        case 1:
            node.output.append(rng.choice(["", "more", _value(model.graph, rng)]))
        case 2:
            node.output[rng.randrange(len(node.output))] = _value(model.graph, rng)
        case _:
            info = rng.choice([*model.graph.output, *model.graph.input])
            info.name = _value(model.graph, rng)


def add_output(model: ModelProto, rng: Random) -> None:
    model.graph.output.add().name = _value(model.graph, rng)


def change_constant(model: ModelProto, rng: Random) -> None:
    _change_tensor(rng.choice(model.graph.initializer), rng)


def _change_tensor(tensor: TensorProto, rng: Random) -> None:
    match rng.randrange(9):
        case 0:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(EXTENTS)
        case 1:
            tensor.data_type = rng.choice(TYPES)
        case 2:
            tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
        case 3:
            data = bytearray(tensor.raw_data)
            at = rng.randrange(len(data)) & ~3
            bits = rng.choice([rng.randbytes(4), np.float32(rng.choice(FLOATS)).tobytes()])
            data[at : at + 4] = bits[: len(data) - at]
            tensor.raw_data = bytes(data)
        case 4:
            tensor.name = rng.choice(NAMES)
        case 5:
            tensor.data_location = TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", rng.choice(["missing.bin", "../x", "/etc/passwd", "\0", "."])
        case 6:
            tensor.dims.extend([1] * rng.choice((1, 12, 40)))
        case 7:
            del tensor.dims[:]
        case _:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.reshape(-1)[rng.randrange(values.size)] = rng.choice([0, 1, -1, 2, 127, 1000, 2**30])
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def drop_constant(model: ModelProto, rng: Random) -> None:
    del model.graph.initializer[rng.randrange(len(model.graph.initializer))]


def constant_to_input(model: ModelProto, rng: Random) -> None:
    tensor = model.graph.initializer.pop(rng.randrange(len(model.graph.initializer)))
    model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def constant_made_long(model: ModelProto, rng: Random) -> None:
    tensor = model.graph.initializer.pop(rng.randrange(len(model.graph.initializer)))
    count = rng.choice((0, 1, 2**10, 2**20, 2**24, 2**27))
    shape = onnx.numpy_helper.from_array(np.array([count], np.int64), tensor.name + "_shape")
    value = helper.make_tensor("v", tensor.data_type, [1], [1])
    made = helper.make_node("ConstantOfShape", [shape.name], [tensor.name], value=value)
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, made)


def change_port(model: ModelProto, rng: Random) -> None:
    kind = rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type
    match rng.randrange(6):
        case 0 | 1:
            rng.choice(kind.shape.dim).dim_value = rng.choice(EXTENTS)
        case 2:
            kind.elem_type = rng.choice(TYPES)
        case 3:
            rng.choice(kind.shape.dim).dim_param = rng.choice(["N", "H", "", "\x1b", "d" * 5000])
        case 4:
            kind.shape.dim.add().dim_value = rng.choice(EXTENTS)
        case _:
            del kind.shape.dim[rng.randrange(len(kind.shape.dim))]


def state_a_shape(model: ModelProto, rng: Random) -> None:
    shape = [rng.choice(EXTENTS[1:9]) for _ in range(rng.randrange(6))]
    info = helper.make_tensor_value_info(_value(model.graph, rng), rng.choice([1, 1, 3, 7, 10, 77]), shape)
    model.graph.value_info.append(info)


def change_versions(model: ModelProto, rng: Random) -> None:
    match rng.randrange(3):
        case 0:
            rng.choice(model.opset_import).version = rng.choice([*range(1, 25), 0, -1, 999])
        case 1:
            model.ir_version = rng.choice([*range(2, 14), 2**40])
        case _:
            model.opset_import.append(helper.make_opsetid(rng.choice(["", "x", "com.microsoft"]), 1))


def move_nodes(model: ModelProto, rng: Random) -> None:
    nodes = list(model.graph.node)
    match rng.randrange(3):
        case 0:
            del nodes[rng.randrange(len(nodes))]
        case 1:
            nodes.insert(rng.randrange(len(nodes)), rng.choice(nodes))
        case _:
            rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def insert_node(model: ModelProto, rng: Random) -> None:
    target = rng.choice([node for node in model.graph.node if node.input])
    at = rng.randrange(len(target.input))
    operands = [target.input[at], *(_value(model.graph, rng) for _ in range(rng.choice((0, 0, 1, 2))))]
    made = helper.make_node(rng.choice(OPERATORS), operands, [f"inserted{rng.randrange(10**6)}"])
    target.input[at] = made.output[0]
    model.graph.node.insert(0, made)


def close_cycle(model: ModelProto, rng: Random) -> None:
    nodes = [node for node in model.graph.node if node.input and node.output]
    early = nodes[rng.randrange(len(nodes))]
    early.input[0] = rng.choice(nodes).output[0]


def rename_node(model: ModelProto, rng: Random) -> None:
    _node(model, rng).name = rng.choice(NAMES)


def make_function(model: ModelProto, rng: Random) -> None:
    node = _node(model, rng)
    body = [NodeProto.FromString(node.SerializeToString())]
    if rng.random() < 0.3:
        body[0].op_type, body[0].domain = "Mine", "mine"  # calls itself
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    inputs, outputs = list(dict.fromkeys(filter(None, node.input))), list(node.output)
    model.functions.append(helper.make_function("mine", "Mine", inputs, outputs, body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    node.op_type, node.domain = "Mine", "mine"
    del node.attribute[:]


def make_branch(model: ModelProto, rng: Random) -> None:
    node = _node(model, rng)
    inner = NodeProto.FromString(node.SerializeToString())
    results = [onnx.ValueInfoProto(name=name) for name in node.output]
    branch = helper.make_graph([inner], "b", [], results)
    condition = onnx.numpy_helper.from_array(np.array(rng.random() < 0.5), "condition")
    model.graph.initializer.append(condition)
    made = helper.make_node("If", ["condition"], list(node.output), then_branch=branch, else_branch=branch)
    node.CopyFrom(made)


Change = Callable[[ModelProto, Random], None]
CHANGES: list[Change] = [
    *(swap_operator, change_attribute, change_attribute, drop_attribute, add_attribute, retype_attribute),
    *(rewire, rewire, change_operands, change_outputs, add_output),
    *(change_constant, change_constant, drop_constant, constant_to_input, constant_made_long),
    *(change_port, change_port, state_a_shape, change_versions),
    *(move_nodes, insert_node, insert_node, close_cycle, rename_node, make_function, make_branch),
]
