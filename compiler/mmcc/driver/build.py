# SPDX-License-Identifier: Apache-2.0
"""One plan and its package: planned, lowered, checked, written, compiled and measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mmcc import __version__
from mmcc.checker.memory_plan import check_memory_plan
from mmcc.checker.program import check_program
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.emit import Package as Generated
from mmcc.codegen.entries import EntryText
from mmcc.codegen.lower import lower, weights_file
from mmcc.codegen.render import render_c
from mmcc.codegen.selftest import MOST_MACS, self_test
from mmcc.codegen.weights import weights_stamp
from mmcc.driver.ask import plan_request, promises
from mmcc.driver.cost import cost_of
from mmcc.driver.handoff_objects import function_objects
from mmcc.driver.load import dump
from mmcc.driver.memories import home_of, regions_of
from mmcc.driver.options import CompileOptions, Progress
from mmcc.driver.pointers import calls_back, check_pointers
from mmcc.driver.rows import Planned, plan_rows
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import Program
from mmcc.ir.streaming import Streaming
from mmcc.ops.repeat import with_bodies
from mmcc.package.host import package_sources
from mmcc.package.record import FOLDER, sha256, together
from mmcc.planner.api import best_plan
from mmcc.planner.explain import does_not_fit, parts_do_not_fit
from mmcc.planner.request import PlanRequest
from mmcc.report.model import Figures, Report, count_macs, make_report
from mmcc.report.stream import stream_entry
from mmcc.target import Target
from mmcc.toolchain import Footprint, compile_objects, measure, package_build

WEIGHTS_IN_C = 4 * 2**20  # more than this is slow to compile as text: a file that the assembler includes
MEASURE = "measure"  # objects of the package as they were measured; gone when it is finished
CALLER_BYTES = 16  # of a function that only calls the model, as the test bench's; arguments besides
IN_REGISTERS = 4  # words of arguments that every ABI has registers for; some have more
STACK_ALIGN = 16  # of the ABIs; firmware rounds its stack up to it


@dataclass(frozen=True, slots=True)
class Job:
    """What does not change while a package is made."""

    made: Path
    module: Module
    target: Target
    options: CompileOptions
    prefix: str
    model: Path
    progress: Progress
    streaming: Streaming | None  # of a model that is run hop by hop
    sources: Mapping[str, Path]  # by entry: the file of each of linked models; else of the first entry


@dataclass(frozen=True, slots=True)
class Built:
    """A package as it was written for one plan, of a module whose rows may be other axes than the job's."""

    planned: Planned
    program: Program
    generated: Generated
    report: Report
    hashes: tuple[str, ...]  # of the files in `sources`
    target: Target  # the job's, or that with small frames, where a limit wants them

    @property
    def plan(self) -> MemoryPlan:
        return self.planned.memory


def build(job: Job, requests: Mapping[str, PlanRequest]) -> Built:
    """Make the package of the best plan for what is asked of each entry; CompileError if there is none."""
    options = job.options
    job.progress("planning memory")
    ask = partial(plan_request, options, target=job.target, progress=job.progress)
    planned = plan_rows(job.module, requests, ask)
    job, plan = replace(job, module=planned.module), planned.memory
    _check_regions(job.module, plan, planned.requests)
    start = time.perf_counter()
    faults = check_memory_plan(job.module, plan)
    seconds = time.perf_counter() - start
    assert not faults, "the plan checker convicts the plan:\n" + "\n".join(faults)
    return _package(job, planned, {"seconds": round(seconds, 3)})


def package_of(job: Job, built: Built, entries: Mapping[str, Plan]) -> Built:
    """The package again, with plans that place nothing in another way."""
    memory = replace(built.plan, entries=entries)
    job = replace(job, module=built.planned.module, target=built.target)
    return _package(job, replace(built.planned, memory=memory), built.report["plan_check"])


def _package(job: Job, planned: Planned, plan_check: Mapping[str, float]) -> Built:
    """The package of a plan that was checked."""
    if job.options.dump:
        for entry in job.module.entries:  # others may have been asked about meanwhile
            promises(job.options, entry.graph, job.target)
        dump(job.options.dump, "4-plan.txt", str(planned.memory))
    program = lowered(job, planned.memory, job.target)
    hashes = tuple(sha256(path) for path in job.sources.values())
    generated, report = _write(job, planned.memory, program, hashes)
    report["plan_check"] = dict(plan_check)
    report["other_rows"], report["apart"] = planned.turned, planned.apart
    tiling = planned.tiling
    report["row_copies"] = [name for name, _ in planned.row_copies]
    report["tiling"] = {"slices": tiling.slices, "results": [*tiling.results]}
    return Built(planned, program, generated, report, hashes, job.target)


