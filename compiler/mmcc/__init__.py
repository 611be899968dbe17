# SPDX-License-Identifier: Apache-2.0
"""mmcc: an ahead-of-time compiler from ONNX to plain C, under a proved RAM limit.

result = mmcc.compile_model("model.onnx", "model_c", target="cortex-m4", ram="64K")
result.report["ram"]["total"], result.run([image])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcc.api import (
        CompileError,
        CompileOptions,
        CompileResult,
        Estimate,
        TrainOptions,
        VerifyOptions,
        check,
        compile_model,
        compile_training,
        estimate,
        link_models,
        verify,
    )

__version__ = "0.2.0"

__all__ = [
    "CompileError",
    "CompileOptions",
    "CompileResult",
    "Estimate",
    "TrainOptions",
    "VerifyOptions",
    "__version__",
    "check",
    "compile_model",
    "compile_training",
    "estimate",
    "link_models",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import the API on first use: `mmcc --help` needs none of what it imports."""
    if name in __all__:
        from mmcc import api

        return getattr(api, name)
    raise AttributeError(f"module 'mmcc' has no attribute {name!r}")
