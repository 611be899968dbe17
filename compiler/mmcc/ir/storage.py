# SPDX-License-Identifier: Apache-2.0
"""Where a tensor's bytes are and how long they last; `Graph.storage` answers it."""

from __future__ import annotations

from enum import Enum, auto


class Storage(Enum):
    """Every tensor of a graph is one of these. All but constants lie where the planner
    puts them: in RAM, but for what is paged."""

    ACTIVATION = auto()  # written by a node, and gone after its last use
    CONSTANT = auto()  # known when the model is compiled: in the weights, even if the model returns it
    PORT = auto()  # an input that the caller fills, or an output that the caller reads
    PAGED = auto()  # in slow memory, from which a node brings it back
    STATE = auto()  # what a run leaves for the next: the old or the new value of a state
