# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to a package on disk: the order of the parts, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmcc import __version__
from mmcc.checker.plan import check_plan
from mmcc.checker.program import check_program
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.emit import Package as Generated
from mmcc.codegen.lower import lower, weights_file
from mmcc.codegen.names import identifier, is_identifier
from mmcc.codegen.render import render, render_c
from mmcc.codegen.selftest import MOST_MACS, self_test
from mmcc.codegen.staged import staged_for, staging
from mmcc.codegen.weights import weights_stamp
from mmcc.errors import CompileError, Exit
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.program import Program
from mmcc.ir.verify import check_final
from mmcc.kernels.accumulate import accumulators
from mmcc.kernels.traits import pixels_at_once
from mmcc.package.folder import check_output, replace_folder, scratch_beside
from mmcc.package.record import (
    FOLDER,
    WEIGHTS_LINKED,
    Package,
    bench_files,
    generated_files,
    load_package,
    save_bench,
)
from mmcc.passes import optimize
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.api import best_plan
from mmcc.planner.explain import does_not_fit
from mmcc.planner.request import PlanRequest, Staging
from mmcc.report.model import Figures, Report, count_macs, make_report, render_text
from mmcc.selfcheck.run import NOT_ASKED, SelfCheck, failure, self_check
from mmcc.selfcheck.trace import write_trace
from mmcc.sizes import readable
from mmcc.target import Target, list_targets, load_target
from mmcc.toolchain import Footprint, compile_objects, measure, package_build
from mmcc.toolchain.host import HostModel, build_shared

WEIGHTS_IN_C = 4 * 2**20  # more than this is slow to compile as text: a file that the assembler includes
WAYS_IN = ("arena", "external", "rows", "rows-again")
WEIGHTS = ("c", "bin", "staged")
ARENA_ALIGN = 16
ROUNDS = 3  # plans made at most until arena, context, static data and stack are within the limit together
MOST_RECOMPUTE = 2.0  # with --ram N, and none is given: what is computed again costs, and is chosen last
BESIDES = (
    32  # part of RAM, one of so many, that stack and context are guessed to take, where a guess is needed
)
HOST_TWIN = "host_twin"
MEASURE = "measure"  # objects of the package as they were measured; gone when it is finished
CALLER_BYTES = 16  # of a function that does nothing but call the model, as the test bench's
STACK_ALIGN = 16  # of the ABIs; firmware rounds its stack up to it

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What `mmcc compile` was asked for; sizes in bytes, 0 for none."""

    target: str = "host"
    ram: int = 0
    least_ram: bool = False  # --ram min
    recompute: float = 0.0  # work at most, in multiples of the model's; 0: as the planner thinks fit
    flash: int = 0
    name: str = ""
    io: str = "arena"  # "external"; "rows" or, if inputs can be read more than once, "rows-again"
    weights: str = ""  # "c", "bin", "staged" (read while the model runs), or "" to choose by size
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    bind: Mapping[str, ArrayLike] = field(default_factory=dict[str, ArrayLike])  # inputs made constants
    time_limit: float = 20.0
    float_io: bool = False
    stack: int = 0  # a bound the user vouches for; the toolchain is then not needed
    dump: Path | None = None
    self_check: bool = True  # run what was made, before it is written

    def __post_init__(self) -> None:
        """CompileError for values that the command line would not take either."""
        for name, value, allowed in (("io", self.io, WAYS_IN), ("weights", self.weights, ("", *WEIGHTS))):
            if value not in allowed:
                choice = ", ".join(repr(a) for a in allowed)
                raise CompileError("MM000", f"{name}={value!r} is none of {choice}", exit=Exit.USAGE)
        for name, size in (("ram", self.ram), ("flash", self.flash), ("stack", self.stack)):
            if size < 0:
                raise CompileError("MM003", f"{name}={size} is below 0", exit=Exit.USAGE)


@dataclass(frozen=True)
class CompileResult:
    """A package that was written: its folder, report, and a way to run it on this machine."""

    folder: Path
    report: Report
    graph: Graph
    plan: Plan

    @cached_property
    def files(self) -> dict[str, Path]:
        """The generated files by name."""
        return {path.name: path for path in sorted(self.folder.iterdir()) if path.is_file()}

    def run(self, arrays: Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """One inference on this machine: arrays as the ONNX model takes and returns them."""
        return run_on_host(self.folder, arrays)


def run_on_host(
    folder: Path, arrays: Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Build the package in `folder` if needed, and run one sample in ONNX's shapes and types."""
    package = load_package(folder)
    if isinstance(arrays, Mapping):
        ordered = [arrays[port.onnx_name] for port in package.inputs]
    else:
        ordered = list(arrays)
    model = host_model(folder, package)
    inputs = [p.to_c(a, package.tensors[p.tensor]) for p, a in zip(package.inputs, ordered, strict=True)]
    outputs = model.run(inputs)
    return [p.from_c(a, package.tensors[p.tensor]) for p, a in zip(package.outputs, outputs, strict=True)]


