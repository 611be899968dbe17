# SPDX-License-Identifier: Apache-2.0
"""What a path holds that is no ONNX file, and how to get one from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmcc.errors import CompileError, did_you_mean, printable
from mmcc.frontend.problems import bad_model


@dataclass(frozen=True, slots=True)
class _Format:
    """Another format than ONNX: the suffixes and first bytes of its files, and how to get ONNX from them."""

    name: str
    suffixes: tuple[str, ...]
    start: int
    magic: bytes
    hint: str

    def begins(self, data: bytes) -> bool:
        return bool(self.magic) and data.startswith(self.magic, self.start)


_TORCH = "torch.onnx.export(model, (example_input,), 'model.onnx') in Python"
_TF2ONNX = "python -m tf2onnx.convert"
_FROM_GRAPH = f"{_TF2ONNX} --graphdef FILE --inputs NAMES --outputs NAMES --output model.onnx"
FORMATS = (
    _Format(
        "a TensorFlow Lite model", (".tflite",), 4, b"TFL3", f"{_TF2ONNX} --tflite FILE --output model.onnx"
    ),
    _Format(
        "a Keras model",
        (".h5", ".hdf5", ".keras"),
        0,
        b"\x89HDF",
        f"{_TF2ONNX} --keras FILE --output model.onnx",
    ),
    _Format("a PyTorch file", (".pt", ".pth", ".pt2"), 0, b"PK\3\4", _TORCH),
    _Format("a file of weights without a graph", (".safetensors", ".gguf"), 0, b"GGUF", _TORCH),
    _Format("a TensorFlow graph", (".pb",), 0, b"", _FROM_GRAPH),
    _Format("an ORT model", (".ort",), 4, b"ORTM", "the ONNX file that it was converted from"),
    _Format("a pointer that git-lfs left", (), 0, b"version https://git-lfs", "git lfs pull"),
)
ONNX_BEGINS = b"\x08"  # the tag of the IR version, which every writer puts first


def check_format(path: Path, data: bytes) -> None:
    """An error that says what the file is, where that is known, and what makes ONNX of it."""
    suffix = path.suffix.lower()
    named = next((kind for kind in FORMATS if suffix in kind.suffixes), None)
    if named is None or data.startswith(ONNX_BEGINS):
        named = next((kind for kind in FORMATS if kind.begins(data)), None)
    if named is not None:
        what = f'"{printable(path.name)}" is {named.name}, not an ONNX file'
        raise bad_model("MM101", what, named.hint)


def absent(path: Path) -> CompileError:
    """Nothing to read at a path: a folder, or what else the user may have meant."""
    shown = f'"{printable(str(path))}"'
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            hint = f"{_TF2ONNX} --saved-model FOLDER --output model.onnx"
            return bad_model("MM101", f"{shown} is a TensorFlow SavedModel, not an ONNX file", hint)
        inside = sorted(p.name for p in path.glob("*.onnx"))[:5]
        hint = " or ".join(printable(str(path / name)) for name in inside)
        return bad_model("MM101", f"{shown} is a folder, not an ONNX file", hint)
    if path.exists():
        hint = "- for the standard input, or the name of a file"
        return bad_model("MM101", f"{shown} is a pipe or a device, not a file", hint)
    try:
        beside = [p.name for p in path.parent.iterdir()]
    except OSError:
        return bad_model("MM101", f"there is no file {shown}")
    return bad_model("MM101", f"there is no file {shown}", printable(did_you_mean(path.name, beside).strip()))
