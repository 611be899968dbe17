# SPDX-License-Identifier: Apache-2.0
"""A package linked with the test bench: firmware, or a program of this machine with sanitizers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmcc.driver.handoff_objects import given_objects
from mmcc.errors import CompileError, Exit
from mmcc.package.host import host_adapter, host_sources, package_sources
from mmcc.package.record import FOLDER, WEIGHTS_LINKED, Package, bench_files
from mmcc.resources import data_dir
from mmcc.target import load_target
from mmcc.toolchain.firmware import build_firmware

HOOKS_STACK = 256  # bytes, of what is called before and after each node
CALLBACKS_STACK = 64  # bytes of a board, of the bench's functions for rows, weights, moves and pages


def sanitized_program(folder: Path, package: Package) -> Path:
    """The package and the test bench as a program of this machine, with sanitizers."""
    adapter = bench_files(folder) / "adapter_sanitized.c"
    adapter.write_text(host_adapter(folder, package))
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    host = load_target("host")
    host = replace(host, flags=(*host.flags, *flags))
    twin = host_sources(folder)
    return build_firmware(host, [*package_sources(twin), adapter], [twin], folder / FOLDER / "sanitized")


def timed_program(folder: Path, package: Package) -> Path:
    """The package in a program that runs it over and over and prints the time each run took."""
    main = data_dir("runtime_c") / "firmware" / "time_runs.c"
    return firmware_of(folder, package, main=main)


def firmware_of(folder: Path, package: Package, *, hooks: bool = False, main: Path | None = None) -> Path:
    """Firmware of the package and the test bench, or another main, within the RAM limit if there is one.

    With hooks, which cost stack and code of their own, it is not held to the limit. The stack of the bench's
    callbacks, which neither the package's figure nor the limit has, comes on top of both.
    """
    callbacks = callbacks_stack(package)
    bench, target = bench_files(folder), load_target(package.target)
    out = folder / FOLDER / (main.stem if main else "firmware_hooks" if hooks else "firmware")
    linked = [bench / WEIGHTS_LINKED] if package.staged else []
    given = given_objects(_function_sources(package), target, folder, out / "handoff")
    return build_firmware(
        target,
        [*package_sources(folder), bench / "adapter_firmware.c", *linked, *given],
        [folder],
        out,
        ram_limit=None if hooks or not package.ram else package.ram + callbacks,
        stack_bytes=package.stack + callbacks + (HOOKS_STACK if hooks else 0),
        hooks=hooks,
        main=main,
        flags=[f"-D{package.name.upper()}_HOOKS=1"] if hooks else [],
    )


def callbacks_stack(package: Package) -> int:
    """Bytes of stack that the test bench's callbacks may take beside the package's own, if it has any."""
    return CALLBACKS_STACK if package.calls_back else 0


def _function_sources(package: Package) -> list[Path]:
    """Files of the functions that compute nodes; CompileError MM122 if there are none of some."""
    unknown = [name for name, sources in package.handoffs.items() if not sources]
    if unknown:
        message = f"{unknown[0]} computes nodes, and the package's handoff file names no sources of it"
        hint = "--on host, which takes mmcc's own kernels instead; or sources = [...] in that file"
        raise CompileError("MM122", message, exit=Exit.USAGE, hint=hint)
    return list(dict.fromkeys(Path(path) for paths in package.handoffs.values() for path in paths))
