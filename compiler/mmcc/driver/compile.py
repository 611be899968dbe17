# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to a package on disk: the order of the parts, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc import __version__
from mmcc.codegen.arenas import arena_texts
from mmcc.driver.ask import plan_request
from mmcc.driver.build import MEASURE, Built, Job
from mmcc.driver.by_hops import kernels_of_hops
from mmcc.driver.half_layers import check_half_layers
from mmcc.driver.load import load_model
from mmcc.driver.memories import linked_limit
from mmcc.driver.options import CompileOptions, Progress, prefix_of, silent
from mmcc.driver.pointers import calls_back
from mmcc.driver.ram_fit import package_within
from mmcc.driver.twin import write_bench, write_serial
from mmcc.ir.graph import Graph
from mmcc.ir.module import Entry, Module, check_module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import EntryCode
from mmcc.ir.streaming import Streaming
from mmcc.package.ecosystems import PackageFacts, write_ecosystems
from mmcc.package.folder import check_output, files_in, replace_folder, scratch_beside
from mmcc.package.host import HOST_TWIN, adapter_text, package_sources, run_on_host
from mmcc.package.record import FOLDER, EntryPorts, KeptState, Package, Source, save_bench
from mmcc.passes.separate_states import separate_states
from mmcc.report.files import write_report
from mmcc.report.model import Report
from mmcc.scratch import ScratchFolder
from mmcc.selfcheck.run import NOT_ASKED, SelfCheck, failure, self_check
from mmcc.target import is_path, load_target
from mmcc.toolchain import package_build


@dataclass(frozen=True)
class CompileResult:
    """A package that was written: its folder, report, and a way to run it on this machine."""

    folder: Path
    report: Report
    module: Module
    memory: MemoryPlan

    @property
    def graph(self) -> Graph:
        """What the first entry computes."""
        return self.module.entries[0].graph

    @property
    def plan(self) -> Plan:
        """The plan of the first entry."""
        return self.memory.entries[self.module.entries[0].name]

    @cached_property
    def files(self) -> dict[str, Path]:
        """The generated files by name."""
        return {path.name: path for path in sorted(self.folder.iterdir()) if path.is_file()}

    def run(
        self, arrays: Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]], entry: str = ""
    ) -> list[NDArray[Any]]:
        """One inference on this machine: arrays as the ONNX model takes and returns them.

        Of linked models `entry` names the one; else it is the first.
        """
        return run_on_host(self.folder, arrays, entry)


def compile_model(
    model: str | Path, out: str | Path, options: CompileOptions | None = None, progress: Progress = silent
) -> CompileResult:
    """Compile an ONNX file into the folder `out`, which is written whole or not at all.

    Raises CompileError for all that is the user's to change: a bad or unsupported model, a limit that cannot
    be met, a missing tool, a folder that cannot be written.
    """
    options = options or CompileOptions()
    model, out = Path(model), Path(out)
    load_target(options.target)
    check_output(out)
    loaded = load_model(model, options, progress)
    return compile_module(loaded.module, model, out, options, progress, loaded.streaming)


def compile_module(
    module: Module,
    model: Path,
    out: Path,
    options: CompileOptions,
    progress: Progress = silent,
    streaming: Streaming | None = None,
    linked: Mapping[str, Path] = MappingProxyType({}),
) -> CompileResult:
    """Compile a module, made from the file `model`, into the folder `out`: all that follows the front end.

    `streaming` is what is said of a module that runs hop by hop. `linked` has the file of each entry, where
    entries are models. Raises what `compile_model` does.
    """
    target = kernels_of_hops(load_target(options.target), streaming)
    if options.least_ram and target.bare_metal:
        target = replace(target, small_frames=True)
    prefix = prefix_of(options, model)
    check_output(out)
    if options.fp16_math:
        check_half_layers(module, target)
    faults = check_module(module)
    assert not faults, "a module that makes no sense:\n" + "\n".join(faults)
    outside = options.io == "external"
    kept = _kept_states(module, options.states)
    module = module.map(lambda graph: separate_states(graph, outputs_outside=outside))
    requests = {e.name: plan_request(options, e.graph, target, progress) for e in module.entries}
    paged = {e.name: e.made_again.slow_cycles for e in module.entries if e.made_again is not None}
    requests = {name: replace(each, slow_cycles=paged.get(name, 0.0)) for name, each in requests.items()}
    if len(requests) > 1:  # the weights are laid out for one plan
        requests = {name: replace(each, fetchable={}, one_of_several=True) for name, each in requests.items()}
    with scratch_beside(out) as scratch:
        made = Path(scratch) / "package"
        made.mkdir()
        sources = linked or {module.entries[0].name: model}
        job = Job(made, module, target, options, prefix, model, progress, streaming, sources)
        built = package_within(job, requests)
        job = replace(job, module=built.planned.module)
        bench = Path(scratch) / "bench"
        bench.mkdir()
        write_bench(job, built, bench)
        built.report["self_check"] = _self_checked(job, built, bench, out).to_json()
        write_report(made, built.report)
        if "serial" in options.packages:
            write_serial(job, built, made / "serial")
        write_ecosystems(made, options.packages, _facts(job, built))
        _record(job, built, bench, kept)
        shutil.rmtree(made / FOLDER / MEASURE, ignore_errors=True)
        replace_folder(made, out)
    return CompileResult(out, built.report, job.module, built.plan)