def _check_regions(module: Module, plan: MemoryPlan, requests: Mapping[str, PlanRequest]) -> None:
    """CompileError if a region of the target has fewer bytes than the plan takes there."""
    for region, size in plan.regions().items():
        if region.size is None or size <= region.size or region.keeps:
            continue
        if module.concurrent:
            hint = "fewer models in --concurrent, or another target"
            raise parts_do_not_fit(module, plan, region.size, hint)
        entry = max(module.entries, key=lambda entry: plan.entries[entry.name].peak(region))
        request = replace(requests[entry.name], limit=region.size)
        raise does_not_fit(entry.graph, plan.entries[entry.name], request, best_plan)


def lowered(job: Job, plan: MemoryPlan, target: Target) -> Program:
    """The program of a plan, checked against it."""
    program = lower(job.module, plan, job.prefix, target)
    faults = check_program(job.module, plan, program)
    assert not faults, "the program checker convicts the lowered program:\n" + "\n".join(faults)
    return program


def _write(job: Job, plan: MemoryPlan, program: Program, hashes: Sequence[str]) -> tuple[Generated, Report]:
    made, module, target, options, prefix = job.made, job.module, job.target, job.options, job.prefix
    job.progress("generating C")
    emit_options = EmitOptions(
        prefix,
        version=__version__,
        sha256=together(hashes),
        hashes=dict(zip(job.sources, hashes, strict=True)),
        build=package_build(target, measured=not options.stack),
        streaming=job.streaming,
    )
    if options.weights == "bin" or (not options.weights and _constant_bytes(module) > WEIGHTS_IN_C):
        emit_options = replace(emit_options, weights_in_c=False)
    if program.staged:
        weights = made / f"{prefix}_weights.bin"
        emit_options = replace(emit_options, stamp=write_weights(module, plan, target, weights))
    generated = emit(module, program, emit_options, target)
    if count_macs(module.entries[0].graph) <= MOST_MACS and not calls_back(generated):
        job.progress("computing the self-test's outputs")
        for name, text in self_test(module, generated).items():
            (made / name).write_text(text)
    write_files(made, generated, emit_options)
    job.progress(f"compiling for {target.name} to measure code and stack")
    figures = _figures(made, module, program, target, options, prefix, generated)
    report = make_report(
        module, plan, program, target.name, emit_options.sha256, emit_options.hashes, figures
    )
    if job.streaming is not None:
        report["stream"] = stream_entry(job.streaming, report)
    ram = report["ram"]
    states = f" + states {ram['state']}" if ram["state"] else ""
    figures_line = f"{ram['total']} bytes = arena {ram['arena']}{states} + context {ram['context']}"
    figures_line += f" + static {ram['static']} + worst-case stack {ram['stack']}"
    figures_line += f" + {ram['workers']} of other threads" if ram["workers"] else ""
    figures_line += f", on {target.name}"
    known = generated.values | {
        "options": replace(
            emit_options,
            ram=figures_line,
            stack=_of_one(figures),
            stacks=figures.stacks,
            worker_stack=figures.worker_stack,
        )
    }
    (made / f"{prefix}.h").write_text(render_c("network.h.j2", **known))  # only now it can say what is needed
    return generated, report


def _of_one(figures: Figures) -> int:
    """The stack of the function that needs most; the report's is of all that may run at the same time."""
    return max(figures.stacks.values(), default=figures.stack)


def _constant_bytes(module: Module) -> int:
    bodies = [body for entry in module.entries for body in [*with_bodies(entry.graph)][1:]]
    inside = [array for body in bodies for array in body.constants.values()]
    return sum(array.nbytes for array in (*module.constants.values(), *inside))


def write_files(folder: Path, generated: Generated, options: EmitOptions) -> None:
    """Write the generated text, and the weights where they are a file."""
    for name, text in generated.files.items():
        (folder / name).write_text(text)
    if not options.weights_in_c and not generated.values["staged"]:
        (folder / f"{options.name}_weights.bin").write_bytes(generated.weights_file())


