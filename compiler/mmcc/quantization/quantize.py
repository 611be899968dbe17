# SPDX-License-Identifier: Apache-2.0
"""The quantization of a model: calibrated once, tried in several forms, the best kept, its costs told."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmcc.driver.estimate import QUANTIZED, estimate, is_float
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, Progress, silent
from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.ports import Port
from mmcc.output_file import check_file, told, write_file
from mmcc.quantization.corrections import corrected, equalized
from mmcc.quantization.runs import Array, Feed, Quality, decibels, outputs_of, quality
from mmcc.scratch import ScratchFolder
from mmcc.verification.data_files import Preprocessing, load_data
from mmcc.verification.samples import labels_of, samples_of

WORST = 5  # layers that are shown
MOST_TESTED = 64  # samples on which each layer is tried alone
FORMS = {"int8": "int8", "int16": "16x8"}  # how people call it, by the activations


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """As on the command line. `mixed` is in points of percent of labels, or decibels where there are none."""

    data: Path = Path()
    test: Path | None = None  # other samples to judge by; the calibration's if None
    samples: int = 200  # of the data, to calibrate with
    per_channel: bool = True
    symmetric: bool = False  # activations, too
    activations: str = "int8"  # or "int16"
    method: str = "minmax"  # or "entropy", "percentile"
    mixed: float | None = None  # keep the worst layers in float until no more than this is lost
    corrections: bool = True  # equalize channels, correct biases: kept where the result is better
    target: str = "cortex-m4"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    dims: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Samples:
    """What is fed to the models, and what is right."""

    calibration: list[Feed]
    judged: list[Feed]
    labels: Array | None
    float_outputs: list[list[Array]]


def quantize_model(
    model: Path, out: Path, options: QuantizeOptions, progress: Progress = silent
) -> dict[str, Any]:
    """Write the int8 or 16x8 form of the float model into the file `out`; what was gained and lost.

    Raises CompileError if onnxruntime is missing (MM801), the data does not fit (MM007), or the model is one
    that cannot be quantized (MM115).
    """
    _need_onnxruntime()
    with told(out, "-o"):
        out.parent.mkdir(parents=True, exist_ok=True)
    check_file(out, "-o")
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer's advice is for another use
    graph = load_graph(model, CompileOptions(dims=options.dims), progress)
    if not is_float(graph):
        what = "the model is quantized already, or nothing in it multiplies floats"
        raise CompileError("MM115", what, exit=Exit.USAGE, hint="the float model it was made from")
    with ScratchFolder("mmcc-") as folder, _refusals(model):
        prepared = _prepared(model, Path(folder), options)
        if not _layers(prepared):
            what = f"none of its layers is one that ONNX Runtime quantizes: {', '.join(sorted(QUANTIZED))}"
            raise CompileError("MM115", what, exit=Exit.USAGE, hint="the float model it was made from")
        progress("calibrating")
        samples = _samples(graph.inputs, prepared, options)
        work = _Quantizer(prepared, samples, options, Path(folder))
        best, applied = _best_form(work, progress)
        layers = _sensitivity(work, progress)
        kept = _kept_wide(work, layers, progress) if options.mixed is not None else []
        if kept:
            best = work.quantized(kept)
        text = best.SerializeToString()
    write_file(out, text, "-o")
    before = quality(samples.float_outputs, samples.float_outputs, samples.labels)
    return {
        "model": str(out),
        "samples": {"calibration": len(samples.calibration), "judged": len(samples.judged)},
        "float": before.to_json() | _costs(model, options),
        "form": FORMS[options.activations],
        "quantized": work.judge(best).to_json() | _costs(out, options),
        "applied": applied,
        "worst_layers": [{"node": name, "snr_db": round(db, 1)} for name, db in layers[:WORST]],
        "kept_in_float": kept,
    }


class _Quantizer:
    """ONNX Runtime's quantizer over one calibration."""

    def __init__(self, model: Any, samples: Samples, options: QuantizeOptions, folder: Path) -> None:
        self.model, self.samples, self.options, self.folder = model, samples, options, folder
        self.ranges: Any = None
        self.take(model)

    def take(self, model: Any) -> None:
        """Calibrate for a model, which is what is quantized from now on."""
        import onnx
        from onnxruntime.quantization import calibrate

        source, methods = self.folder / "source.onnx", calibrate.CalibrationMethod
        onnx.save(model, source)
        method = {"minmax": methods.MinMax, "entropy": methods.Entropy, "percentile": methods.Percentile}
        augmented = str(self.folder / "augmented.onnx")
        calibrator: Any = calibrate.create_calibrator(
            source, None, augmented_model_path=augmented, calibrate_method=method[self.options.method]
        )
        with contextlib.redirect_stdout(None), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that are looked at below
            calibrator.collect_data(_Reader(self.samples.calibration))
            self.model, self.ranges = model, calibrator.compute_data()
        _check_ranges(self.ranges)

    def quantized(self, without: Sequence[str] = (), only: Sequence[str] | None = None) -> Any:
        """The model with these nodes left in float, or with only these quantized."""
        import copy

        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.registry import QDQRegistry

        wide = self.options.activations == "int16"
        given = onnx.ModelProto()
        given.CopyFrom(self.model)
        quantizer: Any = QDQQuantizer(
            given,
            self.options.per_channel,
            False,
            QuantType.QInt8,
            QuantType.QInt16 if wide else QuantType.QInt8,
            copy.copy(self.ranges),
            list(only or ()),
            list(without),
            list(QDQRegistry),
            {"ActivationSymmetric": self.options.symmetric or wide, "WeightSymmetric": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        return quantizer.model.model

    def judge(self, model: Any, most: int | None = None) -> Quality:
        """How good a model is on the samples that it is judged by."""
        feeds = self.samples.judged[:most]
        labels = None if self.samples.labels is None else self.samples.labels[:most]
        return quality(self.samples.float_outputs[:most], outputs_of(model, feeds), labels)


class _Reader:
    """Samples one by one, as the calibrator asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._rest = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._rest, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        raise NotImplementedError


def _best_form(work: _Quantizer, progress: Progress) -> tuple[Any, list[str]]:
    """The quantized model, with those corrections that make it better; which they are."""
    best, applied = work.quantized(), list[str]()
    if not work.options.corrections:
        return best, applied
    score, plain = work.judge(best).decibels, work.model
    for name, change in (("equalized channels", equalized), ("corrected biases", _bias_of(work))):
        progress(f"trying {name}")
        other = change(work.model)
        if other is None:
            continue
        work.take(other)
        made = work.quantized()
        found = work.judge(made).decibels
        if found > score:
            best, score, plain, applied = made, found, other, [*applied, name]
        else:
            work.take(plain)
    return best, applied


def _bias_of(work: _Quantizer) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        return corrected(model, work.quantized(), work.samples.calibration)

    return change


def _sensitivity(work: _Quantizer, progress: Progress) -> list[tuple[str, float]]:
    """Layers with weights, worst first: signal over noise at the outputs if only this one is quantized."""
    layers = _layers(work.model)
    found: list[tuple[str, float]] = []
    feeds, true = work.samples.judged[:MOST_TESTED], work.samples.float_outputs[:MOST_TESTED]
    flat = [array for sample in true for array in sample]
    for number, name in enumerate(layers):
        progress("trying each layer alone", number, len(layers))
        outputs = outputs_of(work.quantized(only=[name]), feeds)
        found.append((name, min(decibels(flat, [a for sample in outputs for a in sample]), 200.0)))
    return sorted(found, key=lambda item: item[1])


def _layers(model: Any) -> list[str]:
    """Names of the nodes with weights that can be quantized."""
    return [node.name for node in model.graph.node if node.op_type in QUANTIZED and node.name]


def _kept_wide(work: _Quantizer, layers: Sequence[tuple[str, float]], progress: Progress) -> list[str]:
    """As few of the worst layers as must stay float for the loss to be no more than asked for."""
    most = work.options.mixed or 0.0
    against = quality(work.samples.float_outputs, work.samples.float_outputs, work.samples.labels)
    for count in range(len(layers) + 1):
        progress("keeping the worst layers in float", count, len(layers))
        kept = [name for name, _ in layers[:count]]
        found = work.judge(work.quantized(kept))
        lost = -found.decibels if against.accuracy is None else against.score - found.score
        if lost <= (most if against.accuracy is not None else -most):
            return kept
    what = f"even with all {len(layers)} layers in float the loss is above {most:g}"
    raise CompileError(
        "MM115", what, exit=Exit.USAGE, hint="--mixed with a larger loss, or --method percentile"
    )


def _samples(ports: Sequence[Port], model: Any, options: QuantizeOptions) -> Samples:
    def read(path: Path) -> tuple[list[Feed], Array | None]:
        arrays = load_data(path, ports, "input", options.preprocessing)
        found = samples_of(ports, arrays, "input", path)
        names = [port.onnx_name for port in ports]
        feeds: list[Feed] = [dict(zip(names, sample, strict=True)) for sample in found]
        _check_finite(feeds, path)
        return feeds, labels_of(arrays, len(feeds), path)

    feeds, labels = read(options.data)
    rng = np.random.default_rng(0)  # a folder of classes begins with one class
    chosen = sorted(rng.permutation(len(feeds))[: options.samples])
    judged, right = read(options.test) if options.test else (feeds, labels)
    outputs = outputs_of(model, judged)
    _check_classes(right, outputs, options.test or options.data)
    return Samples([feeds[k] for k in chosen], judged, right, outputs)


def _check_classes(labels: Array | None, outputs: Sequence[Sequence[Array]], path: Path) -> None:
    """CompileError (MM007) with the first label that is none of the classes of the first output."""
    classes = outputs[0][0].size
    if labels is None:
        return
    for k in np.flatnonzero(labels >= classes):
        what = f"{printable(str(path))}: sample {k} has label {labels[k]}; the model has {classes} classes"
        raise CompileError("MM007", what, exit=Exit.USAGE, hint="classes counted from 0, -1 if unknown")


def _check_finite(feeds: Sequence[Feed], path: Path) -> None:
    """CompileError (MM007) with the first sample that has something else than numbers in it."""
    for k, feed in enumerate(feeds):
        for name, array in feed.items():
            wrong = int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0
            if wrong:
                shown = f'sample {k} of {printable(str(path))} has {wrong} of {array.size} values of "{name}"'
                what = f"{shown} that are NaN or infinite"
                raise CompileError("MM007", what, exit=Exit.USAGE, hint="leaving such samples out")


def _check_ranges(ranges: Any) -> None:
    """CompileError (MM007) with the first tensor whose values no scale of float32 covers."""
    most = float(np.finfo(np.float32).max)
    for name, found in ranges.items():
        low, high = (float(np.asarray(end).reshape(-1)[0]) for end in found.range_value)
        if not np.isfinite(low) or not np.isfinite(high) or high - low > most:
            what = f'with these samples "{printable(str(name))}" is between {low:g} and {high:g}'
            hint = "--data with samples as the model takes them; --mean and --std scale images"
            message = f"{what}: more than a scale in float32 can cover"
            raise CompileError("MM007", message, exit=Exit.USAGE, hint=hint)


def _prepared(model: Path, folder: Path, options: QuantizeOptions) -> Any:
    """The model with BatchNormalization folded, shapes known, and a name for every node."""
    import onnx
    from onnxruntime.quantization import shape_inference

    preprocess: Any = getattr(shape_inference, "quant_pre_process")  # noqa: B009  (its types are not known)
    path = folder / "prepared.onnx"
    preprocess(str(model), str(path), skip_symbolic_shape=True)
    prepared = onnx.load(path)
    for index, node in enumerate(prepared.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return prepared


def _costs(model: Path, options: QuantizeOptions) -> dict[str, Any]:
    found = estimate(model, options.target, dims=options.dims, least=False)
    return {"ram": found.ram, "flash": found.flash, "predicted": found.predicted}


def _need_onnxruntime() -> None:
    try:
        import onnxruntime  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        what = "quantizing needs onnxruntime, which is not installed"
        hint = "pip install 'mmcc[quantize]'"
        raise CompileError("MM801", what, exit=Exit.TOOL_MISSING, hint=hint) from None


@contextlib.contextmanager
def _refusals(model: Path) -> Generator[None]:
    """What ONNX Runtime says of a model that it does not take, as an error of the user's model."""
    try:
        yield
    except CompileError:
        raise
    except Exception as error:  # its classes of errors are not public
        reason = printable(" ".join(str(error).split()), 400)
        what = f"ONNX Runtime's quantizer does not take the model: {reason}"
        raise CompileError(
            "MM115", what, exit=Exit.USAGE, hint=f"mmcc check {printable(model.name)}"
        ) from error
