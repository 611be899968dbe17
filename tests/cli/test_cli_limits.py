# SPDX-License-Identifier: Apache-2.0
"""Limits, targets and what analyze tells."""

from __future__ import annotations

import json
import re

import mmcc
import pytest
from cli_runs import MODEL, conv_model, refused, run, saved
from shared_models import model_path, needs_shared


def test_analyze_tells_what_compile_then_reaches(tmp_path):
    """The floor, and what other options would change."""
    found = json.loads(run("analyze", MODEL, "-t", "cortex-m4", "--svg", tmp_path / "f.svg", "--json").stdout)
    others = {row["options"]: row["arena"] for row in found["other"]}
    assert list(others) == [
        *("--recompute 2", "--io external", "--io external --recompute 2"),
        *("--io rows", "--io rows-again --recompute 2"),
    ]
    floor = found["frontier"][-1]["arena"]
    assert others["--recompute 2"] <= floor
    for options, arena in {"": floor, **others}.items():
        args = ("compile", MODEL, "-t", "cortex-m4", "--ram", "min", "-o", tmp_path / "out", "--json")
        report = json.loads(run(*args, *options.split()).stdout)
        assert report["ram"]["arena"] == arena, options
    text = run("analyze", MODEL).stdout
    assert all(options in text for options in others)
    assert (tmp_path / "f.svg").read_text().startswith("<svg")


def test_analyze_of_several_memories_is_of_the_first(tmp_path):
    """The least bytes of one arena, not what the cheapest plan in all memories takes of it."""
    path = saved(conv_model(), tmp_path)
    found = json.loads(run("analyze", path, "-t", "imxrt1062", "--json").stdout)
    assert found["memory"] == "dtcm"
    floor = found["frontier"][-1]
    assert floor["proved"]
    assert floor["arena"] == mmcc.estimate(path, "imxrt1062").least_arena
    assert min(row["arena"] for row in found["other"]) < floor["arena"]
    text = run("analyze", path, "-t", "imxrt1062", "--html", tmp_path / "page.html").stdout
    assert f"least: {floor['arena']:,} bytes of arena, in dtcm alone (proved)" in text
    assert "in dtcm alone" in (tmp_path / "page.html").read_text()


def test_a_limit_that_cannot_be_met(tmp_path):
    refused(MODEL, tmp_path, 5, "bytes of RAM are needed", "least", "--> ", "try:", args=("--ram", "1K"))
    refused(MODEL, tmp_path, 5, "flash", args=("--flash", "2K"))


@needs_shared
@pytest.mark.parametrize(
    "name", ["kws_dscnn_int8_qdq", "ic_resnet8_int8_qdq", "vww_mbv1_int8_qdq", "hello_world_int8_qdq"]
)
def test_every_remedy_that_is_told_works(name, tmp_path):
    compile_ = ("compile", model_path(name), "-t", "cortex-m4", "-o", tmp_path / "out", "--json")
    error = json.loads(run(*compile_, "--ram", "300").stdout)["error"]
    assert error["code"] == "MM040"
    remedies = [re.split("  +", line)[0].split() for line in error["try"].splitlines()]
    assert remedies[0] == ["--ram", re.match(r"([\d,]+) bytes of RAM", error["message"])[1].replace(",", "")]
    assert name.startswith("hello") or any("external" in options for options in remedies)
    for options in remedies:
        result = run(*compile_, *options)
        assert result.exit_code == 0, result.output


def test_what_does_not_fit_is_told_in_lines_that_can_be_read(tmp_path):
    lines = run(
        "compile", MODEL, "-t", "cortex-m4", "--ram", "1K", "-o", tmp_path / "out"
    ).output.splitlines()
    assert all(len(line) <= 110 for line in lines if not line.startswith("  -->"))
    table = [
        line
        for line in lines
        if re.match(r" +-?[\d,]+  (input|output|tensor|ring|scratch|\d+ more|shared)", line)
    ]
    assert sum(int(line.split()[0].replace(",", "")) for line in table) == int(
        re.search(r"([\d,]+)\s+bytes\s+is\s+the\s+least", "\n".join(lines))[1].replace(",", "")
    )


@pytest.mark.quick
def test_a_compiler_that_is_missing(tmp_path):
    target = tmp_path / "board.toml"
    target.write_text('same_as = "cortex-m4"\ncompiler = "no-such-gcc"\n')
    refused(
        saved(conv_model(), tmp_path), tmp_path, 8, "no no-such-gcc in PATH", "to PATH", args=("-t", target)
    )


@pytest.mark.quick
def test_a_target_that_is_unknown(tmp_path):
    refused(saved(conv_model(), tmp_path), tmp_path, 2, "z80", "cortex-m4", args=("-t", "z80"))


@pytest.mark.quick
@pytest.mark.parametrize("name", ["int", "9lives", "a-b", "a b", "__x"])
def test_a_prefix_that_c_does_not_allow(name, tmp_path):
    refused(saved(conv_model(), tmp_path), tmp_path, 2, "--name", args=("--name", name))


def test_a_common_file_name_gets_a_note_about_the_prefix(tmp_path):
    path = saved(conv_model(), tmp_path)
    assert "--name gives each model" in run("compile", path, "-o", tmp_path / "a").stderr
    assert "--name" in (tmp_path / "a" / "model.h").read_text().split("*/")[0]
    assert "--name" not in run("compile", path, "-o", tmp_path / "a", "--name", "kws").stderr
    assert (
        "--name" not in run("compile", saved(conv_model(), tmp_path, "kws.onnx"), "-o", tmp_path / "a").stderr
    )
