# SPDX-License-Identifier: Apache-2.0
"""The site builds with strict links and has its made pages; the notebook runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from doc_pages import DIGITS, DOCS, ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from run_notebook import run

needs_mkdocs = pytest.mark.skipif(
    (find_spec("mkdocs") is None or find_spec("mkdocstrings") is None) and os.environ.get("CI") != "true",
    reason="pip install 'mmcc[docs]'",
)


@needs_mkdocs
def test_the_site_has_all_pages_and_no_link_that_leads_nowhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", ROOT / "mkdocs.yml", "-d", tmp_path]
    done = subprocess.run(
        [*command, "--strict"], capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    for page in DOCS.rglob("*.md"):
        assert (tmp_path / page.relative_to(DOCS)).with_suffix(".html").is_file()
    made = {
        "index.html": 'href="firmware.html"',
        "design.html": "safe overlap offset",
        "reference/cli.html": "--flash-with",
        "reference/python.html": "compile_training",
        "reference/c.html": "digits_init",
        "tutorials/digits.html": "MLPClassifier",
    }
    for page, text in made.items():
        assert text in (tmp_path / page).read_text(), page


@needs_mkdocs
def test_links_between_files_become_links_between_pages():
    from types import SimpleNamespace

    from site_hooks import on_page_markdown

    def turned(page, text):
        return on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=page)))

    assert turned("index.md", "[a](docs/int8.md#x) [b](DESIGN.md)") == "[a](int8.md#x) [b](design.md)"
    assert turned("int8.md", "[a](../DESIGN.md#true-int8)") == "[a](design.md#true-int8)"
    assert turned("design.md", "[a](examples/digits/demo.py)") == "a (`examples/digits/demo.py`)"
    assert turned("tutorials/x.md", "[a](../int8.md)") == "[a](../int8.md)"
    assert turned("int8.md", "```sh\n[a](b.md)\n```") == "```sh\n[a](b.md)\n```"
    assert turned("int8.md", "[a](https://example.com/b.md)") == "[a](https://example.com/b.md)"


def test_the_notebook_runs():
    notebook = json.loads((DIGITS / "notebook.ipynb").read_text())
    printed = run(notebook)
    assert "proved least" in printed
    assert all(cell["execution_count"] is None for cell in notebook["cells"] if cell["cell_type"] == "code")
