# SPDX-License-Identifier: Apache-2.0
"""The files that make a package at home in a build system or an ecosystem, each with a sample application.

All of them are about the same C, which stays where it is: several may be asked for at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mmcc.codegen.arenas import ArenaText
from mmcc.codegen.render import render
from mmcc.package.kinds import FILES


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What the files of an ecosystem say of a package."""

    prefix: str
    version: str  # of mmcc
    sha256: str  # of the model's file
    target: str
    flags: Sequence[str]  # that its stack was measured with
    arenas: Sequence[ArenaText]
    context_words: int
    ports: Mapping[str, Sequence[Mapping[str, Any]]]  # "inputs" and "outputs", as report.json has them
    staged: bool  # weights are read from their file while it runs
    plain: bool  # all in arenas: init and run need nothing else of the caller's


def write_ecosystems(folder: Path, kinds: Sequence[str], facts: PackageFacts) -> None:
    """Write the files of these kinds into a package whose C is there."""
    sources = sorted(p.name for p in folder.iterdir() if p.suffix in (".c", ".S"))
    headers = sorted(p.name for p in folder.iterdir() if p.suffix == ".h")
    selftest = f"{facts.prefix}_selftest.c"
    values = {
        "p": facts.prefix,
        "P": facts.prefix.upper(),
        "facts": facts,
        "sources": [name for name in sources if name != selftest],
        "headers": headers,
        "selftest": selftest in sources,
        "elements": {kind: [prod(port["shape"]) for port in ports] for kind, ports in facts.ports.items()},
        "math": any("#include <math.h>" in (folder / name).read_text() for name in (*sources, *headers)),
        "weights_file": f"{facts.prefix}_weights.S" in sources,
    }
    for kind in kinds:
        for path, template in FILES[kind].items():
            made = folder / path.format(p=facts.prefix)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(render(f"ecosystems/{template}", kind=kind, **values))
    if "esp-idf" in kinds:  # its components and those of CMake have one name for this file
        plain = folder / "CMakeLists.txt"
        plain.write_text(render("ecosystems/idf.cmake.j2", **values) + plain.read_text())
