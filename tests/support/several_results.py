# SPDX-License-Identifier: Apache-2.0
"""Operators with several results that only tests have, with their kernels: a Split, and a plain RNN cell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from mmcc.codegen import render
from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.program import KernelUse
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.kernels import select, variants
from mmcc.resources import data_dir

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Split:
    """Parts of each pixel, as a copy."""

    sizes: tuple[int, ...]
    kernel: ClassVar[str] = "test_split"
    traits = COMPUTES

    def results(self, *inputs: Tensor):
        (x,) = inputs
        assert sum(self.sizes) == x.shape[-1]
        return tuple(((*x.shape[:-1], size), x.dtype) for size in self.sizes)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        loops = tuple(Loop(f"o{axis}", extent) for axis, extent in enumerate(x[:-1]))
        index = (*(loop.i for loop in loops), None)
        writes = tuple(Access(k, (*x[:-1], size), index) for k, size in enumerate(self.sizes))
        return Nest(loops, (Access(0, x, index),), writes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        parts = np.split(inputs[0], np.cumsum(self.sizes)[:-1], -1)
        return tuple(np.ascontiguousarray(part) for part in parts)


@dataclass(frozen=True)
class RnnCell:
    """Y[t] = clip(x[t] W' + Y[t - 1] R' + b, -1, 1) for every t, and Y_h, the last of them."""

    kernel: ClassVar[str] = "test_rnn"
    traits = COMPUTES

    def results(self, *inputs: Tensor):
        x, w = inputs[:2]
        return ((x.shape[0], w.shape[0]), x.dtype), ((w.shape[0],), x.dtype)

    def nest(self, *inputs: Shape) -> Nest:
        x, w, r, b = inputs
        t, h, c = Loop("t", x[0]), Loop("h", w[0]), Loop("c", x[1], LoopKind.REDUCE)
        reads = (
            Access(0, x, (t.i, c.i)),
            *(Access(1 + k, shape, (None,) * len(shape)) for k, shape in enumerate((w, r, b))),
        )
        return Nest((t, h, c), reads, (Access(0, (x[0], w[0]), (t.i, h.i)), Access(1, (w[0],), (h.i,))), True)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, w, r, b = inputs
        h, rows = np.zeros(w.shape[0], np.float32), []
        for row in x:
            h = np.clip(row @ w.T + h @ r.T + b, -1, 1).astype(np.float32)
            rows.append(h)
        return np.stack(rows), h


TEMPLATES = Path(__file__).parent / "templates"


def _split(op: Split, site: select.Site) -> KernelUse:
    fields = [("x", site.inputs[0].where())]
    fields += [(f"y{k}" if k else "y", result.where()) for k, result in enumerate(site.outputs)]
    fields += [(f"size{k}", size) for k, size in enumerate(op.sizes)]
    parts = tuple(range(len(op.sizes)))
    return KernelUse("test_split", (("ctype", site.output.dtype.ctype), ("parts", parts)), tuple(fields))


def _rnn(op: RnnCell, site: select.Site) -> KernelUse:
    del op
    constants = [(n, site.keep(n, site.inputs[k].constant())) for k, n in ((1, "w"), (2, "r"), (3, "b"))]
    fields = [("x", site.inputs[0].where()), ("y", site.outputs[0].where()), ("y1", site.outputs[1].where())]
    hidden, wide = site.inputs[1].shape
    return KernelUse("test_rnn", (), (*fields, *constants, ("hidden", hidden), ("wide", wide)))


@contextmanager
def kernels(folder: Path) -> Iterator[None]:
    """While this lasts, both operators have kernels."""
    shutil.copytree(data_dir("templates"), folder)
    shutil.copytree(TEMPLATES, folder / "kernels" / "portable", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in (variants, render):
            patch.setattr(module, "data_dir", lambda what: folder if what == "templates" else data_dir(what))
        patch.setitem(select.LAYERS, Split, _split)
        patch.setitem(select.LAYERS, RnnCell, _rnn)
        render._environment.cache_clear()
        yield
    render._environment.cache_clear()
