# SPDX-License-Identifier: Apache-2.0
"""Steps that make values of their forward pass again: what is chosen, and that it learns the same bits."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.api import CompileResult, TrainOptions
from mmcc.driver import recompute
from mmcc.driver.ask import plan_request
from mmcc.driver.choice_plan import Asked
from mmcc.driver.least_kept import least_kept
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.driver.recompute import KeptValues, SlowMemory
from mmcc.ir.graph import nest_of
from mmcc.ir.interpret import Interpreter
from mmcc.ir.made_again import MadeAgain
from mmcc.ir.module import Module
from mmcc.ir.plan import Plan
from mmcc.ir.regions import SRAM
from mmcc.ops.bias_gradient import BiasGradient
from mmcc.ops.clamp_bits import ClampBits
from mmcc.ops.conv import Conv
from mmcc.ops.conv_gradient import WeightGradient
from mmcc.ops.dense import Dense
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.paging import Traffic
from mmcc.target import load_target
from mmcc.training import options as training_options
from mmcc.training.module import STEP, training_module
from mmcc.training.recompute import SavedValues
from onnx import helper

RATE = np.array([0.05], np.float32)
LAYERS = 4
Array = np.ndarray


def chain(folder: Path, layers: int = LAYERS, pooled: int = -1) -> Path:
    """Convolutions of equal results, a mean, and a layer that tells three classes apart; a max pool behind
    the convolution of number `pooled`."""
    rng = np.random.default_rng(5)
    constants, nodes, name = dict[str, Array](), [], "x"
    for k in range(layers):
        constants[f"w{k}"] = (0.4 * rng.standard_normal((8, 8 if k else 2, 3, 3))).astype(np.float32)
        constants[f"b{k}"] = (0.1 * rng.standard_normal(8)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [name, f"w{k}", f"b{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"]))
        name = f"r{k}"
        if k == pooled:
            nodes.append(helper.make_node("MaxPool", [name], ["p"], kernel_shape=[2, 2], strides=[2, 2]))
            name = "p"
    constants["w"], constants["b"] = rng.standard_normal((3, 8)).astype(np.float32), np.zeros(3, np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    inputs = {"x": np.zeros((1, 2, 16, 6), np.float32)}
    return save(model_of(nodes, inputs, ["y"], constants), folder)


def samples(count: int) -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(7)
    return [
        (rng.standard_normal((16, 6, 2)).astype(np.float32), np.array([k % 3], np.int32))
        for k in range(count)
    ]


def learned(result: CompileResult) -> list[Array]:
    """The losses of some steps, from the C on this machine."""
    model = host_model(result.folder, load_package(result.folder))
    found: list[Array] = []
    for image, label in samples(5):
        found += model.run([image, label, RATE], 1)
        model.forget()
    return found


def test_what_is_made_again_has_the_same_bits(tmp_path: Path) -> None:
    """Moments ride along in groups that span what is made again of the forward pass and the backward pass."""
    model, train = chain(tmp_path, pooled=1), TrainOptions(optimizer="momentum")
    plain = mmcc.compile_training(model, tmp_path / "plain", train, name="net")
    tight = mmcc.compile_training(model, tmp_path / "tight", train, name="net", ram="min", recompute=1.4)
    step, small = plain.report["entries"][0], tight.report["entries"][0]
    assert small["plan"]["arena"] < 0.6 * step["plan"]["arena"]
    assert small["saved"]["again"]
    assert small["saved"]["proved"]
    assert small["plan"]["macs_recomputed"] == small["saved"]["macs_again"] <= 0.4 * step["plan"]["macs"]
    assert "made again" in (tight.folder / "report.txt").read_text()
    groups = tight.memory.entries[STEP].groups
    assert sum(len(group.riding) for group in groups) > 5
    for one, other in zip(learned(plain), learned(tight), strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradients_without_a_sum_of_their_own_are_summed_row_by_row(tmp_path: Path) -> None:
    """Of plain SGD they lie in the arena, from the first row of a group of layers to the step."""
    model = chain(tmp_path, 2)
    plain = mmcc.compile_training(model, tmp_path / "plain", name="net")
    tight = mmcc.compile_training(model, tmp_path / "tight", name="net", ram="min", recompute=1.0)
    step = tight.memory.entries[STEP]
    (summed,) = (entry.graph for entry in tight.module.entries if entry.name == STEP)
    riders = {rider for group in step.groups for rider, _ in group.riding}
    kinds = {type(summed.nodes[rider].op) for rider in riders}
    assert kinds >= {WeightGradient, BiasGradient}
    assert not {state.end for state in summed.states} & {summed.nodes[k].output for k in riders}
    for one, other in zip(learned(plain), learned(tight), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedValues:
    return saved_values(tmp_path_factory.mktemp("chain"))


def saved_values(folder: Path, pooled: int = -1) -> SavedValues:
    graph = load_graph(chain(folder, pooled=pooled), CompileOptions())
    step = training_module(graph, training_options.TrainOptions(accumulate=2)).entries[1].graph
    return SavedValues(step, {name for node in graph.nodes for name in node.outputs})


@pytest.mark.quick
@pytest.mark.parametrize("pooled", [-1, 0, LAYERS - 1])
def test_every_choice_computes_the_same(pooled: int, tmp_path: Path) -> None:
    saved = saved_values(tmp_path, pooled)
    image, label = samples(1)[0]
    known = {"x": image, "label_0": label}

    def sums(graph) -> dict[str, Array]:
        machine = Interpreter(Module.of(graph))
        machine.call("run", known)
        return machine.states

    want = sums(saved.graph)
    names = [value.name for value in saved.values]
    graphs = [
        saved.recomputed({name for k, name in enumerate(names) if mask >> k & 1})
        for mask in range(2 ** len(names))
    ]
    twice = [saved.recomputed((), twice=end) for end in saved.ends]
    again = saved.made_again(())
    for end, graph in zip(saved.ends, twice, strict=True):  # what nobody reads any more is left out
        later = {name for name in graph.producer if name.endswith("_later")}
        assert later == {f"{name}_again_later" for name in saved.made_twice(again, end)}
    assert len(twice[-1].nodes) > len(graphs[0].nodes)
    for graph in (*graphs, *twice):
        got = sums(graph)
        for name, value in want.items():
            np.testing.assert_array_equal(got[name], value)


@pytest.mark.quick
def test_work_is_that_of_what_is_made_again(saved: SavedValues) -> None:
    names = [value.name for value in saved.values]
    assert saved.work(names) == 0
    assert len(saved.recomputed(names).nodes) == len(saved.graph.nodes)
    first, *others = names
    assert saved.made_again(others) == [first]
    macs = {value.name: value.macs for value in saved.values}
    assert saved.work(others) == macs[first] > 0
    layers = [node for node in saved.graph.nodes if isinstance(node.op, (Conv, Dense))]  # forward only
    assert saved.work([]) == sum(nest_of(saved.graph, node).macs for node in layers)
    bits = [node.output for node in saved.graph.nodes if isinstance(node.op, ClampBits)]
    assert [value.name for value in saved.values if value.name in bits] == bits, "the last one's are bits"
    assert len(bits) == 1


@pytest.mark.quick
def test_the_search_says_what_it_knows(saved: SavedValues) -> None:
    """With arenas made up, 1,000 bytes above what is kept: the least, and the least work within a limit."""
    graphs: dict[int, int] = {}

    def planned(graph, asked: Asked) -> tuple[Plan, int]:
        again = {name.removesuffix("_again") for name in graph.producer if name.endswith("_again")}
        arena = 1000 + saved.given + sum(v.bytes for v in saved.values if v.name not in again)
        graphs[id(graph)] = arena
        return Plan((), frozenset(), (), {}, {}, bound=arena), arena

    nothing = KeptValues(saved, planned, 1.0).least()
    assert nothing is None
    found = KeptValues(saved, planned, 2.0).least()
    assert found is not None
    assert found[1].arena == found[1].bound == min(graphs.values())
    assert found[1].proved
    all_kept = saved.given + sum(value.bytes for value in saved.values)
    some = KeptValues(saved, planned, 2.0).within(all_kept)
    assert some is not None
    large = [value for value in saved.values if value.macs and value.bytes > 1000]
    assert some[1].macs_again == min(value.macs for value in large)
    assert KeptValues(saved, planned, 2.0).within(900) is None


@pytest.mark.quick
def test_what_must_be_kept_for_so_much_work(saved: SavedValues) -> None:
    """The fewest bytes for every amount of work, by all choices; also where values share that work."""
    sizes = {value.name: value.bytes for value in saved.values}
    some = [set(some) for count in range(len(sizes) + 1) for some in combinations(sizes, count)]
    choices = [(saved.work(kept), sum(sizes[name] for name in kept)) for kept in some]
    assert len({work for work, _ in choices}) > 8
    for work in {work for work, _ in choices}:
        for allowed in {max(0, work - 1), work, work + 1}:
            found = least_kept(saved, allowed)
            assert found.bytes == min(kept for needed, kept in choices if needed <= allowed)
            assert sum(sizes[name] for name in found.kept) == found.bytes
            assert saved.work(found.kept) <= allowed


@pytest.mark.quick
def test_what_no_choice_has_less_than(saved: SavedValues, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where choices are left out: what each keeps for so much work, and the inputs that are read backward."""

    def planned(graph, asked: Asked) -> tuple[Plan, int]:
        return Plan((), frozenset(), (), {}, {}, bound=0), 10_000_000 - len(graph.nodes)

    monkeypatch.setattr(recompute, "FEW", 0)
    image, label = (saved.graph.tensors[port.tensor] for port in saved.graph.inputs)
    assert saved.given == image.bytes + label.bytes
    found = KeptValues(saved, planned, 1.2).least()
    assert found is not None
    assert found[1].bound == saved.given + least_kept(saved, int(0.2 * nodes_macs(saved))).bytes


