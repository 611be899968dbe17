# SPDX-License-Identifier: Apache-2.0
"""Text from a model reaches C only as an identifier or escaped."""

from __future__ import annotations

import re
import shutil
import subprocess

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from hypothesis import given
from hypothesis import strategies as st
from mmcc.codegen.names import escape, identifier, is_identifier, is_prefix, prefix
from mmcc.errors import printable
from mmcc.resources import data_dir
from onnx import helper
from toolchains import ready

pytestmark = pytest.mark.quick

NAMES = ["int", "math", "Math", "mmcc", "MMCC_math", "a/b", "a.b", "a_b", "9x", "", "_", "__a", "main"]
TEXTS = st.one_of(st.text(max_size=80), st.sampled_from(NAMES))
ATTACKS = [
    "<script>alert(1)</script>",
    "&lt;",
    '"; system("x"); "',
    "*/ int x; /*",
    "a\nb",
    "??/",
    "${HOME}",
    "%s",
    "\u202e",
]


@given(TEXTS)
def test_an_identifier_is_ascii_and_no_keyword(text):
    assert is_identifier(identifier(text)), identifier(text)


@given(st.lists(TEXTS, unique=True, max_size=20))
def test_different_texts_have_different_identifiers(texts):
    assert len({identifier(text) for text in texts}) == len(texts)
    assert len({prefix(text) for text in texts}) == len(texts)


@given(TEXTS)
def test_a_package_may_be_called_as_a_model_is(text):
    assert is_prefix(prefix(text)), prefix(text)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "g++"])
def test_no_package_hides_a_header_that_its_c_includes(compiler, tmp_path):
    """A package's folder comes before the system's, and <math.h> is looked for in both."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    runtime = data_dir("runtime_c")
    texts = [path.read_text() for path in (*runtime.glob("*.h"), *data_dir("templates").glob("*.j2"))]
    asked = {name for text in texts for name in re.findall(r"#\s*include <([\w/]+\.h)>", text)}
    assert {"math.h", "string.h"} < asked
    found = set(asked)
    for name in asked:
        source = tmp_path / "all.c"
        source.write_text(f"#include <{name}>\n")
        made = subprocess.run([compiler, "-M", source], capture_output=True, text=True, check=False)
        found |= {word.rpartition("/include/")[2] for word in made.stdout.split() if "/include/" in word}
    names = {name.removesuffix(".h") for name in found if "/" not in name}
    names |= {path.stem for path in runtime.glob("*.h")}
    hidden = {name for name in names if is_prefix(name) or is_prefix(name.upper())}
    assert hidden == set()


@pytest.mark.parametrize("name", ["math", "stdint", "string", "mmcc", "mmcc_runtime", "MMCC"])
def test_models_called_as_headers_are(name, tmp_path):
    """Their packages are built, run and included from C++."""
    ready("host")
    model = model_of([helper.make_node("Sigmoid", ["x"], ["y"])], {"x": np.ones((1, 4), np.float32)}, ["y"])
    path = save(model, tmp_path, f"{name}.onnx")
    built = mmcc.compile_model(path, tmp_path / "m")
    (tmp_path / "main.cpp").write_text(f'#include "{built.report["prefix"]}.h"\n#include <math.h>\n')
    command = ["g++", "-fsyntax-only", "-Wall", "-Werror", f"-I{tmp_path / 'm'}", tmp_path / "main.cpp"]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("name", ["aux", "Con", "com1", "LPT9", "nul", "prn"])
def test_no_file_is_called_as_a_device_of_windows(name):
    assert not is_prefix(name)
    assert is_prefix(prefix(name))
    assert is_prefix(f"{name}2x")


def test_an_identifier_stays_as_it_is():
    assert identifier("kws_dscnn_v2") == "kws_dscnn_v2"


@given(TEXTS)
def test_escaped_text_ends_no_comment_and_no_string(text):
    assert re.fullmatch(r"[ !#'()+,\-./0-9:;=@A-Z\[\]^_a-z{|}~]*", escape(text))


@given(st.lists(st.text(max_size=11), unique=True, max_size=20))
def test_different_texts_are_escaped_differently(texts):
    assert len({escape(text) for text in texts}) == len(texts)


@given(TEXTS, st.integers(8, 60))
def test_escaped_text_keeps_to_the_limit_and_breaks_no_code(text, limit):
    safe = escape(text, limit)
    assert len(safe) <= limit
    assert not re.search(r"\{[0-9a-f]*$", safe.removesuffix("..."))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("functional_1/activation/Relu;functional_1/batch_norm", "functional_1/activation/Relu;..."),
        ("functional_1/batch_normalization/FusedBatchNormV3", "functional_1/..."),
        ("/features/features.12/conv/conv.0/Conv_output_0", "/features/features.12/conv/..."),
        ("a" * 60, "a" * 29 + "..."),
        ("kept;as/it.is", "kept;as/it.is"),
    ],
)
def test_a_long_name_is_cut_between_words(name, short):
    assert escape(name, 32) == short
    assert printable(name, 32) == short


@pytest.mark.parametrize("text", ATTACKS)
def test_hostile_text_is_harmless(text):
    safe = escape(text)
    assert "*/" not in safe
    assert "\n" not in safe
    assert '"' not in safe
    assert "??" not in safe
    assert "$" not in safe
    assert not set("<>&") & set(safe)
    assert safe.isascii()