def host_model(folder: Path, package: Package) -> HostModel:
    """The package as a library of this machine."""
    work = folder / FOLDER / "host"
    adapter = host_adapter(folder, package)
    library = build_shared(host_sources(folder), adapter, package.name, work)
    return HostModel(library, [package.tensors[port.tensor].dtype.numpy for port in package.outputs])


def host_adapter(folder: Path, package: Package) -> str:
    """C text of the test bench's side of a package; staged weights are read from the package's file."""
    return _adapter_text(bench_files(folder), host_sources(folder), package.name, staged=package.staged)


def _adapter_text(bench: Path, sources: Path, name: str, *, staged: bool) -> str:
    text = (bench / "adapter_host.c").read_text()
    path = json.dumps(str((sources / f"{name}_weights.bin").resolve()), ensure_ascii=False)
    return f"#define MMCC_WEIGHTS_FILE {path}\n{text}" if staged else text


def host_sources(folder: Path) -> Path:
    """Where the package's C for this machine is: the same plan, with this machine's kernels."""
    twin = bench_files(folder) / HOST_TWIN
    return twin if twin.is_dir() else folder


def prefix_of(options: CompileOptions, model: Path) -> str:
    """Prefix of every symbol: --name, or an identifier made of the file's name."""
    if not options.name:
        return identifier(model.stem)
    if not is_identifier(options.name):
        raise CompileError(
            "MM005",
            f'--name "{options.name}" cannot be a prefix in C',
            exit=Exit.USAGE,
            hint="a letter, then letters, digits and single underscores; no keyword of C or C++",
        )
    return options.name


def load_graph(model: Path, options: CompileOptions, progress: Progress = _silent) -> Graph:
    """Import and optimize a model."""
    progress("reading the model")
    imported = import_model(model, dims=dict(options.dims), bind=options.bind)
    if options.dump:
        _dump(options.dump, "1-imported.txt", str(imported))
    progress("simplifying and quantizing")
    graph = optimize(imported, float_io=options.float_io)
    faults = check_final(graph)
    assert not faults, "the passes made a graph that makes no sense:\n" + "\n".join(faults)
    if options.io in ("rows", "rows-again"):
        graph = stream_ports(graph, again=options.io == "rows-again")
    if options.dump:
        _dump(options.dump, "2-optimized.txt", str(graph))
    return graph


def compile_model(
    model: str | Path, out: str | Path, options: CompileOptions | None = None, progress: Progress = _silent
) -> CompileResult:
    """Compile an ONNX file into the folder `out`, which is written whole or not at all.

    Raises CompileError for all that is the user's to change: a bad or unsupported model, a limit that cannot
    be met, a missing tool, a folder that cannot be written.
    """
    options = options or CompileOptions()
    model, out = Path(model), Path(out)
    target = load_target(options.target)
    prefix = prefix_of(options, model)
    check_output(out)
    graph = load_graph(model, options, progress)
    request = plan_request(options, graph, target, progress)
    with scratch_beside(out) as scratch:
        made = Path(scratch) / "package"
        made.mkdir()
        job = _Job(made, graph, target, options, prefix, model, progress)
        built = _fitting(job, request)
        bench = Path(scratch) / "bench"
        bench.mkdir()
        _write_bench(job, built, bench)
        built.report["self_check"] = _self_checked(job, built, bench, out).to_json()
        _write_report(made, built.report)
        _record(job, built, bench)
        shutil.rmtree(made / FOLDER / MEASURE, ignore_errors=True)
        replace_folder(made, out)
    return CompileResult(out, built.report, graph, built.plan)


@dataclass(frozen=True, slots=True)
class _Job:
    """What does not change while a package is made."""

    made: Path
    graph: Graph
    target: Target
    options: CompileOptions
    prefix: str
    model: Path
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Built:
    """A package as it was written for one plan."""

    plan: Plan
    program: Program
    generated: Generated
    report: Report


