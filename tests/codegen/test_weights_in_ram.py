# SPDX-License-Identifier: Apache-2.0
"""Weights in RAM: init copies those that are read most often, and kernels read the copy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run
from doc_pages import DIGITS
from frontend_models import model_of, save
from lowered_programs import HOST
from mmcc.api import compile_model
from mmcc.checker.program import check_program
from mmcc.codegen.lower import lower
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan
from mmcc.package.host import run_on_host
from onnx import helper
from planned_alone import planned_alone
from planner_graphs import kws
from toolchains import ready

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)
MODEL = DIGITS / "digits_int8.onnx"
IMAGES = np.load(DIGITS / "test_data.npz")["input_0"][:3]


def outputs(folder: Path) -> list[np.ndarray]:
    return [run_on_host(folder, [image[None]])[0] for image in IMAGES]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "c"
    compile_model(MODEL, folder, name="net", stack=1024, self_check=False)
    return folder


@pytest.mark.parametrize("options", [{}, {"threads": 2, "weights": "bin"}])
def test_all_weights(plain: Path, tmp_path: Path, options: dict[str, object]) -> None:
    folder = tmp_path / "c"
    made = compile_model(MODEL, folder, name="net", stack=1024, weights_in_ram=True, **options)
    assert made.report["ram"]["static"] == made.report["ram"]["weights"], "though nothing was measured"
    flash = made.report["flash"]["weights"]
    assert flash - 64 <= made.report["ram"]["weights"] <= flash, "but for padding all of them"
    np.testing.assert_array_equal(outputs(folder), outputs(plain))
    wrong = shutil.copytree(folder, tmp_path / "wrong")
    code = (wrong / "net.c").read_text()
    copied = "memcpy(net_in_ram, (const void *)(uintptr_t)WEIGHTS, sizeof net_in_ram);"
    assert code.count(copied) == 1
    (wrong / "net.c").write_text(code.replace(copied, "memset(net_in_ram, 0, sizeof net_in_ram);"))
    assert (np.array(outputs(wrong)) != np.array(outputs(plain))).any(), "the copy is what is read"


@pytest.mark.skipif(not ready("cortex-m4"), reason="needs the M4 toolchain")
def test_a_limit_is_kept_and_what_is_read_most_often_comes_first(tmp_path: Path) -> None:
    options = {"target": "cortex-m4", "name": "net", "self_check": False}
    taken = compile_model(MODEL, tmp_path / "a", **options, ram="512K").report["ram"]["total"]
    whole = compile_model(MODEL, tmp_path / "b", **options, ram="512K", weights_in_ram=True).report["ram"]
    found = []
    for more in (0, 1500, whole["total"] - 1 - taken):
        made = compile_model(MODEL, tmp_path / str(more), **options, ram=taken + more, weights_in_ram=True)
        ram, nodes = made.report["ram"], made.report["nodes"]
        assert ram["total"] <= taken + more
        assert ram["weights"] == 0 or ram["static"] >= ram["weights"]
        assert bool(ram["weights"]) == any(node["in_ram"] for node in nodes)
        found.append({node["index"] for node in nodes if node["in_ram"]})
    once = {node["index"] for node in nodes if node["macs"] == node["weights"] - node["out_shape"][-1]}
    assert once, "the classifier at the end, whose biases are counted with its weights"
    assert not once & found[1]
    assert [len(nodes) > 0 for nodes in found] == [False, True, True]
    assert whole["weights"] / 2 < ram["weights"] < whole["weights"], "of which one byte is missing"
    assert len(found[1]) < len(found[2])


@pytest.mark.skipif(not ready("cortex-m4"), reason="needs the M4 toolchain")
def test_what_turns_out_to_be_too_much_is_not_left_in_the_folder(tmp_path: Path) -> None:
    """The constants alone would fit, with the larger stack they do not: the C is that of the report."""
    rng = np.random.default_rng(5)
    weights = {"w": rng.random((8, 8), np.float32), "b": rng.random(8, np.float32)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    path = save(model_of([node], {"x": weights["w"][:1]}, ["y"], weights), tmp_path)
    options = {"target": "cortex-m4", "name": "net", "self_check": False}
    taken = compile_model(path, tmp_path / "a", **options).report["ram"]["total"]
    options |= {"weights_in_ram": True}
    whole = compile_model(path, tmp_path / "b", **options).report["ram"]
    assert whole["total"] > taken + whole["weights"] > 0, "else nothing is tried here"
    folder, limit = tmp_path / "c", taken + whole["weights"]
    made = compile_model(path, folder, **options, ram=limit)
    ram, (warning,) = made.report["ram"], made.report["warnings"]
    assert f"no weights are in RAM: {whole['weights']} bytes of {limit} are left" in warning
    assert (ram["total"], ram["weights"]) == (taken, 0)
    assert "net_in_ram" not in (folder / "net.c").read_text()
    assert f"{taken} bytes = arena" in (folder / "net.h").read_text()


def test_a_memory_is_not_filled_over_its_size(tmp_path: Path) -> None:
    """STM32F030F4 has 4 KiB, the weights are more."""
    options = {"target": "STM32F030F4", "name": "net", "stack": 512, "self_check": False}
    ram = compile_model(MODEL, tmp_path / "a", **options, weights_in_ram=True).report["ram"]
    assert ram["total"] <= 4096
    assert ram["weights"] > 0


def test_a_program_that_is_not_the_plans_is_convicted() -> None:
    graph = kws()
    plan = planned_alone(graph)
    module, nodes = Module.of(graph), frozenset({0, 1})
    memory = MemoryPlan.of(replace(plan, in_ram=nodes))
    program = lower(module, memory, "net", HOST)
    assert not check_program(module, memory, program)
    faults = check_program(module, MemoryPlan.of(plan), program)
    assert any("are read in RAM, other than in the plan" in fault for fault in faults)


@pytest.mark.skipif(not ready("cortex-m4"), reason="needs the M4 toolchain")
def test_with_a_limit_they_are_copied_where_flash_is_known_to_be_slower(tmp_path: Path) -> None:
    """Without a limit, or where nobody knows what flash costs, they stay, unless that is asked for."""

    def compiled(target: str, **options: object) -> dict[str, int]:
        made = compile_model(MODEL, tmp_path / "c", target=target, name="net", self_check=False, **options)
        assert not made.report["warnings"]
        return made.report["ram"]

    def weights(target: str, **options: object) -> int:
        ram = compiled(target, **options)
        assert ram["total"] <= (ram["limit"] or ram["total"])
        return ram["weights"]

    slower = tmp_path / "slower.toml"
    slower.write_text('same_as = "cortex-m4"\nweights_cost = 0.5\n')
    whole = weights("cortex-m4", ram="512K", weights_in_ram=True)
    assert weights("STM32L4R5ZI", ram="512K") == weights(str(slower), ram="512K") == whole > 0
    assert 0 < weights("STM32L4R5ZI", ram="20K") < whole
    taken = compiled("STM32L4R5ZI", ram="512K", weights_in_ram=False)["total"]
    assert weights("STM32L4R5ZI", ram=taken) == 0, "with no room left, and no warning"
    assert weights("STM32L4R5ZI", ram="min") == 0
    assert weights("STM32L4R5ZI") == 0
    assert weights("cortex-m4", ram="512K") == 0


@pytest.mark.skipif(not ready("cortex-m4"), reason="needs the M4 toolchain")
def test_a_line_says_what_init_copies_or_could(tmp_path: Path) -> None:
    def told(*args: str) -> str:
        result = run("compile", MODEL, "--no-self-check", "-o", tmp_path / "c", *args)
        assert result.exit_code == 0
        return " ".join(line for line in result.output.splitlines() if line.startswith("note:"))

    chip = ("--chip", "STM32L4R5ZI")
    assert "note: init copies 18,576 bytes of weights to RAM that --ram leaves" in told(*chip, "--ram", "64K")
    assert "weights" not in told(*chip, "--ram", "64K", "--no-weights-in-ram")
    assert "weights" not in told(*chip), "all of a chip's RAM is not given away"
    assert "init copies" not in told(*chip, "--weights-in-ram"), "as asked"
    core = told("-t", "cortex-m4", "--ram", "64K")
    assert "with --weights-in-ram init copies all 18,576 bytes of weights there" in core
    assert "weights" not in told("-t", "cortex-m4", "--ram", "8K"), "where there is no room for all"
    assert "weights" not in told("-t", "cortex-m4", "--ram", "min")
    assert "weights" not in told("-t", "cortex-m4")
