# SPDX-License-Identifier: Apache-2.0
"""The model file with values inside it made outputs, for an oracle to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from mmcc.frontend.expose_steps import expose_steps
from mmcc.frontend.fixed_rows import finds_rows, with_fixed_rows
from mmcc.frontend.functions import inlined
from mmcc.frontend.handed_out import rewrite_bodies
from mmcc.frontend.qonnx_nodes import has_qonnx, write_qonnx_out
from mmcc.frontend.reads import nodes_below
from mmcc.frontend.refused_quantization import refused_quantization, take_refused_quantization
from mmcc.frontend.registry import MICROSOFT
from mmcc.frontend.tensorflow_nodes import has_tensorflow, write_tensorflow_out

CLASS_NUMBERS = {  # operators with names of classes, and their attribute for numbers instead
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}


@dataclass(frozen=True, slots=True)
class Exposed:
    """The model as ONNX Runtime takes it: its path, or bytes where it is not as in the file.

    Where the C gives as many rows as there may be boxes, `found` is the model with those rows only that a
    NonMaxSuppression finds. `steps` are values of loops' steps (`expose_steps`), with the names of outputs.
    """

    model: str | bytes
    found: bytes | None = None
    steps: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])


def with_outputs(
    path: Path,
    values: Sequence[str],
    bind: Mapping[str, Any] = MappingProxyType({}),
    steps: Sequence[tuple[str, ...]] = (),
) -> Exposed:
    """The model with `values` and values of `steps` as outputs, and inputs in `bind` as constants.

    It is as in the file where all are outputs already, and the C gives nothing else than ONNX has.
    """
    model = _without_functions(onnx.load(str(path), load_external_data=False))
    present = {value.name for value in model.graph.output}
    missing = [name for name in dict.fromkeys(values) if name not in present]
    changed = bind or finds_rows(model) or _numbers_for_classes(model) or _floats_beside_few_bits(model)
    changed = changed or rewrite_bodies(model)
    others = refused_quantization(model) or has_qonnx(model) or has_tensorflow(model)
    if not missing and not changed and not others and not steps:
        return Exposed(str(path))
    model = _without_functions(onnx.load(str(path)))
    for info in [info for info in model.graph.input if info.name in bind]:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        array = np.asarray(bind[info.name], dtype)
        shape = info.type.tensor_type.shape
        array = array.reshape((1,) * len(shape.dim)) if array.size == 1 else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
        model.graph.input.remove(info)
    _numbers_for_classes(model)
    _floats_beside_few_bits(model)
    exposed = expose_steps(model, steps)
    missing += exposed.values()
    rewrite_bodies(model)
    take_refused_quantization(model)
    write_qonnx_out(model)
    write_tensorflow_out(model)
    if not finds_rows(model):
        return Exposed(_giving(model, missing), None, exposed)
    found = onnx.ModelProto()
    found.CopyFrom(model)
    fixed = with_fixed_rows(model)
    return Exposed(_giving(model, missing), _giving(found, missing) if fixed else None, exposed)


def _without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the names of values that the compiler has."""
    return inlined(model) if model.functions else model


def _giving(model: onnx.ModelProto, missing: Sequence[str]) -> bytes:
    """With more values as outputs."""
    inferred = inferred_values(model)
    for name in missing:
        model.graph.output.append(inferred.get(name) or onnx.ValueInfoProto(name=name))
    return model.SerializeToString()


def _numbers_for_classes(model: onnx.ModelProto) -> bool:
    """Let classifiers give what mmcc gives where that is no tensor of numbers; True if one did not.

    A class that is a string becomes its index, the dictionaries of a ZipMap the tensor that they are made of.
    """
    changed = False
    for node in model.graph.node:
        names = [a for a in node.attribute if a.name == "classlabels_strings" and a.strings]
        if node.domain != "ai.onnx.ml" or not (names or node.op_type == "ZipMap"):
            continue
        changed = True
        if node.op_type == "ZipMap":
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
        elif node.op_type in CLASS_NUMBERS:
            node.attribute.remove(names[0])
            indices = list(range(len(names[0].strings)))
            node.attribute.append(onnx.helper.make_attribute(CLASS_NUMBERS[node.op_type], indices))
    if changed:
        del model.graph.value_info[:]
        for info in model.graph.output:
            if info.type.tensor_type.elem_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
                info.ClearField("type")  # it is another now; ONNX Runtime finds it out
    return changed


def _floats_beside_few_bits(model: onnx.ModelProto) -> bool:
    """Let MatMulNBits compute in floats, as the C does, where it may round inputs to 8 bits; True if so."""
    found = [
        (node, attribute)
        for node in nodes_below(model.graph.node)
        if node.op_type == "MatMulNBits" and node.domain == MICROSOFT
        for attribute in node.attribute
        if attribute.name == "accuracy_level" and attribute.i
    ]
    for node, attribute in found:
        node.attribute.remove(attribute)
    return bool(found)


def inferred_values(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """What ONNX infers of the values inside; nothing where that contradicts what the file states."""
    try:
        found = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return {}
    return {info.name: info for info in found.graph.value_info}