def _figures(
    made: Path,
    module: Module,
    program: Program,
    target: Target,
    options: CompileOptions,
    prefix: str,
    generated: Generated,
) -> Figures:
    context = _context_bytes(generated, target)
    asked = Figures(
        options.ram,
        context,
        options.stack,
        Footprint(0, generated.weights.size, 0, generated.weights.in_ram, {}),
        "stated",
        memories=regions_of(options, target),
        limits=options.regions,
        home=home_of(target).name,
        weights_in_ram=generated.weights.in_ram,
        least=options.least_ram,
        cost=cost_of(target),
        cost_unit=target.cost_unit,
    )
    if options.stack:
        return asked
    work = made / FOLDER / MEASURE
    shutil.rmtree(work, ignore_errors=True)
    sources = package_sources(made)
    names = [entry.name for entry in program.entries]
    besides = ["init", *(["reset"] if program.states else [])]
    besides += ["parameters_save", "parameters_load"] if program.saved else []
    entries = [f"{prefix}_{name}" for name in (*besides, *names)]
    given, stated = function_objects(options.handoff, prefix, target, made, work)
    objects = (*compile_objects(target, sources, work, include_dirs=[made]), *given)
    tasks = generated.values["tasks"]
    footprint = measure(
        target, objects, entries, work, weight_prefixes=[f"{prefix}_weights"], called_back=tasks
    )
    if target.bare_metal:
        check_pointers(footprint, generated)
    bounds = {name: bound.bytes + stated for name, bound in footprint.stack.items()}
    figures = _with_stacks(replace(asked, footprint=footprint), module, target, prefix, generated, bounds)
    return replace(figures, workers=options.threads - 1 if tasks else 0)


def _with_stacks(
    figures: Figures,
    module: Module,
    target: Target,
    prefix: str,
    generated: Generated,
    bounds: Mapping[str, int],
) -> Figures:
    """The figures with the stacks of threads, of functions whose own stacks are at most `bounds` bytes."""
    entries, tasks = generated.values["entries"], generated.values["tasks"]
    stacks = {
        entry.name: _with_caller(bounds[f"{prefix}_{entry.name}"] + _argument_bytes(entry, target))
        for entry in entries
    }
    init = bounds[f"{prefix}_init"] + _in_memory(1 + 2 * len(generated.values["arenas"]), target)
    together = (sum(stacks[name] for name in clique) for clique in module.cliques)
    stack = max(_with_caller(max(init, *bounds.values())), *stacks.values(), *together)
    assumed = next((bound.assumed for bound in figures.footprint.stack.values() if bound.assumed), "")
    return replace(
        figures,
        stack=stack,
        stacks=stacks if module.concurrent else {},
        worker_stack=max((_with_caller(bounds[name]) for name in tasks), default=0),
        stack_from="assumed" if assumed else "call graph",
        stack_assumed=assumed,
    )


def _with_caller(stack: int) -> int:
    """A stack of so many bytes with what calls the function on it, as firmware rounds it up."""
    return -(-(stack + CALLER_BYTES) // STACK_ALIGN) * STACK_ALIGN


def _argument_bytes(entry: EntryText, target: Target) -> int:
    """Bytes of the caller's frame in which it passes arguments that no registers are left for. A number may
    be larger than a word, and then begin at an even one."""
    words = 1  # the context
    for port in entry.ports:
        if port.argument and port.kind == "input":
            size = -(-port.bytes // target.pointer_bytes)
            words += words % size + size if size > 1 else 1
        elif port.argument or port.external:
            words += 1
    return _in_memory(words, target)


def _in_memory(words: int, target: Target) -> int:
    """Bytes of arguments that so many words have beside those in registers."""
    return max(0, words - IN_REGISTERS) * target.pointer_bytes


def _context_bytes(generated: Generated, target: Target) -> int:
    """sizeof the context: an address for each memory, a mark, what it knows of callbacks."""
    pointer = target.pointer_bytes
    streams = len(generated.values["streams"])
    words = len(generated.values["memories"]) + 1  # the mark is padded to an address
    words += 2 * streams + 1 if streams else 0
    words += 2 if generated.values["tasks"] else 0  # a function and its argument
    words += 3 if generated.values["moves"] else 0  # two functions and their argument
    words += 4 if generated.values["pages"] else 0  # these, and a mark
    if generated.values["staged"]:
        words += 3 + -(-3 * 4 // pointer)  # two functions and their argument; three numbers
    return words * pointer


def write_weights(module: Module, plan: MemoryPlan, target: Target, path: Path) -> bytes:
    """Write the file that the callbacks read; its stamp."""
    with path.open("wb") as stream:

        def written() -> Iterator[bytes]:
            for block in weights_file(module, plan, target):
                stream.write(block)
                yield block

        stamp = weights_stamp(written())
        stream.write(stamp)
    return stamp
