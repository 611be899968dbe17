# SPDX-License-Identifier: Apache-2.0
"""A Concat copies nothing for an operand that lies where it belongs, and only for such."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mmcc.ir.program import View
from mmcc.ir.types import Tensor
from mmcc.kernels.portable.movement import concat
from mmcc.kernels.select import Operand, Site
from mmcc.ops.movement import Concat
from mmcc.target import load_target


def copied(joined: View, parts: list[View]) -> tuple[int, ...]:
    """Which operands of a Concat along the rows are copied."""
    shape = (1, 4, 6)
    inputs = tuple(Operand(Tensor("x", shape), view, None) for view in parts)
    output = Operand(Tensor("y", (len(parts), 4, 6)), joined, None)
    site = Site("n0", inputs, (output,), load_target("host"))
    return dict(concat(Concat(0), site).options)["parts"]


@pytest.mark.quick
def test_an_operand_in_its_place_is_not_copied() -> None:
    joined = View("sram", 1000, 96, 6, 3)
    parts = [replace(joined, offset=1000 + 96 * k, rows=1) for k in range(3)]
    assert copied(joined, parts) == ()
    assert copied(joined, [parts[0], replace(parts[1], offset=4), parts[2]]) == (1,)


@pytest.mark.quick
def test_an_operand_behind_a_ring_is_copied() -> None:
    """Where the next rows would be, were it no ring, another tensor may lie."""
    ring = View("sram", 1000, 96, 6, 1)
    parts = [replace(ring, offset=1000 + 96 * k) for k in range(3)]
    assert copied(ring, parts) == (1, 2)
