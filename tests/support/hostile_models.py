# SPDX-License-Identifier: Apache-2.0
"""Small models with something wrong in them."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.errors import CompileError, Exit
from mmcc.frontend import import_model
from mmcc.frontend.problems import CODES
from onnx import helper

node = helper.make_node


X = {"x": np.zeros((1, 3, 8, 8), np.float32)}


def fails(model, folder, code, *says, exit=Exit.BAD_MODEL, **options):
    with pytest.raises(CompileError) as caught:
        import_model(save(model, folder), **options)
    error = caught.value
    assert (error.code, error.exit) == (code, exit), str(error)
    assert error.code in CODES
    assert all(c.isprintable() or c == "\n" for c in str(error))
    for text in says:
        assert text in str(error)
    return error


def small(*nodes, constants=None, inputs=None, outputs=("y",), **more):
    return model_of(nodes, X if inputs is None else inputs, outputs, constants, **more)
