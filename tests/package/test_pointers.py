# SPDX-License-Identifier: Apache-2.0
"""Calls through pointers are in no bound of the stack: only functions of the caller's are called so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mmcc.codegen.emit import Package, emit
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.driver.pointers import CALLERS, HELPERS, unexpected
from mmcc.errors import CompileError
from mmcc.resources import data_dir
from toolchains import ready

MODEL = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits_int8.onnx"
PLANTED = "if (planted != 0) { planted(); }"


@pytest.mark.parametrize("io", ["arena", "rows"])
def test_a_kernel_with_such_a_call_is_refused(
    io: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With functions of the caller's, too: a kernel that computes has nothing to do with these."""
    ready("cortex-m4")

    def with_a_call(*args: Any) -> Package:
        made = emit(*args)
        name = next(kernel.name for kernel in made.kernels if kernel.template not in CALLERS)
        text = made.files["d_kernels.c"]
        head = re.search(rf"^static void {name}\(|^void {name}\(", text, re.MULTILINE)
        assert head is not None
        body = text.index("{", head.end()) + 1
        declared = "extern void (*volatile planted)(void);\nvoid (*volatile planted)(void);\n"
        made.files["d_kernels.c"] = (
            text[: head.start()] + declared + text[head.start() : body] + PLANTED + text[body:]
        )
        return made

    options = CompileOptions(name="d", target="cortex-m4", io=io, self_check=False)
    compile_model(MODEL, tmp_path / "as_it_is", options)
    monkeypatch.setattr("mmcc.driver.build.emit", with_a_call)
    with pytest.raises(CompileError, match=r"no bound: d_\w+ calls through a pointer") as caught:
        compile_model(MODEL, tmp_path / "planted", options)
    assert caught.value.code == "MM804"
    assert not (tmp_path / "planted").exists()


@pytest.mark.quick
def test_functions_of_headers_with_such_calls_are_those_of_saved_parameters() -> None:
    """A `MMCC_HELPER` is a function of its own; all others are put into the functions that call them."""
    headers = {path.name: path.read_text() for path in data_dir("runtime_c").glob("*.h")}
    with_helpers = [name for name, text in headers.items() if re.search(r"^MMCC_HELPER", text, re.MULTILINE)]
    assert with_helpers == ["mmcc_parameters.h"]
    calls = re.findall(
        r"^MMCC_HELPER \w+ (\w+)\([^{]*mmcc_read_parameters", headers["mmcc_parameters.h"], re.MULTILINE
    )
    assert sorted(calls) == sorted(HELPERS)


@pytest.mark.quick
def test_which_functions_may_have_such_calls() -> None:
    kernels = {"n_conv": "conv", "n_read_rows": "read_rows", "n_page_out_1": "page_out"}
    found = ("n_run", "n_take_block", "n_read_rows", "n_page_out_1")
    assert unexpected(found, kernels, "n", calls_back=True) == ()
    assert unexpected(HELPERS, kernels, "n", calls_back=True) == ()
    assert unexpected(HELPERS, kernels, "n", calls_back=False) == tuple(sorted(HELPERS))
    assert unexpected(("n_run",), kernels, "n", calls_back=False) == ("n_run",)
    for name in ("n_conv", "mmcc_dsp_rest", "qsort", "other_run"):
        assert unexpected((name, *found), kernels, "n", calls_back=True) == (name,)
