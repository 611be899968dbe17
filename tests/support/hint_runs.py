# SPDX-License-Identifier: Apache-2.0
"""The command line, and models that must be refused and then accepted, for cases of hints."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from frontend_models import model_of, save
from mmcc.cli import main
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from onnx import helper

node = helper.make_node
X = {"x": np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype(np.float32)}


RELU = model_of([node("Relu", ["x"], ["y"])], X, ["y"])


FLOATS = np.linspace(-1, 1, 4 * 4 * 9).reshape(4, 4, 3, 3).astype(np.float32)


def mmcc(*args, exit=0, data=None):
    """The command line's output; its exit code must be that."""
    done = CliRunner().invoke(main, [str(arg) for arg in args], input=data)
    assert done.exit_code == exit, done.output
    return done.output


def refused(model, folder, *says, **options):
    """The hint of a model that cannot be imported, which must have all of these in it."""
    with pytest.raises(CompileError) as caught:
        import_model(save(model, folder), **options)
    for text in says:
        assert text in caught.value.hint, caught.value
    return caught.value.hint


def accepted(model, folder, **options):
    return import_model(save(model, folder), **options)
