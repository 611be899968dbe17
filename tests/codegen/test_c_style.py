# SPDX-License-Identifier: Apache-2.0
"""clang-format finds nothing to change in generated C, nor in the C that is written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from c_format import ROOT, would_change
from cmake_projects import DIGITS
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions

PACKAGES = {
    "int8 m4": ("digits_int8.onnx", {"target": "cortex-m4"}),
    "int8 m55": ("digits_int8.onnx", {"target": "cortex-m55", "least_ram": True}),
    "int8 m3": ("digits_int8.onnx", {"target": "cortex-m3", "weights": "bin"}),
    "int8 host": ("digits_int8.onnx", {"target": "host", "weights": "staged"}),
    "int8 rows": ("digits_int8.onnx", {"target": "cortex-m4", "io": "rows"}),
    "float host": ("digits_fp32.onnx", {"target": "host"}),
    "float m4": ("digits_fp32.onnx", {"target": "cortex-m4", "io": "external"}),
    "float m55": ("digits_fp32.onnx", {"target": "cortex-m55", "weights": "staged"}),
    "float strips": ("digits_fp32.onnx", {"target": "cortex-m4", "ram": 8000, "recompute": 3.0}),
}


@pytest.mark.quick
def test_c_by_hand() -> None:
    files = [path for folder in ("runtime_c", "tests/firmware") for path in (ROOT / folder).rglob("*.[ch]")]
    assert len(files) > 15
    assert would_change(files) == ""


@pytest.mark.quick
@pytest.mark.parametrize("name", ["net", "keyword_spotting"])
@pytest.mark.parametrize("package", PACKAGES)
def test_generated_c(package: str, name: str, tmp_path: Path) -> None:
    model, options = PACKAGES[package]
    how = CompileOptions(name=name, stack=1000, self_check=False, **options)
    compile_model(DIGITS / model, tmp_path / name, how)
    assert would_change(sorted((tmp_path / name).glob("*.[ch]"))) == ""


@pytest.mark.quick
def test_a_fault_is_seen(tmp_path: Path) -> None:
    (tmp_path / "one.c").write_text("int f(void)\n{\n  return 1;\n}\n")
    assert "clang-format-violations" in would_change([tmp_path / "one.c"])
