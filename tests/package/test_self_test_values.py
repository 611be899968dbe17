# SPDX-License-Identifier: Apache-2.0
"""The self-test of a package where a model's right outputs are infinite or no numbers, or hang on the order
in which sums are made."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.toolchain import STRICT_FLAGS
from onnx import TensorProto, helper, numpy_helper, save

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logarithms of numbers between -1 and 1: of half of them there is none; that of 0 is infinite."""
    folder = tmp_path_factory.mktemp("values")
    names = ("logarithm", "rectified", "beyond")
    nodes = [
        helper.make_node("Log", ["x"], [names[0]]),
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Log", ["positive"], [names[1]]),
        helper.make_node("Neg", ["x"], [names[2]]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 24])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 24]) for name in names]
    graph = helper.make_graph(nodes, "values", [x], outputs)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    save(model, folder / "model.onnx")
    compile_model(folder / "model.onnx", folder / "net", CompileOptions(name="net", stack=1024))
    return folder / "net"


def wrong(package: Path, text: str, folder: Path) -> bool:
    """True if the self-test with this text says that the model is wrong."""
    (folder / "test.c").write_text(text)
    others = [path for path in package.glob("*.c") if "selftest" not in path.name]
    command = ["gcc", *STRICT_FLAGS, "-O1", "-DNET_SELFTEST_MAIN=1", f"-I{package}"]
    subprocess.run([*command, folder / "test.c", *others, "-lm", "-o", folder / "test"], check=True)
    return subprocess.run([folder / "test"], check=False, capture_output=True).returncode == 1


def changed(text: str, output: int, old: str, new: str) -> str:
    """The text with the first expected value of an output that is `old` as `new`."""
    head, table = re.split(rf"(?<=expected_{output})\[\d+\] = ", text)
    size = text[len(head) : -len(table)]
    assert old in table.partition("}")[0]
    return head + size + table.replace(old, new, 1)


def test_what_is_expected_and_comes_is_right(package: Path, tmp_path: Path) -> None:
    text = (package / "net_selftest.c").read_text()
    assert "(0.0f / 0.0f)" in text
    assert "(-1.0f / 0.0f)" in text
    assert not wrong(package, text, tmp_path)


@pytest.mark.parametrize(
    ("output", "old", "new"),
    [(0, "(0.0f / 0.0f)", "0.5f"), (1, "(-1.0f / 0.0f)", "-100.0f"), (2, "{\n", "{\n    (0.0f / 0.0f) +")],
    ids=["no-number-comes", "an-infinity-comes", "a-number-comes"],
)
def test_what_comes_unexpected_is_wrong(
    output: int, old: str, new: str, package: Path, tmp_path: Path
) -> None:
    text = (package / "net_selftest.c").read_text()
    assert wrong(package, changed(text, output, old, new), tmp_path)


@pytest.mark.parametrize(("size", "compared"), [(1e19, False), (1e17, True)])
def test_outputs_behind_a_sum_that_overflows_are_not_compared(
    size: float, compared: bool, tmp_path: Path
) -> None:
    """The sum of the squares of a line may be infinite, or may not. What does not read it is compared."""
    constants = {"k": np.full(8, size), "s": np.arange(8) + 1.0, "b": np.ones(8)}
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["large"]),
        helper.make_node("LayerNormalization", ["large", "s", "b"], ["normal"]),
        helper.make_node("Neg", ["normal"], ["behind"]),
        helper.make_node("Neg", ["x"], ["beside"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 8])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 8]) for name in ("behind", "beside")
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "large", [x], outputs, weights)
    save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
        tmp_path / "m.onnx",
    )
    compile_model(tmp_path / "m.onnx", tmp_path / "net", CompileOptions(name="net", stack=1024))
    text = (tmp_path / "net" / "net_selftest.c").read_text()
    assert ("expected_0[" in text) == compared
    assert ("output_0 is not compared" in text) != compared
    assert not wrong(tmp_path / "net", text, tmp_path)
    assert wrong(tmp_path / "net", changed(text, 1, "{\n", "{\n    1.0f +"), tmp_path)
