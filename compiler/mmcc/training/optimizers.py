# SPDX-License-Identifier: Apache-2.0
"""Optimizers as nodes: new values of parameters, and of what is kept of them from step to step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmcc.ir.state import State
from mmcc.ir.types import Tensor
from mmcc.ops.elementwise import Binary
from mmcc.ops.optimizer import AdamStep, Descend, Moment
from mmcc.passes.draft import Draft
from mmcc.training.clipping import clipped
from mmcc.training.options import TrainOptions


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Writes steps into a draft. Gradients are sums over `options.accumulate` samples; `rate` is [1]."""

    draft: Draft
    options: TrainOptions
    rate: str

    def states(self, names: tuple[str, ...], gradients: dict[str, str]) -> tuple[State, ...]:
        """The states that change when the parameters `names` make a step, themselves first."""
        gradients = clipped(self.draft, self.options, {name: gradients[name] for name in names})
        shared, powers = self._powers() if self.options.optimizer == "adam" else ((), ())
        changed: list[State] = []
        kept: list[State] = []
        for name in names:
            end, own = self._step(name, gradients[name], powers)
            changed.append(State(name, end, self.draft.source.constants[name]))
            kept += own
        return (*changed, *kept, *shared)

    def kept(self, name: str, like: str, value: float = 0.0) -> str:
        """The old value of a state of an optimizer's, shaped as a parameter; "" as a number."""
        return self.draft.given(Tensor(name, self.draft.source.tensors[like].shape if like else (1,)))

    def _step(self, name: str, g: str, powers: tuple[str, ...]) -> tuple[str, list[State]]:
        options, decay = self.options, self.options.weight_decay
        share, add = 1 / options.accumulate, self.draft.add
        if options.optimizer == "sgd":
            rate = self._shared_rate(share)
            return add(Descend(decay / share), (name, g, rate), f"{name}_next", ()), []
        first = self.kept(f"{name}_moment", name)
        zeros = np.zeros_like(self.draft.source.constants[name])
        if options.optimizer == "momentum":
            moved = add(Moment(options.momentum, share), (first, g), f"{first}_next", ())
            end = add(Descend(decay), (name, moved, self.rate), f"{name}_next", ())
            return end, [State(first, moved, zeros)]
        one, two = options.betas
        second = self.kept(f"{name}_squares", name)
        moved = add(Moment(one, (1 - one) * share), (first, g), f"{first}_next", ())
        squares = Moment(two, (1 - two) * share * share, squares=True)
        spread = add(squares, (second, g), f"{second}_next", ())
        operands = (name, moved, spread, self.rate, *powers)
        end = add(AdamStep(options.epsilon, decay, options.early_epsilon), operands, f"{name}_next", ())
        return end, [State(first, moved, zeros), State(second, spread, zeros)]

    def _shared_rate(self, share: float) -> str:
        """The rate for sums of gradients in place of their mean."""
        if share == 1:
            return self.rate
        factor = self.draft.constant(np.array([share], np.float32), "share")
        known = self.draft.find(Binary("mul"), (self.rate, factor))
        return known or self.draft.add(Binary("mul"), (self.rate, factor), "rate_of_sum", ())

    def _powers(self) -> tuple[tuple[State, ...], tuple[str, ...]]:
        """The decays of the moments to the power of the steps so far."""
        states: list[State] = []
        for k, decay in enumerate(self.options.betas):
            begin = self.kept(f"decay_{k}", "")
            factor = self.draft.constant(np.array([decay], np.float32), "decay")
            end = self.draft.add(Binary("mul"), (begin, factor), f"{begin}_next", ())
            states.append(State(begin, end, np.ones(1, np.float32)))
        return tuple(states), tuple(state.end for state in states)
