# SPDX-License-Identifier: Apache-2.0
"""Loops as exporters write them: an ordinary `for` or `while`, slices by the step, loops in loops."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from frontend_models import model_of
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

Array = np.ndarray
F, I32, I64, B = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
node, info = helper.make_node, helper.make_tensor_value_info
SIZE = 4
LAYERS = 10  # nodes of a body besides those that matter


@dataclass(frozen=True)
class ExportedLoop:
    """A model, and inputs for it."""

    model: ModelProto
    inputs: dict[str, Array]


def some(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype(np.float32)


def layers(begin: str, name: str = "f") -> list[NodeProto]:
    """Nodes in a chain, of which the last makes `name`10."""
    kinds = ("Neg", "Tanh")
    return [node(kinds[k % 2], [f"{name}{k}" if k else begin], [f"{name}{k + 1}"]) for k in range(LAYERS)]


def body_of(nodes: list[NodeProto], given: dict[str, int], made: dict[str, int]) -> GraphProto:
    """A body; numbers of element types by name, floats of any shape and other scalars."""

    def infos(ports: dict[str, int]) -> list:
        return [info(name, kind, None if kind == F else []) for name, kind in ports.items()]

    return helper.make_graph(nodes, "body", infos(given), infos(made))


def counted(
    steps: int = 40, first: int = 0, by: int = 1, bound: str = "Less", limit: int | None = 2**62
) -> ExportedLoop:
    """While i < steps: h = f(h) + x[i]; i += by. As tf2onnx writes it, all rows handed out."""
    nodes = [
        *layers("h"),
        node("Gather", ["x", "i"], ["xt"], axis=0),
        node("Add", ["f10", "xt"], ["h_out"]),
        node("Add", ["i", "by"], ["i_out"]),
        node(bound, ["i_out", "N"], ["going"]),
    ]
    given, made = {"k": I64, "c": B, "i": I32, "h": F}, {"going": B, "i_out": I32, "h_out": F, "f10": F}
    constants = {
        "i0": np.int32(first),
        "by": np.int32(by),
        "N": np.int32(steps),
        "limit": np.int64(limit or 0),
    }
    starts = ["" if limit is None else "limit", "begins", "i0", "h0"]
    whole = [
        node("Less", ["i0", "N"], ["begins"]),
        node("Loop", starts, ["i_last", "h_last", "all"], body=body_of(nodes, given, made)),
        node("Cast", ["i_last"], ["i_end"], to=F),
    ]
    inputs = {"x": some(steps, SIZE), "h0": some(SIZE)}
    return ExportedLoop(model_of(whole, inputs, ["h_last", "all", "i_end"], constants), inputs)


def keras_layer(steps: int = 40) -> ExportedLoop:
    """A cell of Keras: two counts with a bound each."""
    nodes = [
        node("Gather", ["x", "t"], ["xt"], axis=0),
        node("MatMul", ["h", "W"], ["p"]),
        node("Add", ["p", "xt"], ["s"]),
        *layers("s"),
        *(node("Add", [name, "one"], [f"{name}_out"]) for name in ("n", "t")),
        *(node("Less", [f"{name}_out", "N"], [f"{name}_in"]) for name in ("n", "t")),
        node("And", ["n_in", "t_in"], ["going"]),
    ]
    given = {"k": I64, "c": B, "n": I32, "t": I32, "h": F}
    made = {"going": B, "n_out": I32, "t_out": I32, "f10": F, "s": F}
    constants = {"zero": np.int32(0), "one": np.int32(1), "N": np.int32(steps), "yes": np.array(True)}
    loop = node(
        "Loop", ["", "yes", "zero", "zero", "h0"], ["n1", "t1", "h", "all"], body=body_of(nodes, given, made)
    )
    inputs = {"x": some(steps, 1, SIZE), "h0": some(1, SIZE)}
    return ExportedLoop(model_of([loop], inputs, ["h", "all"], constants | {"W": some(SIZE, SIZE)}), inputs)


def sliced(steps: int = 40, rows: int = 1, by: int = 1, axis: int = 0, back: bool = False) -> ExportedLoop:
    """h += f(x[k * by : k * by + rows]), of a later axis, too, and from the last on."""
    nodes = [
        node("Mul", ["k", "by"], ["offset"]),
        node("Sub", ["last", "offset"], ["at"]) if back else node("Identity", ["offset"], ["at"]),
        node("Unsqueeze", ["at", "first_axis"], ["starts"]),
        node("Add", ["starts", "rows"], ["ends"]),
        node("Slice", ["x", "starts", "ends", "axis"], ["xt"]),
        *layers("xt"),
        node("ReduceSum", ["f10", "axis"], ["r"], keepdims=0),
        node("Add", ["h", "r"], ["h_out"]),
        node("Identity", ["c"], ["going"]),
    ]
    body = body_of(nodes, {"k": I64, "c": B, "h": F}, {"going": B, "h_out": F, "xt": F})
    constants = {"by": np.int64(by), "rows": np.array([rows]), "axis": np.array([axis])}
    constants |= {"first_axis": np.zeros(1, np.int64), "trip": np.int64(steps), "yes": np.array(True)}
    constants["last"] = np.int64((steps - 1) * by)
    extent = (steps - 1) * by + rows
    inputs = {"x": some(SIZE, extent) if axis else some(extent, SIZE), "h0": some(SIZE)}
    loop = node("Loop", ["trip", "yes", "h0"], ["h", "all"], body=body)
    return ExportedLoop(model_of([loop], inputs, ["h", "all"], constants), inputs)


def nested(outer: int = 8, inner: int = 9) -> ExportedLoop:
    """For each row, for each element of it: g = f(g) + element."""
    within = [
        node("Gather", ["row", "k2"], ["element"], axis=0),
        *layers("g"),
        node("Add", ["f10", "element"], ["g_out"]),
        node("Identity", ["c2"], ["going2"]),
    ]
    loop = body_of(within, {"k2": I64, "c2": B, "g": F}, {"going2": B, "g_out": F, "f10": F})
    nodes = [
        node("Gather", ["x", "k"], ["row"], axis=0),
        node("Loop", ["trip2", "yes", "h"], ["h_out", "each"], body=loop),
        node("Identity", ["c"], ["going"]),
    ]
    body = body_of(nodes, {"k": I64, "c": B, "h": F}, {"going": B, "h_out": F, "each": F})
    constants = {"trip": np.int64(outer), "trip2": np.int64(inner), "yes": np.array(True)}
    inputs = {"x": some(outer, inner, SIZE), "h0": some(SIZE)}
    whole = [node("Loop", ["trip", "yes", "h0"], ["h", "all"], body=body)]
    return ExportedLoop(model_of(whole, inputs, ["h", "all"], constants), inputs)


def held(steps: int = 40) -> ExportedLoop:
    """A condition that goes from step to step and stays true, and a table made of the step's number."""
    nodes = [
        node("Cast", ["k"], ["kf"], to=F),
        node("Sin", ["kf"], ["s"]),
        *layers("h"),
        node("Add", ["f10", "s"], ["h_out"]),
        node("Identity", ["on"], ["on_out"]),
        node("And", ["c", "on"], ["going"]),
    ]
    body = body_of(nodes, {"k": I64, "c": B, "on": B, "h": F}, {"going": B, "on_out": B, "h_out": F})
    inputs, constants = {"h0": some(SIZE)}, {"trip": np.int64(steps), "yes": np.array(True)}
    whole = [node("Loop", ["trip", "yes", "yes", "h0"], ["on", "h"], body=body)]
    return ExportedLoop(model_of(whole, inputs, ["h"], constants), inputs)


