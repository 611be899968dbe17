# SPDX-License-Identifier: Apache-2.0
"""No part of a model becomes float or larger than its file without a line that names it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from mmcc.driver.handoff import hand_off
from mmcc.driver.handoff_file import Rule
from mmcc.frontend import import_model
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.handoff import Handoff
from mmcc.ir.traits import Alias
from mmcc.passes import optimize
from onnx import TensorProto, helper, numpy_helper
from ort_models import LAYERS, Model

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(11)
TABLES = {"Lookup": 256, "SoftmaxInt8": 1024}  # bytes that are the compiler's own
BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16}


def tensor(name: str, data: np.ndarray, kind: int) -> onnx.TensorProto:
    if kind == TensorProto.FLOAT16:
        return numpy_helper.from_array(data.astype(np.float16), name)
    if kind in (TensorProto.INT4, TensorProto.UINT4, TensorProto.BFLOAT16):
        return helper.make_tensor(name, kind, data.shape, data.reshape(-1).tolist())
    return numpy_helper.from_array(data.astype(helper.tensor_dtype_to_np_dtype(kind)), name)


def weight_only(kind: int, layer: str, scales: str) -> onnx.ModelProto:
    """Float activations; weights of a narrow type, unpacked by DequantizeLinear or Cast."""
    shape, axis = {"Gemm": ((24, 32), 0), "MatMul": ((32, 24), 1), "Conv": ((8, 6, 3, 3), 0)}[layer]
    x = (1, 6, 9, 9) if layer == "Conv" else (1, 32)
    low, high = (0, 16) if kind in (TensorProto.UINT4, TensorProto.UINT8) else (-8, 8)
    data = RNG.integers(low, high, shape)
    initializers = [tensor("w", data, kind)]
    if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        nodes = [helper.make_node("Cast", ["w"], ["real"], name="unpack", to=TensorProto.FLOAT)]
    else:
        block = 8 if scales == "blocked" else 0
        counts = {"one": (), "each": (shape[axis],), "other": (shape[1 - axis],)}.get(scales)
        along = {"each": axis, "other": 1 - axis}.get(scales, 1)
        if block:
            counts = tuple(n // block if k == 1 else n for k, n in enumerate(shape))
        initializers.append(tensor("s", np.abs(RNG.normal(0.1, 0.01, counts)), TensorProto.FLOAT))
        more = {"axis": along, **({"block_size": block} if block else {})} if counts else {}
        nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["real"], name="unpack", **more)]
    attributes = {"transB": 1} if layer == "Gemm" else {}
    nodes.append(helper.make_node(layer, ["x", "real"], ["y"], name="layer", **attributes))
    return made(nodes, initializers, x)


def made(nodes: list, initializers: list, x: tuple[int, ...]) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", ports, out, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def file_bytes(model: onnx.ModelProto) -> int:
    """Counted here a second time: elements times bits."""
    total = 0
    for proto in model.graph.initializer:
        bits = BITS.get(proto.data_type) or 8 * helper.tensor_dtype_to_np_dtype(proto.data_type).itemsize
        total += -(-int(np.prod(proto.dims)) * bits // 8)
    return total


def check(model: onnx.ModelProto, graph: Graph) -> None:
    """Flash beyond the file, and what some numbers for each channel take, has lines; so has all float."""
    flash = sum(data.nbytes for data in graph.constants.values())
    usual = 0
    for node in graph.nodes:
        channels = graph.tensors[node.output].shape[-1]
        usual += TABLES.get(type(node.op).__name__, 0) + 20 * channels
    said = [line for line in graph.warnings if "in flash" in line]
    assert said or flash <= file_bytes(model) + usual, (flash, file_bytes(model), usual)
    quantized = any("QuantizeLinear" in node.op_type for node in model.graph.node)
    for node in graph.nodes:
        operands = [graph.tensors[name] for name in (*graph.activations(node), node.output)]
        computes = type(node.op).__name__ not in ("Quantize", "Dequantize", "Reshape")
        if quantized and computes and all(t.dtype == ElementType.F32 for t in operands):
            named = [line for line in graph.warnings if str(node.where[0]) in line]
            assert any("computed in float" in line for line in named), (str(node.op), graph.warnings)


SCALES = ("one", "each", "other", "blocked")
NARROW = [TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4]


@pytest.mark.parametrize(
    ("layer", "scales"),
    [pair for pair in product(("Gemm", "MatMul", "Conv"), SCALES) if pair != ("Conv", "blocked")],
)
@pytest.mark.parametrize("kind", NARROW, ids=[onnx.TensorProto.DataType.Name(kind) for kind in NARROW])
def test_weights_of_few_bits(kind: int, scales: str, layer: str, tmp_path: Path) -> None:
    keep_and_check(weight_only(kind, layer, scales), tmp_path)


@pytest.mark.parametrize("layers", [1, 3])
def test_scales_that_are_found_while_a_model_runs_have_one_line(layers: int, tmp_path: Path) -> None:
    """quantize_dynamic leaves a dozen nodes of scalars before each product: they had a line each."""
    nodes, given = [], []
    for k in range(layers):
        x, y = "x" if k == 0 else f"y{k - 1}", "y" if k == layers - 1 else f"y{k}"
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [x], [f"q{k}", f"s{k}", f"z{k}"]),
            helper.make_node("MatMulInteger", [f"q{k}", f"w{k}", f"z{k}"], [f"i{k}"]),
            helper.make_node("Cast", [f"i{k}"], [f"f{k}"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"f{k}", f"s{k}"], [y]),
        ]
        given.append(numpy_helper.from_array(RNG.integers(-9, 9, (8, 8)).astype(np.int8), f"w{k}"))
    path = tmp_path / "model.onnx"
    onnx.save(made(nodes, given, (3, 8)), path)
    graph = optimize(import_model(path))
    (line,) = graph.warnings
    assert "scales are found while the model runs" in line
    floats = 0
    for node in graph.nodes:
        types = {graph.tensors[name].dtype for name in (*graph.activations(node), *node.outputs)}
        same = node.op.traits.converts or node.op.traits.alias is Alias.SAME
        floats += ElementType.F32 in types and not same
    assert f" {floats} nodes of it are computed in float" in line


@pytest.mark.parametrize("layer", ["Gemm", "MatMul", "Conv"])
def test_bfloat16_weights_become_float32(layer: str, tmp_path: Path) -> None:
    graph = keep_and_check(weight_only(TensorProto.BFLOAT16, layer, "none"), tmp_path)
    (line,) = graph.warnings
    assert "16-bit floats are kept as float32" in line
    assert '"layer"' in line


@pytest.mark.parametrize("layer", ["Gemm", "MatMul", "Conv"])
def test_float16_weights_stay(layer: str, tmp_path: Path) -> None:
    model = weight_only(TensorProto.FLOAT16, layer, "none")
    graph = keep_and_check(model, tmp_path)
    (node,) = [node for node in graph.nodes if len(node.inputs) > 1]
    assert graph.tensors[node.inputs[1]].dtype == ElementType.F16
    assert graph.constants[node.inputs[1]].nbytes == file_bytes(model)
    assert not graph.warnings


def test_float16_weights_that_folding_changes_become_float32(tmp_path: Path) -> None:
    """What BatchNormalization's factors make of them is no float16; the line says what it costs."""
    model = weight_only(TensorProto.FLOAT16, "Conv", "none")
    scales = [numpy_helper.from_array(RNG.uniform(0.5, 2, 8).astype(np.float32), name) for name in "abcd"]
    model.graph.node[-1].output[0] = "sum"
    model.graph.node.append(helper.make_node("BatchNormalization", ["sum", *"abcd"], ["y"], name="norm"))
    model.graph.initializer.extend(scales)
    graph = keep_and_check(model, tmp_path)
    assert ElementType.F16 not in {tensor.dtype for tensor in graph.tensors.values()}
    (line,) = graph.warnings
    assert "FLOAT16" in line
    assert "16-bit floats are kept as float32" in line


