# SPDX-License-Identifier: Apache-2.0
"""Discrete Fourier transforms by a fast algorithm, float: of lines, and of frames of a signal.

A transform of `size` complex numbers goes by stages of radix 4, 2, 3 and 5 in place (Cooley and Tukey,
decimation in time): the numbers are first put where the stages expect them, a stage then joins `radix`
transforms of `before` numbers, each time of the numbers turned by powers of a root of 1. A real signal of
even length is a complex one of half the length, whose transform is split (or joined, for the inverse) by
pairs. `transformed` does in numpy what `templates/kernels/portable/fourier.c.j2` does in C, in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Index, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op

RADICES = (4, 2, 3, 5)
MOST = 2**16  # of complex numbers: their places are stored in 16 bits
Complex = NDArray[Any]


def radices(size: int) -> tuple[int, ...] | None:
    """The radix of each stage of `size` complex numbers, in their order; None if it has other factors."""
    found: list[int] = []
    for radix in RADICES:
        while size % radix == 0:
            found.append(radix)
            size //= radix
    return tuple(found) if size == 1 else None


@dataclass(frozen=True, slots=True)
class Transform:
    """What is transformed: `length` numbers, real (`parts` 1) or complex (2: real and imaginary part).

    `onesided`: the result is the first length // 2 + 1 numbers; of an inverse it is real, and these are what
    is given. An inverse is divided by the length, as ONNX and numpy have it.
    """

    length: int
    parts: int
    inverse: bool = False
    onesided: bool = False

    @property
    def is_real(self) -> bool:
        """True if the numbers of the result have one part."""
        return self.inverse and self.onesided

    @property
    def most(self) -> int:
        """Numbers that may be given; where there are fewer, the others are 0."""
        return self.length // 2 + 1 if self.is_real else self.length

    @property
    def count(self) -> int:
        """Numbers of the result."""
        return self.length // 2 + 1 if self.onesided and not self.inverse else self.length

    @property
    def outputs(self) -> int:
        """Floats of the result."""
        return self.count * (1 if self.is_real else 2)

    @property
    def halved(self) -> bool:
        """True if complex numbers of half the length are transformed."""
        real = self.is_real or (self.parts == 1 and not self.inverse)
        return real and self.length % 2 == 0 and self.length > 2

    @property
    def size(self) -> int:
        """Complex numbers that the stages transform."""
        return self.length // 2 if self.halved else self.length

    @property
    def work(self) -> int:
        """Floats to work in: none where the result has room for the stages."""
        return 2 * self.size if self.outputs < 2 * self.size else 0

    @property
    def radices(self) -> tuple[int, ...]:
        """Of the stages."""
        found = radices(self.size) if 1 <= self.size <= MOST else None
        if found is None:
            raise ShapeError(f"no fast transform of {self.length} numbers")
        return found

    @property
    def scale(self) -> float:
        """What numbers are multiplied by before the stages."""
        return 1.0 / self.size if self.inverse else 1.0

    def places(self) -> NDArray[np.uint16]:
        """[size]: where each number goes before the stages. An inverse is the transform of the numbers in
        reverse order but for the first."""
        order = np.zeros(1, np.int64)
        for radix in self.radices:
            order = (order * radix + np.arange(radix)[:, None]).reshape(-1)
        places = np.argsort(order)
        if self.inverse:
            places = places[-np.arange(self.size) % self.size]
        return places.astype(np.uint16)

    def stages(self) -> Iterator[tuple[int, int]]:
        """The radix of each stage, and how many numbers each transform before it has."""
        before = 1
        for radix in self.radices:
            yield radix, before
            before *= radix

    def halves(self) -> Complex:
        """[size // 2]: what pair k + 1 of a real signal is turned by; halved and scaled."""
        angle = 2 * np.pi * np.arange(1, self.size // 2 + 1) / self.length
        turn = -0.5j * np.exp(-1j * angle)
        return self.scale * (np.conj(turn) if self.inverse else turn)

    def __str__(self) -> str:
        kind = "real" if self.parts == 1 or self.is_real else "complex"
        return f"{self.length} {kind}{' inverse' * self.inverse}{' onesided' * self.onesided}"


def turns(radix: int, before: int) -> Complex:
    """[before, radix]: what the numbers of a stage are multiplied by; those of the first column are 1."""
    steps = np.arange(before)[:, None] * np.arange(radix)
    return np.exp(-2j * np.pi * steps / (radix * before))


def _two(a: Complex, b: Complex) -> list[Complex]:
    return [a + b, a - b]


def _three(a: Complex, b: Complex, c: Complex) -> list[Complex]:
    both, apart = b + c, _times(b - c, np.sin(np.pi / 3))
    middle = a - _times(both, 0.5)
    return [a + both, middle - 1j * apart, middle + 1j * apart]


def _four(a: Complex, b: Complex, c: Complex, d: Complex) -> list[Complex]:
    even, odd, apart, other = a + c, b + d, a - c, b - d
    return [even + odd, apart - 1j * other, even - odd, apart + 1j * other]


def _five(a: Complex, b: Complex, c: Complex, d: Complex, e: Complex) -> list[Complex]:
    near, far, near_apart, far_apart = b + e, c + d, b - e, c - d
    cosine, sine = np.cos(2 * np.pi / 5), np.sin(2 * np.pi / 5)
    cosine2, sine2 = np.cos(4 * np.pi / 5), np.sin(4 * np.pi / 5)
    first = a + _times(near, cosine) + _times(far, cosine2)
    second = a + _times(near, cosine2) + _times(far, cosine)
    turned = 1j * (_times(near_apart, sine) + _times(far_apart, sine2))
    turned2 = 1j * (_times(near_apart, sine2) - _times(far_apart, sine))
    return [a + (near + far), first - turned, second - turned2, second + turned2, first + turned]


JOINS: dict[int, Callable[..., list[Complex]]] = {2: _two, 3: _three, 4: _four, 5: _five}


def _times(z: Complex, factor: float) -> Complex:
    return z * np.real(z).dtype.type(factor)


def transformed(transform: Transform, x: NDArray[Any]) -> NDArray[Any]:
    """The transforms of x [lines, numbers, parts]: [lines, outputs]. In the type of x."""
    z = _placed(transform, x)
    lines = len(z)
    for radix, before in transform.stages():
        blocks = z.reshape(lines, -1, radix, before)
        if before > 1:
            blocks = blocks * turns(radix, before).T.astype(z.dtype)
        z = np.stack(JOINS[radix](*(blocks[:, :, k] for k in range(radix))), axis=2)
    z = z.reshape(lines, transform.size)
    if transform.halved and not transform.inverse:
        z = _split(transform, z)
    z = z[:, : transform.count]
    if transform.is_real and not transform.halved:
        return np.array(np.real(z), order="C")
    return np.stack([np.real(z), np.imag(z)], -1).reshape(lines, -1)


def _placed(transform: Transform, x: NDArray[Any]) -> Complex:
    """The numbers where the stages expect them."""
    lines, given, parts = x.shape
    kind = np.result_type(x.dtype, np.complex64)
    numbers = np.zeros((lines, transform.most), kind)
    numbers[:, :given] = x[:, :, 0] if parts == 1 else _complex(x[:, :, 0], x[:, :, 1])
    if transform.halved and transform.inverse:
        numbers = _joined(transform, numbers)
    elif transform.halved:
        numbers = _complex(np.real(numbers[:, 0::2]), np.real(numbers[:, 1::2]))
    elif transform.is_real:
        numbers = _mirrored(transform, numbers)
        numbers = _times(numbers, transform.scale)
    elif transform.inverse:
        numbers = _times(numbers, transform.scale)
    z = np.empty((lines, transform.size), kind)
    z[:, transform.places()] = numbers
    return z


def _complex(real: NDArray[Any], imaginary: NDArray[Any]) -> Complex:
    z = np.empty(real.shape, np.result_type(real.dtype, np.complex64))
    z.real, z.imag = real, imaginary
    return z


def _mirrored(transform: Transform, z: Complex) -> Complex:
    """All numbers of the transform of a real signal, of which the first half is known."""
    behind = (transform.length - 1) // 2
    return np.concatenate([_real_ends(transform, z), np.conj(z[:, behind:0:-1])], 1)


def _real_ends(transform: Transform, z: Complex) -> Complex:
    """Without the imaginary part of the first number, and of the middle one of an even length."""
    z = z.copy()
    ends = [0, transform.length // 2] if transform.length % 2 == 0 else [0]
    z[:, ends] = np.real(z[:, ends])
    return z


def _pairs(transform: Transform, z: Complex) -> tuple[Complex, Complex]:
    """For k from 1 to the middle: half of z[k] + conj(z[size - k]), and their turned difference; scaled."""
    size = transform.size
    k = np.arange(1, size // 2 + 1)
    ahead, behind = z[:, k], np.conj(z[:, size - k])
    return (
        _times(ahead + behind, 0.5 * transform.scale),
        (ahead - behind) * transform.halves().astype(z.dtype),
    )


def _split(transform: Transform, z: Complex) -> Complex:
    """The transform of a real signal out of that of its numbers taken by two."""
    size = transform.size
    y = np.empty((len(z), transform.length), z.dtype)
    even, odd = _pairs(transform, z)
    k = np.arange(1, size // 2 + 1)
    y[:, k], y[:, size - k] = even + odd, np.conj(even - odd)
    first, second = np.real(z[:, 0]), np.imag(z[:, 0])
    y[:, 0], y[:, size] = first + second, first - second
    behind = np.arange(1, size)
    y[:, transform.length - behind] = np.conj(y[:, behind])
    return y


def _joined(transform: Transform, z: Complex) -> Complex:
    """What `_split` splits, out of the transform of a real signal; scaled."""
    size = transform.size
    y = np.empty((len(z), size), z.dtype)
    even, odd = _pairs(transform, z)
    k = np.arange(1, size // 2 + 1)
    y[:, k], y[:, size - k] = even + odd, np.conj(even - odd)
    first, middle = np.real(z[:, 0]), np.real(z[:, size])
    y[:, 0] = _times(_complex(first + middle, first - middle), 0.5 * transform.scale)
    return y


@op
@dataclass(frozen=True, slots=True)
class Fourier:
    """Transforms of the lines of x, float [..., numbers * parts]: [..., outputs].

    A line may have fewer numbers than are transformed; the others are 0.
    """

    transform: Transform

    kernel: ClassVar[str] = "fourier"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        numbers, rest = divmod(x.shape[-1], self.transform.parts)
        if rest or not 1 <= numbers <= self.transform.most:
            raise ShapeError(f"lines of {x.shape[-1]} floats do not fit {self}")
        return (((*x.shape[:-1], self.transform.outputs), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        y = (*x[:-1], self.transform.outputs)
        loops = tuple(Loop(f"i{axis}", extent) for axis, extent in enumerate(y))
        index: tuple[Index, ...] = tuple(loop.i for loop in loops)
        reads = (Access(0, x, (*index[:-1], None)),)
        return Nest(loops, reads, (Access(0, y, index),), in_place=False)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        lines = x.reshape(prod(x.shape[:-1]), -1, self.transform.parts)
        return (transformed(self.transform, lines).reshape(*x.shape[:-1], -1),)

    def __str__(self) -> str:
        return f"fourier<{self.transform}>"


@op
@dataclass(frozen=True, slots=True)
class ShortTimeFourier:
    """Transforms of frames of a signal, one every `step` numbers, each times a window if there is one.

    Operands: x float [numbers, parts], window [length]. Result: [frames, outputs].
    """

    transform: Transform
    step: int

    kernel: ClassVar[str] = "short_time_fourier"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, *window = inputs
        if self.transform.inverse or self.step < 1:
            raise ShapeError(f"frames every {self.step} numbers of {self.transform}")
        if len(x.shape) != 2 or x.shape[1] != self.transform.parts or x.shape[0] < self.transform.length:
            raise ShapeError(f"a signal {list(x.shape)} does not fit {self}")
        if any(w.shape != (self.transform.length,) for w in window):
            raise ShapeError(f"a window {list(window[0].shape)} does not fit {self}")
        return ((self._shape(x.shape), x.dtype),)

    def _shape(self, x: Shape) -> Shape:
        return (x[0] - self.transform.length) // self.step + 1, self.transform.outputs

    def nest(self, *inputs: Shape) -> Nest:
        x, *window = inputs
        y = self._shape(x)
        frame, output = Loop("frame", y[0]), Loop("output", y[1])
        within = Loop("within", self.transform.length, LoopKind.REDUCE)
        reads = (
            Access(0, x, (frame.i * self.step + within.i, None)),
            *(Access(1, w, (within.i,)) for w in window),
        )
        writes = (Access(0, y, (frame.i, output.i)),)
        return Nest((frame, output, within), reads, writes, in_place=False)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, *window = inputs
        starts = np.arange(self._shape(x.shape)[0]) * self.step
        frames = x[starts[:, None] + np.arange(self.transform.length)]
        for w in window:
            frames = frames * w[:, None]
        return (transformed(self.transform, frames),)

    def __str__(self) -> str:
        return f"short_time_fourier<{self.transform} every {self.step}>"
