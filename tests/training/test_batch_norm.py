# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization in training mode: gradients through the statistics of a step, and the running ones."""

from __future__ import annotations

from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from learned import learned
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.ir.module import Module
from mmcc.training.module import training_module
from mmcc.training.options import TrainOptions
from onnx import helper
from wide import check_step, wide

MOMENTUM, EPSILON = 0.75, 1e-3
STATISTICS = ("mean", "variance")


def model(folder: Path, *, vector: bool = False, **attributes: int) -> Path:
    """Two normalizations that begin with the same statistics, around a Relu."""
    rng = np.random.default_rng(2)
    size = 1 if vector else 3
    constants = {"w": rng.standard_normal((3, 2, size, size)).astype(np.float32)}
    constants |= {"v": rng.standard_normal((4, 3, 1, 1)).astype(np.float32)}
    for name, count in (("a", 3), ("b", 4)):
        constants |= {
            f"scale_{name}": np.ones(count, np.float32),
            f"bias_{name}": np.zeros(count, np.float32),
        }
        constants |= {f"mean_{name}": np.zeros(count, np.float32), f"var_{name}": np.ones(count, np.float32)}

    def normalize(x: str, name: str, y: str):
        operands = [x, *(f"{what}_{name}" for what in ("scale", "bias", "mean", "var"))]
        outputs = [y, f"{y}_mean", f"{y}_var"] if attributes.get("training_mode") else [y]
        options = {"momentum": MOMENTUM, "epsilon": EPSILON, **attributes}
        return helper.make_node("BatchNormalization", operands, outputs, **options)

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        normalize("c", "a", "n"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"]),
        normalize("d", "b", "y"),
    ]
    side = 1 if vector else 6
    return save(model_of(nodes, {"x": np.zeros((1, 2, side, side), np.float32)}, ["y"], constants), folder)


def module(path: Path) -> Module:
    graph = load_graph(path, CompileOptions(), keep_batch_norm=True)
    return training_module(graph, TrainOptions(loss="mse", batch_norm="own"))


@pytest.mark.quick
@pytest.mark.parametrize("attributes", [{}, {"training_mode": 1}])
def test_a_step_goes_down_the_gradient_of_the_loss(attributes: dict[str, int], tmp_path: Path) -> None:
    """Through mean and variance, by central differences; those that run ahead of it are no part of it."""
    step, rng = module(model(tmp_path, **attributes)).entries[1].graph, np.random.default_rng(4)
    given = {"x": rng.standard_normal((6, 6, 2)), "label_0": rng.standard_normal((4, 4, 4))}
    # a bias before another normalization's mean is taken moves nothing
    learned = [s.begin for s in step.states if not s.begin.endswith(STATISTICS)]
    assert len(learned) == 6
    check_step(step, given, of=learned)


@pytest.mark.quick
def test_running_statistics_follow_those_of_each_step(tmp_path: Path) -> None:
    """As ONNX says: of all values of a channel, with the momentum of the node; and inference has them."""
    made = module(model(tmp_path))
    run, step = (entry.graph for entry in made.entries)
    rng = np.random.default_rng(4)
    given = {"x": rng.standard_normal((6, 6, 2)), "label_0": np.zeros((4, 4, 4)), "rate": np.zeros(1)}
    after = wide(step, given)
    changed = {state.begin: after[state.end] for state in step.states}
    for name, source in (("n", "c"), ("y", "d")):
        x = after[source].reshape(-1, after[source].shape[-1])
        np.testing.assert_allclose(changed[f"{name}.mean"], (1 - MOMENTUM) * x.mean(0), atol=1e-7)
        want = MOMENTUM + (1 - MOMENTUM) * x.var(0)
        np.testing.assert_allclose(changed[f"{name}.variance"], want, atol=1e-7)
    normal = (after["c"] - after["c"].mean((0, 1))) / np.sqrt(after["c"].var((0, 1)) + EPSILON)
    np.testing.assert_allclose(after["n"], normal, atol=1e-7)
    inferred = wide(run, {"x": given["x"]} | changed)
    want = (inferred["c"] - changed["n.mean"]) / np.sqrt(changed["n.variance"] + EPSILON)
    np.testing.assert_allclose(inferred["n"], want, atol=1e-7)
    assert {f"{name}.{what}" for name in "ny" for what in STATISTICS} <= set(made.parameters), "not saved"


@pytest.mark.quick
def test_a_channel_with_one_value_has_no_variance(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"MM208.*one value"):
        module(model(tmp_path, vector=True))


@pytest.mark.quick
def test_training_mode_is_for_training(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="training mode") as raised:
        load_graph(model(tmp_path, training_mode=1), CompileOptions())
    assert "--batch-norm own" in str(raised.value)


def test_every_plan_learns_the_same_bits(tmp_path: Path) -> None:
    """compile runs each step of the C against the references by itself."""
    path, found = model(tmp_path), []
    for k, options in enumerate(({}, {"ram": "min"})):
        train = {"loss": "mse", "batch_norm": "own", "accumulate": 2}
        mmcc.compile_training(path, tmp_path / f"{k}", train, **options)
        found.append(learned(tmp_path / f"{k}", 3))
    assert all(map(np.array_equal, *found))
