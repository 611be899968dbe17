# SPDX-License-Identifier: Apache-2.0
"""Sekiyama's experiment: bytes of all buffers of a run without reuse, from a pool, and placed beforehand.

Sekiyama, Imamichi, Imai and Raymond, "Profile-guided memory optimization for deep neural networks", 2018
(arXiv:1804.10001): buffers' sizes and lives are known from a profile, and placed by a best-fit heuristic for
packing rectangles; compared with the pool of Chainer. `live_ranges.py` says what lives are taken here (one
sample, no weights), and what the pool does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench_placement import live_ranges, measure
from live_ranges import no_reuse, pooled
from networks import progress

CLAIM = 'Sekiyama: best fit "reduces the memory consumption by up to 49.5%" of a pool\'s (arXiv:1804.10001)'


@dataclass(frozen=True, slots=True)
class Row:
    """One network's inference or training step, in bytes."""

    name: str
    buffers: int
    no_reuse: int
    pool: int
    best_fit: int
    ours: int
    proved: bool

    def saved(self, size: int) -> float:
        """Share of the pool's bytes that a placement saves."""
        return 1 - size / self.pool

    def __str__(self) -> str:
        ours = f"{self.ours:,}{'*' if self.proved else ' '}"
        return (
            f"{self.name:44} {self.buffers:>7} {self.no_reuse:>13,} {self.pool:>12,} {self.best_fit:>12,} "
            f"{self.saved(self.best_fit):>7.1%} {ours:>13} {self.saved(self.ours):>7.1%}"
        )


HEADER = (
    f"{'network':44} {'buffers':>7} {'no reuse':>13} {'pool':>12} {'best fit':>12} {'saved':>7} "
    f"{'ours':>13} {'saved':>7}"
)


def run(names: Sequence[str]) -> Iterator[Row]:
    """The table, a row at a time."""
    for name in names:
        progress(f"placing {name}")
        for title, buffers in live_ranges(name):
            placed = measure(title, buffers)
            yield Row(
                title,
                placed.buffers,
                no_reuse(buffers),
                pooled(buffers),
                placed.best_fit,
                placed.peak,
                placed.proved,
            )


def summary(rows: Sequence[Row]) -> str:
    """The most and the mean saving of what a pool takes."""
    if not rows:
        return "nothing was placed"
    words: list[str] = []
    for kind in ("inference", "training"):
        some = [row for row in rows if row.name.endswith(kind)]
        if some:
            fit = [row.saved(row.best_fit) for row in some]
            ours = [row.saved(row.ours) for row in some]
            words.append(
                f"{kind}: best fit saves up to {max(fit):.1%} of the pool, {sum(fit) / len(fit):.1%} on "
                f"average; ours up to {max(ours):.1%}, {sum(ours) / len(ours):.1%}"
            )
    return "; ".join(words)