def plan_request(options: CompileOptions, graph: Graph, target: Target, progress: Progress) -> PlanRequest:
    """What the options ask of the planner."""
    external = options.io != "arena"
    return PlanRequest(
        external_inputs=external,
        external_outputs=external,
        pixels=pixels_at_once(graph),
        accumulators=accumulators(graph),
        staging=_staging(options, graph, target),
        fuse=options.least_ram,
        recompute=options.recompute or (MOST_RECOMPUTE if options.ram else 1.0),
        cost=target.cost,
        effort=options.time_limit,
        progress=progress,
    )


def _staging(options: CompileOptions, graph: Graph, target: Target) -> Staging | None:
    if options.weights != "staged":
        return None
    most = options.ram or max(2 * max(t.bytes for t in graph.tensors.values()), 64 * 1024)
    return staging(graph, target, most)


def _fitting(job: _Job, request: PlanRequest) -> _Built:
    """The package within its limits: what RAM holds besides the arena is known once it is compiled."""
    if request.staging is not None and job.options.ram:  # there is no plan that does without a limit
        request = replace(request, fuse=True, limit=job.options.ram - job.options.ram // BESIDES)
    built = _build(job, request)
    for _ in range(ROUNDS):
        ram = built.report["ram"]
        if not job.options.ram or ram["total"] <= job.options.ram:
            break
        arena = job.options.ram - (ram["total"] - ram["arena"])
        request = replace(request, fuse=True, limit=max(0, arena))
        built = _build(job, request)
        if built.plan.peak(request.tiers[0]) > arena:
            break
    _check_limits(job.graph, built.plan, built.report, job.options, request)
    return built


def _build(job: _Job, request: PlanRequest) -> _Built:
    graph, options = job.graph, job.options
    job.progress("planning memory")
    plan = best_plan(graph, request)
    faults = check_plan(graph, plan)
    assert not faults, "the plan checker convicts the plan:\n" + "\n".join(faults)
    program = _lowered(job, plan, job.target)
    if options.dump:
        _dump(options.dump, "3-plan.txt", str(plan))
    generated, report = _write(job, plan, program)
    return _Built(plan, program, generated, report)


def _lowered(job: _Job, plan: Plan, target: Target) -> Program:
    program = lower(job.graph, plan, job.prefix, target)
    faults = check_program(job.graph, plan, program)
    assert not faults, "the program checker convicts the lowered program:\n" + "\n".join(faults)
    return program


def _write(job: _Job, plan: Plan, program: Program) -> tuple[Generated, Report]:
    made, graph, target, options, prefix = job.made, job.graph, job.target, job.options, job.prefix
    job.progress("generating C")
    emit_options = EmitOptions(
        prefix,
        version=__version__,
        arena_align=ARENA_ALIGN,
        sha256=sha256(job.model),
        build=package_build(target, measured=not options.stack),
    )
    if options.weights == "bin" or (not options.weights and _constant_bytes(graph) > WEIGHTS_IN_C):
        emit_options = replace(emit_options, weights_in_c=False)
    if program.staged:
        weights = made / f"{prefix}_weights.bin"
        emit_options = replace(emit_options, stamp=_write_weights(graph, plan, target, weights))
    generated = emit(graph, program, emit_options, target)
    if count_macs(graph) <= MOST_MACS and not generated.values["streams"] and not program.staged:
        job.progress("computing the self-test's outputs")
        for name, text in self_test(graph, generated).items():
            (made / name).write_text(text)
    _write_files(made, generated, emit_options)
    job.progress(f"compiling for {target.name} to measure code and stack")
    figures = _figures(made, program, target, options, prefix, generated)
    report = make_report(graph, plan, program, target.name, emit_options.sha256, figures)
    ram = report["ram"]
    figures_line = f"{ram['total']} bytes = arena {ram['arena']} + context {ram['context']}"
    figures_line += f" + static {ram['static']} + worst-case stack {ram['stack']}, on {target.name}"
    known = generated.values | {"options": replace(emit_options, ram=figures_line, stack=ram["stack"])}
    (made / f"{prefix}.h").write_text(render_c("network.h.j2", **known))  # only now it can say what is needed
    return generated, report


def _write_report(made: Path, report: Report) -> None:
    (made / "report.json").write_text(_json(report))
    (made / "report.txt").write_text(render_text(report))


def _constant_bytes(graph: Graph) -> int:
    return sum(array.nbytes for array in graph.constants.values())


def _write_files(folder: Path, generated: Generated, options: EmitOptions) -> None:
    for name, text in generated.files.items():
        (folder / name).write_text(text)
    if not options.weights_in_c and not generated.values["staged"]:
        (folder / f"{options.name}_weights.bin").write_bytes(generated.weights_file())


def _figures(
    made: Path, program: Program, target: Target, options: CompileOptions, prefix: str, generated: Generated
) -> Figures:
    context = _context_bytes(generated, target)
    if options.stack:
        footprint = Footprint(0, generated.weights.size, 0, 0, {})
        return Figures(options.ram, context, options.stack, footprint, "stated")
    work = made / FOLDER / MEASURE
    shutil.rmtree(work, ignore_errors=True)
    sources = package_sources(made)
    entries = [f"{prefix}_init", f"{prefix}_run"]
    objects = compile_objects(target, sources, work, include_dirs=[made])
    footprint = measure(target, objects, entries, work, weight_prefixes=[f"{prefix}_weights"])
    stack = max(bound.bytes for bound in footprint.stack.values())
    stack = -(-(stack + CALLER_BYTES) // STACK_ALIGN) * STACK_ALIGN
    assumed = next((bound.assumed for bound in footprint.stack.values() if bound.assumed), "")
    source = "assumed" if assumed else "call graph"
    return Figures(options.ram, context, stack, footprint, source, assumed)


def _context_bytes(generated: Generated, target: Target) -> int:
    """sizeof the context: an address for each memory, a mark, what it knows of callbacks."""
    pointer = target.pointer_bytes
    streams = len(generated.values["streams"])
    words = len(generated.values["memories"]) + 1  # the mark is padded to an address
    words += 2 * streams + 1 if streams else 0
    if generated.values["staged"]:
        words += 3 + -(-3 * 4 // pointer)  # two functions and their argument; three numbers
    return words * pointer


def package_sources(folder: Path) -> list[Path]:
    """The files of a package to compile: not the self-test, and none that somebody else put there."""
    ours = generated_files(folder)
    sources = [path for path in sorted(folder.iterdir()) if path.suffix in (".c", ".S")]
    sources = [path for path in sources if ours is None or path.name in ours]
    return [path for path in sources if not path.name.endswith("_selftest.c")]


def _check_limits(
    graph: Graph, plan: Plan, report: Report, options: CompileOptions, request: PlanRequest
) -> None:
    ram, flash = report["ram"], report["flash"]
    if options.ram and ram["total"] > options.ram:
        raise _ram_exceeded(graph, plan, ram, request)
    if options.flash and flash["total"] > options.flash:
        raise CompileError(
            "MM502",
            f"{flash['total']:,} bytes of flash are needed, {readable(options.flash)} are allowed: weights "
            f"{flash['weights']:,}, code and tables {flash['code']:,}",
            exit=Exit.DOES_NOT_FIT,
            hint=_less_flash(graph, flash["total"]),
        )


def _less_flash(graph: Graph, total: int) -> str:
    """Options that are enough; and what quantization would save, if there are floats to quantize."""
    floats = sum(array.nbytes for array in graph.constants.values() if array.dtype == np.float32)
    lines = [f"--flash {total}"]
    if 2 * floats > total:
        lines.append(f"quantizing the model: {floats:,} bytes are float weights, int8 has a quarter of that")
    return "\n".join(lines)


def _ram_exceeded(graph: Graph, plan: Plan, ram: dict[str, int], request: PlanRequest) -> CompileError:
    """The planner's explanation of the arena, with what RAM holds besides it."""
    besides = ram["total"] - ram["arena"]
    limited = replace(request, limit=max(0, ram["limit"] - besides))
    arena = does_not_fit(graph, plan, limited, best_plan, besides)
    message = (
        f"{ram['total']:,} bytes of RAM are needed, {ram['limit']:,} are allowed; {besides:,} are for "
        f"context ({ram['context']:,}), static data ({ram['static']:,}) and worst-case stack "
        f"({ram['stack']:,}), and of the arena: {arena.message}"
    )
    return CompileError(arena.code, message, exit=arena.exit, at=arena.at, hint=arena.hint)


def _write_weights(graph: Graph, plan: Plan, target: Target, path: Path) -> bytes:
    """Write the file that the callbacks read; its stamp."""
    with path.open("wb") as stream:

        def written() -> Iterator[bytes]:
            for block in weights_file(graph, plan, target):
                stream.write(block)
                yield block

        stamp = weights_stamp(written())
        stream.write(stamp)
    return stamp


def _write_bench(job: _Job, built: _Built, bench: Path) -> None:
    """What `verify`, `bench` and the check of this compile need besides the package itself."""
    host = load_target("host")
    plan, program, twin = built.plan, built.program, built.generated
    if job.target.kernels != host.kernels:
        plan, program, twin = _write_twin(job, built.plan, host, bench)
    write_trace(bench, job.graph, plan, program, twin)
    for kind, on_heap, values in (("host", True, twin.values), ("firmware", False, built.generated.values)):
        text = render("adapter.c.j2", on_heap=on_heap, **values)
        (bench / f"adapter_{kind}.c").write_text(text)
    if built.program.staged:  # as flash of the emulated board
        (bench / WEIGHTS_LINKED).write_text(render("weights.S.j2", **built.generated.values))


def _self_checked(job: _Job, built: _Built, bench: Path, out: Path) -> SelfCheck:
    """Run the C for this machine; CompileError (MM807) if it computes something else than the references."""
    if not job.options.self_check:
        return SelfCheck(False, NOT_ASKED)
    job.progress("checking the generated C on this machine")
    made, host = job.made, load_target("host")
    folder = bench / HOST_TWIN if (bench / HOST_TWIN).is_dir() else made
    layers = folder / f"{job.prefix}.c"
    sources = [path for path in package_sources(folder) if path.name != layers.name]
    if job.target == host:  # as measured
        ready = {path.stem: path for path in (made / FOLDER / MEASURE).glob("*.o")}
        sources = [ready.get(path.stem, path) for path in sources]
    with tempfile.TemporaryDirectory(prefix="mmcc-") as scratch:
        adapter = Path(scratch) / "adapter_host.c"
        adapter.write_text(_adapter_text(bench, folder, job.prefix, staged=built.program.staged))
        found, fault, inputs = self_check(job.graph, sources, layers, adapter, bench, host, Path(scratch))
    if fault is not None:
        raise failure(job.graph, fault, inputs, made, job.model, out, str(job.options))
    return found


def _record(job: _Job, built: _Built, bench: Path) -> None:
    graph, options, made = job.graph, job.options, job.made
    ports = (*graph.inputs, *graph.outputs)
    used = {name: graph.tensors[name] for name in (port.tensor for port in ports)}
    package = Package(
        name=job.prefix,
        target=_lasting(options.target),
        model=str(job.model.resolve()),
        sha256=built.report["model"]["sha256"],
        ram=options.ram,
        stack=built.report["ram"]["stack"],
        dims=options.dims,
        bind=options.bind,
        float_io=options.float_io,
        io=options.io,
        tensors=used,
        inputs=graph.inputs,
        outputs=graph.outputs,
        staged=built.program.staged,
        files=tuple(sorted(path.name for path in made.iterdir() if path.is_file())),
    )
    package.save(made)
    save_bench(made, bench)


def _lasting(target: str) -> str:
    """A target's name, or the path of its file from wherever it is asked for later."""
    return target if target in list_targets() else str(Path(target).resolve())


def _write_twin(job: _Job, plan: Plan, host: Target, bench: Path) -> tuple[Plan, Program, Generated]:
    """The same plan in C that this machine can run: kernels for a board may be in its own instructions.

    Staged constants are staged here too, in the order and the blocks of the board's.
    """
    folder = bench / HOST_TWIN
    folder.mkdir(exist_ok=True)
    build = package_build(host, measured=False)
    options = EmitOptions(job.prefix, weights_in_c=False, arena_align=ARENA_ALIGN, build=build)
    if plan.staged:
        plan = staged_for(job.graph, plan, host)
        faults = check_plan(job.graph, plan)
        assert not faults, "the plan checker convicts the plan for this machine:\n" + "\n".join(faults)
        weights = folder / f"{job.prefix}_weights.bin"
        options = replace(options, stamp=_write_weights(job.graph, plan, host, weights))
    program = _lowered(job, plan, host)
    generated = emit(job.graph, program, options, host)
    _write_files(folder, generated, options)
    return plan, program, generated


def _dump(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text + "\n")


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    return cast(Any, value).item() if isinstance(value, np.generic) else str(value)
