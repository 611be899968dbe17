# SPDX-License-Identifier: Apache-2.0
"""Operators that put elements elsewhere: ReverseSequence, MaxUnpool, Col2Im."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mmcc.frontend.written_out.body import MOST_CONSTANT, Body, ints, writes


@writes("ReverseSequence")
def _reverse_sequence(body: Body) -> Sequence[str]:
    """Each sequence read from its end; what is behind its length stays."""
    shape = body.shape(0)
    time, batch = (int(body.attributes.get(f"{name}_axis", k)) for k, name in enumerate(("time", "batch")))
    steps = np.arange(shape[time], dtype=np.int64)
    along = [shape[time] if k == time else 1 for k in range(len(shape))]
    across = [shape[batch] if k == batch else 1 for k in range(len(shape))]
    lengths = body.add("Reshape", "x1", ints(*across))
    step = body.constant(steps.reshape(along))
    back = body.add("Sub", body.add("Sub", lengths, ints(1)), step)
    index = body.add("Where", body.add("Less", step, lengths), back, step)
    return [body.add("GatherElements", "x0", body.add("Expand", index, ints(*shape)), axis=time)]


@writes("MaxUnpool")
def _max_unpool(body: Body) -> Sequence[str]:
    """Values where MaxPool found them, zeros elsewhere."""
    x, kernel = body.shape(0), body.attributes["kernel_shape"]
    strides = body.attributes.get("strides", [1] * len(kernel))
    pads = body.attributes.get("pads", [0] * (2 * len(kernel)))
    both = [a + b for a, b in zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)]
    spatial = [(n - 1) * s - p + k for n, s, p, k in zip(x[2:], strides, both, kernel, strict=True)]
    whole = [*x[:2], *spatial]
    if min(whole) < 1 or prod(whole) > MOST_CONSTANT:
        raise LookupError("no such output")
    zeros = np.zeros(prod(whole), np.float32)
    flat = [body.add("Reshape", name, ints(-1)) for name in ("x1", "x0")]
    made = body.add("Reshape", body.add("ScatterElements", zeros, *flat, axis=0), ints(*whole))
    if len(body.shapes) > 2:
        wanted = body.ints(2)
        if any(a < b for a, b in zip(wanted, whole, strict=True)):
            raise LookupError("a smaller output")
        behind = [a - b for a, b in zip(wanted, whole, strict=True)]
        made = body.add("Pad", made, ints(*([0] * len(whole)), *behind))
    return [made]


@writes("Col2Im")
def _col2im(body: Body) -> Sequence[str]:
    """A transposed convolution in which each column has a filter of its own, with a single 1."""
    x, image, block = body.shape(0), body.ints(1), body.ints(2)
    rank, taps = len(block), prod(block)
    strides = body.attributes.get("strides", [1] * rank)
    dilations = body.attributes.get("dilations", [1] * rank)
    pads = body.attributes.get("pads", [0] * (2 * rank))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, block, strict=True)]
    whole = [n + a + b for n, a, b in zip(image, pads[:rank], pads[rank:], strict=True)]
    places = [(n - r) // s + 1 for n, r, s in zip(whole, reach, strides, strict=True)]
    channels = x[1] // taps
    if taps < 1 or channels * taps != x[1] or x[1] * taps > MOST_CONSTANT:
        raise LookupError("no such columns")
    spare = [n - r - (p - 1) * s for n, r, p, s in zip(whole, reach, places, strides, strict=True)]
    ones = np.tile(np.eye(taps, dtype=np.float32), (channels, 1)).reshape(channels * taps, 1, *block)
    columns = body.add("Reshape", "x0", ints(x[0], x[1], *places))
    made = body.add(
        "ConvTranspose",
        columns,
        ones,
        group=channels,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=spare,
    )
    return [made]
