# SPDX-License-Identifier: Apache-2.0
"""Run a notebook's code without Jupyter: python scripts/run_notebook.py NOTEBOOK [--write].

Cells are run in one namespace, in order; the first that raises ends it. --write keeps what they print.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> str:
    """Run all cells; their outputs are put into them. What was printed."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for number, cell in enumerate(c for c in notebook["cells"] if c["cell_type"] == "code"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        text = out.getvalue()
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell["outputs"] = [stream] if text else []
        printed += text
    return printed


def main(arguments: list[str]) -> int:
    """Run the notebook that is named."""
    path = Path(arguments[0])
    notebook = json.loads(path.read_text())
    print(run(notebook), end="")
    if "--write" in arguments:
        path.write_text(json.dumps(notebook, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
