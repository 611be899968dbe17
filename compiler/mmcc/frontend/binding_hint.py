# SPDX-License-Identifier: Apache-2.0
"""Which --bind makes a value of the model a constant."""

from __future__ import annotations

from mmcc.errors import printable
from mmcc.frontend.convert import Import
from mmcc.frontend.reads import reads


def binding_hint(state: Import, value: str) -> str:
    """How to make a value constant, if it depends only on inputs of one number, as rates and lengths are.

    Empty where it depends on none, or on data, of which no value is the one.
    """
    makers = {name: inner for _, inner in state.source.nodes for name in inner.output}
    inputs = {info.name for info in state.source.inputs}
    queue, seen = [value], {value}
    for name in queue:  # grows while we walk it
        fresh = [n for n in (reads(makers[name]) if name in makers else ()) if n and n not in seen]
        seen.update(fresh)
        queue += fresh
    decides = [name for name in queue if name in inputs]
    found = [state.values.get(name) for name in decides]  # None of what is no tensor
    if not decides or any(value is None or value.size != 1 for value in found):
        return ""
    options = " ".join(f"--bind {printable(name)}=VALUE" for name in decides)
    return f"{options}, which makes the input a constant"
