# SPDX-License-Identifier: Apache-2.0
"""Every file says what licence it is under, and what mmcc generates says that it is the user's."""

from __future__ import annotations

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parents[2]
TAG = "SPDX-License-Identifier: Apache-2.0"


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: no list of files")
    return listed.stdout.splitlines()


def test_every_file_has_its_licence():
    """In its first lines, or in REUSE.toml where a file has no room for text."""
    table = tomllib.loads((ROOT / "REUSE.toml").read_text())
    annotated = [pattern for entry in table["annotations"] for pattern in entry["path"]]
    bare = [
        name
        for name in tracked()
        if (ROOT / name).is_file()
        and not any(fnmatch(name, pattern) for pattern in annotated)
        and TAG not in "\n".join((ROOT / name).read_text().split("\n", 4)[:4])
    ]
    assert bare == []


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_generated_code_carries_no_licence_of_ours(target, tmp_path):
    """The exception in LICENSE makes it the user's: a scanner of their firmware must not find ours."""
    model = ROOT / "examples" / "digits" / "digits_int8.onnx"
    compile_model(model, tmp_path / "out", CompileOptions(target=target, stack=4096))
    written = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".c", ".h", ".S", ".txt")]
    assert written
    for path in written:
        assert "SPDX" not in path.read_text(), path.name
    header = (tmp_path / "out" / "digits_int8.h").read_text()
    assert "It is yours: the exception in mmcc's LICENSE" in header