@pytest.mark.quick
def test_small_values_that_take_no_work_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taps of a pool, where the convolution in front of it is made again: whichever choice is planned."""
    monkeypatch.setattr(recompute, "FEW", 0)
    saved = saved_values(tmp_path, pooled=1)
    (taps,) = (value for value in saved.values if "taps" in value.name)
    assert taps.macs == 0
    whole, free = 0, 0

    def planned(graph, asked: Asked) -> tuple[Plan, int]:
        nonlocal whole, free
        again = {name.removesuffix("_again") for name in graph.producer if name.endswith("_again")}
        before = saved.graph.producer[taps.name].inputs[0]
        if before in again:
            whole, free = whole + 1, free + (taps.name in again)
        return Plan((), frozenset(), (), {}, {}, bound=0), 10_000_000 - len(graph.nodes)

    KeptValues(saved, planned, 2.0).least()
    assert free == whole > 2


@pytest.mark.quick
def test_what_is_near_the_least_is_enough(saved: SavedValues, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all choices are looked at, none is planned behind one that needs little more than any must;
    and one that keeps all is not planned where something that was found needs less than it keeps."""
    monkeypatch.setattr(recompute, "FEW", 0)
    low = saved.given + least_kept(saved, nodes_macs(saved)).bytes
    arenas: list[int] = []

    def planned(graph, asked: Asked) -> tuple[Plan, int]:
        arenas.append(low + low // (recompute.CLOSE + 1) if len(arenas) == 1 else low + low // 10)
        return Plan((), frozenset(), (), {}, {}, bound=0), arenas[-1]

    found = KeptValues(saved, planned, 2.0).least()
    assert found is not None
    assert (len(arenas), found[1].arena, found[1].bound) == (2, arenas[1], low)


@pytest.mark.quick
@pytest.mark.parametrize("most", [0, recompute.FEW])
def test_a_plan_that_waits_too_long_is_not_taken(
    saved: SavedValues, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """What a plan waits for slow memory counts, and not what was guessed of its choice."""
    monkeypatch.setattr(recompute, "FEW", most)
    stalls = 0.0

    def planned(graph, asked: Asked) -> tuple[Plan, int]:
        return Plan((), frozenset(), (), {}, {}, bound=0), 10_000_000 - 1000 * len(graph.paged) - len(
            graph.nodes
        )

    def search() -> tuple[MadeAgain | None, MadeAgain | None]:
        kept = KeptValues(saved, planned, 1.0, SlowMemory(1 << 20, 1e-3))
        least, within = kept.least(), kept.within(9_999_500)
        return least and least[1], within and within[1]

    monkeypatch.setattr(recompute, "traffic", lambda *_: Traffic(0, 0.0, stalls))
    assert all(found is not None and found.paged for found in search())
    stalls = 1e30
    assert search() == (None, None)
    found = KeptValues(saved, planned, 2.0, SlowMemory(1 << 20, 1e-3), waiting=2.0).least()
    assert found is not None, "some values are made again where none may be paged"
    assert found[1].again
    assert not found[1].paged


@pytest.mark.quick
def test_what_is_there_when_the_loss_is_known(saved: SavedValues) -> None:
    """All that is kept, where one line has a loss."""
    sizes = {value.name: value.bytes for value in saved.values}
    assert saved.least(sizes) == saved.given + sum(sizes.values())
    assert saved.least(()) == saved.given


@pytest.mark.quick
def test_lines_that_go_backward_before_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of an output [64, 3] has a label: no value need be there as a whole, so none is a bound."""
    rng, layers = np.random.default_rng(0), range(2)
    constants = {f"w{k}": rng.standard_normal((16, 16)).astype(np.float32) for k in layers}
    nodes, name = [], "x"
    for k in layers:
        nodes.append(helper.make_node("MatMul", [name, f"w{k}"], [f"m{k}"]))
        nodes.append(helper.make_node("Sigmoid", [f"m{k}"], [f"s{k}"]))
        name = f"s{k}"
    constants["w"] = rng.standard_normal((16, 3)).astype(np.float32)
    nodes.append(helper.make_node("MatMul", [name, "w"], ["y"]))
    model = save(model_of(nodes, {"x": np.zeros((64, 16), np.float32)}, ["y"], constants), tmp_path)
    graph = load_graph(model, CompileOptions())
    step = training_module(graph, training_options.TrainOptions()).entries[1].graph
    saved = SavedValues(step, {name for node in graph.nodes for name in node.outputs})
    everything = {value.name for value in saved.values}
    target, alone = load_target("cortex-m4"), separate_states(step)
    asked = plan_request(CompileOptions(least_ram=True, target=target.name), alone, target, silent)
    plan = best_plan(alone, replace(asked, fuse=True, limit=None, effort=2.0))
    assert plan.peak(SRAM) < saved.given + sum(value.bytes for value in saved.values)
    assert saved.least(everything) <= plan.bound
    monkeypatch.setattr(recompute, "FEW", 0)  # choices are left out, and what they keep is all that is known

    def planned(graph, asked: Asked) -> tuple[Plan, int]:
        return Plan((), frozenset(), (), {}, {}, bound=0), 10_000_000 - len(graph.nodes)

    found = KeptValues(saved, planned, 1.2).least()
    assert found is not None
    assert found[1].bound <= plan.bound


@pytest.mark.quick
def test_what_is_only_compared_need_not_be_there(tmp_path: Path) -> None:
    """Backward of a maximum, which of both was larger is enough."""
    rng = np.random.default_rng(0)
    constants = {f"w{k}": rng.standard_normal((16, 16)).astype(np.float32) for k in range(3)}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("MatMul", ["x", "w1"], ["b"]),
        helper.make_node("Max", ["a", "b"], ["m"]),
        helper.make_node("MatMul", ["m", "w2"], ["y"]),
    ]
    model = save(model_of(nodes, {"x": np.zeros((1, 16), np.float32)}, ["y"], constants), tmp_path)
    graph = load_graph(model, CompileOptions())
    step = training_module(graph, training_options.TrainOptions()).entries[1].graph
    saved = SavedValues(step, {name for node in graph.nodes for name in node.outputs})
    read = {value.name: value.bytes for value in saved.values}
    assert {"a", "b", "m"} <= read.keys()
    assert {name: saved.at_the_loss[name] for name in ("a", "b", "m")} == {"a": 0, "b": 0, "m": read["m"]}


def nodes_macs(saved: SavedValues) -> int:
    return sum(nest_of(saved.graph, node).macs for node in saved.graph.nodes)


@pytest.mark.quick
def test_what_saves_nothing_is_not_done(saved: SavedValues) -> None:
    """Where all choices need as much, none is made: to keep everything is among those that are planned."""

    def planned(graph, asked: Asked) -> tuple[Plan, int]:
        return Plan((), frozenset(), (), {}, {}, bound=0), 5_000_000

    assert KeptValues(saved, planned, 2.0).least() is None
    assert KeptValues(saved, planned, 2.0, SlowMemory(1 << 20, 0.1)).least() is None
