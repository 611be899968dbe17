# SPDX-License-Identifier: Apache-2.0
"""What of a training step's forward pass is kept for the backward pass, made again, or paged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavedValue:
    """A value of the forward pass that backward nodes read. `macs` are those of making it once more from what
    it is computed from."""

    name: str
    bytes: int
    macs: int


@dataclass(frozen=True, slots=True)
class MadeAgain:
    """One choice of what to keep, make again and page, and what is known of all others of its class.

    The class: each saved value is kept, made again once, from values that are kept or paged, or (with
    slow memory) taken there and brought back, once, and so are all gradients between layers, or none;
    then a plan of groups, rows and offsets, in which rows are those of the graph: columns as rows are not
    tried in a step. Where blocks end in one value, what is before an end may be
    made twice. No choice with at most `most_macs` of work in all has an arena below `bound`; if there is
    a `limit`, none that costs less than this one has. Where choices were left out, that is what each of
    them keeps, too, as far as that is there when the loss is known; with slow memory, the inputs alone, or 0.
    """

    kept: tuple[SavedValue, ...]
    again: tuple[SavedValue, ...]
    paged: tuple[SavedValue, ...]
    macs: int  # of the step in which nothing is made again
    macs_again: int
    most_macs: int
    limit: int | None
    arena: int
    bound: int
    planned: int  # choices that were planned
    choices: int  # that there are
    slow_cycles: float = 0.0  # that a byte takes to slow memory or back

    @property
    def proved(self) -> bool:
        """True if no choice of the class needs a smaller arena, or less work within the limit."""
        return 0 < self.arena <= self.bound if self.limit is None else self.bound > self.limit
