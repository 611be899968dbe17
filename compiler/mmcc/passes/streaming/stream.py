# SPDX-License-Identifier: Apache-2.0
"""From a model of a whole sequence to one of a hop: new rows come in, and rows still needed are states.

Each tensor whose rows are time has the rows of one hop. A node that reads older ones, too, reads a tensor
that is joined of those kept and the new ones, without padding along time: rows before the first are there
from the beginning as what stands for them (`padding.py`). So a row is computed from the same values by the
same operator in the same order as in the whole model, which the checker proves (`checker/stream.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mmcc.errors import CompileError, Exit, did_you_mean, printable
from mmcc.ir.graph import Graph
from mmcc.ir.ports import Port
from mmcc.ir.streaming import Hops, Streamed, StreamedOutput, Streaming, axis_asked
from mmcc.passes.streaming.ends import check_ends
from mmcc.passes.streaming.flush import NoFlush, flush_graph
from mmcc.passes.streaming.hops import find_hops
from mmcc.passes.streaming.step import Step


def stream_graph(graph: Graph, asked: str, window: int = 0) -> Streamed:
    """The graph of one hop; `asked` is INPUT:AXIS, or INPUT:AXIS:ROWS for hops of so many rows.

    CompileError MM114 for what is no input or axis of the model, MM205 with the node that cannot be streamed.
    """
    port, axis, wanted = _asked(graph, asked)
    if graph.states:
        raise _cannot("states by --state, and a stream", "--state alone, if a call is a hop already")
    least = find_hops(graph, port.tensor, 1, window=bool(window))
    hop = least.hops.rows[port.tensor].hop
    if wanted % hop:
        raise _cannot(f"hops of {wanted} rows", f"a multiple of {hop}, as the strides of the model need it")
    if max(hop, wanted) > port.onnx_shape[axis]:
        what = f"a hop is {max(hop, wanted)} rows, of {port.onnx_shape[axis]} that the model has"
        raise _cannot(what, f"a model of more rows, or hops of {hop}")
    found = find_hops(graph, port.tensor, max(1, wanted // hop), window=bool(window))
    rows = port.onnx_shape[axis]
    if bool(found.hops.windows) != bool(window) or window not in (0, rows):
        if not found.hops.windows:
            raise _cannot(f"--window {window}, though no layer needs the whole sequence", "no --window")
        raise _cannot(f"--window {window}", f"--window {rows}, as the model takes {rows} rows")
    if found.hops.rows[port.tensor].hop > rows:
        raise _cannot(
            f"a hop of {found.hops.rows[port.tensor].hop} of the model's {rows} rows", "a longer axis"
        )
    hops = found.hops
    _check_windows(graph, hops, port.tensor, rows)
    check_ends(graph, found, port.tensor)
    step = Step(graph, found)
    made = _with_ports(step.graph(), graph.inputs, graph.outputs, hops)
    flush, no_flush = None, ""
    try:
        flush = flush_graph(graph, found, port.tensor, step)
    except NoFlush as why:
        no_flush = str(why)
    if flush is not None:
        flush = _with_ports(flush, (), flush.outputs, hops)
    outputs = tuple(_output(graph, out, hops, flush) for out in graph.outputs)
    streaming = Streaming(port.onnx_name, axis, hops.rows[port.tensor].hop, rows, window, outputs, no_flush)
    return Streamed(made, flush, streaming, hops)


def _check_windows(graph: Graph, hops: Hops, streamed: str, rows: int) -> None:
    """After as many rows as the model takes, windows must hold just the rows that they have in the model."""
    hop = hops.rows[streamed].hop
    for name in sorted(hops.windows):
        own, needed = hops.rows[name], graph.tensors[name].shape[0]
        if rows % hop or rows // hop * own.hop != needed:
            given = f"gets {own.hop} a hop of {hop}, of the {rows} that the model takes"
            what = f'the window of {needed} rows of "{printable(name, 60)}" {given}'
            raise _cannot(what, f"a hop that divides {rows}, or a model of other length or padding")


def _asked(graph: Graph, asked: str) -> tuple[Port, int, int]:
    """The port, the axis of its ONNX shape, and rows of a hop (0: as few as can be)."""
    inputs = {port.onnx_name: port for port in graph.inputs}
    found = axis_asked(asked, inputs)
    if found is None:
        if named := next((name for name in (asked, asked.partition(":")[0]) if name in inputs), None):
            shape = list(inputs[named].onnx_shape)
            hint = f"{printable(named, 60)}:AXIS, the number from 0 of the axis of {shape} that is time"
            raise _cannot(f'"{printable(asked)}" is not INPUT:AXIS', hint)
        guess = did_you_mean(asked.partition(":")[0], inputs)
        shown = ", ".join(printable(known, 60) for known in list(inputs)[:20])
        raise _cannot(f'"{printable(asked)}" is not INPUT:AXIS', f"{guess}an axis of: {shown}")
    name, axis, rows = found
    if rows == 0:
        raise _cannot("a hop of 0 rows", "no number of rows for as few as can be")
    port = inputs[name]
    if axis >= len(port.onnx_shape) or port.onnx_shape[axis] == 1:
        shape = list(port.onnx_shape)
        raise _cannot(
            f'input "{printable(name)}" of {shape} has no axis {axis} to stream', "its axis of time"
        )
    assert port.axes[axis] == 0, "whoever imports a model to be streamed has time outermost"
    return port, axis, rows or 0


def _output(graph: Graph, port: Port, hops: Hops, flush: Graph | None) -> StreamedOutput:
    rows = hops.rows.get(port.tensor)
    if rows is None:
        return StreamedOutput(port.onnx_name, 0, 0, 0, 0)
    axis = _time_axis(port)
    ends = flush is not None and port.tensor in flush.output_names
    tail = flush.tensors[port.tensor].shape[0] if flush is not None and ends else 0
    return StreamedOutput(port.onnx_name, axis, port.onnx_shape[axis], rows.hop, rows.lag, tail)


def _time_axis(port: Port) -> int:
    return port.axes.index(0) if 0 in port.axes else 0


def _with_ports(made: Graph, inputs: Iterable[Port], outputs: Iterable[Port], hops: Hops) -> Graph:
    """A graph with ports of the whole, of which those of time have the rows of the graph's tensors."""
    return replace(
        made,
        inputs=tuple(_port(port, made, hops) for port in inputs),
        outputs=tuple(_port(port, made, hops) for port in outputs),
    )


def _port(port: Port, made: Graph, hops: Hops) -> Port:
    if port.tensor not in hops.rows:
        return port
    rows = made.tensors[port.tensor].shape[0]
    axis = _time_axis(port)
    shape = tuple(rows if k == axis else extent for k, extent in enumerate(port.onnx_shape))
    axes = tuple(0 if k == axis else at for k, at in enumerate(port.axes))
    return replace(port, onnx_shape=shape, axes=axes)


def _cannot(what: str, hint: str) -> CompileError:
    return CompileError("MM114", f"--stream: {what}", exit=Exit.USAGE, hint=hint)
