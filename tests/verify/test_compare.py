# SPDX-License-Identifier: Apache-2.0
"""What verify calls a difference: numbers that are none must not hide others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run
from frontend_models import model_of, save
from onnx import helper

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = -x of four numbers."""
    folder = tmp_path_factory.mktemp("compare")
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], {"x": np.ones((1, 4), np.float32)}, ["y"], {})
    made = run("compile", save(model, folder), "-t", "host", "--no-self-check", "-o", folder / "c")
    assert made.exit_code == 0
    return folder / "c"


@pytest.mark.parametrize(
    ("x", "y", "right"),
    [
        ([1, 2, 3, 4], [-1, -2, -3, -4], True),
        ([np.inf, np.nan, 3, 4], [-np.inf, np.nan, -3, -4], True),
        ([1, 2, 3, 4], [-1, np.nan, -3, -4], False),
        ([1, np.nan, 3, 4], [-1, -2, -3, -4], False),
        ([1, np.inf, 3, 4], [-1, np.inf, -3, -4], False),
        ([1, np.inf, 3, 4], [-1, -np.inf, -3, -4.5], False),  # an infinity is no measure for the others
        ([1, np.nan, 3, 4], [-1, np.nan, -3, -4.5], False),
    ],
)
def test_what_is_no_number(
    package: Path, x: list[float], y: list[float], right: bool, tmp_path: Path
) -> None:
    for name, key, values in (("x", "input_0", x), ("y", "output_0", y)):
        np.savez(tmp_path / f"{name}.npz", **{key: np.float32([values])})
    told = run("verify", package, "--data", tmp_path / "x.npz", "--expected", tmp_path / "y.npz", "--json")
    found = json.loads(told.stdout, parse_constant=pytest.fail)
    assert found["ok"] == right
    assert told.exit_code == (0 if right else 7)


def two_outputs(tmp_path: Path) -> Path:
    """Numbers a thousand times as large as others, and the place of the largest."""
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["large"]),
        helper.make_node("Neg", ["x"], ["small"]),
        helper.make_node("ArgMax", ["x"], ["place"], axis=1),
    ]
    outputs = ["large", "small", "place"]
    model = model_of(nodes, {"x": np.ones((1, 4), np.float32)}, outputs, {"k": np.float32([1e6])})
    made = run("compile", save(model, tmp_path), "-t", "host", "--no-self-check", "-o", tmp_path / "c")
    assert made.exit_code == 0, made.output
    return tmp_path / "c"


def test_each_output_has_its_own_measure(tmp_path: Path) -> None:
    """Neither a large output nor a wrong number of right ones hides what is wrong in another."""
    package, x = two_outputs(tmp_path), np.float32([[1, 4, 2, 3]])
    right = {"output_0": x * 1e6, "output_1": -x, "output_2": np.array([[1]])}
    np.savez(tmp_path / "x.npz", input_0=x)
    for change, ok in (({}, True), ({"output_1": -x - 0.5}, False), ({"output_2": np.array([[2]])}, False)):
        np.savez(tmp_path / "y.npz", **(right | change))
        told = run(
            "verify", package, "--data", tmp_path / "x.npz", "--expected", tmp_path / "y.npz", "--json"
        )
        assert json.loads(told.stdout)["ok"] == ok, told.stdout


def test_the_logarithm_of_a_sum_of_exponentials_has_infinities(tmp_path: Path) -> None:
    """As ONNX Runtime has them: of rows that a mask leaves nothing of, and of what is too large."""
    node = helper.make_node("ReduceLogSumExp", ["x"], ["y"], axes=[1], keepdims=0)
    path = save(model_of([node], {"x": np.ones((5, 4), np.float32)}, ["y"], {}), tmp_path)
    assert run("compile", path, "-t", "host", "-o", tmp_path / "c").exit_code == 0
    inf, top = np.inf, 3e38
    rows = [[-inf] * 4, [inf, 1, 2, 3], [top, top, 0, -top], [-top, -top, -top, -inf], [inf, -inf, 0, 1]]
    np.savez(tmp_path / "x.npz", input_0=np.float32([rows]))
    told = run("verify", tmp_path / "c", "--data", tmp_path / "x.npz", "--per-node", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["max_abs"] == 0