def counted_down(steps: int = 40) -> ExportedLoop:
    """While n > 0: n -= 1; h = f(h) + x[n]."""
    nodes = [
        node("Sub", ["n", "one"], ["n_out"]),
        node("Gather", ["x", "n_out"], ["xt"], axis=0),
        *layers("h"),
        node("Add", ["f10", "xt"], ["h_out"]),
        node("Greater", ["n_out", "zero"], ["going"]),
    ]
    body = body_of(nodes, {"k": I64, "c": B, "n": I64, "h": F}, {"going": B, "n_out": I64, "h_out": F})
    constants = {"n0": np.int64(steps), "one": np.int64(1), "zero": np.int64(0), "yes": np.array(True)}
    inputs = {"x": some(steps, SIZE), "h0": some(SIZE)}
    whole = [node("Loop", ["", "yes", "n0", "h0"], ["n", "h"], body=body)]
    return ExportedLoop(model_of(whole, inputs, ["h"], constants), inputs)


# by name: the loop, its steps, and (first row, rows from step to step, rows of a step) of each slice
LOOPS = {
    "counted": (counted, 40, [(0, 1, 0)]),
    "no limit": (partial(counted, limit=None), 40, [(0, 1, 0)]),
    "a limit that ends it": (partial(counted, limit=30), 30, [(0, 1, 0)]),
    "by twos": (partial(counted, by=2), 20, [(0, 2, 0)]),
    "from the third on": (partial(counted, first=3), 37, [(3, 1, 0)]),
    "keras": (keras_layer, 40, [(0, 1, 0)]),
    "a row": (sliced, 40, [(0, 1, 1)]),
    "chunks": (partial(sliced, rows=3, by=3), 40, [(0, 3, 3)]),
    "windows": (partial(sliced, rows=3), 40, [(0, 1, 3)]),
    "columns": (partial(sliced, rows=2, by=2, axis=1), 40, [(0, 2, 2)]),
    "chunks backward": (partial(sliced, rows=2, by=2, back=True), 40, [(78, -2, 2)]),
    "nested": (nested, 8, [(0, 1, 0)]),
    "held": (held, 40, [(0, 1, 0)]),
    "counted down": (counted_down, 40, [(39, -1, 0)]),
}
