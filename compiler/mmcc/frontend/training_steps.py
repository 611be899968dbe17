# SPDX-License-Identifier: Apache-2.0
"""Operators of graphs that are steps of training already: whose they are, which an error says."""

from __future__ import annotations

import re

PREVIEW = "ai.onnx.preview.training"
_OPTIMIZERS = re.compile(r"(SGD|Adam|AdamW|Lamb)Optimizer(V\d+)?")
# domain: who writes such graphs, and the names of operators that only these have
_WRITERS = {
    PREVIEW: (
        "ONNX's preview of training",
        re.compile(r"Gradient|GraphCall|Adagrad|Adam|Momentum"),
    ),
    "com.microsoft": (
        "ONNX Runtime's training artifacts",
        re.compile(
            r".+Grad(_\d+)?|.+Gradient|InPlaceAccumulator(V\d+)?|"
            + _OPTIMIZERS.pattern
            + r"|YieldOp|BatchNormInternal|SoftmaxCrossEntropyLossInternal|ConcatTraining|PassThrough"
        ),
    ),
    "": ("Deeploy", re.compile(r"SGD|.+Grad")),
}
HINT = "mmcc train on the model for inference that it was made from; mmcc makes loss, gradients and optimizer"

COMPILE_HINT = f"{HINT}; it also takes this file, if the step has a form that it knows"


def writer_of(domain: str, op: str) -> str:
    """Who writes steps of training with this operator; "" if it is of none."""
    who, names = _WRITERS.get("" if domain == "ai.onnx" else domain, ("", re.compile(r"(?!)")))
    return who if names.fullmatch(op) else ""


def is_optimizer(op: str) -> bool:
    """Is an operator of such graphs one of ONNX Runtime's optimizers?"""
    return _OPTIMIZERS.fullmatch(op) is not None
