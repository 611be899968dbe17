# SPDX-License-Identifier: Apache-2.0
"""ONNX's Fourier transforms: fast ones, and of other lengths products with a constant matrix."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count as integers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call, normal_axis
from mmcc.frontend.converters.matrix import dense, layer_along
from mmcc.frontend.converters.parts import concat, sliced
from mmcc.frontend.layouts import arranged, permuted, reshaped
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import converts
from mmcc.frontend.value import Value, whole
from mmcc.ops.conv import Conv
from mmcc.ops.fourier import MOST, Fourier, ShortTimeFourier, Transform, radices
from mmcc.ops.window import Window

MAX_LENGTH = 2**13  # of a transform by a matrix, which has the square of it
LEAST_FAST = 16  # shorter ones are fewer instructions as a matrix


def _is_fast(transform: Transform) -> bool:
    """True if there is a fast transform, and it is worth it."""
    return transform.length >= LEAST_FAST and transform.size <= MOST and radices(transform.size) is not None


def _matrix(
    build: Builder, length: int, parts: int, transform: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[np.float32]:
    """[outputs, 2 or 1, length, parts]: what each input, its imaginary part too, adds to each output."""
    if length > MAX_LENGTH:
        raise bad_model(
            "MM105",
            f"a transform of {length} numbers; more than {MAX_LENGTH} are supported without factors but "
            f"2, 3 and 5, up to {MOST} (twice as many real ones)",
        )
    build.spend(64 * length * length, "a Fourier transform")
    if length >= LEAST_FAST:
        fast = next(n for n in integers(length + 1) if radices(n) is not None)
        build.warn(
            f"a transform of {length} numbers, which has other factors than 2, 3 and 5, is a product with a "
            f"matrix; one of {fast} takes a small part of the instructions and of the flash"
        )
    made = [transform(np.eye(length) * (1, 1j)[part]) for part in range(parts)]  # [input, output] each
    halves = (np.real, np.imag) if np.iscomplexobj(made[0]) else (np.real,)
    found = np.array([[half(one) for one in made] for half in halves])  # [half, part, input, output]
    return found.transpose(3, 0, 2, 1).astype(np.float32)


def _of_numpy(transform: Transform, signal: NDArray[Any]) -> NDArray[Any]:
    """The transform of [lines, numbers]."""
    if transform.inverse:
        inverse = np.fft.irfft if transform.onesided else np.fft.ifft
        return inverse(signal, transform.length)
    return np.fft.fft(signal, transform.length)[:, : transform.count]


def _in_order(build: Builder, x: Value) -> Value:
    """`x` with its last axis innermost in memory, in its order."""
    line = x.atoms([x.rank - 1])
    if x.solid[len(x.solid) - len(line) :] == line:
        return x
    return permuted(build, x, [v for v in x.solid if v not in line] + line)


@converts("DFT", since=17, notes="constant length; fast if it has no factor but 2, 3 and 5, else a matrix")
def convert_dft(call: Call) -> Value:
    """The transform along an axis of a real or complex signal; the last axis has the parts of a number."""
    x, build = call.float_input(0), call.build
    if call.version < 20:
        axis = normal_axis(call.integer("axis", 1), x.rank)
    else:
        axis = normal_axis(int(-2.0 if (given := call.scalar(2, "the axis")) is None else given), x.rank)
    parts = x.shape[-1]
    inverse, onesided = bool(call.integer("inverse", 0)), bool(call.integer("onesided", 0))
    if x.rank < 2 or axis == x.rank - 1 or parts not in (1, 2):
        raise bad_model("MM104", f"DFT of {list(x.shape)} along axis {axis}")
    given = call.scalar(1, "the length")
    usual = 2 * (x.shape[axis] - 1) if inverse and onesided else x.shape[axis]
    length = int(given) if given is not None else usual
    if length < 1:
        raise bad_model("MM104", f"DFT of {length} numbers")
    fourier = Transform(length, parts, inverse, onesided)
    used = min(x.shape[axis], fourier.most)
    x = sliced(build, x, {axis: (0, 1, used)})
    order = [k for k in range(x.rank) if k not in (axis, x.rank - 1)]
    lines = reshaped(
        build, x.transposed([*order, axis, x.rank - 1]), (*(x.shape[k] for k in order), used * parts)
    )
    if _is_fast(fourier):
        y = layer_along(build, Fourier(fourier), _in_order(build, lines), lines.rank - 1)
    else:
        matrix = _matrix(build, max(used, length), parts, lambda given: _of_numpy(fourier, given))[
            :, :, :used
        ]
        y = dense(build, lines, lines.rank - 1, build.constant(matrix.reshape(fourier.outputs, -1)), None)
    y = reshaped(build, y, (*y.shape[:-1], fourier.count, fourier.outputs // fourier.count))
    back = sorted(range(x.rank), key=[*order, axis, x.rank - 1].__getitem__)
    return y.transposed(back)


@converts("STFT", since=17, notes="constant window, step and length; lengths as of DFT")
def convert_stft(call: Call) -> Value:
    """Transforms of a window that moves along a signal."""
    x, build = call.float_input(0), call.build
    step = int(call.scalar(1, "the step") or 0)
    window = call.constant(2, "the window")
    given = call.scalar(3, "the length")
    if x.rank == 2:
        x = reshaped(build, x, (*x.shape, 1))
    if x.rank != 3 or x.shape[2] not in (1, 2):
        raise bad_model("MM104", f"STFT of {list(x.shape)}")
    length = int(given) if given is not None else window.size if window is not None else x.shape[1]
    onesided = bool(call.integer("onesided", 1))
    if step < 1 or not 1 <= length <= x.shape[1] or (window is not None and window.shape != (length,)):
        raise bad_model("MM104", f"frames of {length} every {step} of {list(x.shape)}")
    transform = Transform(length, x.shape[2], onesided=onesided)
    frames = _fast_frames if _is_fast(transform) else _frames_by_matrix
    return frames(build, x, transform, step, window)


def _fast_frames(
    build: Builder, x: Value, transform: Transform, step: int, window: NDArray[Any] | None
) -> Value:
    """Frames [signals, frames, count, 2] of signals [signals, numbers, parts]."""
    op = ShortTimeFourier(transform, step)
    windows = [] if window is None else [build.constant(window.astype(np.float32)).tensor]
    samples: list[Value] = []
    for k in range(x.shape[0]):
        one = sliced(build, x, {0: (k, 1, 1)})
        made = build.emit(op, arranged(build, one, [(0, 1), (2,)]), *windows)
        samples.append(reshaped(build, whole(made, (0, 1)), (1, made.shape[0], transform.count, 2)))
    return concat(build, samples, 0)


def _frames_by_matrix(
    build: Builder, x: Value, transform: Transform, step: int, window: NDArray[Any] | None
) -> Value:
    """The same by a convolution, whose weights have 8 bytes times the square of the length at most."""
    length, count = transform.length, transform.count
    matrix = _matrix(build, length, x.shape[2], lambda signal: _of_numpy(transform, signal))
    if window is not None:
        matrix = matrix * window.astype(np.float32)[:, None]
    filters = matrix.reshape(2 * count, length, 1, x.shape[2])
    weights = build.constant(np.ascontiguousarray(filters.astype(np.float32)), f"{build.hint}.matrix").tensor
    bias = build.constant(np.zeros(2 * count, np.float32), f"{build.hint}.bias").tensor
    op = Conv(Window((length, 1), (step, 1)))
    samples: list[Value] = []
    for k in range(x.shape[0]):
        one = sliced(build, x, {0: (k, 1, 1)})
        made = build.emit(op, arranged(build, one, [(1,), (), (2,)]), weights, bias)
        samples.append(reshaped(build, whole(made, (0, 2)), (1, made.shape[0], count, 2)))
    return concat(build, samples, 0)
