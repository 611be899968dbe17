# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime makes of a model that mmcc accepts, beside what mmcc does: gross differences only.

Mutants have weights of any size, so that a difference in rounding grows: these comparisons find wrong shapes,
attributes that are not read, and wild values. Exactness is held by `mmcc verify` and the tests of operators.
Where float32 overflows on the way, or a last bit of the input decides, only shapes and types are compared.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph, Node
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ops.elementwise import Unary
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.report.model import count_macs
from mmcc.verification.samples import from_c, to_c
from numpy.typing import NDArray

MACS, BYTES = 3_000_000, 2**22  # of models that are computed at all
TOLERANCE = 2e-3  # of the largest output, for floats
DEEP = 24  # roundings in a row, where a step is no longer told from a fault
LARGE = 1e18  # a float whose square is still a float32; beyond it the order of a sum decides what is infinite
NUDGE = 1 + 2**-20  # of inputs, to see whether a last bit decides
STEPS_SHARE = 0.05  # of a quantized model's outputs may be far off: roundings add up

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Oracle:
    """A model as the importer has it, inputs for it, and ONNX Runtime's outputs, by name."""

    imported: Graph
    given: dict[str, Array]
    outputs: list[tuple[str, Array]]


def is_small(graph: Graph) -> bool:
    """True of what the references compute in moments."""
    return count_macs(graph) <= MACS and sum(t.bytes for t in graph.tensors.values()) <= BYTES


def _data(graph: Graph, seed: int = 5) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for port in graph.inputs:
        kind = port.onnx_dtype.numpy
        if kind.kind == "f":
            made[port.onnx_name] = rng.standard_normal(port.onnx_shape).astype(kind)
        else:
            made[port.onnx_name] = rng.integers(0, 2 if kind.kind == "b" else 8, port.onnx_shape).astype(kind)
    return made


def oracle(path: Path) -> Oracle | None:
    """What ONNX Runtime makes of the model; None if it refuses it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    imported = import_model(path)
    given = _data(imported)
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        fed = {info.name: given[info.name] for info in session.get_inputs()}
        outputs = session.run(None, fed)
        names = [info.name for info in session.get_outputs()]
    except Exception:  # whatever it says of a model that mmcc accepts
        return None
    arrays = [(name, np.asarray(value)) for name, value in zip(names, outputs, strict=True)]
    return Oracle(imported, given, arrays)


def fault_of(path: Path, wanted: Oracle, *, compiled: bool) -> str:
    """What differs, or ""."""
    given = wanted.given
    steps = sum(map(_rounds, wanted.imported.nodes))
    if steps > DEEP:
        return _fault_of_c(path, given, {}, quantized=True) if compiled else ""
    quantized = steps > 0
    ours, tame = _evaluated(wanted.imported, given)
    for name, want in wanted.outputs:
        fault = _difference(ours[name], want, quantized, values=tame)
        if fault and not _is_shaky(wanted, ours, name, quantized):
            return f'output "{name[:40]}" differs from ONNX Runtime: {fault}'
    return _fault_of_c(path, given, ours if tame else {}, quantized) if compiled else ""


def _rounds(node: Node) -> bool:
    """True of what makes steps of floats; with a scale that is computed it is no Quantize."""
    return "Quantize" in type(node.op).__name__ or (
        isinstance(node.op, Unary) and node.op.function == "round"
    )


def _evaluated(graph: Graph, given: dict[str, Array]) -> tuple[dict[str, Array], bool]:
    """The outputs by the ops' references; and whether all floats on the way there are of moderate size."""
    held = {p.tensor: p.to_c(given[p.onnx_name], graph.tensors[p.tensor]) for p in graph.inputs}
    with np.errstate(all="ignore"):
        arrays = evaluate_tensors(graph, held)
        floats = [array for array in arrays.values() if array.dtype.kind == "f"]
        tame = all(bool((np.abs(array) < LARGE).all()) for array in floats)
    return {p.onnx_name: p.from_c(arrays[p.tensor], graph.tensors[p.tensor]) for p in graph.outputs}, tame


def _is_shaky(wanted: Oracle, ours: dict[str, Array], name: str, quantized: bool) -> bool:
    """True if inputs that differ in their last bits give another output, as near a pole of Tan."""
    nudged = {
        k: array * array.dtype.type(NUDGE) if array.dtype.kind == "f" else array
        for k, array in wanted.given.items()
    }
    again, _ = _evaluated(wanted.imported, nudged)
    return bool(_difference(again[name], ours[name], quantized))


def _fault_of_c(path: Path, given: dict[str, Array], ours: dict[str, Array], quantized: bool) -> str:
    with tempfile.TemporaryDirectory(prefix="mmcc-fuzz-") as folder:
        out = Path(folder) / "package"
        compile_model(path, out, CompileOptions(name="mutant"))
        package = load_package(out)
        sample = [given[port.onnx_name] for port in package.inputs]
        arrays = host_model(out, package).run(to_c(package.inputs, package.tensors, sample))
        made = from_c(package.outputs, package.tensors, arrays)
        for port, got in zip(package.outputs, made, strict=True):
            known = ours.get(port.onnx_name)
            fault = _difference(got, known, quantized) if known is not None else ""
            if fault:
                return f'the C\'s output "{port.onnx_name[:40]}" differs: {fault}'
    return ""


def _difference(got: Array, want: Array, quantized: bool, *, values: bool = True) -> str:
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype} {list(got.shape)}, not {want.dtype} {list(want.shape)}"
    if want.size == 0 or not values:
        return ""
    a, b = got.astype(np.float64), want.astype(np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    scale = max(float(np.abs(b[both]).max(initial=0)), 1e-6)
    limit = (0.1 if quantized else TOLERANCE) * scale
    far = np.abs(a[both] - b[both]) > limit
    wild = (np.isfinite(a) != np.isfinite(b)) & (scale < 1e30)
    bad = int(far.sum() + wild.sum())
    if bad <= (STEPS_SHARE * want.size if quantized else 0):
        return ""
    most = float(np.abs(a[both] - b[both]).max(initial=0))
    return f"{bad} of {want.size} outputs, by up to {most:.4g} of {scale:.4g}"
