# SPDX-License-Identifier: Apache-2.0
"""The values around a loop as a builder of its own has them, which makes the loop's body."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field, replace

from mmcc.frontend.builder import Builder
from mmcc.frontend.convert import Import
from mmcc.frontend.problems import Problems
from mmcc.frontend.value import Value


@dataclass(eq=False)
class Outside(MutableMapping[str, Value]):
    """The values around a loop as its body has them: constants are its own, of others it is given the tensor.

    `taken` has, by the tensor outside, that of the body.
    """

    state: Import
    inner: Builder
    taken: dict[str, str] = field(default_factory=dict[str, str])
    own: dict[str, Value] = field(default_factory=dict[str, Value])

    def tried(self) -> Import:
        """An import into the body's builder; of what goes wrong in it the one around learns nothing."""
        state = self.state
        made = replace(state, build=self.inner, values=self, sequences={}, problems=Problems(), uncertain={})
        return replace(made, opaque={*state.opaque}, lost={*state.lost})

    def __getitem__(self, name: str) -> Value:
        if name not in self.own:
            self.own[name] = self.seen(self.state.values[name])
        return self.own[name]

    def __setitem__(self, name: str, value: Value) -> None:
        self.own[name] = value

    def __delitem__(self, name: str) -> None:
        del self.own[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.state.values, **self.own})

    def __len__(self) -> int:
        return len({**self.state.values, **self.own})

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.state.values

    def seen(self, value: Value) -> Value:
        """A value around the loop, in the body; quantized constants stay integers."""
        outer, tensor = self.state.build, value.tensor
        if outer.is_constant(tensor):
            quantized = outer.quantized(tensor)
            made = self._constant(quantized[1] if quantized else tensor)
            if quantized:
                made = self.inner.emit(quantized[0], made, hint=outer.hints[tensor]).name
            return replace(value, tensor=made)
        if tensor not in self.taken:
            same = outer.tensors[tensor]
            self.taken[tensor] = self.inner.tensor(same.shape, same.dtype, outer.hints[tensor]).name
            if tensor in outer.titles:
                self.inner.titles[self.taken[tensor]] = outer.titles[tensor]
        return replace(value, tensor=self.taken[tensor])

    def _constant(self, name: str) -> str:
        """A constant of the graph around, in the body."""
        outer, inner = self.state.build, self.inner
        made = inner.tensor(outer.tensors[name].shape, outer.tensors[name].dtype, outer.hints[name]).name
        inner.constants[made] = outer.constants[name]
        if name in outer.stored:
            inner.stored[made] = outer.stored[name]
        if name in outer.titles:
            inner.titles[made] = outer.titles[name]
        if name in outer.blocked:
            inner.blocked[made] = outer.blocked[name]
        return made
