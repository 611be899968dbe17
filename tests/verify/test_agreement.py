# SPDX-License-Identifier: Apache-2.0
"""How far outputs may be off from ONNX Runtime: integers by a step, those of one accumulator once; floats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ops.requantize import multiplier_and_shift, requantize, watch_roundings
from mmcc.verification.agreement import Agreement
from mmcc.verification.oracle import Oracle
from mmcc.verification.samples import made_up
from mmcc.verification.tally import Tally, allowed, distinct
from onnx import helper

pytestmark = pytest.mark.quick
SHAPE = (50, 50, 4)


def count(acc: np.ndarray, wrong: np.ndarray) -> int:
    """Different roundings among the wrong outputs; the scale differs from channel to channel."""
    pairs = [multiplier_and_shift(scale) for scale in (0.01, 0.013, 0.02, 0.029)]
    with watch_roundings() as roundings:
        requantize(acc, np.array([m for m, _ in pairs]), np.array([s for _, s in pairs]))
    (rounding,) = roundings
    return distinct(wrong, rounding.exact)


def test_outputs_of_one_accumulator_are_one_rounding() -> None:
    """By brute force over random accumulators; of a constant region, there is one for each channel."""
    rng = np.random.default_rng(0)
    assert count(np.full(SHAPE, 77), np.ones(SHAPE, bool)) == 4
    for most in (2, 50, 10_000):
        acc, wrong = rng.integers(-most, most, SHAPE), rng.random(SHAPE) < 0.1
        every = {(int(acc[at]), at[-1]) for at in np.ndindex(SHAPE) if wrong[at]}
        assert count(acc, wrong) == len(every)


def test_a_region_that_rounds_in_another_way_is_no_fault() -> None:
    few = int(allowed(10_000))
    assert Tally(10_000, mismatches=2_500, roundings=1, max_abs=1).ok(integer=True)
    assert not Tally(10_000, mismatches=2_500, roundings=few + 1, max_abs=1).ok(integer=True)
    assert not Tally(10_000, mismatches=1, roundings=1, max_abs=2).ok(integer=True)


@pytest.mark.parametrize("exponent", [3.0, -1.0])
def test_an_infinity_where_onnx_runtime_has_a_number_is_found(exponent, tmp_path) -> None:
    """The reference makes infinities of zeros."""
    x = np.zeros((1, 6, 40), np.float32)

    def model(power: float) -> Path:
        node = helper.make_node("Pow", ["x", "p"], ["y"])
        return save(model_of([node], {"x": x}, ["y"], {"p": np.float32(power)}), tmp_path, f"m{power}.onnx")

    graph = load_graph(model(-1.0), CompileOptions())
    agreement = Agreement(graph, model(exponent), {})
    agreement.run([x])
    assert all(tally.ok(integer=False) for tally in agreement.tallies.values()) == (exponent == -1.0)


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.01, False)])
@pytest.mark.parametrize("floats", [np.float32, np.float16])
def test_references_of_floats_are_held_to_onnx_runtime(floats, factor, agrees, tmp_path) -> None:
    """A constant that is a hundredth off is found. A step of float16 is not: ONNX Runtime takes out the Cast
    to float16 and back between two operators, and sums up what it has not rounded."""

    def model(by: float) -> Path:
        nodes = [
            helper.make_node("Mul", ["x", "c"], ["m"]),
            helper.make_node("Sin", ["m"], ["s"]),
            helper.make_node("ReduceSum", ["s", "axes"], ["y"], keepdims=0),
        ]
        given = {"x": np.zeros((1, 6, 40), floats)}
        constants = {"c": (np.linspace(0.3, 0.9, 40) * by).astype(floats), "axes": [1]}
        return save(model_of(nodes, given, ["y"], constants), tmp_path, f"m{by}.onnx")

    graph = load_graph(model(1.0), CompileOptions())
    agreement = Agreement(graph, model(factor), {})
    for sample in made_up(graph.inputs, 20):
        agreement.run(sample)
    assert all(tally.ok(integer=False) for tally in agreement.tallies.values()) == agrees


@pytest.mark.parametrize(("length", "planted"), [(210, 0.0), (210, 1e-2), (243, 0.0)])
def test_a_difference_that_is_onnx_runtimes_is_told_from_ours(length, planted, tmp_path) -> None:
    """Its Fourier transforms of such lengths are 30 times as far from float64 as ours."""
    node = helper.make_node("DFT", ["x", "", "axis"], ["y"], onesided=1)
    x = np.random.default_rng(3).standard_normal((1, length, 1)).astype(np.float32)
    path = save(model_of([node], {"x": x}, ["y"], {"axis": np.int64(1)}, opset=20), tmp_path, "m.onnx")
    graph = load_graph(path, CompileOptions())
    constants = {name: array.copy() for name, array in graph.constants.items()}
    if planted:
        max(constants.values(), key=np.size).reshape(-1)[17] += np.float32(planted)
    agreement = Agreement(replace(graph, constants=constants), path, {})
    agreement.run([x])
    assert all(tally.ok(integer=False) for tally in agreement.tallies.values()) == (planted == 0)
    (theirs,) = Oracle(path, ["y"]).run({"x": x})
    true = np.fft.rfft(x[0, :, 0].astype(float))
    assert np.abs(theirs[0, :, 0] - true.real).max() > 1e-5 * np.abs(true).max()


@pytest.mark.parametrize(("eps", "agrees"), [(1e-5, True), (2e-5, False)])
@pytest.mark.parametrize(("mean", "deviation"), [(100, 1e-3), (1, 1e-2)])
def test_what_last_bits_of_several_nodes_decide_is_ours_to_choose(
    mean, deviation, eps, agrees, tmp_path
) -> None:
    """An InstanceNormalization of numbers near 100 is 2.4e-3 off in ONNX Runtime, and 8e-4 in the reference:
    what float64 makes of the same numbers judges, and a wrong constant is found nevertheless."""
    rng = np.random.default_rng(0)
    x = (mean + deviation * rng.standard_normal((1, 8, 16, 16))).astype(np.float32)

    def model(by: float) -> Path:
        node = helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"], epsilon=by)
        constants = {"s": np.ones(8, np.float32), "b": np.zeros(8, np.float32)}
        return save(model_of([node], {"x": x}, ["y"], constants), tmp_path, f"m{by}.onnx")

    agreement = Agreement(load_graph(model(eps), CompileOptions()), model(1e-5), {})
    agreement.run([x])
    assert all(tally.ok(integer=False) for tally in agreement.tallies.values()) == agrees


@pytest.mark.parametrize(("by", "least"), [(1.0, 0), (1.004, 235)])
def test_inputs_of_float16_are_as_they_are(by, least, tmp_path) -> None:
    """Nothing has rounded them: half a step of theirs excuses no value that is four off, of 240 but those
    that last bits take over a tie."""
    x = np.random.default_rng(0).uniform(0.5, 1, (1, 6, 40)).astype(np.float16)

    def model(factor: float) -> Path:
        node = helper.make_node("Mul", ["x", "c"], ["y"])
        return save(model_of([node], {"x": x}, ["y"], {"c": np.float16(factor)}), tmp_path, f"m{factor}.onnx")

    agreement = Agreement(load_graph(model(by), CompileOptions()), model(1.0), {})
    agreement.run([x])
    found = sum(tally.mismatches for tally in agreement.tallies.values())
    assert found == 0 if by == 1 else found >= least


@pytest.mark.parametrize("floats", [np.float32, np.float16])
def test_a_number_where_onnx_runtime_has_none_is_found(floats, tmp_path) -> None:
    """No room that last bits or halves of steps make is large enough for it."""
    x = np.random.default_rng(0).uniform(0.5, 1, (1, 6, 40)).astype(floats)

    def model(factor: float) -> Path:
        node = helper.make_node("Mul", ["x", "c"], ["y"])
        return save(model_of([node], {"x": x}, ["y"], {"c": floats(factor)}), tmp_path, f"m{factor}.onnx")

    agreement = Agreement(load_graph(model(1.5), CompileOptions()), model(np.nan), {})
    agreement.run([x])
    assert sum(tally.mismatches for tally in agreement.tallies.values()) == x.size


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.01, False)])
def test_a_node_that_was_taken_out_before_an_output_is_judged(factor, agrees, tmp_path) -> None:
    """As a product by 1 is. Nothing reads the output, so no later node shows what it should have been."""
    x = np.random.default_rng(0).uniform(0.5, 1, (1, 6, 40)).astype(np.float32)

    def model(by: float) -> Path:
        nodes = [helper.make_node("Sin", ["x"], ["s"]), helper.make_node("Mul", ["s", "c"], ["y"])]
        return save(model_of(nodes, {"x": x}, ["y"], {"c": np.float32(by)}), tmp_path, f"m{by}.onnx")

    graph = load_graph(model(1.0), CompileOptions())
    assert len(graph.nodes) == 1
    agreement = Agreement(graph, model(factor), {})
    agreement.run([x])
    assert all(tally.ok(integer=False) for tally in agreement.tallies.values()) == agrees


def test_a_wrong_value_beside_infinities_is_found_without_a_word(tmp_path, recwarn) -> None:
    """As a mask of attention has them: an infinity less itself is no number, of which numpy warns."""
    mask = np.array([[0, 2, -np.inf, np.inf]], np.float32)
    x = np.array([[1, 2, 3, 4]], np.float32)
    nodes = [helper.make_node("Add", ["x", "m"], ["y"])]
    path = save(model_of(nodes, {"x": x}, ["y"], {"m": mask}), tmp_path, "m.onnx")
    graph = load_graph(path, CompileOptions())
    ((name, stored),) = graph.constants.items()
    planted = np.where(stored == 2, np.float32(3), stored)
    agreement = Agreement(replace(graph, constants={name: planted}), path, {})
    agreement.run([x])
    (tally,) = agreement.tallies.values()
    assert (tally.mismatches, [str(each.message) for each in recwarn]) == (1, [])
