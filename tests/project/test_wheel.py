# SPDX-License-Identifier: Apache-2.0
"""What is installed has the data files that the compiler asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import mmcc
import pytest
from mmcc.resources import data_dir

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parent.parent.parent
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]


def test_each_folder_of_data_is_in_the_wheel():
    text = "".join(path.read_text() for path in Path(mmcc.__file__).parent.rglob("*.py"))
    asked = set(re.findall(r'data_dir\("(\w+)"\)', text))
    assert {"templates", "targets", "boards", "runtime_c"} <= asked
    for folder in asked:
        assert data_dir(folder).is_dir()
        assert WHEEL["sources"][folder] == f"mmcc/_data/{folder}"
        assert folder in WHEEL["only-include"]


def test_what_cmake_reads_beside_runtime_c_is_in_the_wheel():
    assert (ROOT / "CMakeLists.txt").is_file()
    assert WHEEL["force-include"]["CMakeLists.txt"] == "mmcc/_data/CMakeLists.txt"
    assert all((ROOT / path).is_file() for path in WHEEL["shared-data"])
