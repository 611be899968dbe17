# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to a package that also trains its model on the device."""

from __future__ import annotations

from pathlib import Path

from mmcc.driver.compile import CompileResult, compile_module
from mmcc.driver.load import dump, load_graph
from mmcc.driver.options import CompileOptions, Progress, silent
from mmcc.errors import CompileError, Exit
from mmcc.package.folder import check_output
from mmcc.target import load_target
from mmcc.training.module import training_module
from mmcc.training.options import TrainOptions


def compile_training(
    model: str | Path,
    out: str | Path,
    train: TrainOptions | None = None,
    options: CompileOptions | None = None,
    progress: Progress = silent,
) -> CompileResult:
    """Compile an ONNX file into a folder of C with `run`, `train_step` and, for sums of steps, `train_apply`.

    Raises CompileError as `compile_model` does, and for a model that cannot be trained as `train` says.
    """
    train, options = train or TrainOptions(), options or CompileOptions()
    model, out = Path(model), Path(out)
    load_target(options.target)
    check_output(out)
    if options.io != "arena" or options.weights == "staged" or options.states or options.stream:
        what = "--io, --weights staged, --state and --stream are for inference"
        raise CompileError("MM119", what, exit=Exit.USAGE, hint="leaving them out")
    module = training_module(load_graph(model, options, progress), train)
    if options.dump:
        dump(options.dump, "2-training.txt", str(module))
    return compile_module(module, model, out, options, progress)
