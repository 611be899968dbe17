# SPDX-License-Identifier: Apache-2.0
"""mmcc link: several models in one package, over one arena, with their kernels there once."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cli_runs import run
from doc_pages import DIGITS
from frontend_models import model_of, save
from mmcc.driver.compile import compile_model
from mmcc.driver.link import named_models
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.verification.samples import from_c, made_up, to_c
from onnx import helper
from toolchains import ready

INT8, FLOAT = DIGITS / "digits_int8.onnx", DIGITS / "digits_fp32.onnx"


def small(folder):
    """Another model whose tensors have the names of those in `digits`, and other constants."""
    given = {"input": np.ones((1, 4), np.float32)}
    weights = {"logits_weight": np.arange(12, dtype=np.float32).reshape(4, 3)}
    nodes = [helper.make_node("MatMul", ["input", "logits_weight"], ["logits"])]
    (folder / "small").mkdir()
    return save(model_of(nodes, given, ["logits"], weights), folder / "small")


def test_each_gives_what_it_gives_alone_and_what_they_share_is_there_once(tmp_path):
    models = {"wake": INT8, "tiny": small(tmp_path), "again": INT8}
    out = tmp_path / "both_c"
    args = [f"{name}={path}" for name, path in models.items()]
    result = run("link", *args, "-t", "host", "--name", "both", "-o", out, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [report["entry"], *(e["entry"] for e in report["entries"])] == list(models)
    package, flash, arenas = load_package(out), {}, {}
    together = host_model(out, package)
    for number, (name, path) in enumerate(models.items()):
        alone = compile_model(path, tmp_path / name, CompileOptions(self_check=False))
        entry, own = package.entries[number], load_package(tmp_path / name)
        (sample,) = made_up(own.inputs, 1)
        want = alone.run(sample)
        found = together.run(to_c(entry.inputs, entry.tensors, sample), number)
        np.testing.assert_array_equal(from_c(entry.outputs, entry.tensors, found), want)
        flash[name], arenas[name] = alone.report["flash"], alone.report["ram"]["arena"]
    assert report["ram"]["arena"] == max(arenas.values())
    assert report["flash"]["weights"] <= flash["wake"]["weights"] + flash["tiny"]["weights"] + 16
    assert report["flash"]["code"] < flash["wake"]["code"] * 1.5 + flash["tiny"]["code"]
    assert report["self_check"]["nodes"] == 21


@pytest.mark.quick
def test_a_limit_is_one_for_all(tmp_path):
    args = (f"a={INT8}", f"b={FLOAT}", "-t", "cortex-m4", "--stack", "1K", "--no-self-check")
    out = tmp_path / "c"
    result = run("link", *args, "--ram", "2K", "-o", out)
    assert result.exit_code == 5
    assert not out.exists()
    told = run("link", *args, "--ram", "20K", "-o", out).output
    assert "arena 17,408, the largest of all" in told
    assert (out / "models.h").read_text().count("mmcc_status models_a(") == 1


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["one.onnx"], "one model is not several"),
        (["a.onnx", "x/a.onnx"], 'two models are called "a"'),
        (["init=a.onnx", "b.onnx"], "cannot be the name of a function"),
        (["A-b=a.onnx", "b.onnx"], "cannot be the name of a function"),
        (["all=a.onnx", "b.onnx"], 'no model can be called "all"'),
    ],
)
def test_names_that_are_none(given, says):
    with pytest.raises(CompileError, match=says) as caught:
        named_models(given)
    assert caught.value.code == "MM120"


@pytest.mark.quick
def test_names_come_from_files():
    assert list(named_models(["x/Kws.onnx", "wake=b.onnx"])) == ["kws", "wake"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A package of two models that may run at the same time, and their files."""
    folder = tmp_path_factory.mktemp("link")
    models = {"wake": INT8, "tiny": small(folder)}
    args = [f"{name}={path}" for name, path in models.items()]
    told = run("link", *args, "-t", "host", "-o", folder / "c", "--concurrent", " all", "--no-self-check")
    assert told.exit_code == 0, told.output
    assert "apart for what may run at the same time (wake and tiny)" in told.output
    return folder / "c", models


