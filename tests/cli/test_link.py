# SPDX-License-Identifier: Apache-2.0
"""mmcc link: several models in one package, over one arena, with their kernels there once."""

from __future__ import annotations

import json

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
from mmcc.verification.samples import from_c, made_up, to_c
from onnx import helper

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
    ],
)
def test_names_that_are_none(given, says):
    with pytest.raises(CompileError, match=says) as caught:
        named_models(given)
    assert caught.value.code == "MM120"


@pytest.mark.quick
def test_names_come_from_files():
    assert list(named_models(["x/Kws.onnx", "wake=b.onnx"])) == ["kws", "wake"]
