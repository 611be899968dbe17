# SPDX-License-Identifier: Apache-2.0
"""Program -> the files of a package, as text. All numbers and names are decided before a template prints."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmcc.codegen.arenas import arena_texts
from mmcc.codegen.entries import EntryText
from mmcc.codegen.handoffs import handoff_texts
from mmcc.codegen.loop_text import LoopText, loop_text
from mmcc.codegen.ports import PortText, port_texts
from mmcc.codegen.render import Kernel, render, render_c, render_kernel
from mmcc.codegen.staged import SLICE
from mmcc.codegen.statements import Body, column_type, columns_of, tasks_of
from mmcc.codegen.states import state_constants, state_texts
from mmcc.codegen.structs import node_text, package_kernels, view_types
from mmcc.codegen.weights import Weights, c_values, lay_out, weights_stamp
from mmcc.ir.module import LOOP, Module
from mmcc.ir.program import (
    Columns,
    EntryCode,
    Moves,
    Program,
    Start,
)
from mmcc.ir.streaming import Streaming
from mmcc.kernels.blocks import pack_block
from mmcc.resources import data_dir
from mmcc.target import Target
from mmcc.toolchain import PackageBuild

STREAMS = "streams"
PAGER = "pager"
RUNTIME_HEADERS = ("mmcc_runtime.h", "mmcc_requantize.h")
# only where a kernel, or the header of the model, says that it needs them
OPTIONAL_HEADERS = (
    "mmcc_handoff.h",
    "mmcc_moves.h",
    "mmcc_pages.h",
    "mmcc_parameters.h",
    "mmcc_threads.h",
    "mmcc_words.h",
    "mmcc_loops.h",
    "mmcc_math.h",
    "mmcc_fourier.h",
    "mmcc_products.h",
    "mmcc_normalize.h",
    "mmcc_recurrent.h",
    "mmcc_recurrent_dsp.h",
    "mmcc_recurrent_mve.h",
    "mmcc_narrow.h",
    "mmcc_mve.h",
    "mmcc_mve_assembly.h",
    "mmcc_arm_dsp.h",
    "mmcc_arm_dsp_four.h",
    "mmcc_arm_dsp_chunks.h",
    "mmcc_arm_dsp_winograd.h",
    "mmcc_arm_dsp_lines.h",
    "mmcc_arm_dsp_tiles.h",
    "mmcc_arm_dsp_taps.h",
    "mmcc_arm_dsp_sums.h",
    "mmcc_armv6m.h",
    "mmcc_simd.h",
    "mmcc_floats.h",
    "mmcc_winograd.h",
    "mmcc_halves.h",
    "mmcc_fp16.h",
)


@dataclass(frozen=True, slots=True)
class EmitOptions:
    """How the package is to be: prefix of all symbols; weights as C arrays, or as a file that is linked in.

    Staged weights, which the caller reads from a file of theirs, are the program's matter.
    """

    name: str
    weights_in_c: bool = True
    version: str = ""
    ram: str = ""  # one line for the header: the proved figure
    sha256: str = ""  # of the model's file, or of the hashes of all
    hashes: Mapping[str, str] = field(
        default_factory=dict[str, str]
    )  # of the file of each entry that has one
    stamp: bytes = b""  # that the file of staged weights ends with; empty: it has none
    stack: int = 0  # worst case of init and run; 0: not known yet
    stacks: Mapping[str, int] = field(
        default_factory=dict[str, int]
    )  # by entry, where some run beside others
    worker_stack: int = 0  # of each thread besides that of the caller; 0: not known yet, or there are none
    build: PackageBuild = field(default_factory=PackageBuild)
    streaming: Streaming | None = None  # of a model that is run hop by hop


@dataclass(frozen=True, slots=True)
class Package:
    """Generated text files by name, and the weights, which are a file of their own if so asked."""

    files: dict[str, str]
    weights: Weights
    stamp: bytes  # empty where weights are in C
    kernels: tuple[Kernel, ...]
    values: dict[str, Any]  # what every template of this package may print

    def weights_file(self) -> bytes:
        """The file of weights that is linked in, its stamp behind the constants."""
        return self.weights.to_bytes() + self.stamp


def emit(module: Module, program: Program, options: EmitOptions, target: Target) -> Package:
    """All files of the package but the reports and the self-test."""
    weights = _staged(program) if program.staged else lay_out(program.nodes, state_constants(program.states))
    regions = [region.name for region in program.regions]
    entries = [
        EntryText(entry.name, port_texts(entry, code, regions), pages=bool(entry.graph.paged))
        for entry, code in zip(module.entries, program.entries, strict=True)
    ]
    stamp = options.stamp
    if not options.weights_in_c and not program.staged:
        stamp = weights_stamp([weights.to_bytes()])
    kernels, kernel_of = package_kernels(program, options.name)
    common = _common(program, options, weights, entries, stamp)
    common["handoffs"] = handoff_texts(module, program)
    files = _code(program, options, target, kernels, kernel_of, common)
    if options.weights_in_c and not program.staged:
        rows = {array.constant.name: c_values(array.constant) for array in weights.arrays}
        files[f"{options.name}_weights.c"] = render("weights.c.j2", rows=rows, **common)
    elif not program.staged:  # those that are, the caller reads from a file
        files[f"{options.name}_weights.S"] = render("weights.S.j2", **common)
    if common["handoffs"]:
        files[f"{options.name}_handoff.h"] = render_c("handoff.h.j2", **common)
    files |= runtime_headers("".join(files.values()))
    math = any("#include <math.h>" in text for text in files.values())
    files["CMakeLists.txt"] = render("package.cmake.j2", math=math, **common)
    return Package(files, weights, stamp, kernels, common)


def _common(
    program: Program, options: EmitOptions, weights: Weights, entries: Sequence[EntryText], stamp: bytes
) -> dict[str, Any]:
    """What every template of the package may print."""
    arenas = arena_texts(program)
    sizes = {region.name: size for region, size in program.regions.items()}
    ports = [port for entry in entries for port in entry.ports]
    return {
        "stamp": [f"0x{byte:02X}" for byte in stamp],
        "p": options.name,
        "P": options.name.upper(),
        "options": options,
        "program": program,
        "entries": entries,
        "ports": ports,
        "streams": [port for port in ports if port.streamed],
        "memories": _memories(program, ports),
        "states": state_texts(program.states, weights),
        "parameters": program.saved,
        "weights": weights,
        "staged": [node for node in program.nodes if node.blocks],
        "indices": 1 + max((e.first + n.index for e in program.entries for n in e.nodes), default=-1),
        "ready": zlib.crc32(f"{options.name} {weights.size} {sizes}".encode()) | 1,
        "arenas": arenas,
        "arena_of": {arena.memory: arena for arena in arenas},
        "pages": program.pages,
        "tasks": tasks_of(program, options.name),
        "slow": program.slow,
        "moves": max(map(_moves, program.entries)),
        "fetched": sorted({node.fetched.target.memory for node in program.nodes if node.fetched}),
        "stagings": [*dict.fromkeys(node.blocks.arena for node in program.nodes if node.blocks)],
    }


def _moves(entry: EntryCode) -> int:
    """Moves of buffers that go on while an entry runs: their numbers are below it."""
    moves = (part for part in entry.body if isinstance(part, Moves))
    return sum(isinstance(statement, Start) for part in moves for statement in part.body)


def _code(
    program: Program,
    options: EmitOptions,
    target: Target,
    kernels: Sequence[Kernel],
    kernel_of: dict[str, Kernel],
    common: Mapping[str, Any],
) -> dict[str, str]:
    """The header, the kernels, and the layers that call them."""
    columns = columns_of(program.entries)
    loops = _loops(program, options.name, kernel_of, common["weights"])
    inside = [loop.columns for loop in loops.values()]
    nodes = [
        node_text(entry.first, node, label, use, kernel_of[label], common["weights"], options.name)
        for entry in program.entries
        for node in entry.nodes
        for label, use in node.uses
    ]
    entries = [
        _with_code(text, entry, options.name, kernel_of, columns)
        for text, entry in zip(common["entries"], program.entries, strict=True)
    ]
    lines = [line for entry in entries for line in (*entry.functions, *entry.body)]
    called, inner = set(re.findall(r"&(\w+)", "\n".join(lines))), inner_memories(program)
    return {
        f"{options.name}.h": render_c("network.h.j2", **common),
        f"{options.name}_internal.h": render_c(
            "internal.h.j2",
            kernels=kernels,
            view_types=view_types(program, len(common["memories"]) + len(inner)),
            column_types=column_type([*columns, *(each for some in inside for each in some)]),
            inner=inner,
            origins=max((use.origins for node in program.nodes for _, use in node.uses), default=1),
            **common,
        ),
        f"{options.name}_kernels.c": render_c(
            "kernels.c.j2",
            bodies=[_kernel(kernel, target, loops) for kernel in kernels],
            uses_min=any("MIN(" in line for loop in loops.values() for line in (*loop.functions, *loop.body)),
            **common,
        ),
        f"{options.name}.c": render_c(
            "network.c.j2",
            nodes=[node for node in nodes if node.label in called],  # of others all that is read is padding
            columns=columns,
            uses_min=any("MIN(" in line for line in lines),
            **{**common, "entries": entries},
        ),
    }


def _loops(
    program: Program, prefix: str, kernel_of: dict[str, Kernel], weights: Weights
) -> dict[str, LoopText]:
    """By the label of a loop's node, the code of a step."""
    bodies = (node for node in program.nodes if node.body)
    return {node.label: loop_text(node, prefix, kernel_of, weights) for node in bodies}


