# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to a package that also trains its model on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmcc.driver.ask import MOST_RECOMPUTE, plan_request
from mmcc.driver.choice_plan import Asked
from mmcc.driver.compile import CompileResult, compile_module
from mmcc.driver.cost import cost_of
from mmcc.driver.imported_step import as_imported, taken_over
from mmcc.driver.load import dump, load_graph
from mmcc.driver.options import CompileOptions, Progress, silent
from mmcc.driver.ram_fit import BESIDES
from mmcc.driver.recompute import MOST_WAITING, KeptValues, SlowMemory
from mmcc.errors import CompileError, Exit
from mmcc.frontend import load, training_step
from mmcc.ir.graph import Graph
from mmcc.ir.made_again import MadeAgain
from mmcc.ir.module import Module
from mmcc.ir.plan import Plan
from mmcc.package.folder import check_output
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.states import ALIGN, kept_bytes
from mmcc.target import load_target
from mmcc.training.module import forward_pass, training_module
from mmcc.training.options import TrainOptions
from mmcc.training.parameters import AUTO, layers_of
from mmcc.training.recompute import SavedValues

LEAST_BESIDES = 1024  # bytes of RAM that stack and context are guessed to take at least
EFFORT = 2.0  # for the placement of a choice's plan; that of the choice taken has all
TRIES = 3  # at a step that fits with them


def compile_training(
    model: str | Path,
    out: str | Path,
    train: TrainOptions | None = None,
    options: CompileOptions | None = None,
    progress: Progress = silent,
) -> CompileResult:
    """Compile an ONNX file into a folder of C with `run`, `train_step` and, for sums of steps, `train_apply`.

    Raises CompileError as `compile_model` does, and for a model that cannot be trained as `train` says.
    """
    train, options = train or TrainOptions(), options or CompileOptions()
    model, out = Path(model), Path(out)
    load_target(options.target)
    check_output(out)
    if options.io != "arena" or options.weights == "staged" or options.states or options.stream:
        what = "--io, --weights staged, --state and --stream are for inference"
        raise CompileError("MM119", what, exit=Exit.USAGE, hint="leaving them out")
    step = training_step(load(model))
    if step is not None:
        train = taken_over(step, train, options)
    keep_batch_norm = train.batch_norm != "frozen"
    graph = load_graph(model, options, progress, keep_batch_norm=keep_batch_norm, step=step, training=True)
    if step is not None:
        graph = as_imported(graph, step, model, train, options)
    if train.update == AUTO:
        return _most_layers(graph, model, out, train, options, progress)
    return _trained(graph, model, out, train, options, progress)


def _most_layers(
    graph: Graph, model: Path, out: Path, train: TrainOptions, options: CompileOptions, progress: Progress
) -> CompileResult:
    """The package that trains as many of the last layers as fit, found by halving.

    The more layers are trained the more RAM is needed, as far as plans are the best: so where K fit and
    K + 1 do not, K is the answer.
    """
    if not (options.ram or options.flash):
        what = "--update auto trains as much as fits a limit, and there is none"
        raise CompileError("MM117", what, exit=Exit.USAGE, hint="--ram N, or --flash N")
    fits, most, best = 0, layers_of(graph), None
    trying = most
    while trying > fits:
        progress(f"do the last {trying} of {layers_of(graph)} layers fit?")
        some = replace(train, update=f"last:{trying}")
        try:
            if trying > 1 and _too_much_kept(graph, some, options.ram):
                most = trying - 1
            else:
                best = _trained(graph, model, out, some, options, progress)
                fits = trying
        except CompileError as error:
            if error.exit not in (Exit.DOES_NOT_FIT, Exit.NO_PLAN) or trying == 1:
                raise
            most = trying - 1
        trying = -(-(fits + most) // 2)
    assert best is not None, "nothing to train is an error of its own"
    return best


def _too_much_kept(graph: Graph, train: TrainOptions, ram: int) -> bool:
    """Whether parameters, and what is kept of them from call to call, are more than all RAM."""
    return 0 < ram < kept_bytes(training_module(graph, train).states, ALIGN)


def _trained(
    graph: Graph, model: Path, out: Path, train: TrainOptions, options: CompileOptions, progress: Progress
) -> CompileResult:
    module = training_module(graph, train)
    if options.dump:
        dump(options.dump, "2-training.txt", str(module))
    forward = frozenset(name for node in forward_pass(graph, train).nodes for name in node.outputs)
    slow = SlowMemory(train.slow_memory, train.slow_cycles)
    return _compiled(module, forward, slow, model, out, options, progress)


def _compiled(
    module: Module,
    forward: frozenset[str],
    slow: SlowMemory,
    model: Path,
    out: Path,
    options: CompileOptions,
    progress: Progress,
) -> CompileResult:
    """The package; where RAM is short, of a step that makes values of its forward pass again, or pages them.

    How much RAM is left for the arena is a guess until C is compiled, so there is more than one try.
    """
    step, target = module.entries[1], load_target(options.target)
    share = options.recompute or (MOST_RECOMPUTE if options.ram else 1.0)
    searched = share > 1 or slow.bytes > 0
    if not searched or options.regions or not (options.ram or options.least_ram):
        return compile_module(module, model, out, options, progress)
    once = replace(options, recompute=1.0)
    request = plan_request(once, separate_states(step.graph), target, progress)

    def planned(graph: Graph, asked_for: Asked) -> tuple[Plan, int]:
        graph = separate_states(graph)
        asked = asked_for.of(plan_request(once, graph, target, progress))
        asked = replace(asked, fuse=True, limit=None, effort=min(asked.effort, EFFORT))
        plan = best_plan(graph, asked)
        return plan, asked.peak(plan)

    waiting = options.recompute or MOST_WAITING
    kept = KeptValues(SavedValues(step.graph, forward), planned, share, slow, cost_of(target), waiting)
    if not options.ram:
        return compile_module(_with(module, kept.least()), model, out, once, progress)
    limit = (
        options.ram - kept_bytes(module.states, request.align) - max(options.ram // BESIDES, LEAST_BESIDES)
    )
    graph = separate_states(step.graph)
    for fuse in (False, True):  # where nodes fit alone, nothing is to be searched for
        plan = best_plan(graph, replace(request, fuse=fuse, limit=max(0, limit)))
        if request.peak(plan) <= limit:
            return compile_module(module, model, out, options, progress)
    for tries_left in reversed(range(TRIES)):
        found = kept.within(limit)
        if found is None:
            break
        try:
            return compile_module(_with(module, found), model, out, once, progress)
        except CompileError as error:
            if not tries_left or error.exit not in (Exit.DOES_NOT_FIT, Exit.NO_PLAN):
                raise
        limit = min(limit, found[1].arena) - LEAST_BESIDES
    return compile_module(module, model, out, options, progress)


def _with(module: Module, found: tuple[Graph, MadeAgain] | None) -> Module:
    """The module with another step."""
    if found is None:
        return module
    run, step, *more = module.entries
    graph, made_again = found
    return Module(module.name, (run, replace(step, graph=graph, made_again=made_again), *more))