def test_a_page_has_frontier_and_counts_of_each_model(tmp_path):
    ready("cortex-m4")
    args = (f"wake={INT8}", f"tiny={small(tmp_path)}", "-t", "cortex-m4", "--no-self-check")
    assert run("link", *args, "-o", tmp_path / "c").exit_code == 0
    told = run("report", tmp_path / "c", "--frontier", "--measured", "-o", tmp_path / "p.html")
    assert told.exit_code == 0, told.output
    page = (tmp_path / "p.html").read_text()
    for name in ("wake", "tiny"):
        assert f"models, {name}: RAM against work" in page
        counted = json.loads(run("bench", tmp_path / "c", "--on", "qemu", "--entry", name, "--json").stdout)
        assert f"{counted['instructions']:,}" in page


def test_all_models_are_verified_and_known_in_the_header(both):
    out, models = both
    found = json.loads(run("verify", out, "--json").stdout)
    assert found["ok"]
    assert {name: each["samples"] for name, each in found["models"].items()} == dict.fromkeys(models, 2)
    own = json.loads(run("verify", out, "--entry", "tiny", "--per-node", "--json").stdout)
    assert own["per_node"][0]["index"] == load_package(out).entries[1].first
    asked = run("verify", out, "--data", "x.npz")
    assert asked.exit_code == 2
    assert "add --entry wake" in asked.output
    assert "did you mean tiny? one of: wake, tiny" in run("verify", out, "--entry", "tin").output
    report = json.loads((out / "report.json").read_text())
    works = [entry["plan"]["macs"] for entry in (report, *report["entries"])]
    assert (report["model"]["name"], report["model"]["macs"]) == ("models", sum(works))
    header = (out / "models.h").read_text()
    for name, path in models.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert re.search(rf'MODELS_{name.upper()}_MODEL_SHA256\s+"{digest}"', header)


def test_two_run_at_the_same_time(both):
    out, _ = both
    package = load_package(out)
    model = host_model(out, package)

    def outputs(k):
        own = package.of(k)
        fed = made_up(own.inputs, 12) * (40, 4000)[k]
        return [model.run(to_c(own.inputs, own.tensors, each), k)[0] for each in fed]

    alone = [outputs(k) for k in (0, 1)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(outputs, (0, 1)))
    for k in (0, 1):
        np.testing.assert_array_equal(together[k], alone[k])


def test_the_self_test_runs_all_models(both, tmp_path):
    """A wrong weight of the second is seen."""
    out, _ = both
    weights = tmp_path / "models_weights.c"

    def returned():
        program = tmp_path / "selftest"
        sources = [path for path in sorted(out.glob("*.c")) if path.name != weights.name]
        flags = ["-DMODELS_SELFTEST_MAIN", *load_target("host").flags, "-O1", f"-I{out}"]
        subprocess.run(["cc", *flags, *sources, weights, "-lm", "-o", program], check=True)
        return subprocess.run([program], check=False).returncode

    text = (out / weights.name).read_text()
    weights.write_text(text)
    assert returned() == 0
    assert "7.0f" in text
    weights.write_text(text.replace("7.0f", "70.0f"))
    assert returned() == 1


@pytest.mark.quick
def test_names_that_may_not_meet(tmp_path):
    args = (f"a={INT8}", f"b={FLOAT}", "-o", tmp_path / "c")
    for target, names, says in (
        ("cortex-m4", "a,bb", 'no model is called "bb"'),
        ("cortex-m4", "a", "these are no two models or more"),
        ("stm32h743", "all", "--concurrent plans one memory"),
    ):
        told = run("link", *args, "-t", target, "--concurrent", names)
        assert told.exit_code == 2
        assert says in told.output
    enough = ("--target", "stm32h743", "--ram", "64K", "--stack", "1K", "--no-self-check")
    assert run("link", *args, *enough, "--concurrent", "all").exit_code == 0


@pytest.mark.quick
def test_a_limit_is_for_those_that_meet_together(tmp_path):
    args = (f"a={INT8}", f"b={FLOAT}", "-t", "cortex-m4", "--stack", "1K", "--no-self-check")
    told = run("link", *args, "--concurrent", "all", "--ram", "8K", "-o", tmp_path / "c")
    assert told.exit_code == 5
    enough = re.search(r"--ram (\d+)", told.output)
    assert enough is not None
    assert run("link", *args, "--concurrent", "all", "--ram", enough[1], "-o", tmp_path / "c").exit_code == 0
    assert (
        run(
            "link", *args, "--concurrent", "all", "--ram", int(enough[1]) - 64, "-o", tmp_path / "d"
        ).exit_code
        == 5
    )
