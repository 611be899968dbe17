# SPDX-License-Identifier: Apache-2.0
"""A node that a function of the user's computes, and what that function asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Handoff:
    """The C function of a node, and what it may be given.

    `whole`: it computes the node in one call, from tensors that are whole and dense; otherwise in calls for
    some rows each, every row once and in order, from tensors that may be rings or parts of others.
    `in_place`: an element of the result may lie over the element that it is made of, or be below it; the
    function reads it before it writes there, the elements in order. Otherwise the result of a call shares
    no byte with what that call still reads.
    `weights`: the order of the axes of the weights, in the letters of `WEIGHT_AXES`; "" as the op has them.
    `align`: of the first byte of tensors, where these are whole, and of arrays. `scratch`: bytes to work in.
    """

    function: str
    whole: bool = True
    in_place: bool = False
    weights: str = ""
    align: int = 4
    scratch: int = 0
