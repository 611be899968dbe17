# SPDX-License-Identifier: Apache-2.0
"""Hints of what runs in QEMU, followed (test_hints.py has the others)."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
from frontend_models import save
from hint_cases_tools import CONV
from hint_runs import mmcc
from mmcc.errors import Exit
from mmcc.target import load_target
from mmcc.toolchain import RegionOverflow
from mmcc.toolchain.firmware import does_not_fit
from toolchains import ready


def _package(folder, target):
    ready(target)
    mmcc("compile", save(CONV, folder), "-o", folder / "out", "--target", target)
    return folder / "out"


def test_a_profile_is_made_in_qemu(tmp_path):
    out = _package(tmp_path, "cortex-m4")
    assert "add --on qemu" in mmcc("bench", out, "--profile", exit=2)
    mmcc("bench", out, "--profile", "--on", "qemu")


def test_a_table_for_qemu(tmp_path):
    """A target without a board, and the same with the table of the file that is named."""
    text = 'same_as = "cortex-m4"\n[qemu]\n'
    bare = replace(load_target("cortex-m4"), qemu=None)
    assert bare.qemu is None
    (tmp_path / "mine.toml").write_text(text)
    assert load_target(str(tmp_path / "mine.toml")).qemu == load_target("cortex-m4").qemu


def test_a_target_with_more_memory():
    error = does_not_fit(RegionOverflow("CODE", 100), load_target("cortex-m4"), 0, 0)
    assert "a target with more memory" in error.hint
    assert error.exit == Exit.DOES_NOT_FIT


def test_a_run_that_takes_too_long(tmp_path, monkeypatch):
    out = _package(tmp_path, "cortex-m4")
    np.savez(tmp_path / "data.npz", input_0=np.zeros((3, 1, 4, 8, 8), np.float32))
    real = subprocess.run

    def impatient(command, **options):
        if "qemu" in str(command[0]) and (tmp_path / "many").exists():
            raise subprocess.TimeoutExpired(command, 1)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", impatient)
    (tmp_path / "many").touch()
    options = ("verify", out, "--data", tmp_path / "data.npz")
    assert "--limit 1" in mmcc(*options, "--on", "qemu", exit=1)
    mmcc(*options, "--on", "host")
    (tmp_path / "many").unlink()  # what fewer samples do
    mmcc(*options, "--on", "qemu", "--limit", "1")
