# SPDX-License-Identifier: Apache-2.0
"""ONNX Resize and Upsample: the indices and weights of every output row and column are worked out here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, prod

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.broadcasting import elementwise
from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.call import Call, normal_axes
from mmcc.frontend.layouts import by_view
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Where
from mmcc.ops.resize import ResizeLinear, ResizeNearest

F = np.float32
Floats = NDArray[np.float32]

MAX_EXTENT = 65536
CROP = "tf_crop_and_resize"  # the coordinates that take a region of the old elements
NEAR = 1e-3  # places of elements: nearer than that, an exporter's rounding of scales is taken for a copy
MOST_TAPS = 8  # of an axis: the kernel has the addresses and weights of all pairs on the stack


@dataclass(frozen=True, slots=True)
class Rule:
    """How ONNX's attributes say that coordinates are found and samples weighted."""

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolated: float = 0.0

    def taps(self, scale: float) -> tuple[int, int]:
        """Which elements an element is made of, from the one below it: the first, and how many."""
        reach = 1 if self.mode == "linear" else 2
        begin = floor(-reach / self.squeeze(scale)) + 1
        return begin, 2 - 2 * begin

    def squeeze(self, scale: float) -> float:
        """What distances are multiplied with: antialias widens the filter as the axis gets shorter."""
        return min(scale, 1.0) if self.antialias else 1.0


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its extent before and after, the scale that the formulas use, and the part that is taken."""

    old: int
    new: int
    scale: float
    begin: float = 0.0
    end: float = 1.0

    @property
    def is_kept(self) -> bool:
        """True if it stays as it is."""
        return self.scale == 1 and self.old == self.new and (self.begin, self.end) == (0.0, 1.0)


@converts(
    "Resize",
    since=10,
    notes="nearest, linear and cubic; constant sizes",
    layout=Layout.CHANNELS_FIRST,
)
def convert_resize(call: Call) -> Value:
    """Resize by scales or to sizes."""
    x = call.input(0)
    if call.version < 11:
        rule = Rule(call.text("mode"), "asymmetric", "simple")
        axes = _axes_by_scales(x, call.floats_at(1, "the scales"), range(x.rank))
        return _resized(call.build, x, axes, rule)
    rule = Rule(
        call.text("mode"),
        call.text("coordinate_transformation_mode"),
        call.text("nearest_mode"),
        call.finite("cubic_coeff_a"),
        bool(call.integer("exclude_outside")),
        bool(call.integer("antialias", 0)) and call.text("mode") != "nearest",
        call.finite("extrapolation_value"),
    )
    given = call.integers("axes")
    which = normal_axes(given, x.rank) if given is not None else list(range(x.rank))
    scales = call.floats_at(2, "the scales")
    sizes = call.ints_at(3, "the sizes")
    axes = _axes_by_sizes(call, x, sizes, which) if sizes else _axes_by_scales(x, scales, which)
    if sizes and call.text("keep_aspect_ratio_policy", "stretch") != "stretch" and min(given or [0]) < 0:
        raise unsupported(
            f"keep_aspect_ratio_policy with axes {given}: ONNX Runtime leaves those below 0 as they are",
            "stating `axes` by numbers of 0 and more",
        )
    if rule.coordinates == CROP:
        axes = _cropped(axes, which, call.floats_at(1, "the region"))
    if rule.antialias and any(rule.taps(axis.scale)[1] > MOST_TAPS for axis in axes):
        raise unsupported(f"Resize with antialias of more than {MOST_TAPS} elements along an axis")
    return _resized(call.build, x, axes, rule)


@converts("Upsample", since=7, notes="nearest and linear; constant scales", layout=Layout.CHANNELS_FIRST)
def convert_upsample(call: Call) -> Value:
    """The older Resize."""
    x = call.input(0)
    scales = (call.numbers("scales") or []) if call.version < 9 else call.floats_at(1, "the scales")
    axes = _axes_by_scales(x, scales, range(x.rank))
    return _resized(call.build, x, axes, Rule(call.text("mode"), "asymmetric", "simple"))


def _axes_by_scales(x: Value, scales: list[float], which: list[int] | range) -> list[Axis]:
    if len(scales) != len(which) or not all(np.isfinite(s) and s > 0 for s in scales):
        raise bad_model("MM104", f"scales {scales} for {len(which)} axes of {list(x.shape)}")
    of_axis = dict(zip(which, scales, strict=True))
    axes: list[Axis] = []
    for k, extent in enumerate(x.shape):
        scale = of_axis.get(k, 1.0)
        size = extent * scale if scale > MAX_EXTENT else float(F(extent) * F(scale))  # as ONNX Runtime
        if size > MAX_EXTENT:
            raise bad_model("MM105", f"axis {k} of {list(x.shape)} is scaled to {size:g}")
        axes.append(Axis(extent, floor(size), scale))
    return axes


def _axes_by_sizes(call: Call, x: Value, sizes: list[int], which: list[int]) -> list[Axis]:
    if len(sizes) != len(which) or min(sizes) < 1:
        raise bad_model("MM104", f"sizes {sizes} for {len(which)} axes of {list(x.shape)}")
    of_axis = dict(zip(which, sizes, strict=True))
    policy = call.text("keep_aspect_ratio_policy", "stretch") if call.version >= 18 else "stretch"
    if policy == "stretch":
        return [Axis(n, of_axis.get(k, n), float(F(of_axis.get(k, n)) / F(n))) for k, n in enumerate(x.shape)]
    if policy not in ("not_larger", "not_smaller"):
        raise bad_model("MM103", f'keep_aspect_ratio_policy is "{policy}"')
    ratios = [float(F(of_axis[k]) / F(x.shape[k])) for k in which]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [
        Axis(n, floor(float(F(scale) * F(n)) + 0.5), scale) if k in of_axis else Axis(n, n, 1.0)
        for k, n in enumerate(x.shape)
    ]


def _cropped(axes: list[Axis], which: list[int], region: list[float]) -> list[Axis]:
    """The axes with the part of each that is taken: all first places, then all last ones, 1 is the end."""
    if len(region) != 2 * len(which) or not np.isfinite(region).all():
        raise bad_model("MM104", f"a region of {len(region)} places for {len(which)} axes")
    half = len(which)
    parts = {k: (region[i], region[half + i]) for i, k in enumerate(which)}
    return [
        replace(axis, begin=parts[k][0], end=parts[k][1]) if k in parts else axis
        for k, axis in enumerate(axes)
    ]


def _resized(build: Builder, x: Value, axes: list[Axis], rule: Rule) -> Value:
    axes = _with_copied(axes, rule)
    changed = [k for k, axis in enumerate(axes) if not axis.is_kept]
    if not changed:
        return x
    if (
        any(axis.new < 1 or axis.new > MAX_EXTENT for axis in axes)
        or prod(a.new for a in axes) > MAX_ELEMENTS
    ):
        raise bad_model("MM105", f"{list(x.shape)} is resized to {[axis.new for axis in axes]}")
    y = x
    for pair in _pairs(changed, x.rank):  # the weights of an element are products of those of its axes
        y = _resized_pair(build, y, axes, pair, rule)
    return _extrapolated(build, y, axes, rule) if rule.coordinates == CROP else y


def _with_copied(axes: list[Axis], rule: Rule) -> list[Axis]:
    """The axes, those that ONNX Runtime copies kept as they are.

    It copies the tensor where no extent changes, an axis that keeps its extent where antialias is asked for,
    and one of scale 1, whatever region is to be taken of it. By ONNX's formulas new elements may lie
    elsewhere even so: that is refused.
    """
    unchanged = all(axis.old == axis.new for axis in axes)
    found: list[Axis] = []
    for k, axis in enumerate(axes):
        copied = axis.old == axis.new and (unchanged or rule.antialias or axis.scale == 1)
        if copied and not axis.is_kept:
            away = np.abs(source_coordinates(axis, rule.coordinates) - np.arange(axis.new)).max(initial=0)
            if away > NEAR:
                how = (
                    f"to a region from {axis.begin:g} to {axis.end:g}"
                    if rule.coordinates == CROP
                    else f"with scale {axis.scale:g}"
                )
                raise unsupported(
                    f"Resize of axis {k}, {how}, which keeps its {axis.old} elements: ONNX Runtime copies "
                    f"them, by ONNX they move by up to {away:g} of one"
                )
        found.append(Axis(axis.old, axis.new, 1.0) if copied else axis)
    return found


def _pairs(changed: list[int], rank: int) -> list[list[int]]:
    """The axes by twos, each in one of them; an image's rows and columns together."""
    image = [2, 3] if rank == 4 and {2, 3} <= {*changed} else []
    others = [k for k in changed if k not in image]
    return [pair for pair in (image, *(others[k : k + 2] for k in range(0, len(others), 2))) if pair]


