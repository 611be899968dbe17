# SPDX-License-Identifier: Apache-2.0
"""ONNX file -> Graph. Nothing outside this package imports onnx.

`importer` drives; `load` and `tensors` read what may be hostile; `value` and `builder` are the lazy layouts;
each other module converts a family of operators and registers itself in `registry`.
"""

from mmcc.frontend.imported_step import TrainingStep, training_step
from mmcc.frontend.importer import import_model
from mmcc.frontend.load import load
from mmcc.frontend.registry import supported_operators
from mmcc.frontend.step_values import initial_values, step_gradients

__all__ = [
    "TrainingStep",
    "import_model",
    "initial_values",
    "load",
    "step_gradients",
    "supported_operators",
    "training_step",
]
