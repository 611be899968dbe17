# SPDX-License-Identifier: Apache-2.0
"""Models made to do harm, and small ones of many kinds that mutants are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

node = helper.make_node
IMAGE = [1, 4, 8, 8]


def model(
    nodes: list[NodeProto],
    constants: dict[str, Any] | None = None,
    *,
    shape: list[int] | None = None,
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> ModelProto:
    """A model with one float input, x."""
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, IMAGE if shape is None else shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        kept,
    )
    opsets = [helper.make_opsetid(d, v) for d, v in (("", opset), ("com.microsoft", 1), ("mine", 1))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _weights(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.sin(np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def seeds() -> Iterator[tuple[str, ModelProto]]:
    """Small sound models, each with operators of one family."""
    yield from _seeds_of_layers()
    yield from _seeds_of_moves()
    yield from _seeds_of_functions()


def _seeds_of_layers() -> Iterator[tuple[str, ModelProto]]:
    w, b = _weights(4, 4, 3, 3), _weights(4)
    s, z = np.float32(0.05), np.int8(3)
    qdq = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=0),
        node("Conv", ["d", "dw"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        node("DequantizeLinear", ["rq", "s", "z"], ["y"]),
    ]
    wq = (40 * w).astype(np.int8)
    quantized = {"s": s, "z": z, "w": wq, "ws": np.full(4, 0.03, np.float32), "wz": np.zeros(4, np.int8)}
    yield "qdq", model(qdq, quantized)
    conv = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "b", "b", "b", "v"], ["n"]),
        node("HardSwish", ["n"], ["h"]),
        node("MaxPool", ["h"], ["p"], kernel_shape=[2, 2], ceil_mode=1),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "m", "g"], ["e"], transB=1),
        node("Softmax", ["e"], ["y"]),
    ]
    v = np.ones(4, np.float32)
    yield "conv", model(conv, {"w": w, "b": b, "v": v, "m": _weights(5, 16), "g": _weights(5)})


def _seeds_of_moves() -> Iterator[tuple[str, ModelProto]]:
    moves = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        node("Reshape", ["t", "to"], ["r"]),
        node("Slice", ["r", "one", "five", "axis", "two"], ["l"]),
        node("Concat", ["l", "l"], ["c"], axis=1),
        node("Split", ["c"], ["a", "b"], axis=2),
        node("Pad", ["a", "pads"], ["p"]),
        node("Gather", ["p", "at"], ["g"], axis=1),
        node("Unsqueeze", ["g", "axis"], ["u"]),
        node("Expand", ["u", "wide"], ["e"]),
        node("Tile", ["e", "again"], ["y"]),
    ]
    yield (
        "moves",
        model(
            moves,
            {
                **{"to": np.array([1, 64, 4]), "one": np.array([1]), "five": np.array([5])},
                **{"axis": np.array([1]), "two": np.array([2]), "pads": np.array([0, 1, 0, 0, 1, 0])},
                **{"at": np.array([0, 2]), "wide": np.array([1, 3, 2, 2]), "again": np.array([1, 2, 1, 1])},
            },
        ),
    )
    resized = [
        node("Resize", ["x", "", "scales"], ["r"], mode="linear"),
        node("ConvTranspose", ["r", "w"], ["t"], strides=[2, 2], output_padding=[1, 1]),
        node("AveragePool", ["t"], ["p"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        node("GlobalAveragePool", ["p"], ["g"]),
        node("Clip", ["g", "low"], ["y"]),
    ]
    scales = np.array([1, 1, 2, 1.5], np.float32)
    yield "resize", model(resized, {"scales": scales, "w": _weights(4, 4, 3, 3), "low": np.float32(-1)})


def _seeds_of_functions() -> Iterator[tuple[str, ModelProto]]:
    """Functions of elements, and what is computed from shapes."""
    maths = [
        node("Add", ["x", "b"], ["a"]),
        node("Mul", ["a", "x"], ["m"]),
        node("Sub", ["m", "x"], ["s"]),
        node("PRelu", ["s", "b"], ["p"]),
        node("ReduceMean", ["p"], ["r"], axes=[2, 3], keepdims=1),
        node("Div", ["p", "r"], ["d"]),
        node("Where", ["c", "d", "x"], ["y"]),
        node("Less", ["x", "a"], ["c"]),
    ]
    yield "maths", model(maths, {"b": _weights(4, 1, 1)})
    shapes = [
        node("Shape", ["x"], ["n"]),
        node("Gather", ["n", "zero"], ["k"]),
        node("Cast", ["k"], ["f"], to=1),
        node("ConstantOfShape", ["n"], ["o"]),
        node("Add", ["x", "o"], ["a"]),
        node("Mul", ["a", "f"], ["m"]),
        node("MatMul", ["m", "w"], ["t"]),
        node("LRN", ["t"], ["l"], size=3),
        node("ArgMax", ["l"], ["y"], axis=1),
    ]
    yield "shapes", model(shapes, {"zero": np.array(0), "w": _weights(8, 6)})


def nasty() -> Iterator[tuple[str, ModelProto]]:
    """One harmful model of each kind; sizes such that a careless reader takes minutes or gigabytes."""
    for name, make in NASTY.items():
        yield name, make()


def _calls(depth: int, fan: int, last: str = "Relu") -> ModelProto:
    made = model([node("F0", ["x"], ["y"], domain="mine")])
    for k in range(depth):
        inner, domain = (f"F{k + 1}", "mine") if k + 1 < depth else (last, "mine" if last[0] == "F" else "")
        chain = ["a", *(f"t{j}" for j in range(fan - 1)), "b"]
        body = [node(inner, [chain[j]], [chain[j + 1]], domain=domain) for j in range(fan)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        made.functions.append(helper.make_function("mine", f"F{k}", ["a"], ["b"], body, opsets))
    return made


def _calls_through_branch() -> ModelProto:
    branch = helper.make_graph(
        [node("F", ["a"], ["r"], domain="mine")], "b", [], [onnx.ValueInfoProto(name="r")]
    )
    body = [node("If", ["c"], ["b"], then_branch=branch, else_branch=branch)]
    made = model([node("F", ["x"], ["y"], domain="mine")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    made.functions.append(helper.make_function("mine", "F", ["a", "c"], ["b"], body, opsets))
    return made


def _nested(depth: int) -> ModelProto:
    inner = node("Relu", ["x"], ["r"])
    for _ in range(depth):
        branch = helper.make_graph([inner], "b", [], [onnx.ValueInfoProto(name="r")])
        inner = node("If", ["c"], ["r"], then_branch=branch, else_branch=helper.make_graph([], "e", [], []))
    return model([inner], {"c": np.array(True)}, outputs=("r",))


def _growing(count: int) -> list[NodeProto]:
    """A list into which one tensor more is put, and taken out again."""
    nodes = [node("SplitToSequence", ["x"], ["s0"], axis=0)]
    for k in range(count):
        nodes.append(node("SequenceInsert", [f"s{k}", "x"], [f"t{k}"]))
        nodes.append(node("SequenceErase", [f"t{k}"], [f"s{k + 1}"]))
    return [*nodes, node("SequenceAt", [f"s{count}", "k"], ["y"])]


def _mapped(depth: int) -> list[NodeProto]:
    """For each tensor of a list all others are gone through, as deep."""
    one = node("Identity", ["e0"], ["r0"])
    for k in range(depth):
        ports = [[onnx.ValueInfoProto(name=name)] for name in (f"e{k}", f"r{k}")]
        made = [] if k == 0 else [node("SequenceAt", [f"m{k}", "k"], [f"r{k}"])]
        body = helper.make_graph([one, *made], "b", *ports)
        one = node("SequenceMap", ["s"], [f"m{k + 1}"], body=body)
    split = node("SplitToSequence", ["x"], ["s"], axis=0)
    return [split, one, node("SequenceAt", [f"m{depth}", "k"], ["y"])]


def chain(op: str, count: int, **attributes: Any) -> ModelProto:
    names = ["x", *(f"v{k}" for k in range(count - 1)), "y"]
    return model([node(op, [names[k]], [names[k + 1]], **attributes) for k in range(count)])


def _doubling(op: str, count: int, **attributes: Any) -> ModelProto:
    names = ["x", *(f"v{k}" for k in range(count - 1)), "y"]
    return model([node(op, [names[k]] * 2, [names[k + 1]], **attributes) for k in range(count)])


def _filled(shape: list[int], last: NodeProto, kind: int = 1, **more: Any) -> ModelProto:
    value = helper.make_tensor("v", kind, [1], [1])
    return model([node("ConstantOfShape", ["s"], ["l"], value=value), last], {"s": np.array(shape), **more})


def many_inputs(op: str, count: int) -> ModelProto:
    made = model([node(op, [f"x{k}" for k in range(count)], ["y"])])
    del made.graph.input[:]
    made.graph.input.extend(helper.make_tensor_value_info(f"x{k}", 1, [1, 2]) for k in range(count))
    return made


def _folded_convolutions() -> ModelProto:
    nodes = [node("Conv", ["c", f"w{k}"], [f"o{k}"]) for k in range(40)]
    nodes.append(node("Sum", ["x", *(f"o{k}" for k in range(40))], ["y"]))
    fixed = {f"w{k}": np.full((16, 64, 5, 5), k, np.float32) for k in range(40)}
    return model(nodes, {"c": np.ones((1, 64, 40, 40), np.float32), **fixed})


def _ranked(rank: int) -> ModelProto:
    return model([node("Relu", ["x"], ["y"])], shape=[1] * rank)


def _unknown(count: int) -> ModelProto:
    names = ["x", *(f"v{k}" for k in range(count - 1)), "y"]
    nodes = [node(f"Unknown{k}" if k % 2 else "Conv", [names[k]] * 2, [names[k + 1]]) for k in range(count)]
    return model(nodes)


def _counting_loops(depth: int, steps: int, elements: int = 1) -> ModelProto:
    """Loops in loops over a count, of which each step makes so many elements; no input is needed."""
    scalars = [onnx.helper.make_tensor_value_info(n, t, []) for n, t in (("k", 7), ("c", 9), ("i", 1))]
    ends = [onnx.helper.make_tensor_value_info(n, t, []) for n, t in (("d", 9), ("j", 1))]
    many = [node("Expand", ["i", "size"], ["e"]), node("Sin", ["e"], ["s"])]
    inside = [*many, node("ReduceMax", ["s"], ["m"], keepdims=0), node("Add", ["m", "one"], ["j"])]
    for level in range(depth):
        body = onnx.helper.make_graph([*inside, node("Identity", ["c"], ["d"])], f"b{level}", scalars, ends)
        inside = [node("Loop", ["steps", "", "i"], ["j"], body=body)]
    last = [node("Loop", ["steps", "", "one"], ["l"], body=body), node("Add", ["x", "l"], ["y"])]
    constants = {"one": np.float32(1), "steps": np.array(steps), "size": np.array([elements])}
    return model(last, constants)


def _bad_names(count: int) -> ModelProto:
    long = "\x1b[31m" + "n" * 100_000
    return model(
        [node("Conv" + long, ["x"], [f"{long}{k}"], name=long) for k in range(count)], outputs=(long + "0",)
    )


NASTY: dict[str, Callable[[], ModelProto]] = {
    "functions_17": lambda: _calls(17, 2),
    "functions_wide": lambda: _calls(4, 60),
    "functions_deep": lambda: _calls(3000, 1),
    "functions_recursive": lambda: _calls(3, 2, last="F0"),
    "functions_through_branch": _calls_through_branch,
    "branches_nested": lambda: _nested(20),
    "branches_very_nested": lambda: _nested(30),
    "chain_relu": lambda: chain("Relu", 10_000),
    "chain_identity": lambda: chain("Identity", 30_000),
    "chain_transpose": lambda: chain("Transpose", 10_000, perm=[0, 2, 3, 1]),
    "chain_unknown": lambda: chain("Nobody", 20_000),
    "chain_too_long": lambda: chain("Relu", 70_000),
    "sums_doubling": lambda: _doubling("Add", 3000),
    "concat_doubling": lambda: _doubling("Concat", 40, axis=1),
    "concat_of_many": lambda: model([node("Concat", ["x"] * 20_000, ["y"], axis=1)]),
    "sum_of_many": lambda: many_inputs("Sum", 20_000),
    "sum_of_one": lambda: model([node("Sum", ["x"] * 4000, ["y"])]),
    "split_in_many": lambda: model([node("Split", ["x"], ["y", *(f"o{k}" for k in range(20_000))], axis=1)]),
    "long_scales": lambda: _filled([2**26], node("Resize", ["x", "", "l"], ["y"])),
    "long_shape": lambda: _filled([2**24], node("Reshape", ["x", "l"], ["y"]), 7),
    "long_axes": lambda: _filled([2**24], node("Unsqueeze", ["x", "l"], ["y"]), 7),
    "long_pads": lambda: _filled([2**24], node("Pad", ["x", "l"], ["y"]), 7),
    "long_repeats": lambda: _filled([2**24], node("Tile", ["x", "l"], ["y"]), 7),
    "long_sizes": lambda: _filled([2**24], node("Split", ["x", "l"], ["y"], axis=1), 7),
    "long_expand": lambda: _filled([2**24], node("Expand", ["x", "l"], ["y"]), 7),
    "long_fill": lambda: _filled([2**24], node("ConstantOfShape", ["l"], ["y"]), 7),
    "long_indices": lambda: _filled([2**20], node("Gather", ["x", "l"], ["y"], axis=1), 7),
    "long_scale": lambda: _filled([2**22], node("QuantizeLinear", ["x", "l"], ["y"])),
    "long_constant": lambda: _filled([2**26], node("Add", ["x", "l"], ["y"])),
    "too_long_constant": lambda: _filled([2**31], node("Add", ["x", "l"], ["y"])),
    "many_axes": lambda: _filled([1] * 60, node("Add", ["x", "l"], ["y"])),
    "long_strides": lambda: model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[1] * 10**6)]),
    "long_text": lambda: model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], auto_pad="\x1b" * 10**7)]),
    "long_names": lambda: _bad_names(30),
    "many_axes_of_input": lambda: _ranked(100_000),
    "many_unknown": lambda: _unknown(5000),
    "large_range": lambda: model(
        [node("Range", ["a", "b", "c"], ["l"]), node("Add", ["x", "l"], ["y"])],
        {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1e-30)},
    ),
    "large_window": lambda: model([node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9], pads=[2**20] * 4)]),
    "large_resize": lambda: model(
        [node("Resize", ["x", "", "l"], ["y"])], {"l": np.array([1, 1, 9e4, 9e4], np.float32)}
    ),
    "large_pad": lambda: model([node("Pad", ["x", "l"], ["y"])], {"l": np.full(8, 2**40)}),
    "large_tile": lambda: model([node("Tile", ["x", "l"], ["y"])], {"l": np.full(4, 2**40)}),
    "folded_convolutions": _folded_convolutions,
    "cycle": lambda: model([node("Add", ["x", "b"], ["y"]), node("Relu", ["y"], ["b"])]),
    "cycle_of_one": lambda: model([node("Add", ["x", "y"], ["y"])]),
    "output_is_input": lambda: model([], outputs=("x",)),
    "output_is_constant": lambda: model([], {"k": np.float32(1)}, outputs=("k",)),
    "list_of_many": lambda: _filled([2**26], node("SplitToSequence", ["l"], ["y"])),
    "lists_of_many": lambda: model(_growing(10_000), {"k": np.array(0)}, shape=[4095]),
    "lists_in_lists": lambda: model(_mapped(2), {"k": np.array(0)}, shape=[4096]),
    "loop_in_loop": lambda: _counting_loops(2, 10_000),
    "loop_of_large_steps": lambda: _counting_loops(1, 10_000, 2**20),
    "loop": lambda: model([node("Loop", ["", "", "x"], ["y"], body=_nested(3).graph)]),
}
