# SPDX-License-Identifier: Apache-2.0
"""Is the backward part of an imported step one of a gradient alone?

A gradient of a parameter is linear in that of the loss. So every operator between the two must be linear in
what comes from the loss, whatever its other operands are. A bound, a norm, or a share of the weights that is
added is not, however little it does to the one sample for which gradients are compared (`step_values.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnx import NodeProto, TensorProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.load import Source
from mmcc.frontend.problems import located, unsupported
from mmcc.frontend.schema import domain_of
from mmcc.frontend.step_graph import OF_A_SHAPE, StepGraph, attributes_of, unknown_operator
from mmcc.frontend.training_steps import HINT, writer_of

LOSS_GRADIENTS = ("SoftmaxCrossEntropyLossGrad", "SoftmaxCrossEntropyLossInternalGrad")
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_MOVED = (
    "Identity Cast Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Slice Split Gather GatherElements"
)
_SCALED = "GatherND Pad DepthToSpace SpaceToDepth Neg ReduceSum ReduceMean CumSum Scale Div Pow"
_BACKWARD = (
    "ReluGrad SigmoidGrad TanhGrad LeakyReluGrad MaxPoolGrad SoftmaxGrad SoftmaxGrad_13 LogSoftmaxGrad"
    " LogSoftmaxGrad_13 ConvGrad LayerNormalizationGrad AveragePoolGrad GeluGrad FastGeluGrad QuickGeluGrad"
    " BiasGeluGrad_dX BiasFastGeluGrad_dX DivGrad SliceGrad SplitTraining"
)
# linear in one operand, by its place
IN_ONE: Mapping[str, int] = {
    **dict.fromkeys(f"{_MOVED} {_SCALED} {_BACKWARD}".split(), 0),
    "GatherGrad": 2,
}
# linear in each of the first two, or of all; a third operand is added
PRODUCTS = frozenset({"Mul", "MatMul", "FusedMatMul", "Gemm", "Conv", "ConvTranspose"})
SUMS: Mapping[str, slice] = {
    "Add": slice(None),
    "Sub": slice(None),
    "Sum": slice(None),
    "Concat": slice(None),
    "ConcatTraining": slice(None),
    "Where": slice(1, None),
    "ScatterElements": slice(0, None, 2),
    "ScatterND": slice(0, None, 2),
}


def check_backward(
    source: Source, kind: str, loss: NodeProto, pair: tuple[str, str], gradients: Mapping[str, str]
) -> None:
    """CompileError MM202 unless all `gradients`, by parameter, come from the loss by linear operators.

    `loss` is the node that makes it, of the `kind` of a TrainingStep; `pair`, the scores and the label.
    """
    part = _Part(StepGraph(source), kind, loss, pair, gradients)
    needed = _needed(source, set(gradients.values()))
    for where, node in source.nodes:
        part.follow(where, node, checked=any(name in needed for name in node.output))
    for name, gradient in gradients.items():
        if gradient not in part.linear:
            what = f'a gradient of "{printable(name, 60)}" that does not come from the loss'
            raise unsupported(what, HINT)


def _needed(source: Source, wanted: set[str]) -> set[str]:
    """What gradients are made of."""
    for _, node in reversed(source.nodes):
        if wanted.intersection(node.output) and node.op_type not in OF_A_SHAPE:
            wanted.update(filter(None, node.input))
    return wanted


class _Part:
    """What is linear in the gradient of the loss, and what depends on the label or the loss otherwise."""

    def __init__(
        self, graph: StepGraph, kind: str, loss: NodeProto, pair: tuple[str, str], parameters: Collection[str]
    ) -> None:
        self._graph, self._kind, self._loss, self._pair = graph, kind, loss, pair
        self._fixed = dict.fromkeys(graph.source.initializers.keys() - set(parameters), True)
        self.linear = set[str]()
        self._labelled = {pair[1], loss.output[0]}

    def follow(self, where: Where, node: NodeProto, *, checked: bool) -> None:
        """Go on through a node; one that no gradient needs may be anything."""
        inputs, outputs = [name for name in node.input if name], [name for name in node.output if name]
        if node.op_type in OF_A_SHAPE:  # it is the same whatever the gradient is
            return
        known = node.op_type in IN_ONE or node.op_type in SUMS or node.op_type in LOSS_GRADIENTS
        foreign = bool(writer_of(domain_of(node), node.op_type)) and not known
        if foreign and checked:
            raise located(unknown_operator(node.op_type), where)
        if self._begins(where, node, checked=checked):
            self.linear.update(outputs)
        elif checked and self.linear.intersection(inputs):
            try:
                self._check(node)
            except CompileError as error:
                raise located(error, where) from None
            self.linear.update(outputs)
        elif self._labelled.intersection(inputs):
            self._labelled.update(outputs if node is not self._loss else outputs[:1])

    def _begins(self, where: Where, node: NodeProto, *, checked: bool) -> bool:
        """Is a node the gradient of the loss by what it is computed from?"""
        if self._kind == "mse":
            return node.op_type == "Sub" and set(node.input) == set(self._pair)
        if node.op_type not in LOSS_GRADIENTS or not checked:
            return False
        seed, *operands = node.input
        logs = self._loss.output[1] if len(self._loss.output) > 1 else ""
        extra = set(attributes_of(node)) - {"reduction"}
        mean = attributes_of(node).get("reduction", b"mean") == b"mean"
        if [name for name in operands if name] != [logs, self._pair[1]] or not mean or extra:
            what = f"a {node.op_type} that is not of the mean loss of all lines"
            raise located(unsupported(what, HINT), where)
        if not self._is_fixed(seed):
            what = f"a {node.op_type} that begins with something else than a constant"
            raise located(unsupported(what, HINT), where)
        return True

    def _is_fixed(self, name: str) -> bool:
        """Does a value depend on nothing but constants and shapes?"""
        if name and name not in self._fixed:
            _, node = self._graph.made.get(name, (None, None))
            shape = node is not None and node.op_type in OF_A_SHAPE
            self._fixed[name] = shape or (node is not None and all(map(self._is_fixed, node.input)))
        return not name or self._fixed[name]

    def _check(self, node: NodeProto) -> None:
        """An operator is linear in those operands that come from the loss."""
        inputs = list(node.input)
        linear = [name in self.linear for name in inputs]
        others = [name for name, one in zip(inputs, linear, strict=True) if not one]
        if self._labelled.intersection(others):
            raise _between(node, "by what the label or the loss says")
        if node.op_type in IN_ONE:
            if linear != [k == IN_ONE[node.op_type] for k in range(len(inputs))]:
                raise _between(node, "of gradients by gradients")
            self._check_settings(node, inputs)
        elif node.op_type in PRODUCTS:
            if linear[:2].count(True) != 1:
                raise _between(node, "of gradients by gradients")
            self._check_terms(node, inputs[2:])
        elif node.op_type in SUMS:
            terms = inputs[SUMS[node.op_type]]
            if any(one and name not in terms for name, one in zip(inputs, linear, strict=True)):
                raise _between(node)
            if attributes_of(node).get("reduction", b"none") not in (b"none", b"add"):
                raise _between(node)
            self._check_terms(node, terms)
        else:
            raise _between(node)

    def _check_terms(self, node: NodeProto, terms: list[str]) -> None:
        for name in filter(None, terms):
            if name not in self.linear and not self._graph.is_zero(name):
                raise _between(node, f'that adds "{printable(name, 60)}", which is no gradient of the loss,')

    def _check_settings(self, node: NodeProto, inputs: list[str]) -> None:
        attributes = attributes_of(node)
        if node.op_type == "Cast" and attributes["to"] not in FLOATS:
            raise _between(node, "to integers")
        if node.op_type == "Pow" and self._graph.number(inputs[1]) != 1:
            raise _between(node)
        if node.op_type == "Pad":
            filled = inputs[2] if len(inputs) > 2 else ""
            if attributes.get("value") or (filled and not self._graph.is_zero(filled)):
                raise _between(node, "with other values than 0")


def _between(node: NodeProto, how: str = "") -> CompileError:
    what = " ".join(filter(None, (printable(node.op_type), how)))
    return unsupported(f"{what} between the gradient of the loss and that of a parameter", HINT)
