# SPDX-License-Identifier: Apache-2.0
"""ONNX Einsum as transpositions, sums and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from mmcc.frontend.broadcasting import elementwise
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.matrix import matmul
from mmcc.frontend.converters.parts import sliced
from mmcc.frontend.converters.reduction import reduced
from mmcc.frontend.layouts import reshaped
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import converts
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Binary

MAX_EQUATION = 512


@dataclass(frozen=True, slots=True)
class Term:
    """A value with a label for each axis."""

    value: Value
    labels: str

    def extent(self, label: str) -> int:
        return self.value.shape[self.labels.index(label)]


@converts("Einsum", since=12, notes="any equation; products of matrices, operand by operand")
def convert_einsum(call: Call) -> Value:
    """Operands are multiplied one after the other; a label is summed once no later operand has it."""
    build = call.build
    values = [call.input(k) for k in range(len(call.inputs))]
    terms, output = _parsed(call.text("equation"), values)
    terms = [_diagonal(build, term) for term in terms]
    extents: dict[str, int] = {}
    for term in terms:
        for label, extent in zip(term.labels, term.value.shape, strict=True):
            if extents.setdefault(label, extent) not in (extent, 1) and extent != 1:
                raise bad_model("MM104", f'label "{label}" is {extents[label]} and {extent}')
            extents[label] = max(extent, extents[label])
    if not set(output) <= extents.keys():
        raise bad_model("MM104", f'the output has labels "{output}" that no operand has')
    result = terms[0]
    for k, term in enumerate(terms[1:], 1):
        later = set(output).union(*(other.labels for other in terms[k + 1 :]))
        result = _product(build, _full(build, result, extents), _full(build, term, extents), later)
    result = _summed(build, result, set(output))
    return result.value.transposed([result.labels.index(label) for label in output])


def _parsed(equation: str, values: Sequence[Value]) -> tuple[list[Term], str]:
    """The operands with their labels, and those of the output; an ellipsis gets labels of its own."""
    text = equation.replace(" ", "")
    left, arrow, output = text.partition("->")
    parts = left.split(",")
    if len(text) > MAX_EQUATION or len(parts) != len(values):
        raise bad_model("MM103", f'equation "{equation}" for {len(values)} operands')
    labels: list[str] = []
    most = 0
    for part, value in zip(parts, values, strict=True):
        named = part.replace("...", "", 1)
        hidden = value.rank - len(named) if "..." in part else 0
        if not (named.isascii() and (named.isalpha() or not named)) or len(named) + hidden != value.rank:
            raise bad_model("MM103", f'"{part}" of the equation for {list(value.shape)}')
        if hidden < 0:
            raise bad_model("MM103", f'"{part}" of the equation for {list(value.shape)}')
        most = max(most, hidden)
        labels.append(part.replace("...", "".join(chr(0x100 + k) for k in range(hidden))[::-1]))
    dots = "".join(chr(0x100 + k) for k in range(most))[::-1]
    if not arrow:
        joined = "".join(labels)
        output = dots + "".join(sorted(x for x in {*joined} if joined.count(x) == 1 and x < "\x80"))
    named = output.replace("...", "", 1)
    if len({*named}) < len(named) or not (named.replace(dots, "").isalpha() or not named.replace(dots, "")):
        raise bad_model("MM103", f'"{output}" as the output of an equation')
    return [Term(v, x) for v, x in zip(values, labels, strict=True)], output.replace("...", dots)


def _diagonal(build: Builder, term: Term) -> Term:
    """A label that an operand has twice names the diagonal of both axes."""
    for label in dict.fromkeys(term.labels):
        while term.labels.count(label) > 1:
            first = term.labels.index(label)
            second = term.labels.index(label, first + 1)
            x = term.value
            extent = x.shape[first]
            if x.shape[second] != extent:
                raise bad_model("MM104", f'label "{label}" is {extent} and {x.shape[second]}')
            others = [k for k in range(x.rank) if k not in (first, second)]
            flat = reshaped(
                build,
                x.transposed([*others, first, second]),
                (*(x.shape[k] for k in others), extent * extent),
            )
            cut = sliced(build, flat, {len(others): (0, extent + 1, extent)})
            term = Term(cut, "".join(term.labels[k] for k in others) + label)
    return term


def _full(build: Builder, term: Term, extents: dict[str, int]) -> Term:
    """Axes of extent 1 are dropped where the label is larger elsewhere: they are repeated."""
    small = [k for k, label in enumerate(term.labels) if term.value.shape[k] < extents[label]]
    kept = "".join(label for k, label in enumerate(term.labels) if k not in small)
    del build
    return Term(term.value.without(small), kept)


def _summed(build: Builder, term: Term, kept: set[str]) -> Term:
    """Sum the labels that are not kept."""
    axes = [k for k, label in enumerate(term.labels) if label not in kept]
    if not axes:
        return term
    total = reduced(build, term.value, "sum", axes).without(axes)
    return Term(total, "".join(label for label in term.labels if label in kept))


def _product(build: Builder, a: Term, b: Term, later: set[str]) -> Term:
    """The product of two operands, summed over the labels that both have and nobody needs later."""
    a = _summed(build, a, later | {*b.labels})
    b = _summed(build, b, later | {*a.labels})
    batch = [label for label in a.labels if label in b.labels and label in later]
    inner = [label for label in a.labels if label in b.labels and label not in later]
    rows = [label for label in a.labels if label not in b.labels]
    columns = [label for label in b.labels if label not in a.labels]
    labels = "".join([*batch, *rows, *columns])
    if not inner:
        left = _laid(build, a, [*batch, *rows], len(columns))
        right = _laid(build, b, [*batch, *([""] * len(rows)), *columns], 0)
        return Term(elementwise(build, Binary("mul"), left, right), labels)
    left = _matrix(build, a, batch, rows, inner)
    right = _matrix(build, b, batch, inner, columns)
    made = matmul(build, left, right)
    shape = [*(a.extent(x) for x in (*batch, *rows)), *(b.extent(x) for x in columns)]
    return Term(reshaped(build, made, tuple(shape)), labels)


def _laid(build: Builder, term: Term, labels: Sequence[str], behind: int) -> Value:
    """The value with its axes in this order, those of extent 1 where a label is empty, and some behind."""
    named = [label for label in labels if label]
    x = term.value.transposed([term.labels.index(label) for label in named])
    shape = [term.extent(label) if label else 1 for label in labels]
    return reshaped(build, x, (*shape, *(1,) * behind))


def _matrix(
    build: Builder, term: Term, batch: Sequence[str], rows: Sequence[str], columns: Sequence[str]
) -> Value:
    x = term.value.transposed([term.labels.index(label) for label in (*batch, *rows, *columns)])
    sizes = (prod(term.extent(label) for label in part) for part in (rows, columns))
    return reshaped(build, x, (*(term.extent(label) for label in batch), *sizes))
