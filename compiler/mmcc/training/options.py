# SPDX-License-Identifier: Apache-2.0
"""How a model is to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from mmcc.errors import CompileError, Exit

LOSSES = ("softmax-cross-entropy", "mse")
OPTIMIZERS = ("sgd", "momentum", "adam")
BATCH_NORMS = ("frozen", "own")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What `mmcc train` was asked for, besides what `mmcc compile` is.

    `update` names the parameters that change: "all", "last:K" (of the last K layers), "bias", "auto" (of as
    many of the last layers as fit), or names of parameters between commas, in which * stands for anything.
    `accumulate` is the steps whose gradients are averaged for one change. `momentum` and `betas` are decays
    of the moments, and `epsilon` keeps adam from dividing by 0: with `early_epsilon` it is added before the
    second moment is corrected, as ONNX's Adam has it. `weight_decay` shrinks each parameter by so much, times
    the rate, at each change.
    Gradients are bounded, unless these are 0: each by `clip_value`, then the root of the sum of the squares
    of all by `clip_norm`. `batch_norm` "own": a step normalizes by the statistics of its own sample, which
    the running ones follow; "frozen": each BatchNormalization is a product and a sum. `slow_memory` is the
    bytes that values may be paged to, where RAM is short, until they are read backward; `slow_cycles`, what
    a byte takes there or back.
    """

    loss: str = "softmax-cross-entropy"
    optimizer: str = "sgd"
    update: str = "all"
    accumulate: int = 1
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    early_epsilon: bool = False
    weight_decay: float = 0.0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    batch_norm: str = "frozen"
    slow_memory: int = 0
    slow_cycles: float = 4.0

    def __post_init__(self) -> None:
        """CompileError for values that the command line would not take either."""
        for name, value, allowed in (
            ("loss", self.loss, LOSSES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("batch_norm", self.batch_norm, BATCH_NORMS),
        ):
            if value not in allowed:
                choice = ", ".join(repr(a) for a in allowed)
                raise CompileError("MM000", f"{name}={value!r} is none of {choice}", exit=Exit.USAGE)
        numbers = (
            ("accumulate", self.accumulate, self.accumulate >= 1, "1 or more"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "at least 0 and below 1"),
            ("betas", self.betas, all(0 <= beta < 1 for beta in self.betas), "at least 0 and below 1"),
            ("epsilon", self.epsilon, 0 < self.epsilon < inf, "above 0"),
            ("clip_value", self.clip_value, 0 <= self.clip_value < inf, "0 or more"),
            ("clip_norm", self.clip_norm, 0 <= self.clip_norm < inf, "0 or more"),
            ("slow_memory", self.slow_memory, self.slow_memory >= 0, "0 or more"),
            ("slow_cycles", self.slow_cycles, 0 <= self.slow_cycles < inf, "0 or more"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < inf, "0 or more"),
        )
        for name, value, sound, allowed in numbers:
            if not sound:
                raise CompileError("MM000", f"{name} is {value}, not {allowed}", exit=Exit.USAGE)
