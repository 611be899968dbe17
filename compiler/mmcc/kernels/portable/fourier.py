# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms: what each stage turns its numbers by is a table in flash, read from front to back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.fourier import Fourier, ShortTimeFourier, Transform, turns

Fields = tuple[tuple[str, Field], ...]


@layer(Fourier)
def fourier(op: Fourier, site: Site) -> KernelUse:
    """A pixel may hold several lines, one behind the other."""
    transform, x = op.transform, site.inputs[0]
    lines = x.geometry[2] // x.shape[-1]
    return KernelUse(
        "fourier",
        (("source", "lines"), ("window", False), *_options(transform)),
        (
            *_fields(transform, site),
            ("lines", lines),
            ("given", x.shape[-1] // transform.parts),
            ("outputs", transform.outputs),
            *((("most", transform.most),) if not (transform.halved and transform.inverse) else ()),
        ),
    )


@layer(ShortTimeFourier)
def short_time_fourier(op: ShortTimeFourier, site: Site) -> KernelUse:
    """A frame begins every `step` rows of the signal, which may be a ring."""
    transform, window = op.transform, len(site.inputs) > 1
    return KernelUse(
        "fourier",
        (("source", "frames"), ("window", window), *_options(transform)),
        (
            *_fields(transform, site),
            *((("x1", source_view(site, 1)),) if window else ()),
            ("step", op.step),
            *((("outputs", transform.outputs),) if transform.work else ()),
        ),
        origins=len(site.inputs),
    )


def _options(transform: Transform) -> tuple[tuple[str, Any], ...]:
    first, *others = transform.radices or (0,)
    return (
        ("number", transform.parts),
        ("halved", transform.halved),
        ("inverse", transform.inverse),
        ("real", transform.is_real),
        ("all", not transform.onesided),
        ("work", transform.work > 0),
        ("first", first),
        ("radices", tuple(sorted(set(others)))),
    )


def _fields(transform: Transform, site: Site) -> Fields:
    stages = list(transform.stages())[1:]  # the first turns nothing
    found: list[tuple[str, Field]] = [
        ("x", source_view(site, 0)),
        ("y", site.output.where()),
        ("size", transform.size),
        ("places", site.keep("places", transform.places())),
    ]
    if transform.work:
        found.append(("work", site.work()))
    if stages:
        tables = [turns(*stage)[:, 1:].reshape(-1) for stage in stages]
        found.append(("radices", site.keep("radices", np.array([radix for radix, _ in stages], np.int8))))
        found.append(("turns", site.keep("turns", _floats(np.concatenate(tables)))))
    if transform.halved:
        found.append(("halves", site.keep("halves", _floats(transform.halves()))))
    if transform.inverse:
        found.append(("half", 0.5 * transform.scale if transform.halved else transform.scale))
    return tuple(found)


def _floats(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Real and imaginary parts side by side."""
    return np.stack([np.real(numbers), np.imag(numbers)], -1).astype(np.float32)
