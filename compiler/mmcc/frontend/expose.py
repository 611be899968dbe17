"""The model file with values inside it made outputs, for an oracle to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx


def with_outputs(path: Path, values: Sequence[str]) -> str | bytes:
    """The model as ONNX Runtime takes it: its path, or bytes where `values` are not all outputs already."""
    model = onnx.load(str(path), load_external_data=False)
    present = {value.name for value in model.graph.output}
    missing = [name for name in dict.fromkeys(values) if name not in present]
    if not missing:
        return str(path)
    model = onnx.load(str(path))
    inferred = {info.name: info for info in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for name in missing:
        model.graph.output.append(inferred.get(name) or onnx.ValueInfoProto(name=name))
    return model.SerializeToString()
