# SPDX-License-Identifier: Apache-2.0
"""Samples in files that people have: .npz, .npy, CSV, WAV, folders of images or of WAV files."""

from __future__ import annotations

import csv
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.ports import Port
from mmcc.verification.samples import load_npz

Array = NDArray[Any]

IMAGES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp"))
COLOURS = (1, 3)  # channels that an image can have


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """`(value - mean) / std` for each channel: of images 0 to 255, of sound -1 to 1."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, array: Array) -> Array:
        """Channels are last."""
        return ((array - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)


def load_data(
    path: Path, ports: Sequence[Port], kind: str = "input", preprocessing: Preprocessing | None = None
) -> dict[str, Array]:
    """The arrays of a file or folder by name, as `samples_of` takes them; perhaps `labels`.

    CSV: a line a sample, with its label behind if there is one number more. WAV: cut into pieces of the
    input's length. A folder: one sample a file; folders in it are classes, in the order of their names.
    Raises CompileError (MM007) for what cannot be read, (MM801) for images without Pillow.
    """
    prepare = preprocessing or Preprocessing()
    if path.is_dir():
        return _folder(path, _only(ports, path), kind, prepare)
    ending = path.suffix.lower()
    if ending == ".npy" and path.is_file():
        return {f"{kind}_0": _npy(path)}
    if ending == ".csv" and path.is_file():
        return _csv(path, _only(ports, path), kind)
    if ending == ".wav" and path.is_file():
        return {f"{kind}_0": prepare(_wav(path, _only(ports, path)))}
    return load_npz(path)


def _only(ports: Sequence[Port], path: Path) -> Port:
    if len(ports) != 1:
        what = f"{printable(str(path))} has values for one input; the model has {len(ports)}"
        raise _unread(what, "an .npz file with input_0, input_1, ...")
    return ports[0]


def _npy(path: Path) -> Array:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unread(
            f"{printable(str(path))} is not an .npy file of numbers", "numpy.save(path, array)"
        ) from error


def _csv(path: Path, port: Port, kind: str) -> dict[str, Array]:
    size, rows = prod(port.onnx_shape), list[list[float]]()
    hint = f"a line a sample: {size} numbers, or {size + 1} with its label"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.reader(stream)):
                if row and not (number == 0 and not _is_number(row[0])):  # names of columns
                    rows.append([float(text) for text in row])
    except (ValueError, UnicodeDecodeError, csv.Error) as error:
        raise _unread(f"{printable(str(path))}: {error}", hint) from error
    counts = {len(row) for row in rows}
    if len(counts) != 1 or not counts <= {size, size + 1}:
        raise _unread(f"{printable(str(path))}: lines have {sorted(counts)} numbers", hint)
    table = np.asarray(rows)
    data = table[:, :size].reshape(len(rows), *port.onnx_shape).astype(port.onnx_dtype.numpy)
    found = {f"{kind}_0": data}
    return found | ({"labels": table[:, size].astype(np.int64)} if table.shape[1] > size else {})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _wav(path: Path, port: Port) -> Array:
    """Pieces of the input's length, -1 to 1, all channels averaged."""
    size = prod(port.onnx_shape)
    try:
        with wave.open(str(path)) as sound:
            width, channels = sound.getsampwidth(), sound.getnchannels()
            raw = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise _unread(
            f"{printable(str(path))}: {error or 'cut short'}", "a WAV file of PCM samples"
        ) from error
    if width not in (1, 2, 4):
        raise _unread(f"{printable(str(path))} has samples of {8 * width} bits", "8, 16 or 32 bits")
    values = np.frombuffer(raw[: len(raw) // width * width], {1: np.uint8, 2: "<i2", 4: "<i4"}[width])
    wide = (values.astype(np.float64) - (128 if width == 1 else 0)) / 2.0 ** (8 * width - 1)
    mono = wide[: len(wide) // channels * channels].reshape(-1, channels).mean(axis=1)
    if len(mono) < size:
        hint = "longer sound, or features computed from it in an .npz file"
        raise _unread(f"{printable(str(path))} has {len(mono)} samples, the input {size}", hint)
    return mono[: len(mono) // size * size].reshape(-1, *port.onnx_shape)


def _folder(path: Path, port: Port, kind: str, prepare: Preprocessing) -> dict[str, Array]:
    classes = sorted(p for p in path.iterdir() if p.is_dir())
    groups = [(k, sorted(p.iterdir())) for k, p in enumerate(classes)] or [(-1, sorted(path.iterdir()))]
    arrays, labels = list[Array](), list[int]()
    for label, files in groups:
        for file in files:
            if file.suffix.lower() in IMAGES:
                found = _image(file, port, prepare)[None]
            elif file.suffix.lower() == ".wav":
                found = prepare(_wav(file, port))
            else:
                continue
            arrays += list(found)
            labels += [label] * len(found)
    if not arrays:
        hint = f"files ending in {', '.join(sorted(IMAGES))} or .wav, in it or in a folder for each class"
        raise _unread(f"{printable(str(path))} has no images and no WAV files", hint)
    data = np.stack(arrays).astype(port.onnx_dtype.numpy)
    return {f"{kind}_0": data} | ({"labels": np.asarray(labels)} if classes else {})


def _image(path: Path, port: Port, prepare: Preprocessing) -> Array:
    """An image in the input's size and layout."""
    try:
        from PIL import Image
    except ImportError:
        what = "reading images needs Pillow, which is not installed"
        hint = "pip install 'mmcc[quantize]', or the images as an .npz file"
        raise CompileError("MM801", what, exit=Exit.TOOL_MISSING, hint=hint) from None
    shape = port.onnx_shape[-3:]
    first = len(shape) == 3 and shape[0] in COLOURS
    if len(shape) != 3 or not (first or shape[2] in COLOURS):
        raise _unread(f"the input {list(port.onnx_shape)} is no image", "an .npz file with input_0")
    height, width, channels = (*shape[1:], shape[0]) if first else shape
    try:
        with Image.open(path) as image:
            fitted = image.convert("L" if channels == 1 else "RGB").resize((width, height))
            pixels = np.asarray(fitted, np.float64).reshape(height, width, channels)
    except (OSError, ValueError) as error:
        raise _unread(f"{printable(str(path))} is no image: {error}", "leaving it out") from error
    made = prepare(pixels)
    return (made.transpose(2, 0, 1) if first else made).reshape(port.onnx_shape)


def _unread(what: str, hint: str) -> CompileError:
    return CompileError("MM007", what, exit=Exit.USAGE, hint=hint)
