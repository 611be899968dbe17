# SPDX-License-Identifier: Apache-2.0
"""An ONNX file to the Graph that is planned."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path

from mmcc.checker.stream import check_stream
from mmcc.driver.bodies import with_planned_bodies
from mmcc.driver.handoff import hand_off
from mmcc.driver.options import CompileOptions, Progress, prefix_of, silent
from mmcc.errors import CompileError
from mmcc.frontend import TrainingStep, import_model
from mmcc.ir.graph import Graph, Node
from mmcc.ir.module import FLUSH, STEP, Entry, Module
from mmcc.ir.streaming import Streamed, Streaming
from mmcc.ir.verify import check_final
from mmcc.ops.repeat import Repeat
from mmcc.output_file import told
from mmcc.passes import optimize
from mmcc.passes.chain_updates import chain_updates
from mmcc.passes.other_rows import led_by_columns
from mmcc.passes.pair_states import pair_states
from mmcc.passes.stream_ports import stream_ports
from mmcc.passes.streaming.stream import stream_graph
from mmcc.report.model import count_macs


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as it is planned; `whole` is the same of a model that is not run hop by hop.

    `flush` makes the rows of a stream that see its end, if there are any.
    """

    graph: Graph
    whole: Graph
    streaming: Streaming | None
    flush: Graph | None = None

    @property
    def module(self) -> Module:
        """Its functions as those of a package."""
        if self.streaming is None:
            return Module.of(self.graph)
        ends = () if self.flush is None else (Entry(FLUSH, self.flush),)
        return Module(self.graph.name, (Entry(STEP, self.graph), *ends))


def load_model(
    model: Path,
    options: CompileOptions,
    progress: Progress = silent,
    *,
    keep_batch_norm: bool = False,
    step: TrainingStep | None = None,
    training: bool = False,
    unroll: bool = False,
) -> Loaded:
    """Import and optimize a model, and make it one of a hop if so asked.

    Loops are unrolled where all nodes are to be of the graph itself: `unroll` says so without the options.
    """
    unroll = unroll or training or options.weights == "staged" or bool(options.handoff)
    optimized = partial(
        _optimized, model, options, progress, keep_batch_norm=keep_batch_norm, step=step, training=training
    )
    streaming = flush = None
    if not options.stream:
        graph = whole = optimized(unroll=unroll)
    else:
        whole, streamed = _with_loops(optimized, options, unroll=unroll)
        graph, flush, streaming = streamed.step, streamed.flush, streamed.streaming
        faults = [text for each in (graph, flush) if each is not None for text in check_final(each)]
        faults = faults or check_stream(whole, streamed)
        assert not faults, "a stream computes something else than the model:\n" + "\n".join(faults)
    if options.io in ("rows", "rows-again"):
        again = options.io == "rows-again"
        graph, flush = stream_ports(graph, again=again), flush and stream_ports(flush, again=again)
    graph, flush = with_planned_bodies(graph, options), flush and with_planned_bodies(flush, options)
    prefix = prefix_of(options, model)
    graph, *ends = hand_off([graph] if flush is None else [graph, flush], options.handoff, prefix)
    flush = ends[0] if ends else None
    if options.dump:
        dump(options.dump, "2-optimized.txt", str(graph))
        if flush is not None:
            dump(options.dump, "2-optimized-flush.txt", str(flush))
    return Loaded(graph, whole, streaming, flush)


def _with_loops(
    optimized: Callable[..., Graph], options: CompileOptions, *, unroll: bool
) -> tuple[Graph, Streamed]:
    """The hop of a model, and that model. Loops along time stay loops; if one is in the way, none does."""
    if unroll or options.window:
        return _streamed(optimized(unroll=True), options)
    whole = optimized(unroll=False)
    try:
        return _streamed(whole, options)
    except CompileError as error:
        if error.code != "MM205" or not any(isinstance(node.op, Repeat) for node in whole.nodes):
            raise
        try:
            return _streamed(optimized(unroll=True), options)
        except CompileError as other:
            raise (other if _reached(other) > _reached(error) else error) from None


def _streamed(graph: Graph, options: CompileOptions) -> tuple[Graph, Streamed]:
    """The hop of a model, and that model: with columns as its rows, where time runs along these."""
    assert options.stream
    asked = options.stream, options.window
    try:
        found = graph, stream_graph(graph, *asked)
    except CompileError as error:
        if error.code != "MM205":
            raise
        try:
            return _by_columns(graph, asked)
        except CompileError as other:
            raise (other if _reached(other) > _reached(error) else error) from None
    if found[1].hops.windows:
        with suppress(CompileError):
            by_columns = _by_columns(graph, asked)
            if count_macs(by_columns[1].step) < count_macs(found[1].step):
                return by_columns  # less of it is computed over the whole window in each hop
    return found


def _by_columns(graph: Graph, asked: tuple[str, int]) -> tuple[Graph, Streamed]:
    turned = led_by_columns(graph)
    return turned, stream_graph(turned, *asked)


def _reached(error: CompileError) -> float:
    """The first node of the model at which it cannot be streamed; beyond all where the options are wrong."""
    return min((place.node for place in error.at), default=inf)


def load_graph(
    model: Path,
    options: CompileOptions,
    progress: Progress = silent,
    *,
    keep_batch_norm: bool = False,
    step: TrainingStep | None = None,
    training: bool = False,
) -> Graph:
    """The graph of a model that is planned; `keep_batch_norm` and `step` are for `training`."""
    loaded = load_model(
        model, options, progress, keep_batch_norm=keep_batch_norm, step=step, training=training
    )
    return loaded.graph


def _optimized(
    model: Path,
    options: CompileOptions,
    progress: Progress,
    *,
    keep_batch_norm: bool,
    step: TrainingStep | None,
    training: bool,
    unroll: bool,
) -> Graph:
    progress("reading the model")
    imported = import_model(
        model,
        dims=dict(options.dims),
        bind=options.bind,
        stream=options.stream,
        keep_batch_norm=keep_batch_norm,
        step=step,
        keep_loops=not unroll,
        training=training,
    )
    if options.dump:
        dump(options.dump, "1-imported.txt", str(imported))
    progress("simplifying and quantizing")

    def wide(node: Node) -> bool:
        """Weights that training changes, or that functions of the user's read."""
        return training or any(rule.takes(node) for rule in options.handoff)

    optimized = optimize(imported, float_io=options.float_io, fp16_math=options.fp16_math, wide=wide)
    graph = replace(optimized, learned=None)
    faults = check_final(graph)
    assert not faults, "the passes made a graph that makes no sense:\n" + "\n".join(faults)
    if options.states or options.initial:
        graph = pair_states(graph, options.states, options.initial)
        faults = check_final(graph)
        assert not faults, "states made a graph that makes no sense:\n" + "\n".join(faults)
    graph = chain_updates(graph)
    faults = check_final(graph)
    assert not faults, "chains made a graph that makes no sense:\n" + "\n".join(faults)
    return graph


def dump(folder: Path, name: str, text: str) -> None:
    """Keep an intermediate form for whoever asked for it with --dump."""
    with told(folder / name, "--dump"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
