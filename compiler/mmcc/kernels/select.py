# SPDX-License-Identifier: Apache-2.0
"""How each operator becomes a kernel call: template, options, and the numbers of its constant struct.

One function an op class, registered with `@layer(OpClass)`; it gets the node's operands and views and returns
a `KernelUse`. Arithmetic on shapes and packing of constants happen here, never in a template.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.handoff import Handoff
from mmcc.ir.module import RUN
from mmcc.ir.op import Op
from mmcc.ir.program import Constant, KernelUse, View
from mmcc.ir.types import Shape, Tensor, geometry
from mmcc.kernels.handoff import handed_off
from mmcc.kernels.variants import variant_of
from mmcc.target import Target


@dataclass(frozen=True, slots=True)
class Operand:
    """One input of a node: an activation with a view, or a constant with data."""

    tensor: Tensor
    view: View | None
    data: NDArray[Any] | None

    @property
    def shape(self) -> Shape:
        return self.tensor.shape

    @property
    def dtype(self) -> ElementType:
        return self.tensor.dtype

    @property
    def geometry(self) -> tuple[int, int, int]:
        """(rows, columns, channels)."""
        return geometry(self.tensor.shape)

    def constant(self) -> NDArray[Any]:
        """The data of an operand that has to be constant."""
        assert self.data is not None, f"{self.tensor.name} is not constant"
        return self.data

    def where(self) -> View:
        """The view of an operand that has to be an activation."""
        assert self.view is not None, f"{self.tensor.name} is constant"
        return self.view


@dataclass(frozen=True, slots=True)
class Site:
    """A node ready for code: its C label, operands and results, and the target it is for."""

    label: str  # "n3": prefix of the node's constants
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    target: Target
    entry: str = RUN  # of the module, that the node belongs to
    scratch: View | None = None  # where a kernel works that promised to need it, or was lent some
    room: int = 0  # bytes there
    handoff: Handoff | None = None  # the user's function that computes the node
    alone: bool = False  # no other node writes there from this one's first row to its last
    backward: bool = False  # it makes its rows from the last to the first, one a call

    @property
    def output(self) -> Operand:
        """The result of an op that has one; of others, the one by whose rows it is walked."""
        return self.outputs[0]

    def work(self) -> View:
        """The scratch of a kernel that needs some."""
        assert self.scratch is not None, f"{self.label} has no scratch"
        return self.scratch

    def variant(self, template: str) -> str:
        """The first of the target's variants that has this template: pack constants for it."""
        return variant_of(template, self.target.kernels)

    def keep(self, what: str, data: NDArray[Any], align: int = 0) -> Constant:
        """A constant array of this node in the weights."""
        cells = ElementType.of(data).cells(data)
        return Constant(f"{self.label}_{what}", cells, align or cells.dtype.itemsize)

    def read(self, k: int, what: str = "operand") -> View:
        """Operand k as the output's geometry sees it: broadcast axes get stride 0 (columns) or 1 row.

        Constants are read from the weights through a view of their own. The channel axis is not looked at:
        ask `channel_stride`.
        """
        operand, rank = self.inputs[k], len(self.output.shape)
        rows, cols, channels = geometry((1,) * (rank - len(operand.shape)) + operand.shape)
        view = operand.view
        if view is None:
            constant = self.keep(f"{what}{k}", operand.constant())
            view = View("weights", constant, operand.dtype.bytes(cols * channels), channels, rows)
        spread = cols == 1 and self.output.geometry[1] > 1
        return replace(view, rows=1 if rows == 1 else view.rows, col_stride=0 if spread else view.col_stride)

    def channel_stride(self, k: int) -> int:
        """0 where operand k has one channel for all of the output's, else 1."""
        return 0 if self.inputs[k].geometry[2] == 1 and self.output.geometry[2] > 1 else 1


Layer = Callable[[Any, Site], KernelUse]
LAYERS: dict[type, Layer] = {}


def layer(*ops: type) -> Callable[[Layer], Layer]:
    """Register the function that makes kernel calls of these op classes."""

    def register(function: Layer) -> Layer:
        for op in ops:
            assert op not in LAYERS, f"{op.__name__} has two layers"
            LAYERS[op] = function
        return function

    return register


VariantLayer = Callable[[Any, Site], KernelUse | None]
VARIANT_LAYERS: dict[tuple[str, type], VariantLayer] = {}


def variant_layer(variant: str, *ops: type) -> Callable[[VariantLayer], VariantLayer]:
    """Register kernels that only one variant has; None means that the node goes the common way."""

    def register(function: VariantLayer) -> VariantLayer:
        for op in ops:
            assert (variant, op) not in VARIANT_LAYERS, f"{op.__name__} has two layers for {variant}"
            VARIANT_LAYERS[variant, op] = function
        return function

    return register


def kernel_use(op: Op, site: Site) -> KernelUse:
    """The kernel, options and numbers for one node."""
    if site.handoff is not None:
        return handed_off(op, site, site.handoff)
    for variant in site.target.kernels:
        special = VARIANT_LAYERS.get((variant, type(op)))
        use = special(op, site) if special else None
        if use is not None:
            return use
    return LAYERS[type(op)](op, site)