def _resized_pair(build: Builder, x: Value, axes: list[Axis], changed: list[int], rule: Rule) -> Value:
    """One axis or two, which the kernel takes as rows and columns."""
    rows, cols = _two_axes(changed, x.rank)
    others = [k for k in range(x.rank) if k not in (rows, cols)]
    # channels innermost: the order that images have anyway
    inner = [v for v in x.solid if any(v in x.axes[k] for k in others)]
    own = [list(x.axes[rows]), list(x.axes[cols]) if cols is not None else []]
    tensor = by_view(build, x, [*own, inner])
    pair = (axes[rows], axes[cols] if cols is not None else Axis(1, 1, 1.0))
    made = _emit(build, x, tensor, pair, rule)
    place = {v: 2 + k for k, v in enumerate(inner)}
    view = (pair[0].new, pair[1].new, *(x.view[v] for v in inner))
    of = [tuple(place[v] for v in axis if v in place) for axis in x.axes]
    of[rows] = (0,)
    if cols is not None:
        of[cols] = (1,)
    return Value(made, x.dtype, view, tuple(of))


def _extrapolated(build: Builder, y: Value, axes: list[Axis], rule: Rule) -> Value:
    """One value for all that lies beside the old elements."""
    inside = np.ones((1,) * y.rank, bool)
    for k, axis in enumerate(axes):
        if not axis.is_kept:
            at = source_coordinates(axis, rule.coordinates)
            there = (at >= 0) & (at <= axis.old - 1)
            inside = inside & there.reshape([-1 if i == k else 1 for i in range(y.rank)])
    if inside.all():
        return y
    if rule.antialias:
        raise unsupported(
            f"Resize with antialias of a region beyond the input: ONNX has {rule.extrapolated:g} there, "
            "ONNX Runtime has not"
        )
    value = min(max(rule.extrapolated, y.dtype.least), y.dtype.most)
    beside = build.constant(
        np.array(value if y.dtype.is_float else int(value), y.dtype.numpy), f"{build.hint}.beside"
    )
    return elementwise(build, Where(), build.constant(inside, f"{build.hint}.inside"), y, beside)


