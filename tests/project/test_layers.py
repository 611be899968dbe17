# SPDX-License-Identifier: Apache-2.0
"""Imports go one way, heavy libraries stay where they belong, and --help needs none of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import mmcc
import pytest

pytestmark = pytest.mark.quick

# lowest first; a room stands for all its modules
LAYERS = [
    *(
        "errors",
        "sizes",
        "scratch",
        "output_file",
        "resources",
        "chips",
        "ir",
        "ops",
        "frontend",
        "passes",
        "training",
        "target",
        "boards",
        "toolchain",
        "kernels",
    ),
    *("planner", "checker", "codegen", "package", "report", "selfcheck", "driver", "verification"),
    "quantization",
    *("api", "project_file", "cli", "__main__"),
]
ONLY_IN = {
    "ortools": (
        *("planner/cpsat.py", "planner/memory/cpsat.py"),
        *("planner/joint/cpsat.py", "planner/retention/cpsat.py"),
    ),
    "jinja2": ("codegen/render.py",),
    "onnx": ("frontend/", "quantization/"),
    "onnxruntime": ("verification/oracle.py", "quantization/"),
    "cffi": ("toolchain/host.py",),
    "vl_convert": ("report/svg.py",),
    "rich": ("cli/",),
}
# rooms that know nothing of others, although the order of LAYERS would let them
APART = {
    "kernels/": ("planner", "codegen"),
    "planner/": ("kernels", "codegen"),
    "driver/ask.py": ("codegen",),
}
# a module registers what it has when its catalog imports it: by these calls or decorators
CATALOGS = {
    "ops": {"op"},
    "frontend/converters": {"converts"},
    "training/gradients": {"gradient"},
    "kernels": {"layer", "variant_layer"},
}
ROOT = Path(mmcc.__file__).parent


def imports(path: Path):
    """Names of modules that a file imports, outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    guarded = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and ast.unparse(outer.test) == "TYPE_CHECKING"
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def files():
    return [path for path in ROOT.rglob("*.py") if "_data" not in path.parts]


def test_imports_go_down_only():
    wrong = []
    for path in files():
        layer = path.relative_to(ROOT).with_suffix("").parts[0]
        if layer == "__init__":
            continue
        for name in imports(path):
            if name.startswith("mmcc.") and LAYERS.index(name.split(".")[1]) > LAYERS.index(layer):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


@pytest.mark.parametrize("room", APART)
def test_a_room_knows_nothing_of_what_is_beside_it(room):
    inside = [path for path in files() if path.relative_to(ROOT).as_posix().startswith(room)]
    assert inside
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in inside
        for name in imports(path)
        if name.startswith(tuple(f"mmcc.{other}" for other in APART[room]))
    }
    assert not found


def registers(path: Path, names: set[str]) -> bool:
    """True if a file calls one of these functions, or decorates with it."""
    tree = ast.parse(path.read_text())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    decorators = {
        ast.unparse(decorator)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for decorator in node.decorator_list
    }
    return bool(names & (called | decorators))


@pytest.mark.parametrize("room", CATALOGS)
def test_a_catalog_imports_all_that_register(room):
    """A linter takes these imports for unused, and what they register would be missing without a word."""
    folder = ROOT / room
    tree = ast.parse((folder / "catalog.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    registering = {
        ".".join(("mmcc", *path.relative_to(ROOT).with_suffix("").parts))
        for path in folder.rglob("*.py")
        if registers(path, CATALOGS[room])
    }
    assert len(registering) > 3
    assert registering <= imported


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_only_where_it_belongs(library):
    users = [
        path.relative_to(ROOT).as_posix()
        for path in files()
        if any(name.split(".")[0] == library for name in imports(path))
    ]
    assert users
    assert [user for user in users if not user.startswith(ONLY_IN[library])] == []


def test_help_imports_nothing_heavy():
    script = "import sys, mmcc.cli; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"numpy", "onnx", "ortools", "jinja2", "cffi", "onnxruntime", "elftools"} & set(
        done.stdout.split()
    )
