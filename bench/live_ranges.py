# SPDX-License-Identifier: Apache-2.0
"""Buffers and their lives in an inference and in a training step, and allocators of other systems.

These are the live ranges of a framework that runs node by node, keeps each tensor in a buffer of its own, and
never writes in place: what Sekiyama et al. 2018 (arXiv:1804.10001) place, and what TensorFlow, Chainer and
PyTorch allocate. Ours are shorter (fusion, overlap); here only the placement is compared.

**Inference.** Step k runs node k of the graph as it was imported, before any pass. A tensor lives from the
step that makes it (inputs: from the first) through the last that reads it (outputs: through the last step).
Of a quantized model the imported graph holds Dequantize and Quantize around every node; the graph of the
integer operators, after the passes, stands for it. A Reshape is a view: no bytes and no step.

**Training.** Of n nodes, step k < n is the forward step of node k, and step 2n - 1 - k its backward step: in
reversed order. An activation lives from its forward step through the last step that needs it: the forward
step of a reader, the backward step of a reader whose gradient needs its input, or of its own maker where that
needs its output (`needs`). A gradient is as large as its activation. It is born at the first backward step of
the tensor's readers (each adds its part), and dies at the backward step of its maker, which reads it. An
output's gradient is made of the output at step n. Inputs have no gradient. Weights, their gradients and the
optimizer's state live throughout in any scheme; they are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph, Node
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind
from mmcc.ir.regions import SRAM
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.matmul import MatMul
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePool
from mmcc.ops.quantize import DequantizeConstant
from mmcc.ops.reduce import Reduce
from mmcc.ops.resize import ResizeLinear, ResizeNearest
from mmcc.ops.softmax import Softmax

ALIGN = 4
INPUTS, OUTPUT = "inputs", "output"
NOTHING = frozenset[str]()

# Linear, without a weight that is learned.
LINEAR = (Concat, Expand, Gather, Pad, Slice, Transpose, AveragePool, ResizeLinear, ResizeNearest)
# The gradient of their weights needs the input.
LEARNED = (Conv, ConvTranspose, Dense, MatMul)
# By function. Relu and its kin keep the sign; sigmoid's derivative is y * (1 - y), and so on.
FROM_OUTPUT = {"clamp", "leaky_relu", "sigmoid", "tanh", "exp", "sqrt", "elu", "selu", "celu", "reciprocal"}
SUMS = {"add", "sub", "mean", "sum"}


def needs(node: Node) -> frozenset[str]:
    """What a node's backward step reads besides the gradient of its output: INPUTS, OUTPUT, both, or none.

    A product needs each factor for the other. Max pooling, normalization and whatever is not known here need
    both, as cuDNN has it.
    """
    op = node.op
    if isinstance(op, LINEAR) or (isinstance(op, Binary | Reduce) and op.function in SUMS):
        return NOTHING
    if isinstance(op, Softmax) or (isinstance(op, Unary) and op.function in FROM_OUTPUT):
        return frozenset((OUTPUT,))
    if isinstance(op, (*LEARNED, Unary, Binary)):
        return frozenset((INPUTS,))
    return frozenset((INPUTS, OUTPUT))


@dataclass(frozen=True, slots=True)
class _Step:
    """One node that runs, with tensors by the buffer they lie in."""

    node: Node
    reads: tuple[str, ...]
    output: str


def inference(graph: Graph) -> list[Buffer]:
    """One buffer a tensor, with the steps of one inference it lives in."""
    steps, inputs, outputs = _steps(graph)
    born = dict.fromkeys(inputs, 0) | {step.output: k for k, step in enumerate(steps)}
    dies = {name: at + 1 for name, at in born.items()}
    for k, step in enumerate(steps):
        for name in step.reads:
            dies[name] = k + 1
    dies |= dict.fromkeys(outputs, len(steps))
    return [_buffer(graph, name, name, born[name], dies[name]) for name in born]


def training(graph: Graph) -> list[Buffer]:
    """Buffers of activations and of their gradients, with the steps of one forward and backward pass."""
    steps, inputs, outputs = _steps(graph)
    n = len(steps)
    born = dict.fromkeys(inputs, 0) | {step.output: k for k, step in enumerate(steps)}
    dies = {name: at + 1 for name, at in born.items()}
    first: dict[str, int] = {}  # backward step that writes the gradient first
    for k, step in enumerate(steps):
        back, kept = 2 * n - 1 - k, needs(step.node)
        for name in step.reads:
            dies[name] = max(dies[name], (back if INPUTS in kept else k) + 1)
            first[name] = min(first.get(name, back), back)
        if OUTPUT in kept:
            dies[step.output] = max(dies[step.output], back + 1)
    for name in outputs:
        dies[name], first[name] = max(dies[name], n + 1), n
    found = [_buffer(graph, name, name, born[name], dies[name]) for name in born]
    found += [
        _buffer(graph, step.output, f"gradient of {step.output}", first[step.output], 2 * n - k)
        for k, step in enumerate(steps)
        if step.output in first
    ]
    return found


def _steps(graph: Graph) -> tuple[list[_Step], list[str], set[str]]:
    """The nodes that run, the inputs, and the outputs; a view is known by what it is a view of."""
    of = {name: name for name in graph.tensors}
    constant = set(graph.constants)
    steps: list[_Step] = []
    for node in graph.nodes:
        reads = [of[name] for name in node.inputs if name not in constant]
        if not reads or isinstance(node.op, DequantizeConstant):
            constant.add(node.output)
        elif isinstance(node.op, Reshape):
            of[node.output] = reads[0]
        else:
            steps.append(_Step(node, tuple(dict.fromkeys(reads)), node.output))
    outputs = {of[port.tensor] for port in graph.outputs if port.tensor not in constant}
    return steps, sorted(graph.input_names), outputs


def _buffer(graph: Graph, tensor: str, name: str, lo: int, hi: int) -> Buffer:
    size = -(-graph.tensors[tensor].bytes // ALIGN) * ALIGN
    return Buffer(name, BufferKind.TENSOR, size, Span(lo, hi), (SRAM,), align=ALIGN)


def no_reuse(buffers: Iterable[Buffer]) -> int:
    """Bytes if every buffer has its own."""
    return sum(buffer.size for buffer in buffers)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Bytes [lo, hi) of one block that the pool once took from the device."""

    block: int
    lo: int
    hi: int