def test_float16_weights_that_others_read_become_float32(tmp_path: Path) -> None:
    """Functions of the user's, and training; a line says what it costs."""
    model = weight_only(TensorProto.FLOAT16, "Gemm", "none")
    onnx.save(model, tmp_path / "m.onnx")
    rule = Rule(Handoff("theirs"), ("Gemm",), (), (), 256)
    for wide in (rule.takes, lambda _: True):
        graph = optimize(import_model(tmp_path / "m.onnx"), wide=wide)
        assert {data.dtype for data in graph.constants.values()} == {np.dtype(np.float32)}
        (line,) = graph.warnings
        assert "16-bit floats are kept as float32" in line
    (handed,) = hand_off([optimize(import_model(tmp_path / "m.onnx"), wide=rule.takes)], [rule], "p")
    assert handed.nodes[-1].handoff is not None


def test_a_table_that_a_function_of_the_users_reads_is_float32(tmp_path: Path) -> None:
    table = numpy_helper.from_array(RNG.normal(size=(9, 6)).astype(np.float16), "table")
    nodes = [helper.make_node("Cast", ["table"], ["wide"], to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("Gather", ["wide", "x"], ["y"], name="taken"))
    model = made(nodes, [table], (4,))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    onnx.save(model, tmp_path / "m.onnx")
    rule = Rule(Handoff("theirs"), ("Gather",), (), (), 256)
    (graph,) = hand_off([optimize(import_model(tmp_path / "m.onnx"), wide=rule.takes)], [rule], "p")
    (node,) = graph.nodes
    assert node.handoff is not None
    assert {data.dtype for data in graph.constants.values()} == {np.dtype(np.float32)}


def test_a_table_in_float16_stays(tmp_path: Path) -> None:
    """Lines that Gather takes are widened behind, or not at all where the model wants them in float16."""
    table = numpy_helper.from_array(RNG.normal(size=(9, 6)).astype(np.float16), "table")
    for wanted in (TensorProto.FLOAT, TensorProto.FLOAT16):
        nodes = [helper.make_node("Gather", ["table", "x"], ["taken"], name="taken")]
        nodes.append(helper.make_node("Cast", ["taken"], ["y"], to=wanted))
        model = made(nodes, [table], (4,))
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
        model.graph.output[0].type.tensor_type.elem_type = wanted
        graph = keep_and_check(model, tmp_path)
        assert [data.nbytes for data in graph.constants.values()] == [9 * 6 * 2]
        assert len(graph.nodes) == (2 if wanted == TensorProto.FLOAT else 1)


def keep_and_check(model: onnx.ModelProto, folder: Path) -> Graph:
    onnx.save(model, path := folder / "m.onnx")
    graph = optimize(import_model(path))
    check(model, graph)
    return graph


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("dtypes", [(np.int8, np.int8), (np.uint8, np.uint8), (np.uint8, np.int8)])
def test_layers_between_quantized_values(make: Callable[[Model], str], dtypes: tuple, tmp_path: Path) -> None:
    for seed in range(4):
        m = Model(np.random.default_rng(seed), *dtypes)
        m.write(make(m), path := tmp_path / "m.onnx")
        check(onnx.load(path), optimize(import_model(path)))


@pytest.mark.parametrize("outputs", [4, 100])
def test_weights_of_four_bits_between_quantized_values(outputs: int, tmp_path: Path) -> None:
    """Integers all the way, and still one to a byte: said of the smallest layer too."""
    quant = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize")]
    nodes = [
        *quant,
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="unpack x"),
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"], name="unpack w"),
        helper.make_node("MatMul", ["d", "real"], ["m"], name="layer"),
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["p"], name="requantize"),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"], name="unpack y"),
    ]
    initializers = [
        tensor("w", RNG.integers(-8, 8, (32, outputs)), TensorProto.INT4),
        tensor("s", np.array(0.05), TensorProto.FLOAT),
        tensor("z", np.array(3), TensorProto.INT8),
    ]
    graph = keep_and_check(made(nodes, initializers, (1, 32)), tmp_path)
    assert [type(node.op).__name__ for node in graph.nodes] == ["DenseInt8"]
    (line,) = graph.warnings
    assert "integers of 4 bits are kept one to a byte" in line


def test_a_constant_that_is_repeated_is_named(tmp_path: Path) -> None:
    """A vector along columns, which kernels read for each channel."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Greater", ["c", "v"], ["g"], name="compare"),
        helper.make_node("Where", ["g", "c", "v"], ["y"], name="choose"),
    ]
    w, v = RNG.normal(0, 1, (8, 6, 3, 3)), RNG.normal(0, 1, (7, 1))
    initializers = [tensor("w", w, TensorProto.FLOAT), tensor("v", v, TensorProto.FLOAT)]
    graph = keep_and_check(made(nodes, initializers, (1, 6, 9, 9)), tmp_path)
    assert all("28 bytes in the file" in line for line in graph.warnings)
