# SPDX-License-Identifier: Apache-2.0
"""Gradients of Fourier transforms, which are transforms the other way."""

from __future__ import annotations

import numpy as np

from mmcc.ops.fourier import MOST, Fourier, ShortTimeFourier, Transform
from mmcc.ops.movement import Slice
from mmcc.training.gradients.movement import taken_back
from mmcc.training.gradients.registry import Backward, gradient
from mmcc.training.gradients.unknown import no_gradient


@gradient(Fourier)
def fourier(op: Fourier, call: Backward) -> dict[int, str]:
    """The transposed transform; of the numbers that were not given nothing is asked."""
    return {0: _back(op.transform, call, call.shape(call.node.inputs[0])[-1])}


@gradient(ShortTimeFourier)
def short_time_fourier(op: ShortTimeFourier, call: Backward) -> dict[int, str]:
    """The same for each frame, times the window; a number is in several frames, whose shares are added up."""
    if 1 in call.wanted:
        raise no_gradient(call.node)
    x, *window = call.node.inputs
    length, parts = op.transform.length, op.transform.parts
    frames = call.shape(call.node.output)[0]
    g = call.reshaped(_back(op.transform, call, length * parts), (frames, length, parts))
    for w in window:
        g = call.binary("mul", g, call.reshaped(w, (length, 1)))
    places = (np.arange(frames)[:, None] * op.step + np.arange(length)).reshape(-1)
    g = call.reshaped(g, (frames * length, parts))
    return {0: taken_back(call, g, 0, places.tolist(), call.shape(x)[0])}


def _back(transform: Transform, call: Backward, given: int) -> str:
    """What the first `given` floats of each line add to the loss."""
    length, parts = transform.length, transform.parts
    if length > MOST:
        raise no_gradient(call.node)
    g = call.whole
    if transform.is_real:  # all numbers but the first and the middle one stand for two
        back = Transform(length, 1, onesided=True)
        twice = np.full((back.count, 2), 2.0 / length, np.float32)
        twice[0] = twice[length // 2 if length % 2 == 0 else 0] = 1.0 / length
        scale = call.draft.constant(twice.reshape(-1), "shares")
        g = call.binary("mul", call.add(Fourier(back), g), scale)
    else:
        back = Transform(length, 2, inverse=not transform.inverse)
        g = call.scaled(call.add(Fourier(back), g), 1.0 / length if transform.inverse else float(length))
    lines = call.shape(g)[:-1]
    starts, steps = (0,) * (len(lines) + 1), (1,) * len(lines)
    return call.add(Slice(starts, (*steps, 3 - parts), (*lines, given)), g)
