# SPDX-License-Identifier: Apache-2.0
"""Which constants of a graph are parameters, and which of them are to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit, Where, did_you_mean, printable
from mmcc.frontend.absent import IS_ABSENT
from mmcc.ir.graph import Graph, Node
from mmcc.ir.traits import Moves
from mmcc.ops.batch_norm import BatchNorm
from mmcc.ops.elementwise import Binary
from mmcc.ops.indexing import TakeLines
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.layers import FloatLayer
from mmcc.ops.matmul import MatMul
from mmcc.ops.movement import Concat
from mmcc.ops.recurrent import Recurrent

AUTO = "auto"  # as many of the last layers as fit
SHOWN = 12  # parameters that an error lists
LONGEST = 1000  # characters of a name that it shows: as many as models have
MASK = (
    -100.0
)  # what is added to scores so that a Softmax makes 0 of them: from Swin's, this, down to -infinity

ANGLES_FAR = 1e-2  # from 1, of squares of cosines and sines that files may have in 16 bits

BETWEEN = 0.3, 0.95  # where cosines and sines of some angle are both

# ONNX's operators whose constants are a formula's, and none of the model's
FORMULAS = frozenset(
    (
        *("AffineGrid", "Col2Im", "DFT", "Det", "GridSample", "NegativeLogLikelihoodLoss", "RoiAlign"),
        *("RotaryEmbedding", "STFT", "SoftmaxCrossEntropyLoss"),
    )
)
OWN_LAYERS = frozenset(("DeformConv",))  # whose constants are a formula's, but for those of their layers
PRODUCTS = frozenset(("Einsum", "MatMul"))
RECURRENT = frozenset(("GRU", "LSTM", "RNN"))  # one layer each, of several nodes


@dataclass(frozen=True, slots=True)
class Parameter:
    """A constant that training may change. `node` is the number of the first node of its layer."""

    name: str
    node: int
    bias: bool


def parameters(graph: Graph) -> tuple[Parameter, ...]:
    """Weights and biases of float layers, tables of embeddings, what is multiplied or added by element or
    channel, and tokens that are joined to others, in order.

    A bias that the model does not have is none. Nor is a single number, which belongs to a formula, a mask of
    scores, what else has infinities, cosines and sines of the same angles, what an operator is computed by
    (FORMULAS), or what is joined as padding (of one value) or as channels (coordinates).
    """
    found: dict[str, Parameter] = {}
    cells: dict[Where, int] = {}  # the first node of each recurrent layer
    for index, node in enumerate(graph.nodes):
        if _is_formula(node):
            continue
        cell = next((each for each in node.where if each.op in RECURRENT), None)
        first = index if cell is None else cells.setdefault(cell, index)
        for name, bias in _of_node(graph, node):
            if graph.is_constant(name) and graph.tensors[name].dtype.is_float and not _is_absent(graph, name):
                found.setdefault(name, Parameter(name, first, bias))
    return tuple(found.values())


def _are_angles(graph: Graph, name: str) -> bool:
    """Whether a constant has cosines or sines of angles, as rotary embeddings read them: those of the same
    angles are there, too, so that the squares of both add up to 1.

    A scale about 1 and a shift about 0 are none, nor are numbers that are 0 or 1.
    """
    mine, far = graph.constants.get(name), 1 + ANGLES_FAR
    if mine is None or mine.ndim < 2:
        return False

    def small(array: NDArray[Any]) -> bool:
        alike = array.shape == mine.shape and array.dtype == mine.dtype
        return alike and array.size > 0 and bool((np.abs(array) <= far).all()) and not _is_uniform(array)

    low, high = BETWEEN
    if not small(mine) or not ((np.abs(mine) > low) & (np.abs(mine) < high)).any():
        return False
    others = (x for key, x in graph.constants.items() if key != name and small(x))
    return any(bool((np.abs(mine * mine + x * x - 1) < ANGLES_FAR).all()) for x in others)


def _is_absent(graph: Graph, name: str) -> bool:
    """Whether a constant stands for one that the model does not have."""
    return IS_ABSENT.search(name) is not None and _is_uniform(graph.constants[name])


def _is_uniform(array: NDArray[Any]) -> bool:
    return bool((array == array.flat[0]).all())


def _is_formula(node: Node) -> bool:
    """Whether what a node computes by is no part of the model."""
    operators = {each.op for each in node.where}
    if not operators:
        return False
    return operators <= FORMULAS or (operators <= OWN_LAYERS and not isinstance(node.op, FloatLayer))


def _of_node(graph: Graph, node: Node) -> list[tuple[str, bool]]:
    if isinstance(node.op, FloatLayer):
        _, w, b = node.inputs
        return [(w, False), (b, True)]
    if isinstance(node.op, BatchNorm | LayerNorm):
        return [(name, k > 0) for k, name in enumerate(node.inputs[1:3])]
    if isinstance(node.op, Recurrent):
        found = [(node.inputs[1], False)]
        for operand in ("bias", "peepholes"):
            if (at := node.op.position(operand)) is not None:
                found.append((node.inputs[at], operand == "bias"))
        return found
    return [(name, False) for name in _tables(graph, node)] or _joined(graph, node)


def _tables(graph: Graph, node: Node) -> tuple[str, ...]:
    """A table whose lines are taken by number, and stacks of matrices: other operators multiply by what is no
    weight."""
    if isinstance(node.op, TakeLines):
        return () if _are_angles(graph, node.inputs[0]) else node.inputs[:1]
    if isinstance(node.op, MatMul) and any(each.op in PRODUCTS for each in node.where):
        return node.inputs
    return ()


def _joined(graph: Graph, node: Node) -> list[tuple[str, bool]]:
    """What is added, multiplied by, or joined to an activation."""
    sources = [_repeated(graph, name) for name in node.inputs] if isinstance(node.op, Binary) else node.inputs
    read = {name: graph.constants[name] for name in sources if graph.is_constant(name)}
    if isinstance(node.op, Binary) and node.op.function in ("add", "mul", "prelu"):
        adds = node.op.function == "add"
        several = {name: x for name, x in read.items() if x.size > 1 and np.isfinite(x).all()}
        fixed = {name for name, x in several.items() if (_masks(x) if adds else _are_angles(graph, name))}
        return [(name, adds) for name in several if name not in fixed]
    if isinstance(node.op, Concat):
        axis = node.op.axis
        return [(name, False) for name, array in read.items() if _is_token(array, axis)]
    return []


def _repeated(graph: Graph, name: str) -> str:
    """The constant that is repeated to a tensor, if it is one; else the tensor."""
    source = name
    while (made := graph.producer.get(source)) is not None and len(made.inputs) == 1:
        if made.op.traits.moves is not Moves.BY_PLACE:
            break
        source = made.inputs[0]
    return source if graph.is_constant(source) else name


def _masks(array: NDArray[Any]) -> bool:
    """Whether what is added hides some scores, and leaves others as they are."""
    return bool((array <= MASK).any() and (array == 0).any())


def _is_token(array: NDArray[Any], axis: int) -> bool:
    """Whether a constant that is joined along an axis is rows or columns of its own, as a class token."""
    return axis < array.ndim - 1 and not _is_uniform(array)


def layers_of(graph: Graph) -> int:
    """Layers that have parameters: the largest K of "last:K"."""
    return len({p.node for p in parameters(graph)})


def chosen(graph: Graph, update: str) -> tuple[str, ...]:
    """Names of the parameters that `update` says, in the order of the graph; CompileError MM117 if none."""
    known = parameters(graph)
    taken = _taken(known, update)
    if not taken:
        raise _nothing_named(known, update)
    return tuple(p.name for p in taken)


def _nothing_named(known: Sequence[Parameter], update: str) -> CompileError:
    """The error that says which names there are: whole, since a part of one names nothing."""
    missed = next((part for part in _patterns(update) if not any(_is_named(p, part) for p in known)), update)
    names = [p.name for p in known]
    shown = ", ".join(printable(name, LONGEST) for name in names[:SHOWN])
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    some = f"{did_you_mean(missed, names)}all, last:K, bias, or some of {shown}{more}"
    hint = some if known else "a model with float layers"
    what = f'--update "{printable(update, 80)}"'
    if missed.strip() == update.strip():
        what += " names no parameter of the model"
    else:
        what += f': "{printable(missed, LONGEST)}" names no parameter of the model'
    return CompileError("MM117", what, exit=Exit.USAGE, hint=hint)


def _taken(known: Sequence[Parameter], update: str) -> list[Parameter]:
    if update == "all":
        return list(known)
    if update == "bias":
        return [p for p in known if p.bias]
    if update.startswith("last:"):
        count = update.removeprefix("last:")
        if not count.isdigit() or int(count) < 1:
            return []
        layers = sorted({p.node for p in known})[-int(count) :]
        return [p for p in known if p.node in layers]
    patterns = _patterns(update)
    if any(not any(_is_named(p, pattern) for p in known) for pattern in patterns):
        return []
    return [p for p in known if any(_is_named(p, pattern) for pattern in patterns)]


def _patterns(update: str) -> list[str]:
    return [part.strip() for part in update.split(",") if part.strip()]


def _is_named(parameter: Parameter, pattern: str) -> bool:
    """By its name as it is, which may have brackets in it, or by a pattern."""
    return parameter.name == pattern or fnmatchcase(parameter.name, pattern)
