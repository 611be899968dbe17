# SPDX-License-Identifier: Apache-2.0
"""Gradients of layers with weights: of a convolution's input, and of the weights of all such layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import CONSTANT, Access, Index, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.conv_transpose import scatter, transposed_shape
from mmcc.ops.window import Window

Into = Literal["", "sum", "step"]
POINT = Window((1, 1))


@op
@dataclass(frozen=True, slots=True)
class ConvInputGradient:
    """dx[ih,iw,ic] = sum over kh,kw,oc of g[oh,ow,oc] * w[oc,kh,kw,ic], float; `size` is that of x.

    Operands: g [OH,OW,OC], the gradient of the convolution's result, and its weights w [OC,KH,KW,IC/groups].
    """

    window: Window
    size: tuple[int, int]
    groups: int = 1

    kernel: ClassVar[str] = "conv_input_gradient"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        g, w = inputs
        if len(w.shape) != 4 or w.shape[0] % self.groups:
            raise ShapeError(f"convolution weights {list(w.shape)} in {self.groups} groups")
        return (
            (transposed_shape(self.window, self.size, self.groups, g.shape, self._turned(w.shape)), g.dtype),
        )

    def _turned(self, w: Shape) -> Shape:
        """The shape of the weights as a transposed convolution has them."""
        return w[3] * self.groups, w[1], w[2], w[0] // self.groups

    def nest(self, *inputs: Shape) -> Nest:
        g, w = inputs
        ih, iw, kh, kw = Loop("ih", self.size[0]), Loop("iw", self.size[1]), *self.window.loops()
        gr, ic = Loop("g", self.groups), Loop("ic", w[3])
        oc = Loop("oc", w[0] // self.groups, LoopKind.REDUCE)
        (sh, sw), (dh, dw) = self.window.strides, self.window.dilations
        row = (ih.i + self.window.pads[0] + kh.i * -dh) // sh
        col = (iw.i + self.window.pads[1] + kw.i * -dw) // sw
        into = gr.i * w[3] + ic.i if self.groups > 1 else ic.i
        out = gr.i * oc.extent + oc.i if self.groups > 1 else oc.i
        return Nest(
            loops=(ih, iw, gr, ic, kh, kw, oc),
            reads=(Access(0, g, (row, col, out)), Access(1, w, (out, kh.i, kw.i, ic.i))),
            writes=(Access(0, (*self.size, w[3] * self.groups), (ih.i, iw.i, into)),),
            multiplies=True,
        )

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        g, w = inputs
        parts = w.reshape(self.groups, -1, *w.shape[1:]).transpose(0, 4, 2, 3, 1)
        turned = parts.reshape(self._turned(w.shape))
        return (scatter(self.window, self.size, self.groups, g, turned),)

    def __str__(self) -> str:
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"conv_input_gradient<{self.window}{groups} to {self.size[0]}x{self.size[1]}>"


@op
@dataclass(frozen=True, slots=True)
class WeightGradient:
    """dw = sum over oh,ow of x[ih,iw,ic] * g[oh,ow,oc], float: of the weights of a Conv, or of a Dense layer.

    Operands: the layer's input x, and the gradient g of its result. A Conv (`window` is set): x [H,W,IC],
    g [OH,OW,OC], the result [OC,KH,KW,IC/groups]. A Dense layer: x [K] or [M,K], g [N] or [M,N], the
    result [N,K]. Products of a row are summed, then the sums of rows, from the first on.

    `into` is what becomes of dw, so that it needs no memory of its own:
      "sum": a third operand s like the weights; the result is `decay` * s + dw, a sum that begins with s.
      "step": operands w, the weights, and rate [1]; the result is w - rate * (dw + `decay` * w).
    """

    window: Window | None = None
    groups: int = 1
    into: Into = ""
    decay: float = 0.0

    kernel: ClassVar[str] = "weight_gradient"

    @property
    def traits(self) -> OpTraits:
        return OpTraits(rides=self.into != "step")

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, g, *more = inputs
        shape = self._shape(x.shape, g.shape)
        fits = {"": [], "sum": [shape], "step": [shape, (1,)]}[self.into]
        if [t.shape for t in more] != fits:
            raise ShapeError(f"{self}: operands {[list(t.shape) for t in more]} for {fits}")
        return ((shape, x.dtype),)

    def _shape(self, x: Shape, g: Shape) -> Shape:
        if self.window is None:
            if len(x) not in (1, 2) or len(x) != len(g) or x[:-1] != g[:-1]:
                raise ShapeError(f"gradient {list(g)} does not fit a dense layer's input {list(x)}")
            return g[-1], x[-1]
        if self.window.output(x) != g[:2] or x[2] % self.groups or g[2] % self.groups:
            raise ShapeError(f"gradient {list(g)} does not fit a convolution's input {list(x)}")
        return g[2], *self.window.kernel, x[2] // self.groups

    def nest(self, *inputs: Shape) -> Nest:
        x, g = inputs[:2]
        loops, read_x, read_g, write = self._accesses(x, g)
        shape = self._shape(x, g)
        reads = [Access(0, x, read_x), Access(1, g, read_g)]
        if self.into:
            reads.append(Access(2, shape, write))
        if self.into == "step":
            reads.append(Access(3, (1,), (CONSTANT,)))
        return Nest(loops, tuple(reads), (Access(0, shape, write),), multiplies=True)

    def _accesses(
        self, x: Shape, g: Shape
    ) -> tuple[tuple[Loop, ...], tuple[Index, ...], tuple[Index, ...], tuple[Index, ...]]:
        """Loops, and the indices of x, g and the result."""
        if self.window is None:
            n, k = Loop("n", g[-1]), Loop("k", x[-1])
            rows = (Loop("m", x[0], LoopKind.REDUCE),) if len(x) == 2 else ()
            row = tuple(m.i for m in rows)
            return (n, k, *rows), (*row, k.i), (*row, n.i), (n.i, k.i)
        oh, ow = Loop("oh", g[0], LoopKind.REDUCE), Loop("ow", g[1], LoopKind.REDUCE)
        kh, kw = Loop("kh", self.window.kernel[0]), Loop("kw", self.window.kernel[1])
        oc, ic = Loop("oc", g[2]), Loop("ic", x[2] // self.groups)
        row, col = self.window.access(oh, ow, kh, kw)
        # of a group's channels the loop over filters does not know which, unless a filter has one
        own: Index = ic.i if self.groups == 1 else None
        if self.groups == g[2] == x[2]:
            own = oc.i
        return (oc, kh, kw, ic, oh, ow), (row, col, own), (oh.i, ow.i, oc.i), (oc.i, kh.i, kw.i, ic.i)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, g, *more = inputs
        total = self._total(x.astype(np.float64), g.astype(np.float64))
        if self.into == "sum":
            total = self.decay * more[0].astype(np.float64) + total
        elif self.into == "step":
            w = more[0].astype(np.float64)
            total = w - float(more[1][0]) * (total + self.decay * w)
        return (total.astype(x.dtype),)

    def _total(self, x: NDArray[Any], g: NDArray[Any]) -> NDArray[Any]:
        if self.window is None:
            return g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1])
        taps = self.window.taps(x, 0)
        per_filter, depth = g.shape[2] // self.groups, x.shape[2] // self.groups
        parts: list[NDArray[Any]] = []
        for k in range(self.groups):
            mine = taps[..., k * depth : (k + 1) * depth]
            parts.append(np.tensordot(g[..., k * per_filter : (k + 1) * per_filter], mine, ((0, 1), (0, 1))))
        return np.concatenate(parts)

    def __str__(self) -> str:
        layer = f"{self.window}{f' g{self.groups}' if self.groups > 1 else ''}" if self.window else "dense"
        return f"weight_gradient<{layer}{f' into {self.into}' if self.into else ''}>"
