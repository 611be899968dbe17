# SPDX-License-Identifier: Apache-2.0
"""The command line called in this process, and models to call it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from mmcc.cli import main
from onnx import TensorProto, helper, numpy_helper

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


MODEL = DIGITS / "digits_int8.onnx"


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def conv_model(weights=None, name="conv", input_name="x", output_name="y", dims=(1, 2, 6, 6), scale=None):
    """A small model: one Conv, quantized if a scale is given."""
    w = np.ones((3, 2, 3, 3), np.float32) if weights is None else weights
    inits = [numpy_helper.from_array(w, "w")]
    nodes = [helper.make_node("Conv", [input_name, "w"], [output_name], name=name)]
    if scale is not None:
        inits += [numpy_helper.from_array(np.array(scale, np.float32), "s")]
        inits += [numpy_helper.from_array(np.array(0, np.int8), "z")]
        nodes = [
            helper.make_node("QuantizeLinear", [input_name, "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("Conv", ["d", "w"], [output_name], name=name),
        ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, list(dims))],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, None)],
        inits,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(model, folder, name="model.onnx"):
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def told(result):
    """What was printed, wherever its lines are broken."""
    return " ".join(result.output.split())


def refused(path, tmp_path, code, *says, args=()):
    """The compiler ends with `code`, says what is wrong, and leaves nothing behind."""
    before = sorted(p.name for p in tmp_path.iterdir())
    result = run("compile", path, "-o", tmp_path / "refused", *args)
    assert result.exit_code == code, result.output
    assert result.output.startswith("error[MM"), result.output
    assert "Traceback" not in result.output
    for text in says:
        assert " ".join(text.split()) in told(result), result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == before
