# SPDX-License-Identifier: Apache-2.0
"""Models of one ONNX Loop, and the loops of a graph."""

from __future__ import annotations

import numpy as np
from frontend_models import model_of
from mmcc.ops.repeat import Repeat
from onnx import TensorProto, helper

node = helper.make_node


def loops_of(graph) -> list[Repeat]:
    return [each.op for each in graph.nodes if isinstance(each.op, Repeat)]


def counting(steps: int, *, grows: bool = False, count: str = "one", stops: bool = False):
    """h' = tanh(h W + x[count]), where `count` goes up by a constant; many nodes a step."""
    layers = [node("Tanh", [f"g{k}" if k else "s"], [f"g{k + 1}"]) for k in range(8)]
    inside = [
        node("Gather", ["x", "count"], ["xt"], axis=0),
        node("MatMul", ["h", "W"], ["p"]),
        node("Add", ["p", "xt"], ["s"]),
        *layers,
        node("Concat", ["h", "xt"], ["h_out"], axis=0) if grows else node("Neg", ["g8"], ["h_out"]),
        node("Add", ["count", count], ["counted"]),
        node("Less", ["count", "soon"], ["going"]) if stops else node("Identity", ["on"], ["going"]),
    ]
    scalars = [("step", TensorProto.INT64), ("on", TensorProto.BOOL), ("count", TensorProto.INT64)]
    given = [helper.make_tensor_value_info(name, kind, []) for name, kind in scalars]
    given.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, None))
    made = [("going", TensorProto.BOOL, []), ("counted", TensorProto.INT64, [])]
    made += [("h_out", TensorProto.FLOAT, None), ("xt" if grows else "g8", TensorProto.FLOAT, None)]
    outputs = [helper.make_tensor_value_info(*each) for each in made]
    body = helper.make_graph(inside, "body", given, outputs)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.uniform(-1, 1, (steps, 1, 3)).astype(np.float32), "h0": np.ones((1, 3), np.float32)}
    constants = {"W": rng.uniform(-1, 1, (3, 3)).astype(np.float32), "one": np.int64(1), "two": np.int64(2)}
    constants |= {"zero": np.int64(0), "trip": np.int64(steps), "yes": np.array(True), "soon": np.int64(4)}
    whole = [node("Loop", ["trip", "yes", "zero", "h0"], ["ended", "hn", "all"], body=body)]
    whole.append(node("Cast", ["ended"], ["end"], to=TensorProto.FLOAT))
    names = ["end", "hn"] if grows or stops else ["end", "hn", "all"]
    return model_of(whole, inputs, names, constants), inputs


def one_loop(inside, carried, rows, outputs, inputs, constants, steps=40):
    """A model of a Loop with the nodes `inside` and many more; `carried` are (start, begin, end, type)."""
    scalars = [("step", TensorProto.INT64), ("on", TensorProto.BOOL)]
    given = [helper.make_tensor_value_info(name, kind, []) for name, kind in scalars]
    given += [helper.make_tensor_value_info(begin, kind, None) for _, begin, _, kind in carried]
    made = [("going", TensorProto.BOOL), *((end, kind) for _, _, end, kind in carried)]
    made += [(name, TensorProto.FLOAT) for name in rows]
    filler = [node("Tanh", [f"f{k}" if k else "h"], [f"f{k + 1}"]) for k in range(8)]
    body = helper.make_graph(
        [node("Identity", ["on"], ["going"]), *filler, *inside],
        "body",
        given,
        [helper.make_tensor_value_info(name, kind, None) for name, kind in made],
    )
    names = [*(f"last_{begin}" for _, begin, _, _ in carried), *(f"all_{name}" for name in rows)]
    loop = node("Loop", ["trip", "", *(start for start, *_ in carried)], names, body=body)
    return model_of([loop], inputs, outputs, constants | {"trip": np.int64(steps)})


def chaotic():
    """x' = 3.9 x (1 - x): after 60 steps a last bit is a third of the range."""
    inside = [
        node("Sub", ["one", "x"], ["left"]),
        node("Mul", ["x", "left"], ["both"]),
        node("Mul", ["both", "r"], ["x2"]),
    ]
    constants = {"one": np.float32(1), "r": np.float32(3.9), "h0": np.zeros((2, 3), np.float32)}
    inputs = {"x0": np.full((2, 3), 0.3, np.float32)}
    carried = [("h0", "h", "f8", TensorProto.FLOAT), ("x0", "x", "x2", TensorProto.FLOAT)]
    return one_loop(inside, carried, [], ["last_x"], inputs, constants, steps=60), inputs
