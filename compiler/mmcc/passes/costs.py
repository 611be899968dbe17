"""What a model became that it did not say: float where it is quantized. One sentence each."""

from __future__ import annotations

from mmcc.ir.graph import DType, Graph, Node
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.movement import Reshape
from mmcc.ops.quantize import Dequantize, DequantizeConstant, Quantize

QUANTIZING = (Quantize, Dequantize, DequantizeConstant)
IN_INTEGERS = (ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat)  # though their results are float


def costs(model: Graph, done: Graph) -> tuple[str, ...]:
    """What differs, to the user's cost, between a model as it was read and after all passes."""
    return tuple(_float_nodes(model, done))


def _float_nodes(model: Graph, done: Graph) -> list[str]:
    """One sentence for each node that computes in float in a model that is quantized."""
    if not any(isinstance(node.op, QUANTIZING) for node in model.nodes):
        return []
    warnings: list[str] = []
    for node in done.nodes:
        names = [*done.activations(node), node.output]
        floats = [done.tensors[name] for name in names if done.tensors[name].dtype is DType.F32]
        if floats and not isinstance(node.op, (*QUANTIZING, *IN_INTEGERS, Reshape)):
            place = str(node.where[0]) if node.where else f"%{node.output}"
            reason = done.reasons.get(node.output) or _reason(done, node)
            size = sum(tensor.bytes for tensor in floats)
            text = f"{node.op} is computed in float, since {reason}; its float tensors take {size:,} bytes"
            warnings.append(f"{place}: {text}")
    return warnings


def _reason(graph: Graph, node: Node) -> str:
    """Why a node that no Quantize reads directly is float."""
    sources = [graph.producer.get(name) for name in graph.activations(node)]
    if not any(source is not None and isinstance(source.op, Dequantize) for source in sources):
        return "its input is float"
    readers = graph.consumers[node.output]
    if not readers or not all(isinstance(reader.op, Quantize) for reader in readers):
        return "the model does not quantize its output"
    return f"there is no integer form of {node.op}"
