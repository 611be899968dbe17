# SPDX-License-Identifier: Apache-2.0
"""Firmware projects as users have them: a package and a few files of their own, built by CMake."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mmcc.target import Target, load_target

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def toolchain_file(path: Path, target: Target) -> Path:
    """A toolchain file as vendors write them: the compiler, and which processor it is."""
    cpu = [flag for flag in target.flags if not flag.startswith(("-O", "-f"))]
    path.write_text(
        "set(CMAKE_SYSTEM_NAME Generic)\nset(CMAKE_SYSTEM_PROCESSOR arm)\n"
        f"set(CMAKE_C_COMPILER {target.compiler})\nset(CMAKE_ASM_COMPILER {target.compiler})\n"
        f'set(CMAKE_C_FLAGS_INIT "{" ".join(cpu)}")\nset(CMAKE_ASM_FLAGS_INIT "{" ".join(cpu)}")\n'
        "set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)\n"
    )
    return path


def build_project(
    folder: Path, text: str, target: str, *definitions: str, goal: str = "all", **files: str
) -> Path:
    """Write CMakeLists.txt (`text`) and other files by stem, configure and build; the build folder."""
    folder.mkdir(exist_ok=True)
    (folder / "CMakeLists.txt").write_text(f"cmake_minimum_required(VERSION 3.16)\n{text}")
    for stem, source in files.items():
        (folder / f"{stem}.c").write_text(source)
    options = list(definitions)
    if target != "host":
        options.append(
            f"-DCMAKE_TOOLCHAIN_FILE={toolchain_file(folder / 'board.cmake', load_target(target))}"
        )
    build = folder / "build"
    for command in (
        ["cmake", "-S", folder, "-B", build, *options],
        ["cmake", "--build", build, "--target", goal, "--verbose"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build