def _self_checked(job: Job, built: Built, bench: Path, out: Path) -> SelfCheck:
    """Run the C for this machine; CompileError (MM807) if it computes something else than the references."""
    if not job.options.self_check:
        return SelfCheck(False, NOT_ASKED)
    job.progress("checking the generated C on this machine")
    made, host = job.made, load_target("host")
    folder = bench / HOST_TWIN if (bench / HOST_TWIN).is_dir() else made
    layers = folder / f"{job.prefix}.c"
    sources = [path for path in package_sources(folder) if path.name != layers.name]
    if job.target == host and folder == made:  # as measured
        ready = {path.stem: path for path in (made / FOLDER / MEASURE).glob("*.o")}
        sources = [ready.get(path.stem, path) for path in sources]
    with ScratchFolder("mmcc-") as scratch:
        adapter = Path(scratch) / "adapter_host.c"
        adapter.write_text(adapter_text(bench, folder, job.prefix, staged=built.program.staged))
        found, wrong = self_check(job.module, sources, layers, adapter, bench, host, Path(scratch))
    if wrong is not None:
        raise failure(wrong, made, job.model, out, str(job.options))
    return found


def _facts(job: Job, built: Built) -> PackageFacts:
    report = built.report
    return PackageFacts(
        prefix=job.prefix,
        version=__version__,
        sha256=report["model"]["sha256"],
        target=job.target.name,
        flags=package_build(job.target, measured=False).flags,
        arenas=arena_texts(built.program),
        context_words=-(-report["ram"]["context"] // job.target.pointer_bytes),
        ports={kind: report[kind] for kind in ("inputs", "outputs")},
        staged=built.program.staged,
        plain=[entry.name for entry in job.module.entries] == ["run"]
        and job.options.io == "arena"
        and not built.program.staged
        and not job.options.background_moves,
    )


def _record(job: Job, built: Built, bench: Path, kept: tuple[KeptState, ...]) -> None:
    options, made = job.options, job.made
    package = Package(
        name=job.prefix,
        target=_lasting(options.target),
        sources=tuple(
            Source(name, str(path.resolve()), digest)
            for (name, path), digest in zip(job.sources.items(), built.hashes, strict=True)
        ),
        ram=linked_limit(options, job.target),
        stack=built.report["ram"]["stack"],
        dims=options.dims,
        bind=options.bind,
        states=kept,
        keeps=bool(job.module.states),
        calls_back=calls_back(built.generated),
        float_io=options.float_io,
        fp16_math=options.fp16_math,
        io=options.io,
        stream=job.streaming,
        entries=tuple(map(_ports, job.module.entries, built.program.entries)),
        staged=built.program.staged,
        other_rows=built.planned.turned,
        apart=built.planned.apart,
        tiling=built.planned.tiling,
        row_copies=built.planned.row_copies,
        handoffs={rule.handoff.function: [*map(str, rule.sources)] for rule in options.handoff},
        files=files_in(made),
    )
    package.save(made)
    save_bench(made, bench)


def _kept_states(module: Module, states: Mapping[str, str]) -> tuple[KeptState, ...]:
    """The states that were an input and an output of the model."""
    found: list[KeptState] = []
    for graph in (entry.graph for entry in module.entries):
        for state in graph.states:
            port = graph.origins.get(state.begin)
            if port is not None and port.onnx_name in states:
                first = port.from_c(state.initial, graph.tensors[state.begin])
                found.append(KeptState(port, states[port.onnx_name], _for_record(first)))
    return tuple(found)


def _for_record(first: NDArray[Any]) -> Any:
    """The initial value of a state, which has elements, as the package's record has it: nested lists, or one
    number for all."""
    raw = first.reshape(-1).view(np.uint8).reshape(first.size, -1)
    return first.flat[0].item() if bool((raw == raw[0]).all()) else first.tolist()


def _ports(entry: Entry, code: EntryCode) -> EntryPorts:
    graph = entry.graph
    names = (port.tensor for port in (*graph.inputs, *graph.outputs))
    tensors = {name: graph.tensors[name] for name in names}
    return EntryPorts(entry.name, tensors, graph.inputs, graph.outputs, code.first, code.bodies)


def _lasting(target: str) -> str:
    """A target's name, or the path of its file from wherever it is asked for later."""
    return str(Path(target).resolve()) if is_path(target) else target
