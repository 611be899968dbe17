# SPDX-License-Identifier: Apache-2.0
"""What a compile is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Protocol

from numpy.typing import ArrayLike

from mmcc.codegen.names import is_prefix, prefix
from mmcc.driver.handoff_file import Rule
from mmcc.errors import CompileError, Exit, did_you_mean
from mmcc.package.kinds import KINDS

WAYS_IN = ("arena", "external", "rows", "rows-again")
WEIGHTS = ("c", "bin", "staged")
TIME_LIMIT = 20.0  # with less, searches that count what they look at have as many times less


class Progress(Protocol):
    """Shows what is being done; where it is the step `done` of `of`, that too."""

    def __call__(self, text: str, /, done: int = 0, of: int = 0) -> None: ...


def silent(_: str, /, done: int = 0, of: int = 0) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What `mmcc compile` was asked for; sizes in bytes, 0 for none."""

    target: str = "host"
    ram: int = 0
    least_ram: bool = False  # --ram min
    regions: Mapping[str, int] = field(default_factory=dict[str, int])  # by memory; 0: as little as possible
    recompute: float = 0.0  # work at most, in multiples of the model's; 0: as the planner thinks fit
    flash: int = 0
    name: str = ""
    io: str = "arena"  # "external"; "rows" or, if inputs can be read more than once, "rows-again"
    weights: str = ""  # "c", "bin", "staged" (read while the model runs), or "" to choose by size
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    bind: Mapping[str, ArrayLike] = field(default_factory=dict[str, ArrayLike])  # inputs made constants
    states: Mapping[str, str] = field(default_factory=dict[str, str])  # input -> output: one value, kept
    initial: Mapping[str, ArrayLike] = field(default_factory=dict[str, ArrayLike])  # of states, by input
    stream: str = ""  # INPUT:AXIS, or INPUT:AXIS:ROWS: hop by hop along time
    window: int = 0  # newest rows that are seen by what needs the whole sequence; 0: nothing may
    time_limit: float = TIME_LIMIT
    threads: int = 1  # of the caller's, that kernels are cut for
    float_io: bool = False
    fp16_math: bool = False  # layers between tensors in float16 may have their sums in float16
    background_moves: bool = False  # buffers may be moved while the model computes, through callbacks
    weights_in_ram: bool | None = None  # init copies weights to RAM; None: to what --ram leaves, if that pays
    stack: int = 0  # a bound the user vouches for; the toolchain is then not needed
    packages: tuple[str, ...] = ()  # ecosystems that the package is to be at home in, besides CMake
    handoff: tuple[Rule, ...] = ()  # which nodes functions of the user's compute
    dump: Path | None = None
    self_check: bool = True  # run what was made, before it is written

    def __post_init__(self) -> None:
        """CompileError for values that the command line would not take either."""
        for name, value, allowed in (("io", self.io, WAYS_IN), ("weights", self.weights, ("", *WEIGHTS))):
            if value not in allowed:
                choice = ", ".join(repr(a) for a in allowed)
                raise CompileError("MM000", f"{name}={value!r} is none of {choice}", exit=Exit.USAGE)
        if self.window and not self.stream:
            message = f"a window of {self.window} rows without a stream"
            raise CompileError("MM114", message, exit=Exit.USAGE, hint="--stream INPUT:AXIS --window ROWS")
        if self.handoff and (self.io == "external" or self.weights == "staged"):
            message = "functions of yours get tensors in the arena and weights in flash"
            hint = "leave out --io external and --weights staged"
            raise CompileError("MM003", message, exit=Exit.USAGE, hint=hint)
        if self.weights_in_ram and (self.least_ram or self.regions or self.weights == "staged"):
            message = "--weights-in-ram takes RAM that nothing else needs"
            hint = "leave it out, or --ram min, limits of several memories, --weights staged"
            raise CompileError("MM003", message, exit=Exit.USAGE, hint=hint)
        for kind in self.packages:
            if kind not in KINDS:
                hint = did_you_mean(kind, KINDS) + f"one of {', '.join(KINDS)}"
                raise CompileError("MM000", f"{kind!r} is no kind of package", exit=Exit.USAGE, hint=hint)
        sizes = {"ram": self.ram, "flash": self.flash, "stack": self.stack, "threads": self.threads}
        for name, size in (
            *sizes.items(),
            *((f"ram of {name}", size) for name, size in self.regions.items()),
        ):
            if size < 0:
                raise CompileError("MM003", f"{name}={size} is below 0", exit=Exit.USAGE)
        numbers = (
            (
                "recompute",
                self.recompute,
                self.recompute == 0 or 1 <= self.recompute < inf,
                "1 or more, or 0",
            ),
            ("time_limit", self.time_limit, 0 < self.time_limit < inf, "above 0"),
        )
        for name, value, sound, allowed in numbers:
            if not sound:  # nan, too, which is in every range that the command line knows
                raise CompileError("MM000", f"{name} is {value}, not {allowed}", exit=Exit.USAGE)

    @property
    def budget(self) -> float:
        """The part of what searches may look at by default that they have."""
        return min(1.0, self.time_limit / TIME_LIMIT)


def prefix_of(options: CompileOptions, model: Path) -> str:
    """Prefix of every symbol: --name, or an identifier made of the file's name."""
    if not options.name:
        return prefix(model.stem)
    if not is_prefix(options.name):
        raise CompileError(
            "MM005",
            f'--name "{options.name}" cannot be a prefix in C',
            exit=Exit.USAGE,
            hint="a letter, then letters, digits and single underscores; no keyword of C or C++, no header "
            "of the C library (math), no device of Windows (aux), nothing that begins with mmcc",
        )
    return options.name
