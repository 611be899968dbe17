# SPDX-License-Identifier: Apache-2.0
"""Is arithmetic in float16, which the user asked for, to be had?"""

from __future__ import annotations

from mmcc.errors import CompileError, Exit
from mmcc.ir.module import Module
from mmcc.ops.half_layers import has_half_layer
from mmcc.target import Target, list_targets, load_target


def check_half_layers(module: Module, target: Target) -> None:
    """CompileError MM124 where the target has no arithmetic in float16, or the model no layer for it."""
    if not target.fp16_math:
        known = ", ".join(name for name in list_targets() if load_target(name).fp16_math)
        raise CompileError(
            "MM124",
            f"--fp16-math: code for the target {target.name} has no arithmetic in float16",
            exit=Exit.USAGE,
            hint=f"-t {known}; without the option float16 is computed in float32, to more digits",
        )
    if not any(has_half_layer(entry.graph) for entry in module.entries):
        raise CompileError(
            "MM124",
            "--fp16-math: no convolution or dense layer of the model is between tensors in float16",
            exit=Exit.USAGE,
            hint="leave it out; or convert the model to float16 before: its tensors are what decides",
        )
