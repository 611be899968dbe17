# SPDX-License-Identifier: Apache-2.0
"""Reads the text of a Graph or a Module, as their `__str__` writes it.

By hand, less is enough:

    graph "relu" {
      input %x: f32[4,4,2]
      constant %w: f32[3,3,3,2] = random 1
      constant %b: f32[3] = [0, 0.5, -1]
      %y = Conv(window=Window([3, 3], pads=[1, 1, 1, 1]))(%x, %w, %b)
      output %y
    }

Types of results may be left out: the op tells them. A port that ONNX sees as C does needs no `Port(...)`. A
comment goes from # to the end of its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import Where
from mmcc.ir.data_text import digest, elements, made_up
from mmcc.ir.graph import Graph, Node, Removed, Stored
from mmcc.ir.handoff import Handoff
from mmcc.ir.module import Entry, Module
from mmcc.ir.op import Op, ShapeError
from mmcc.ir.parse_values import parse_call, parse_element_type, parse_number
from mmcc.ir.ports import Port
from mmcc.ir.state import State
from mmcc.ir.text import plain_port
from mmcc.ir.tokens import Cursor, TextError, Token
from mmcc.ir.types import Quant, Shape, Tensor

Data = Mapping[str, NDArray[Any]]
NO_DATA: Data = {}
MAX_ELEMENTS = 2**31 - 1
# what ops raise whose fields make no sense, besides ShapeError: they trust the importer that has checked them
NONSENSE = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


def parse_graph(text: str, ops: Mapping[str, type[Any]], data: Data = NO_DATA) -> Graph:
    """The graph that a text describes. `ops` has the op classes by name: `mmcc.ops.OPS`.

    Constants and initial states of which the text has a digest only are taken from `data`, by name, and
    otherwise made up (see `mmcc.ir.data_text`). TextError with line and column if the text is no graph.
    Whether the graph makes sense is another question: `mmcc.ir.verify.check_graph`.
    """
    at = Cursor(text)
    graph = _GraphReader(at, ops, data).read()
    at.of("end", "the end")
    return graph


def parse_module(text: str, ops: Mapping[str, type[Any]], data: Data = NO_DATA) -> Module:
    """The module that a text describes; as `parse_graph`."""
    at = Cursor(text)
    at.expect("module")
    name = at.of("string", "a string").text
    entries: list[Entry] = []
    concurrent: list[tuple[str, ...]] = []
    while at.skip("concurrent"):
        at.expect("[")
        concurrent.append(tuple(at.of("word", "the name of an entry").text for _ in at.separated("]")))
    while at.skip("entry"):
        entry = at.of("word", "the name of an entry").text
        entries.append(Entry(entry, _GraphReader(at, ops, data).read()))
    at.of("end", '"entry" or the end')
    return Module(name, tuple(entries), tuple(concurrent))


class _GraphReader:
    """One graph: a method a statement."""

    def __init__(self, at: Cursor, ops: Mapping[str, type[Any]], data: Data) -> None:
        self._at, self._ops, self._data = at, ops, data
        at.graphs = lambda within: _GraphReader(within, ops, data).read()
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[str, NDArray[Any]] = {}
        self._nodes: list[Node] = []
        self._inputs: list[Port] = []
        self._outputs: list[Port] = []
        self._states: list[State] = []
        self._origins: dict[str, Port] = {}
        self._reasons: dict[str, str] = {}
        self._stored: dict[Where, Stored] = {}
        self._removed: list[Removed] = []
        self._learned: frozenset[str] | None = None
        self._warnings: list[str] = []

    def read(self) -> Graph:
        at = self._at
        at.expect("graph")
        name = at.of("string", "the graph's name, a string").text
        at.expect("{")
        while not at.skip("}"):
            self._statement()
        return Graph(
            name,
            self._tensors,
            self._constants,
            tuple(self._nodes),
            tuple(self._inputs),
            tuple(self._outputs),
            tuple(self._warnings),
            self._origins,
            self._reasons,
            self._stored,
            tuple(self._states),
            tuple(self._removed),
            self._learned,
        )

    def _statement(self) -> None:
        at = self._at
        if at.here.kind == "tensor":
            self._node()
            return
        statements = {
            "input": self._input,
            "constant": self._constant,
            "state": self._state,
            "output": lambda: self._outputs.append(self._port(self._known())),
            "origin": self._origin,
            "reason": self._reason,
            "stored": self._stored_constants,
            "removed": lambda: self._removed.append(parse_call(at, {"Removed": Removed})),
            "learned": self._learn,
            "warning": lambda: self._warnings.append(at.of("string", "a string").text),
        }
        token = at.take()
        if token.kind != "word" or token.text not in statements:
            raise token.error(f"a tensor, {', '.join(statements)} or }} is wanted, not {token}")
        statements[token.text]()

    # ---- tensors

    def _defined(self) -> Tensor:
        """`%name: type[shape] Quant(...)`, which becomes one of the tensors."""
        token = self._at.of("tensor", "a tensor")
        self._at.expect(":")
        return self._define(token, *self._type(), self._quant())

    def _define(self, token: Token, dtype: Any, shape: Shape, quant: Quant | None) -> Tensor:
        if token.text in self._tensors:
            raise token.error(f"{token} is defined twice")
        made = self._tensors[token.text] = Tensor(token.text, shape, dtype, quant)
        return made

    def _type(self) -> tuple[Any, Shape]:
        dtype = parse_element_type(self._at)
        start = self._at.expect("[")
        shape = tuple(int(parse_number(self._at, int)) for _ in self._at.separated("]"))
        if min(shape, default=0) < 0 or prod(shape) > MAX_ELEMENTS:
            raise start.error(f"{list(shape)} is no shape of at most {MAX_ELEMENTS} elements")
        return dtype, shape

    def _quant(self) -> Quant | None:
        return parse_call(self._at, {"Quant": Quant}) if self._at.has("Quant") else None

    def _known(self) -> Tensor:
        token = self._at.of("tensor", "a tensor")
        if token.text not in self._tensors:
            raise token.error(f"{token} is not defined above")
        return self._tensors[token.text]

    def _port(self, tensor: Tensor) -> Port:
        plain = plain_port(tensor)
        if not self._at.has("Port"):
            return plain
        return parse_call(self._at, {"Port": Port}, {f.name: getattr(plain, f.name) for f in fields(Port)})

    def _numbers(self, tensor: Tensor) -> NDArray[Any]:
        """Read `= [elements]`, `= all ELEMENT`, `= digest "..."` or `= random SEED`."""
        at = self._at
        at.expect("=")
        start = at.here
        if at.skip("random"):
            return made_up(tensor, abs(int(parse_number(at, int))))
        if at.skip("digest"):
            return self._by_digest(tensor, at.of("string", "a digest"))
        try:
            if at.skip("all"):
                one = elements(replace(tensor, shape=()), [parse_number(at)])
                return np.full(tensor.shape, one)
            at.expect("[")
            return elements(tensor, [parse_number(at) for _ in at.separated("]")])
        except TextError:
            raise
        except ValueError as error:
            raise start.error(str(error)) from None

    def _by_digest(self, tensor: Tensor, token: Token) -> NDArray[Any]:
        data = self._data.get(tensor.name)
        if data is not None and digest(data) != token.text:
            raise token.error(f"the data given for {tensor} has another digest, {digest(data)}")
        try:
            return made_up(tensor, int(token.text, 16)) if data is None else data
        except ValueError:
            raise token.error(f"{token} is no hexadecimal number") from None

    # ---- statements

    def _input(self) -> None:
        self._inputs.append(self._port(self._defined()))

    def _constant(self) -> None:
        tensor = self._defined()
        self._constants[tensor.name] = self._numbers(tensor)

    def _state(self) -> None:
        begin = self._defined()
        self._at.expect("becomes")
        end = self._at.of("tensor", "a tensor").text
        self._states.append(State(begin.name, end, self._numbers(begin)))

    def _learn(self) -> None:
        self._at.expect("[")
        self._learned = frozenset(self._known().name for _ in self._at.separated("]"))

    def _node(self) -> None:
        """Read `%y: type[shape], ... = Op(field=value, ...)(%x, ...) handoff Handoff(...) at Where(...)`."""
        at = self._at
        results = [self._result()]
        while at.skip(","):
            results.append(self._result())
        at.expect("=")
        head = at.here
        op: Op = parse_call(at, self._ops)
        at.expect("(")
        inputs = tuple(self._known().name for _ in at.separated(")"))
        handoff: Handoff | None = parse_call(at, {"Handoff": Handoff}) if at.skip("handoff") else None
        where: list[Where] = []
        if at.skip("at"):
            where.append(parse_call(at, {"Where": Where}))
            while at.skip(","):
                where.append(parse_call(at, {"Where": Where}))
        self._define_results(head, op, inputs, results)
        self._nodes.append(
            Node(op, inputs, tuple(token.text for token, *_ in results), tuple(where), handoff)
        )

    def _result(self) -> tuple[Token, tuple[Any, Shape] | None, Quant | None]:
        token = self._at.of("tensor", "a tensor")
        return token, self._type() if self._at.skip(":") else None, self._quant()

    def _define_results(
        self,
        head: Token,
        op: Op,
        inputs: tuple[str, ...],
        results: list[tuple[Token, tuple[Any, Shape] | None, Quant | None]],
    ) -> None:
        """Types that the text leaves out are what the op says."""
        told: list[tuple[Any, Shape]] = []
        if any(kind is None for _, kind, _ in results):
            try:
                told = [(d, shape) for shape, d in op.results(*(self._tensors[name] for name in inputs))]
            except (*NONSENSE, ShapeError) as error:
                raise head.error(f"{op} does not take these operands: {error}") from None
            if len(told) != len(results):
                raise head.error(f"{op} has {len(told)} results, not {len(results)}")
        for k, (token, kind, quant) in enumerate(results):
            self._define(token, *(kind or told[k]), quant)

    # ---- remarks

    def _origin(self) -> None:
        tensor = self._known()
        self._origins[tensor.name] = self._port(tensor)

    def _reason(self) -> None:
        name = self._at.of("tensor", "a tensor").text
        self._reasons[name] = self._at.of("string", "a reason").text

    def _stored_constants(self) -> None:
        where: Where = parse_call(self._at, {"Where": Where})
        self._stored[where] = parse_call(self._at, {"Stored": Stored})
