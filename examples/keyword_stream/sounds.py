# SPDX-License-Identifier: Apache-2.0
"""The sounds that the network listens for, synthesised: each time another pitch, length and loudness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 8000  # samples a second
HOP = 128  # samples a step: 16 ms

Floats = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Heard:
    """A sound in a recording: which, and from which sample to which."""

    name: str
    begin: int
    end: int


def _seconds(rng: Rng, least: float, most: float) -> NDArray[np.float64]:
    return np.arange(int(rng.uniform(least, most) * RATE)) / RATE


def _tone(pitch: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tone with a second and a third harmonic, of a pitch in Hz at each sample."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.sin(phase) + 0.3 * np.sin(2 * phase) + 0.1 * np.sin(3 * phase)


def _soft(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """With 10 ms to begin and to end."""
    edge = min(len(x) // 2, RATE // 100)
    ramp = np.minimum(1, np.minimum(np.arange(len(x)), np.arange(len(x))[::-1]) / edge)
    return x * ramp


def _glide(rng: Rng, up: bool) -> NDArray[np.float64]:
    t = _seconds(rng, 0.25, 0.4)
    low, high = rng.uniform(400, 700), rng.uniform(1300, 2000)
    share = t / t[-1]
    return _soft(_tone(low * (high / low) ** (share if up else 1 - share)))


def _two_beeps(rng: Rng) -> NDArray[np.float64]:
    pitch, gap = rng.uniform(700, 1400), np.zeros(int(rng.uniform(0.05, 0.09) * RATE))
    beep = _soft(_tone(np.full(int(rng.uniform(0.07, 0.12) * RATE), pitch)))
    return np.concatenate([beep, gap, beep])


def _trill(rng: Rng) -> NDArray[np.float64]:
    t = _seconds(rng, 0.3, 0.45)
    middle, rate = rng.uniform(800, 1400), rng.uniform(14, 22)
    return _soft(_tone(middle * (1 + 0.25 * np.sign(np.sin(2 * np.pi * rate * t)))))


def _knocks(rng: Rng) -> NDArray[np.float64]:
    parts = list[NDArray[np.float64]]()
    between = int(rng.uniform(0.11, 0.16) * RATE)
    pitch = rng.uniform(150, 300)
    for _ in range(3):
        t = np.arange(between) / RATE
        parts.append((np.sin(2 * np.pi * pitch * t) + rng.normal(0, 0.7, between)) * np.exp(-t / 0.015) * 2)
    return np.concatenate(parts)[: -between // 2]


SOUNDS: dict[str, Callable[[Rng], NDArray[np.float64]]] = {
    "whistle up": lambda rng: _glide(rng, True),
    "whistle down": lambda rng: _glide(rng, False),
    "two beeps": _two_beeps,
    "trill": _trill,
    "knocks": _knocks,
}


def _other(rng: Rng) -> NDArray[np.float64]:
    """What is none of them: a steady tone, one beep, or a rush."""
    kind = rng.integers(3)
    t = _seconds(rng, 0.05 if kind == 1 else 0.25, 0.12 if kind == 1 else 0.6)
    if kind == 2:
        return _soft(rng.normal(0, 0.7, len(t)))
    return _soft(_tone(np.full(len(t), rng.uniform(400, 1800))))


def _noise(rng: Rng, samples: int) -> NDArray[np.float64]:
    """White noise, some of it smoothed, and a hum."""
    white = rng.normal(0, 1, samples)
    brown = np.convolve(rng.normal(0, 1, samples), np.ones(12) / 12**0.5, "same")
    hum = np.sin(2 * np.pi * rng.uniform(50, 120) * np.arange(samples) / RATE)
    return rng.uniform(0.2, 1) * white + rng.uniform(0, 1) * brown + rng.uniform(0, 1) * hum


def recording(rng: Rng, seconds: float) -> tuple[Floats, list[Heard]]:
    """Sounds and others, some time apart, over noise: samples within -1..1, a whole number of hops."""
    samples = int(seconds * RATE) // HOP * HOP
    audio = _noise(rng, samples) * rng.uniform(0.002, 0.012)
    heard, at = list[Heard](), int(rng.uniform(0.1, 0.4) * RATE)
    while True:
        name = str(rng.choice([*SOUNDS, "", "", ""]))
        sound = SOUNDS[name](rng) if name else _other(rng)
        if at + len(sound) > samples - RATE // 8:
            return np.clip(audio, -1, 1).astype(np.float32), heard
        audio[at : at + len(sound)] += sound * rng.uniform(0.08, 0.45)
        heard += [Heard(name, at, at + len(sound))] if name else []
        at += len(sound) + int(rng.uniform(0.3, 0.8) * RATE)
