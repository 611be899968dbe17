# SPDX-License-Identifier: Apache-2.0
"""Generated C can be read: indented by its braces, at most 120 columns; laying it out changes no token."""

from __future__ import annotations

import re

import pytest
from cmake_projects import DIGITS
from mmcc.codegen import c_layout
from mmcc.codegen import render as kernel
from mmcc.codegen.c_layout import COLUMNS, tidy
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.resources import data_dir

WAYS = {
    "plain": {},
    "groups": {"least_ram": True},
    "rows": {"io": "rows"},
    "external": {"io": "external"},
    "staged": {"weights": "staged"},
    "bin": {"weights": "bin"},
}


def without_space(text):
    """The tokens, and the words of comments without the stars at the beginning of their lines."""
    text = re.sub(r"/\*.*?\*/", lambda found: re.sub(r"\n *\*(?!/)", "", found[0]), text, flags=re.DOTALL)
    return re.sub(r"\s+", "", re.sub(r"\\\n", "", text))


def by_braces(text):
    """(line number, its indentation, what its braces say) of lines that begin a statement in a function."""
    bare = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    bare = re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), bare, flags=re.DOTALL)
    depth, fresh, macro = 0, True, False
    for number, line in enumerate(bare.splitlines(), 1):
        code = line.strip()
        if macro or code.startswith("#"):
            macro = line.endswith("\\")
            continue
        if not code:
            continue
        if fresh and re.match(r"(?:if|for|while|return|do|\}|\w[\w *]* \w+ = )", code):
            yield number, len(line) - len(line.lstrip()), 4 * (depth - code.startswith("}"))
        depth += code.count("{") - code.count("}")
        fresh = code.endswith((";", "{", "}"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["cortex-m3", "cortex-m4", "cortex-m55", "host"])
@pytest.mark.parametrize("model", ["digits_int8", "digits_fp32"])
def test_packages_are_laid_out(model, target, way, tmp_path, monkeypatch):
    seen = []

    def watched(text):
        made = tidy(text)
        seen.append((text, made))
        return made

    monkeypatch.setattr(kernel, "tidy", watched)
    options = CompileOptions(name="net", target=target, stack=1000, **WAYS[way])
    compile_model(DIGITS / f"{model}.onnx", tmp_path / "net", options)
    for path in (tmp_path / "net").glob("*.[ch]"):
        lines = path.read_text().splitlines()
        assert [(path.name, k, line) for k, line in enumerate(lines, 1) if len(line) > COLUMNS] == []
        assert "\n\n\n" not in path.read_text()
        found = by_braces(path.read_text().replace('extern "C" {', "").replace("__cplusplus\n}\n", ""))
        assert [(path.name, *row) for row in found if row[1] != row[2]] == []
    assert len(seen) >= 4
    for before, after in seen:
        assert without_comments(before) == without_comments(after)


def without_comments(text):
    return without_space(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


@pytest.mark.quick
def test_the_headers_that_packages_share_are_within_the_columns():
    for path in data_dir("runtime_c").glob("*.h"):
        lines = path.read_text().splitlines()
        assert [(path.name, k) for k, line in enumerate(lines, 1) if len(line) > COLUMNS] == []


@pytest.mark.quick
def test_strings_and_comments_are_not_broken():
    line = f'    puts("{"a, b = c " * 20}"); /* {"x + y, " * 12}*/\n'
    assert without_space(f"void f(void)\n{{\n{line}}}\n").count("a,b=c") == 20
    made = tidy(f"void f(void)\n{{\n{line}}}\n")
    assert f'"{"a, b = c " * 20}"' in made
    assert c_layout.tidy(made) == made
