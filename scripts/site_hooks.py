# SPDX-License-Identifier: Apache-2.0
"""Pages of the site that are made: the reference, the notebook, and what stands at the top of the project."""

from __future__ import annotations

import json
import posixpath
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files
from mmcc.cli import main
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "digits" / "notebook.ipynb"
# page of the site -> file of the project
TOP = {
    "index.md": "README.md",
    "design.md": "DESIGN.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files in docs/."""
    made = {page: (ROOT / name).read_text() for page, name in TOP.items()}
    made["reference/cli.md"] = commands()
    made["reference/python.md"] = python_api()
    made["reference/c.md"] = c_api()
    made["tutorials/digits.md"] = notebook()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between files of the project become links between pages; those to other files, their names."""
    here = page.file.src_uri
    source = TOP.get(here, f"docs/{here}")

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target)) if target else source
        pages = {name: page for page, name in TOP.items()}
        to = pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        if not to.endswith(".md"):
            return text if text == target else f"{text} (`{path}`)"
        return f"[{text}]({posixpath.relpath(to, posixpath.dirname(here) or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    pattern = r"\[([^\]\[]+)\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)"
    return "".join(part if part.startswith("```") else re.sub(pattern, link, part) for part in parts)


def commands() -> str:
    """`--help` of every command."""
    text = "# Commands\n\n"
    for name, command in _commands(main, "mmcc"):
        with click.Context(command, info_name=name, max_content_width=100, terminal_width=100) as context:
            text += f"## {name}\n\n```text\n{command.get_help(context)}\n```\n\n"
    return text


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, group
    for own, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {own}")
        else:
            yield f"{name} {own}", command


def python_api() -> str:
    """What `import mmcc` gives, from its docstrings."""
    from mmcc import api

    text = "# Python\n\n`import mmcc` gives these names.\n\n"
    for name in sorted(api.__all__):
        text += f"::: mmcc.api.{name}\n"
        if name.endswith("Options"):  # what each option means stands beside it, as a comment
            text += "    options: {show_source: true}\n"
        text += "\n"
    return text


def c_api() -> str:
    """The header of a package, which is what firmware includes."""
    model = ROOT / "examples/digits/digits_int8.onnx"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "digits_c"
        compile_model(
            model, out, CompileOptions(target="cortex-m4", name="digits", stack=1024, self_check=False)
        )
        header = (out / "digits.h").read_text()
        runtime = (out / "mmcc_runtime.h").read_text()
    text = "# C\n\nEvery package has a header of this form; this is of `examples/digits`, with `--stack 1K`."
    return f"{text}\n\n```c\n{header}```\n\n## mmcc_runtime.h\n\n```c\n{runtime}```\n"


def notebook() -> str:
    """The notebook as a page: its text, its code, and what the code printed when it was run last."""
    text = ""
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        source = "".join(cell["source"])
        text += f"{source}\n\n" if cell["cell_type"] == "markdown" else f"```python\n{source}\n```\n\n"
        for output in cell.get("outputs", ()):
            text += f"```text\n{''.join(output['text']).rstrip()}\n```\n\n"
    return text
