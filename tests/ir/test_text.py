# SPDX-License-Identifier: Apache-2.0
"""What a graph prints is read back as the same graph, and a text that is none is refused with its place."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from frontend_models import ROOT
from hypothesis import given
from hypothesis import strategies as st
from ir_text import differences, read
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.driver.promised import request_from
from mmcc.errors import Where
from mmcc.frontend import import_model
from mmcc.ir import parse
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node, Stored
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.module import Entry, Module, check_module
from mmcc.ir.parse import parse_graph, parse_module
from mmcc.ir.ports import Port
from mmcc.ir.tokens import TextError
from mmcc.ir.types import Quant, Tensor
from mmcc.ir.verify import check_graph
from mmcc.kernels.contract import contracts
from mmcc.ops import OPS
from mmcc.ops.activation import Clamp
from mmcc.ops.conv import Conv
from mmcc.ops.elementwise import Unary
from mmcc.ops.window import Window
from mmcc.passes import PASSES, optimize
from mmcc.planner.api import best_plan
from mmcc.target import load_target
from shared_models import kept_models, model_path, needs_shared
from stateful import BY_HAND, random_graph

quick = pytest.mark.quick
DIGITS = sorted((ROOT / "examples/digits").glob("*.onnx"))
MODELS = kept_models()


def survives(graph: Graph) -> None:
    """Print, read, print: the same text and the same graph; without its data, the same but for that."""
    text = str(graph)
    back = parse_graph(text, OPS, data_of(graph))
    assert differences(back, graph) == []
    assert str(back) == text
    made_up = parse_graph(text, OPS)
    assert set(differences(made_up, graph)) <= {"constants", "states"}
    assert check_graph(made_up) == []


def data_of(graph: Graph) -> dict[str, np.ndarray]:
    return graph.constants | {state.begin: state.initial for state in graph.states}


def after_each_pass(graph: Graph) -> list[Graph]:
    return [graph, *(graph := step(graph) for step in PASSES)]


# ---- what is printed is read


@quick
@pytest.mark.parametrize("path", DIGITS, ids=lambda path: path.stem)
def test_a_network_survives_after_every_pass(path) -> None:
    for graph in after_each_pass(import_model(path)):
        survives(graph)


@needs_shared
@pytest.mark.parametrize("name", MODELS)
def test_networks_survive(name: str) -> None:
    imported = import_model(model_path(name))
    survives(imported)
    survives(optimize(imported))


@quick
@pytest.mark.parametrize("learned", [None, frozenset(), "all"], ids=["inference", "nothing", "all"])
def test_what_training_may_change_survives(learned) -> None:
    """Nothing that it may change is not the same as no training: passes then keep zeros and ones apart."""
    graph = import_model(DIGITS[0])
    survives(replace(graph, learned=frozenset(graph.constants) if learned == "all" else learned))


@quick
@pytest.mark.parametrize("path", DIGITS, ids=lambda path: path.stem)
def test_the_graph_that_is_read_computes_the_same(path) -> None:
    graph = optimize(import_model(path))
    back = parse_graph(str(graph), OPS, graph.constants)
    (port,) = graph.inputs
    tensor = graph.tensors[port.tensor]
    x = np.random.default_rng(5).integers(-128 if tensor.dtype.is_integer else 0, 128, tensor.shape)
    one, other = (evaluate_tensors(g, {port.tensor: x.astype(tensor.dtype.numpy)}) for g in (graph, back))
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes()


@quick
@pytest.mark.parametrize("io", ["arena", "rows"])
def test_what_dump_writes_is_read(tmp_path, io: str) -> None:
    graph = load_graph(DIGITS[0], CompileOptions(dump=tmp_path, io=io))
    back = parse_graph((tmp_path / "2-optimized.txt").read_text(), OPS, graph.constants)
    assert differences(back, graph) == []
    assert check_graph(parse_graph((tmp_path / "1-imported.txt").read_text(), OPS)) == []


@quick
@pytest.mark.parametrize("path", DIGITS, ids=lambda path: path.stem)
def test_a_text_without_weights_gives_the_same_plan(path) -> None:
    """Both where passes work on made-up data, and where kernels pack it."""
    imported = import_model(path)
    optimized = optimize(imported)
    wanted = planned(optimized)
    assert planned(optimize(parse_graph(str(imported), OPS))) == wanted
    assert planned(parse_graph(str(optimized), OPS)) == wanted


def planned(graph: Graph) -> str:
    request = request_from(contracts(graph, load_target("cortex-m4")))
    return str(replace(best_plan(graph, request), seconds=0))


@quick
@pytest.mark.parametrize("make", BY_HAND.values(), ids=BY_HAND)
def test_states_survive(make) -> None:
    survives(make())


@quick
@pytest.mark.parametrize("seed", range(10))
def test_modules_survive(seed: int) -> None:
    """Two entries with states of their own; made-up data of a constant is the same in both."""
    graph = random_graph(seed)
    module = Module("two words", (Entry("run", graph), Entry("step", replace(graph, name="again"))))
    back = parse_module(str(module), OPS, data_of(graph))
    assert str(back) == str(module)
    assert [entry.name for entry in back.entries] == ["run", "step"]
    for one, other in zip(back.entries, module.entries, strict=True):
        assert differences(one.graph, other.graph) == []
    assert check_module(parse_module(str(module), OPS)) == []


@quick
@given(st.text(), st.text(), st.floats(), st.integers(-(2**40), 2**40))
def test_any_text_from_a_model_survives(name: str, other: str, scale: float, zero: int) -> None:
    """Names and messages come from hostile files."""
    x, y = (
        Tensor(f"x{name}", (2,), ElementType.I8, Quant(scale, zero)),
        Tensor(f"y{other}", (2,), ElementType.I8),
    )
    where = Where(name, zero, other, name)
    ports = (Port(x.name, other, (1, 2), ElementType.F32, (None, 0), Quant(scale, 0), True),)
    node = Node(Unary("abs", (scale,)), (x.name,), (y.name,), (where, where))
    results = (Port(y.name, y.name, (2,), ElementType.I8, (0,)),)
    stored = {where: Stored(zero, frozenset({name}))}
    warnings, origins, reasons = (name, other), {y.name: ports[0]}, {other: name}
    tensors = {x.name: x, y.name: y}
    graph = Graph(other, tensors, {}, (node,), ports, results, warnings, origins, reasons, stored)
    text = str(graph)
    assert text.isascii()
    assert str(parse_graph(text, OPS)) == text


# ---- by hand


@quick
def test_by_hand_less_is_enough() -> None:
    graph = read("""
        # a layer, and its largest element a pixel
        input %x: f32[4,4,2]
        constant %w: f32[3,3,3,2] = random 1
        constant %b: f32[3] = [0, 0.5, -1]
        %y = Conv(Window([3, 3], pads=[1, 1, 1, 1]), activation=Clamp(0))(%x, %w, %b)
        %best, %index: i64[4,4,1] = TopK(1)(%y)
        output %best
        output %index
    """)
    assert graph.nodes[0].op == Conv(Window((3, 3), pads=(1, 1, 1, 1)), activation=Clamp(0))
    assert graph.tensors["y"].shape == (4, 4, 3)
    assert graph.tensors["index"] == Tensor("index", (4, 4, 1), ElementType.I64)
    assert graph.inputs == (Port("x", "x", (4, 4, 2), ElementType.F32, (0, 1, 2)),)
    survives(graph)


@quick
@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        (parse.__doc__, 'graph "', "}"),
        ((ROOT / "CONTRIBUTING.md").read_text(), "       input %x", "output %y\n"),
    ],
    ids=["docstring", "CONTRIBUTING"],
)
def test_examples_are_read(text: str, start: str, end: str) -> None:
    at = text.index(start)
    example = text[at : text.index(end, at) + len(end)]
    survives(parse_graph(example, OPS) if example.startswith("graph") else read(example))


WRONG = [
    ("", 1, 1, '"graph" is wanted, not the end'),
    ("graph g {}", 1, 7, "the graph's name, a string is wanted, not g"),
    ('graph "g" {} x', 1, 14, "the end is wanted, not x"),
    ('graph "g" {\n\n  wrong %x\n}', 3, 3, "a tensor, input, constant,"),
    ('graph "g" {\n  input %x: f32[2]\n', 3, 1, "is wanted, not the end"),
]
INSIDE = [  # a line of a graph with `input %x: f32[9]`, the column of the error, and what it says
    ("input %y: f31[2]", 11, "is wanted, not f31"),
    ("input %y: f32[2 3]", 17, '"," is wanted, not 3'),
    ("input %y: f32[2.5]", 15, "a whole number is wanted, not 2.5"),
    ("input %y: f32[2,-1]", 14, "is no shape"),
    ("input %y: f32[65536,65536]", 14, "is no shape of at most 2147483647 elements"),
    ("input %x: f32[2]", 7, "%x is defined twice"),
    ("output %y", 8, "%y is not defined above"),
    ("constant %c: f32[2] = [1]", 23, "1 elements for %c: f32[2]"),
    ("constant %c: i8[2] = [1, 128]", 22, "128 is no i8"),
    ("constant %c: i8[1] = [0.5]", 22, "0.5 is no i8"),
    ("constant %c: i8[99] = all -129", 23, "-129 is no i8"),
    ('constant %c: i8[1] = digest "xyz"', 29, "xyz is no hexadecimal number"),
    ("%y = Nothing()(%x)", 6, "is wanted, not Nothing"),
    ("%y = Transpose()(%x)", 6, "Transpose lacks perm"),
    ("%y = Transpose(perm=0)(%x)", 21, '"[" is wanted, not 0'),
    ("%y = Transpose([0], 1)(%x)", 21, "1 is too much"),
    ("%y = Transpose([0], perm=[0])(%x)", 21, "perm is too much"),
    ("%y = Where()(%x)", 6, "where does not take these operands"),
    ('%y, %z = Unary("abs")(%x)', 10, "abs has 1 results, not 2"),
    ("%y = MaxPool(Window([1]))(%x)", 21, "2 values are wanted, not 1"),
    ("%y = MaxPool(Window([1, 2, 3]))(%x)", 28, "2 values are wanted, not more"),
    ("%y = Softmax(log=1)(%x)", 18, "one of False, True is wanted, not 1"),
    ('%y = Pad([1], [1], mode="none")(%x)', 25, "one of constant, reflect,"),
    ('warning "\\q"', 9, "is no string of JSON"),
    ('warning "no end', 9, "begins nothing"),
    ("?", 1, "'?' begins nothing"),
]
WRONG += [(f'graph "g" {{ input %x: f32[9]\n{line}\n}}', 2, column, text) for line, column, text in INSIDE]


@quick
@pytest.mark.parametrize(("text", "line", "column", "message"), WRONG, ids=range(len(WRONG)))
def test_errors_name_line_and_column(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_graph(text, OPS)
    assert str(caught.value).startswith(f"line {line}, column {column}: ")
    assert message in str(caught.value)


@quick
def test_a_damaged_text_is_refused_or_another_graph() -> None:
    """Whatever is cut out, doubled or put in: TextError, or a graph; never another error."""
    text = str(optimize(import_model(DIGITS[0])))
    rng, refused = random.Random(4), 0
    signs = [*'[](){}:=,%"#-.0123456789abf\n ', "Where", "None", "inf", "f32", "Clamp(", "i4"]
    for _ in range(150):
        start = rng.randrange(len(text))
        end = min(len(text), start + rng.choice((0, 1, 3, 40)))
        damaged = text[:start] + rng.choice([*signs, text[start:end] * 2]) + text[end:]
        try:
            parse_graph(damaged, OPS)
        except TextError:
            refused += 1
    assert refused > 75