def _two_axes(changed: list[int], rank: int) -> tuple[int, int | None]:
    """Which ONNX axes are rows and columns: the image's, where only these change."""
    if rank == 4 and set(changed) <= {2, 3}:
        return 2, 3
    if rank == 3 and changed == [2]:
        return 2, None
    return (changed[0], changed[1]) if len(changed) == 2 else (changed[0], None)


def _emit(build: Builder, x: Value, tensor: str, pair: tuple[Axis, Axis], rule: Rule) -> str:
    if rule.mode == "nearest":
        rows, cols = (nearest_indices(axis, rule) for axis in pair)
        return build.emit(ResizeNearest(rows, cols), tensor).name
    if rule.mode not in ("linear", "cubic"):
        raise unsupported(f'Resize with mode "{rule.mode}"')
    if not x.dtype.is_float:
        raise unsupported(
            f"{rule.mode} Resize of {x.dtype.name}: runtimes disagree on how its results are rounded",
            "quantizing with quant_format QuantFormat.QDQ, where it resizes floats and is rounded like them",
            code="MM203",
        )
    alone = pair[0].is_kept or pair[1].is_kept
    (row_first, row_weight), (col_first, col_weight) = (weights(axis, rule, beside=alone) for axis in pair)
    taps = max(row_weight.shape[1], col_weight.shape[1])
    row_weight, col_weight = (np.pad(w, ((0, 0), (0, taps - w.shape[1]))) for w in (row_weight, col_weight))
    op = ResizeLinear(row_first, col_first, taps)
    names = [
        build.constant(w, f"{build.hint}.{what}").tensor
        for w, what in ((row_weight, "row_weight"), (col_weight, "col_weight"))
    ]
    return build.emit(op, tensor, *names).name


