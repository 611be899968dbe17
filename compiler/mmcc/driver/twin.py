# SPDX-License-Identifier: Apache-2.0
"""What `verify`, `bench` and the check of a compile need besides the package: adapters, a trace, and the C of
the same plan for this machine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from mmcc.checker.memory_plan import check_memory_plan
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.emit import Package as Generated
from mmcc.codegen.render import render
from mmcc.codegen.staged import staged_for
from mmcc.driver.build import Built, Job, lowered, write_files, write_weights
from mmcc.driver.by_hops import without_tiles
from mmcc.driver.handoff import without_handoffs
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import Program
from mmcc.package.host import HOST_TWIN
from mmcc.package.record import WEIGHTS_LINKED
from mmcc.resources import data_dir
from mmcc.selfcheck.trace import trace_values, write_trace
from mmcc.target import Target, load_target
from mmcc.toolchain import package_build


def write_bench(job: Job, built: Built, bench: Path) -> None:
    """What `verify`, `bench` and the check of this compile need besides the package itself."""
    host = load_target("host")
    plan, program, twin = built.plan, built.program, built.generated
    ours = replace(job, module=job.module.map(without_handoffs)) if job.options.handoff else job
    if without_tiles(job.target).kernels != host.kernels or job.options.handoff:
        plan, program, twin = _write_twin(ours, built.plan, host, bench)
    write_trace(bench, job.module, plan, program, twin)
    for kind, on_heap, values in (("host", True, twin.values), ("firmware", False, built.generated.values)):
        text = render("adapter.c.j2", on_heap=on_heap, **values)
        (bench / f"adapter_{kind}.c").write_text(text)
    if built.program.staged:  # as flash of the emulated board
        (bench / WEIGHTS_LINKED).write_text(render("weights.S.j2", **built.generated.values))


def write_serial(job: Job, built: Built, folder: Path) -> None:
    """The loop that runs the package for a computer at a serial line (`--package serial`)."""
    folder.mkdir(exist_ok=True)
    prefix, values = job.prefix, built.generated.values | {"serial": True}
    runtime = data_dir("runtime_c")
    for path in (
        runtime / "firmware/adapter.h",
        runtime / "serial/mmcc_serial.h",
        runtime / "serial/mmcc_serial.c",
    ):
        shutil.copyfile(path, folder / path.name)
    values |= trace_values(job.module, built.plan, built.program, built.generated)
    made = {
        "adapter.c": render("adapter.c.j2", on_heap=False, **values),
        "records.c": render("serial_records.c.j2", **values),
        "trace.h": render("trace.h.j2", **values),
        "traced.c": render("serial_traced.c.j2", **values),
    }
    if built.program.staged:
        made["staged.S"] = render("weights.S.j2", **values)
    for name, text in made.items():
        (folder / f"{prefix}_{name}").write_text(text)


def _write_twin(
    job: Job, plan: MemoryPlan, host: Target, bench: Path
) -> tuple[MemoryPlan, Program, Generated]:
    """Write the plan as C that this machine can run: kernels for a board may be in its own instructions.

    Staged constants are staged here too, in the order and the blocks of the board's. Fetched ones are not.
    """
    folder = bench / HOST_TWIN
    folder.mkdir(exist_ok=True)
    build = package_build(host, measured=False)
    options = EmitOptions(job.prefix, weights_in_c=False, build=build)
    if any(own.staged for own in plan.entries.values()):
        graphs = {entry.name: entry.graph for entry in job.module.entries}
        plans = {name: staged_for(graphs[name], own, host) for name, own in plan.entries.items()}
        plan = replace(plan, entries=plans)
        faults = check_memory_plan(job.module, plan)
        assert not faults, "the plan checker convicts the plan for this machine:\n" + "\n".join(faults)
        weights = folder / f"{job.prefix}_weights.bin"
        options = replace(options, stamp=write_weights(job.module, plan, host, weights))
    plan = replace(plan, entries={name: in_place(own) for name, own in plan.entries.items()})
    program = lowered(job, plan, host)
    generated = emit(job.module, program, options, host)
    write_files(folder, generated, options)
    return plan, program, generated


def in_place(plan: Plan) -> Plan:
    """The plan with all constants read where they are: those of this machine's kernels have other sizes."""
    fetched = {*plan.fetched.values()}
    return replace(
        plan,
        buffers=tuple(b for b in plan.buffers if b.name not in fetched),
        places={name: place for name, place in plan.places.items() if name not in fetched},
        transfers=tuple(t for t in plan.transfers if t.move.buffer not in fetched),
        fetched={},
    )