def pooled(buffers: Sequence[Buffer]) -> int:
    """Bytes that a pool takes from the device, as those of Chainer and CuPy do.

    Buffers come and go as the program runs; what the future needs is not known, and nothing moves. A request
    takes a free chunk of exactly its size, else the smallest larger one, of which the rest stays free; if
    there is none, a new block of its size. Freed chunks are joined with free neighbours of their block, and
    never given back. (CuPy rounds sizes up to 512 bytes; here they are not, in the pool's favour.)
    """
    free: list[_Chunk] = []
    used: dict[str, _Chunk] = {}
    blocks: list[int] = []
    for step in sorted({b.live.lo for b in buffers}):
        for buffer in buffers:
            if buffer.name in used and buffer.live.hi <= step:
                free = _joined([*free, used.pop(buffer.name)])
        for buffer in buffers:
            if buffer.live.lo != step or not buffer.size:
                continue
            fits = [c for c in free if c.hi - c.lo >= buffer.size]
            if fits:
                chunk = min(fits, key=lambda c: (c.hi - c.lo, c.block, c.lo))
                free.remove(chunk)
            else:
                chunk = _Chunk(len(blocks), 0, buffer.size)
                blocks.append(buffer.size)
            end = chunk.lo + buffer.size
            used[buffer.name] = replace(chunk, hi=end)
            if end < chunk.hi:
                free.append(replace(chunk, lo=end))
    return sum(blocks)


def _joined(chunks: list[_Chunk]) -> list[_Chunk]:
    """Neighbours in one block made one chunk."""
    found: list[_Chunk] = []
    for chunk in sorted(chunks, key=lambda c: (c.block, c.lo)):
        if found and found[-1].block == chunk.block and found[-1].hi == chunk.lo:
            found[-1] = replace(found[-1], hi=chunk.hi)
        else:
            found.append(chunk)
    return found
