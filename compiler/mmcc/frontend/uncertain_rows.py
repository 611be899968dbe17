# SPDX-License-Identifier: Apache-2.0
"""What may read rows of which only the run tells whether they are there: those of NonMaxSuppression.

Rows that are not there are -1, and what is computed of them may be anything. That is right as long as those
that are there come first, and no row that is there depends on one behind them, or on how many there are. A
sum over rows does, and so does the last row. Rules say of each operator that may read such rows where it
leaves them; what has no rule is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from mmcc.errors import Where
from mmcc.frontend.convert import Import
from mmcc.frontend.problems import CUT_OFF, located, unsupported
from mmcc.frontend.reads import reads
from mmcc.frontend.row_rules import RULES, Mixed, Rows, Step
from mmcc.frontend.schema import domain_of
from mmcc.frontend.value import Value


def follow_rows(state: Import, where: Where, node: NodeProto) -> None:
    """Note which outputs of a node have such rows; a problem if others depend on them.

    Rows are noted of values, not of names: branches, loops and functions give a value other names.
    """
    made = [state.values.get(name) if name else None for name in node.output]
    if node.op_type == "NonMaxSuppression" and not domain_of(node):
        _note(state, made, Rows(0, (made[0].tensor if made[0] else "",)))
    elif node.op_type != "If" and any(_rows_of(state, value) for value in _read(state, node)):
        try:
            _note(state, made, _left_by(state, node, made))
        except Mixed as error:
            state.problems.add(located(unsupported(str(error), CUT_OFF), where))


def _read(state: Import, node: NodeProto) -> Iterator[Value | None]:
    """The values that a node and its subgraphs read, those in sequences, too."""
    for name in reads(node):
        yield from state.sequences.get(name, (state.values.get(name),))


def _note(state: Import, made: list[Value | None], rows: Rows | None) -> None:
    for value in made:
        if rows is not None and value is not None and not state.build.is_constant(value.tensor):
            state.uncertain.setdefault(value, rows)


def _left_by(state: Import, node: NodeProto, made: list[Value | None]) -> Rows | None:
    """Where a node leaves rows that may not be there; None where its results have none. Mixed if others
    depend on them."""
    rule = RULES.get(node.op_type) if not domain_of(node) else None
    if rule is None:
        raise Mixed
    values = tuple(state.values.get(name) if name else None for name in node.input)
    if None in made or any(name and value is None for name, value in zip(node.input, values, strict=True)):
        return None  # there is a problem already
    rows = tuple(_rows_of(state, value) for value in values)
    return rule(Step(state.build, node, values, rows, made[0].shape if made[0] else ()))


def _rows_of(state: Import, value: Value | None) -> Rows | None:
    return None if value is None else state.uncertain.get(value)
