# SPDX-License-Identifier: Apache-2.0
"""The command line as people and programs meet it: help, completion, JSON, and what automation runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import run
from mmcc.cli import main
from mmcc.cli.main import GROUPS

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parents[2]


def test_help_has_every_command_once_in_its_group():
    text = run("--help").stdout
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    listed = [name for name in rows if name in main.commands]
    assert sorted(listed) == sorted(main.commands)
    assert all(f"{title}:" in text for title in GROUPS)
    assert "Other commands:" not in text, "a command without a group: GROUPS in cli/main.py"


def test_every_command_has_json_and_says_what_it_does():
    for name, command in main.commands.items():
        assert any("--json" in option.opts for option in command.params), name
        assert command.get_short_help_str(80).endswith((".", ")."))


@pytest.mark.parametrize(("words", "wanted"), [("qu", "quantize"), ("compile --pack", "--package")])
def test_completion(words, wanted):
    environment = {**os.environ, "_MMCC_COMPLETE": "bash_complete", "COMP_WORDS": f"mmcc {words}"}
    environment["COMP_CWORD"] = str(len(words.split()))
    program = Path(sys.executable).with_name("mmcc")
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert wanted in done.stdout


def test_what_a_pipe_gets_has_no_escapes():
    for words in (["--help"], ["targets"], ["targets", "list"], ["ops"]):
        assert "\x1b" not in run(*words).output
    assert json.loads(run("targets", "list", "nrf", "--json").stdout)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_file_is_as_good_as_none(closed, tmp_path):
    """Also for a compiler, which would find a file of ours open in its place."""
    program = Path(sys.executable).with_name("mmcc")
    model = ROOT / "examples" / "digits" / "digits_int8.onnx"
    command = f"exec {program} compile {model} -t host -o {tmp_path / 'out'} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("written to" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert done.stderr == ""


def test_automation_runs_what_ci_does():
    assert "run: bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert all(tool in hooks for tool in ("ruff check", "ruff format", "pyright"))
