# SPDX-License-Identifier: Apache-2.0
"""Firmware of a model and the test bench: compiled and linked for a target's board, within a limit of RAM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmcc.errors import CompileError, Exit
from mmcc.resources import data_dir
from mmcc.target import Qemu, Target, Window
from mmcc.toolchain.build import (
    WINDOW,
    RegionOverflow,
    compile_objects,
    firmware_sources,
    link,
    write_linker_script,
)
from mmcc.toolchain.elf import symbols, writable_bytes
from mmcc.toolchain.link_map import map_of, read_map, variable_bytes

_GUARD_BYTES = 1 << 16  # below the stack of a module: painted, so that an overflow shows


def build_firmware(
    target: Target,
    sources: Sequence[Path],
    include_dirs: Sequence[Path],
    out_dir: Path,
    *,
    ram_limit: int | None = None,
    stack_bytes: int | None = None,
    hooks: bool = False,
    main: Path | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Compile and link `sources`, a model and its adapter, into firmware for the target's board.

    On a board the linker proves the limit: stack, arena, `.data` and `.bss` share a region of `ram_limit`
    bytes; arenas in regions of memory with a window of their own on the board lie there. On an operating
    system the sections of the sources' objects are added up. `main` replaces the test bench by a program of
    its own; `sources` may be objects.
    """
    stack = -(-(target.stack_bytes if stack_bytes is None else stack_bytes) // 16) * 16
    folder = data_dir("runtime_c") / "firmware"
    includes = [*include_dirs, folder]
    model_flags = [*flags, *(["-DMMCC_HOOKS=1"] if hooks else [])]
    objects = compile_objects(target, sources, out_dir / "model", include_dirs=includes, flags=model_flags)
    own = [*firmware_sources(target), main or folder / "main.c"]
    own_flags = [f"-DMMCC_STACK_BYTES={stack}"]
    bench = compile_objects(target, own, out_dir / "firmware", include_dirs=includes, flags=own_flags)
    if target.webassembly:
        return _link_module(target, bench, objects, out_dir / "firmware.wasm", ram_limit, stack)
    elf = out_dir / "firmware.elf"
    if not target.bare_metal:
        if ram_limit is not None:
            _check_hosted_ram(objects, stack, ram_limit, target)
        loading = ["-static"] if target.qemu else ["-Wl,-z,now"]  # resolving a name late takes stack
        return link(target, [*bench, *objects], elf, flags=loading)
    return _link_board(target, [*bench, *objects], elf, ram_limit, stack)


def _link_module(
    target: Target, bench: Sequence[Path], model: Sequence[Path], module: Path, limit: int | None, stack: int
) -> Path:
    """A program for WASI. Its stack comes first in memory, behind bytes that only an overflow reaches."""
    first = ["-Wl,--stack-first", f"-Wl,-z,stack-size={_GUARD_BYTES + stack}"]
    link(target, [*bench, *model], module, flags=first)
    if limit is not None:
        needed = stack + variable_bytes(read_map(map_of(module)), frozenset(map(str, model)))
        if needed > limit:
            raise does_not_fit(RegionOverflow("RAM", needed - limit), target, limit, stack)
    return module


def _link_board(
    target: Target, objects: Sequence[Path], elf: Path, ram_limit: int | None, stack: int
) -> Path:
    qemu = target.qemu
    if qemu is None or not (qemu.code and qemu.constants and qemu.ram and qemu.io):
        raise CompileError(
            "MM803",
            f"target {target.name} names no emulated board with code, constants, ram and io",
            exit=Exit.USAGE,
            hint="add a [qemu] table, as in targets/cortex-m4.toml",
        )
    limit = qemu.ram.length if ram_limit is None else ram_limit
    if limit > qemu.ram.length:
        raise CompileError(
            "MM803",
            f"the emulated {qemu.machine} has {qemu.ram.length} bytes of RAM, not {limit}",
            exit=Exit.DOES_NOT_FIT,
        )
    script = write_linker_script(
        elf.with_suffix(".ld"),
        qemu.code,
        qemu.constants,
        qemu.ram,
        qemu.io,
        ram_limit=limit,
        stack_bytes=stack,
        windows=_windows(target, qemu),
    )
    try:
        return link(target, objects, elf, flags=["-nostartfiles", "-T", str(script)])
    except RegionOverflow as overflow:
        raise does_not_fit(overflow, target, limit, stack) from overflow


def _windows(target: Target, qemu: Qemu) -> dict[str, Window]:
    """The windows of the target's regions, no larger than the regions are."""
    found: dict[str, Window] = {}
    for region in target.memory:
        window = qemu.memory.get(region.name)
        if window is not None:
            size = window.length if region.size is None else min(region.size, window.length)
            found[region.name] = Window(window.origin, size)
    return found


def does_not_fit(overflow: RegionOverflow, target: Target, limit: int, stack: int) -> CompileError:
    """The error for what the linker, or the sum of the objects, found too large."""
    if overflow.region == "RAM":
        return CompileError(
            "MM803",
            f"the linked program needs {limit + overflow.excess} bytes of RAM, "
            f"{overflow.excess} more than the limit of {limit}; {stack} of them are stack",
            exit=Exit.DOES_NOT_FIT,
        )
    if overflow.region.startswith(WINDOW):
        region = overflow.region.removeprefix(WINDOW)
        message = f"the arena in {region} is larger than its window on the emulated board of {target.name}"
        assert target.qemu is not None
        needed = _windows(target, target.qemu)[region].length + overflow.excess
        length = 1 << (needed - 1).bit_length()  # as windows must be
        hint = f"length = {length} for {region} in [qemu.memory] of the target's file"
        return CompileError("MM803", message, exit=Exit.DOES_NOT_FIT, hint=hint)
    what = {"CODE": "instructions", "CONSTANTS": "constants"}.get(overflow.region, overflow.region)
    return CompileError(
        "MM803",
        f"{what} do not fit the emulated board of {target.name}: {overflow.excess} bytes too many",
        exit=Exit.DOES_NOT_FIT,
        hint="a target with more memory, or your own target file",
    )


def _check_hosted_ram(objects: Sequence[Path], stack: int, limit: int, target: Target) -> None:
    needed = stack + sum(writable_bytes(o) for o in objects)
    if needed > limit:
        excess = RegionOverflow("RAM", needed - limit)
        raise does_not_fit(excess, target, limit, stack)


def linked_ram(elf: Path) -> int:
    """Bytes of RAM a firmware for a board takes: stack, arena, `.data`, `.bss` and what alignment costs."""
    return symbols(elf, ("__ram_used",))["__ram_used"]