def source_coordinates(axis: Axis, mode: str) -> Floats:
    """Where each new element lies among the old ones, in single precision as ONNX Runtime has it."""
    at = np.arange(axis.new, dtype=F)
    scale, half = F(axis.scale), F(0.5)
    if (mode == "pytorch_half_pixel" and axis.new == 1) or (mode == "align_corners" and axis.new == 1):
        return np.zeros(1, F)
    match mode:
        case "tf_crop_and_resize":
            return _region(axis)
        case "asymmetric":
            return at / scale
        case "half_pixel" | "pytorch_half_pixel" | "tf_half_pixel_for_nn":
            center = (at + half) / scale
            return center if mode.startswith("tf") else center - half
        case "align_corners":
            return at * F(axis.old - 1) / F(axis.new - 1)
        case "half_pixel_symmetric":
            adjustment = F(axis.new) / (scale * F(axis.old))
            offset = F(axis.old) / F(2) * (F(1) - adjustment)
            wide = at.astype(np.float64)  # ONNX Runtime has this one in double precision
            return (offset + (wide + 0.5) / scale - 0.5).astype(F)
        case _:
            raise unsupported(f'Resize with coordinate_transformation_mode "{mode}"')


def _region(axis: Axis) -> Floats:
    """Places spread over a region from its first to its last one, or its middle."""
    begin, end, last = F(axis.begin), F(axis.end), F(axis.old - 1)
    if axis.new == 1:
        return np.array([F(0.5) * (begin + end) * last], F)
    return begin * last + np.arange(axis.new, dtype=F) * (end - begin) * last / F(axis.new - 1)


def nearest_indices(axis: Axis, rule: Rule) -> tuple[int, ...]:
    """The old element that each new one copies."""
    if axis.is_kept:
        return tuple(range(axis.new))
    at = source_coordinates(axis, rule.coordinates).astype(np.float64)
    match rule.nearest:
        case "simple":  # before operator set 11
            found = np.ceil(at) if axis.scale < 1 else np.trunc(at)
        case "round_prefer_floor":
            found = np.ceil(at - 0.5)
        case "round_prefer_ceil":
            found = np.floor(at + 0.5)
        case "floor":
            found = np.floor(at)
        case "ceil":
            found = np.ceil(at)
        case _:
            raise bad_model("MM103", f'nearest_mode is "{rule.nearest}"')
    return tuple(np.clip(found, 0, axis.old - 1).astype(int).tolist())


def weights(axis: Axis, rule: Rule, *, beside: bool = False) -> tuple[tuple[int, ...], Floats]:
    """For each new element the first old one it reads, and the weights of that and those behind it.

    Linear: what lies beside the old elements is the first or the last alone, or with `beside` by weights as
    all others have, which meet that element twice: so all rows are made alike, as a stream makes them.
    """
    if axis.is_kept:
        taps = 2 if rule.mode == "linear" else 4
        only = np.zeros((axis.new, taps), F)
        only[:, taps // 2 - 1] = 1
        return tuple(k - (taps // 2 - 1) for k in range(axis.new)), only
    at = source_coordinates(axis, rule.coordinates)
    squeeze = rule.squeeze(axis.scale)
    if rule.mode == "linear" and squeeze == 1:
        at = np.clip(at, F(0), F(axis.old - 1)) if not beside else at
        first = np.floor(at)
        part = at - first
        return tuple(first.astype(int).tolist()), np.stack([F(1) - part, part], 1)
    begin, taps = rule.taps(axis.scale)
    first = np.floor(at).astype(int) + begin
    part = (at - np.floor(at)).astype(np.float64)
    away = np.abs(part[:, None] - begin - np.arange(taps)) * squeeze
    table = _cubic(away, rule.cubic_a) if rule.mode == "cubic" else np.maximum(1 - away, 0)
    if squeeze < 1:
        table = table / table.sum(1, keepdims=True)
    if rule.exclude_outside:
        places = first[:, None] + np.arange(taps)
        table = np.where((places >= 0) & (places < axis.old), table, 0)
        table = table / table.sum(1, keepdims=True)
    return tuple(first.tolist()), table.astype(F)


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """The cubic convolution kernel."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
