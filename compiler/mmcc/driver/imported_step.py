# SPDX-License-Identifier: Apache-2.0
"""A file that is a step of training: its options are taken over, and its gradients are held to ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit, printable
from mmcc.frontend import TrainingStep, initial_values, load, step_gradients
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import Interpreter
from mmcc.training.losses import LABEL
from mmcc.training.module import STEP, training_module
from mmcc.training.options import TrainOptions
from mmcc.training.parameters import parameters

Array = NDArray[Any]
CLOSE = 1e-4  # of the largest element of a gradient: two orders of summing in float32
HINT = "mmcc train on the model for inference that the step was made from"


def taken_over(step: TrainingStep, train: TrainOptions, options: CompileOptions) -> TrainOptions:
    """The options, with the loss of the step, its optimizer if it has one, and its parameters unless others
    are named.

    CompileError MM123 where parameters have no values.
    """
    unset = [printable(name, 60) for name in step.inputs if name not in options.bind]
    if unset:
        what = f"parameters of the step of training have no values in the file: {', '.join(unset)}"
        hint = f"--bind {unset[0]}=FILE.npy, and so for each"
        raise CompileError("MM123", what, exit=Exit.USAGE, hint=hint)
    update = ",".join(step.gradients) if train.update == "all" else train.update
    optimizer = {"optimizer": step.optimizer} if step.optimizer else {}
    try:
        return replace(train, loss=step.loss, update=update, **optimizer, **step.settings)
    except CompileError as error:
        what = f"the optimizer of the step of training: {error.message}"
        raise CompileError("MM202", what, exit=Exit.UNSUPPORTED, hint=HINT) from None


def as_imported(
    graph: Graph, step: TrainingStep, model: Path, train: TrainOptions, options: CompileOptions
) -> Graph:
    """The step's model for inference with a warning that says what was taken of the step.

    CompileError MM202 where parameters are no layer's, or the file computes other gradients than those of its
    loss.
    """
    known = {parameter.name for parameter in parameters(graph)}
    missing = [printable(name, 60) for name in step.gradients if name not in known]
    if missing:
        what = f"parameters of the step of training are no weights of layers: {', '.join(missing)}"
        raise CompileError("MM202", what, exit=Exit.UNSUPPORTED, hint=HINT)
    if not step.symbolic:
        _hold(graph, step, model, train, options)
    rate = f"; its rate, {step.rate:g}, is an argument of train_step" if step.rate is not None else ""
    optimizer = f", optimizer {train.optimizer}" if step.optimizer else ""
    text = (
        f"the file is a step of training ({step.writer}): loss {step.loss}{optimizer} and "
        f"{len(step.gradients)} parameters are taken from it, gradients are mmcc's own{rate}"
    )
    return replace(graph, warnings=(*graph.warnings, text))


def _hold(
    graph: Graph, step: TrainingStep, model: Path, train: TrainOptions, options: CompileOptions
) -> None:
    """Compare gradients of one sample, element by element."""
    source, rng = load(model), np.random.default_rng(1)
    summed = replace(
        train, update=",".join(step.gradients), optimizer="sgd", accumulate=2, clip_value=0.0, clip_norm=0.0
    )
    module = training_module(graph, summed)
    entry = next(entry.graph for entry in module.entries if entry.name == STEP)
    ours, theirs = dict[str, Array](), dict[str, Array]()
    for port in entry.inputs:
        shape, dtype = port.onnx_shape, entry.tensors[port.tensor].dtype.numpy
        if port.called == LABEL and step.loss == "softmax-cross-entropy":
            array: Array = np.zeros(shape, dtype)
            theirs[step.label] = array.reshape(-1).astype(np.int64)
        else:
            array = rng.standard_normal(shape).astype(dtype)
            theirs[step.label if port.called == LABEL else port.onnx_name] = array
        ours[port.tensor] = port.to_c(array, entry.tensors[port.tensor])
    theirs |= {name: np.asarray(value, np.float32) for name, value in options.bind.items()}
    theirs |= {info: np.ones(1, np.bool_) for info in ("lazy_reset_grad",)}
    given = step_gradients(source, step, theirs)
    constants = initial_values(source, step)
    machine = Interpreter(module)
    machine.call(STEP, ours)
    for name, array in given.items():
        mine = machine.states[f"{name}_sum"]
        file = options.bind[name] if name in options.bind else constants[name]
        if not _alike(graph.constants[name], mine, np.asarray(file, np.float32), array):
            what = f'the file computes another gradient of "{printable(name, 60)}" than that of its loss'
            raise CompileError("MM202", what, exit=Exit.UNSUPPORTED, hint=HINT)


def _alike(values: Array, mine: Array, file_values: Array, theirs: Array) -> bool:
    """Are gradients equal where parameters are, each in a layout of its own?

    The values of the parameter tell which element is which. Of equal values a vector keeps the order;
    elsewhere gradients of equal values are compared in the order of their size.
    """
    if values.size != file_values.size or mine.size != theirs.size or mine.size != values.size:
        return False
    if values.shape == file_values.shape and values.ndim == 1 and np.array_equal(values, file_values):
        a, b = mine.reshape(-1), theirs.reshape(-1)
    else:
        first, second = _in_order(values, mine), _in_order(file_values, theirs)
        if not np.array_equal(first[0], second[0]):
            return False
        a, b = first[1], second[1]
    return bool(np.abs(a - b).max(initial=0) <= CLOSE * max(np.abs(b).max(initial=0), 1e-6))


def _in_order(values: Array, gradients: Array) -> tuple[Array, Array]:
    flat, beside = values.reshape(-1), gradients.reshape(-1)
    order = np.lexsort((beside, flat))
    return flat[order], beside[order]