def _kernel(kernel: Kernel, target: Target, loops: Mapping[str, LoopText]) -> str:
    """A kernel as C; that of a loop, which has one user, with the code of a step."""
    loop = next((loops[label] for label in kernel.users if label in loops), None)
    if loop is not None:
        kernel = replace(kernel, options=kernel.options | {"loop": loop})
    return render_kernel(kernel, target.kernels)


def inner_memories(program: Program) -> list[str]:
    """What loops put into a list of memories of their own, behind all others: the arena of a step, its inputs
    and outputs."""
    found: set[str] = set()
    for node in program.nodes:
        if node.body is not None:
            found.update(view.memory for view in node.body.ports.values())
            found.add(LOOP)
    return sorted(found)


def _with_code(
    text: EntryText,
    entry: EntryCode,
    prefix: str,
    kernel_of: dict[str, Kernel],
    columns: dict[tuple[Columns, ...], str],
) -> EntryText:
    """An entry with the lines of its functions."""
    nodes = {node.index: node for node in entry.nodes}
    body = Body(prefix, kernel_of, columns, nodes, entry.first)
    return replace(text, body=tuple(body.lines(entry.body)), functions=tuple(body.functions(entry.body)))


def runtime_headers(code: str) -> dict[str, str]:
    """Headers that every package has, and those that its code includes."""
    needed = tuple(header for header in OPTIONAL_HEADERS if f'"{header}"' in code)
    texts = {header: (data_dir("runtime_c") / header).read_text() for header in RUNTIME_HEADERS + needed}
    # without our licence: what is generated is the user's
    return {header: text.partition("\n")[2] for header, text in texts.items()}


def _staged(program: Program) -> Weights:
    """Offsets in a block, or in the arena for constants that stay there; the size is that of the file."""
    offsets: dict[str, int] = {}
    size = 0
    for node in program.nodes:
        blocks = node.blocks
        if blocks is not None:
            size = max(size, blocks.offset + (blocks.count - 1) * blocks.bytes + blocks.last)
            for _, use in node.uses:
                start = blocks.places[0] if blocks.resident else 0
                offsets |= {name: start + at for name, at in pack_block(use).offsets.items()}
    return Weights((), offsets, size)


# ---- inputs and outputs


def _memories(program: Program, ports: Sequence[PortText]) -> tuple[str, ...]:
    external = [port.memory for port in ports if port.external]
    streams = [STREAMS] if any(port.streamed for port in ports) else []
    slices = [SLICE] if program.staged else []
    pager = [PAGER] if program.pages else []
    regions = (region.name for region in program.regions)
    return tuple(dict.fromkeys((*regions, "weights", *external, *streams, *slices, *pager)))
