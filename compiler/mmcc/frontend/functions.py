# SPDX-License-Identifier: Apache-2.0
"""A model's own functions: their bodies stand where they were called, if that does not grow too much."""

from __future__ import annotations

from onnx import ModelProto, inliner

from mmcc.errors import printable
from mmcc.frontend.model_file import MAX_NODES
from mmcc.frontend.problems import bad_model
from mmcc.frontend.reads import nodes_below

GROWTH = 4  # inlining functions may make this many times the nodes in the file, and
GROWN_NODES, GROWN_BYTES = 20_000, 64 * 2**20  # these many more

Calls = dict[tuple[str, str], list[tuple[str, str]]]  # for each function, what its nodes call


def inlined(model: ModelProto) -> ModelProto:
    """The model without functions of its own: their bodies stand where they were called."""
    calls: Calls = {
        (function.domain, function.name): [(node.domain, node.op_type) for node in nodes_below(function.node)]
        for function in model.functions
    }
    state: dict[tuple[str, str], int] = {}  # 1: being visited, 2: done

    def visit(name: tuple[str, str], depth: int) -> None:
        if name not in calls or state.get(name) == 2:
            return
        if state.get(name) == 1 or depth > 50:
            raise bad_model("MM102", f'function "{printable(name[1])}" calls itself, or too deep')
        state[name] = 1
        for inner in calls[name]:
            visit(inner, depth + 1)
        state[name] = 2

    for name in calls:
        visit(name, 0)
    _check_growth(model, calls)
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises whatever C++ throws
        raise bad_model(
            "MM102", f"the model's functions cannot be inlined: {printable(str(error))}"
        ) from None


def _check_growth(model: ModelProto, calls: Calls) -> None:
    """Functions that call functions can grow exponentially: count before they are inlined."""
    own = {(function.domain, function.name): function.ByteSize() for function in model.functions}
    sizes: dict[tuple[str, str], tuple[int, int]] = {}

    def grown(name: tuple[str, str]) -> tuple[int, int]:
        if name not in calls:
            return 1, 0
        if name not in sizes:
            inner = [grown(called) for called in calls[name]]
            sizes[name] = sum(n for n, _ in inner), own[name] + sum(size for _, size in inner)
        return sizes[name]

    total = [grown((node.domain, node.op_type)) for node in nodes_below(model.graph.node)]
    nodes, size = sum(n for n, _ in total), sum(size for _, size in total)
    written = len(model.graph.node) + sum(len(function.node) for function in model.functions)
    most = min(MAX_NODES, GROWTH * written + GROWN_NODES)
    if nodes > most:
        what = f"the model has {nodes} nodes once its functions are inlined; up to {most} are allowed"
        raise bad_model("MM105", what)
    if size > GROWTH * model.ByteSize() + GROWN_BYTES:
        raise bad_model("MM105", f"the model has {size} bytes once its functions are inlined")
