# SPDX-License-Identifier: Apache-2.0
"""No attribute is passed over in silence: what a node sets is read, refused, or known to change nothing.

The nodes are ONNX's own test cases. Each attribute of each of them, set or not, is given another value: then
the graph must be another, or the model must be refused.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from frontend_models import check, model_of, save
from graphs import run
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.converters.elementwise import BINARY
from mmcc.frontend.registry import NOTES, REGISTRY
from mmcc.frontend.schema import domain_of
from mmcc.ir.verify import check_final
from mmcc.passes import optimize
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

CASES_OF_EACH = 60  # of an operator's cases, those that are tried
WORDS = {  # texts that attributes may hold
    "auto_pad": ("SAME_UPPER", "VALID"),
    "mode": ("CRD", "DCR", "linear", "nearest", "cubic", "reflect", "constant"),
    "coordinate_transformation_mode": ("asymmetric", "align_corners"),
    "nearest_mode": ("floor", "ceil"),
    "approximate": ("tanh", "none"),
    "keep_aspect_ratio_policy": ("not_larger", "not_smaller"),
    "direction": ("LEFT", "RIGHT"),
}
# (operator, attribute): why another value may leave the graph as it is
WITHOUT_EFFECT = {
    ("BatchNormalization", "momentum"): "of training",
    ("Dropout", "ratio"): "of training",
    ("Dropout", "seed"): "of training",
    ("Dropout", "is_test"): "of training",
    ("DequantizeLinear", "axis"): "one scale for all",
    ("QuantizeLinear", "axis"): "one scale for all",
    ("DequantizeLinear", "block_size"): "one scale for all",
    ("QuantizeLinear", "block_size"): "one scale for all",
    ("QuantizeLinear", "saturate"): "of float8 only",
    ("Cast", "saturate"): "of float8 only",
    ("CastLike", "saturate"): "of float8 only",
    **{(f"TreeEnsemble{kind}", "nodes_hitrates"): "of training" for kind in ("", "Regressor", "Classifier")},
    **{
        (f"TreeEnsemble{kind}", "nodes_hitrates_as_tensor"): "of training"
        for kind in ("Regressor", "Classifier")
    },
    ("TreeEnsemble", "aggregate_function"): "ONNX's cases have one tree, whose mean is its sum",
    ("LpPool", "ceil_mode"): "ONNX's cases divide evenly; AveragePool's do not, and the code is one",
    ("MaxPool", "storage_order"): "of Indices only",
    **dict.fromkeys(
        ((op, "output_sequence") for op in ("RNN", "GRU", "LSTM", "DynamicQuantizeLSTM")),
        "Y is there where it is read",
    ),
    ("TopK", "sorted"): "any order is right where it is 0, the sorted one too",
    **dict.fromkeys(((op, "broadcast") for op in BINARY), "of equal shapes; others have a test of their own"),
}


def cases_by_operator() -> dict[str, list[tuple[NodeProto, onnx.ModelProto, list[np.ndarray]]]]:
    """Models of one node of a supported operator, with their inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found: dict[str, list[tuple[NodeProto, onnx.ModelProto, list[np.ndarray]]]] = {}
        for case in collect_testcases():
            nodes = case.model.graph.node
            if len(nodes) != 1 or (domain_of(nodes[0]), nodes[0].op_type) not in REGISTRY:
                continue
            inputs = case.data_sets[0][0]
            if all(isinstance(array, np.ndarray) and array.dtype.kind in "fiub" for array in inputs):
                found.setdefault(nodes[0].op_type, []).append((nodes[0], case.model, list(inputs)))
    return found


CASES = cases_by_operator()


def frozen(model: onnx.ModelProto, inputs: list[np.ndarray]) -> onnx.ModelProto:
    """The model with all but its first input constant, as exporters write it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    names = [info.name for info in model.graph.input]
    del made.graph.input[1:]
    for name, array in list(zip(names, inputs, strict=True))[1:]:
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


def digest(model: onnx.ModelProto, folder) -> str | None:
    """All that the importer makes of a model; None if it refuses it."""
    try:
        graph = import_model(save(model, folder))
    except CompileError:
        return None
    constants = [(name, array.tobytes()) for name, array in sorted(graph.constants.items())]
    nodes = [(repr(node.op), node.inputs, node.outputs) for node in graph.nodes]
    return f"{nodes}{graph.tensors}{graph.inputs}{graph.outputs}{constants}"


def other_values(name: str, given: AttributeProto | None, kind: int, rank: int) -> list[AttributeProto]:
    """Valid values of an attribute other than the one it has."""
    old = helper.get_attribute_value(given) if given is not None and given.type else None
    if name == "output_dtype":
        values = [TensorProto.FLOAT16]
    elif kind == AttributeProto.INT:
        values = [1 - old] if old in (0, 1) else [(old or 0) + 1, (old or 0) - 1]
    elif kind == AttributeProto.FLOAT:
        values = [(old or 0.0) * 1.5 + 0.25]
    elif kind == AttributeProto.STRING:
        values = [word for word in WORDS.get(name, ()) if word.encode() != old]
        values.append("no such word")
    elif kind == AttributeProto.INTS:
        values = [[n + 1 for n in old], list(reversed(old))] if old else [[1] * rank, [2] * rank]
    else:
        return []
    return [helper.make_attribute(name, value) for value in values if value != old]


def schemas(op: str, domain: str) -> list[onnx.defs.OpSchema]:
    """The operator as each version of the operator set that changed it has it."""
    every = onnx.defs.get_all_schemas_with_history()
    found = [schema for schema in every if (schema.name, schema.domain) == (op, domain)]
    return sorted(found, key=lambda schema: schema.since_version)


def of_version(model: onnx.ModelProto, domain: str, version: int) -> onnx.ModelProto:
    """The model under another version of the operator set that its node is of."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for entry in made.opset_import:
        if entry.domain.removeprefix("ai.onnx") == domain:
            entry.version = version
    return made


def told(base: onnx.ModelProto, before: str, value: AttributeProto, folder) -> bool:
    """True if the importer makes something else of the model with another value of an attribute."""
    mutant = onnx.ModelProto()
    mutant.CopyFrom(base)
    kept = [a for a in mutant.graph.node[0].attribute if a.name != value.name]
    del mutant.graph.node[0].attribute[:]
    mutant.graph.node[0].attribute.extend([*kept, value])
    return digest(mutant, folder) != before


@pytest.mark.quick
@pytest.mark.parametrize("op", sorted(CASES))
def test_another_value_is_another_graph_or_an_error(op, tmp_path):
    tried: dict[tuple[int, str], bool] = {}
    for node, model, inputs in CASES[op][:CASES_OF_EACH]:
        for schema in schemas(op, domain_of(node)):
            base = of_version(frozen(model, inputs), domain_of(node), schema.since_version)
            before = digest(base, tmp_path)
            if before is None:
                continue
            set_here = {attribute.name: attribute for attribute in node.attribute}
            for name, described in schema.attributes.items():
                given = set_here.get(name) or described.default_value
                rank = max(1, inputs[0].ndim - 2) if inputs else 1
                key = schema.since_version, name
                for value in other_values(name, given, described.type.value, rank):
                    tried[key] = tried.get(key, False) or told(base, before, value, tmp_path)
    silent = {key for key, heard in tried.items() if not heard}
    silent -= {key for key in silent if (op, key[1]) in WITHOUT_EFFECT or key[1] in NOTES}
    assert not silent, f"{op}: {sorted(silent)} (since version, attribute) can be anything"


@pytest.mark.parametrize("op", ["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Sub", "Xor"])
def test_before_operator_set_7_an_attribute_allows_broadcasting(op, tmp_path):
    dtype = bool if op in ("And", "Or", "Xor") else np.int32 if op == "Equal" else np.float32
    x, row = np.zeros((2, 3, 4, 5), dtype), {"b": np.ones(5, dtype)}
    assert one_node(op, x, tmp_path, row, opset=6, broadcast=1).outputs[0].onnx_shape == x.shape
    with pytest.raises(CompileError, match="differ without broadcast=1"):
        one_node(op, x, tmp_path, row, opset=6)


def test_what_is_passed_over_is_on_the_list():
    """`ignored=` of a converter is for attributes of training and the like: each has its reason here."""
    ignored = {(op, name) for (_, op), entry in REGISTRY.items() for name in entry.ignored - NOTES}
    assert ignored <= set(WITHOUT_EFFECT)


def test_an_attribute_that_nobody_reads_is_named(tmp_path):
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft", flavour="dark")
    x = np.zeros((1, 4), np.float32)
    with pytest.raises(CompileError, match="attribute flavour of Gelu") as caught:
        import_model(save(model_of([node], {"x": x}, ["y"], microsoft=True), tmp_path))
    assert caught.value.code == "MM202"


def one_node(op, x, tmp_path, constants=None, opset=21, **attributes):
    names = ["x", *(constants or {})]
    node = helper.make_node(op, names, ["y"], **attributes)
    return import_model(save(model_of([node], {"x": x}, ["y"], constants, opset=opset, ir=10), tmp_path))


@pytest.mark.parametrize("op", ["Identity", "Flatten", "Transpose", "Clip", "Relu"])
def test_an_int8_input_that_is_only_moved_means_itself(op, tmp_path):
    graph = optimize(one_node(op, np.zeros((1, 3, 4, 4), np.int8), tmp_path))
    assert check_final(graph) == []
    assert {graph.tensors[port.tensor].quant.scale for port in (*graph.inputs, *graph.outputs)} == {1.0}


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_quantizing_to_four_bits_saturates_there(kind, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [onnx.ValueInfoProto(name="y")],
        [helper.make_tensor("s", TensorProto.FLOAT, [], [0.5]), helper.make_tensor("z", kind, [], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = np.array([[-100, -0.8, 0.74, 100]], np.float32)
    (got,) = run(import_model(save(model, tmp_path)), x)
    ends = (-8, 7) if kind == TensorProto.INT4 else (0, 15)
    assert got.astype(int).tolist() == [[ends[0], max(-1, ends[0]), 2, ends[1]]]


@pytest.mark.parametrize("elements", [0, 1])
@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_an_input_without_elements_still_has_a_type(kind, elements, tmp_path):
    """What becomes like it keeps its low bits; as the byte that holds it, negatives would become 0."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("CastLike", ["x", "like"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, [1, 4]), info("like", kind, [elements])],
        [onnx.ValueInfoProto(name="y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    inputs = [np.array([[-9, -1, 7, 17]], np.float32)] + [np.zeros(1, np.uint8)] * elements
    (got,) = run(import_model(save(model, tmp_path)), *inputs)
    assert got.astype(int).tolist() == [[7, -1, 7, 1] if kind == TensorProto.INT4 else [7, 15, 7, 1]]


def declared(kind: int, nodes, constants=()):
    graph = helper.make_graph(
        nodes, "g", [], [helper.make_tensor_value_info("y", kind, None)], list(constants)
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_an_output_of_another_type_is_no_float32_in_silence(tmp_path):
    constants = [helper.make_tensor("a", TensorProto.BFLOAT16, [2], [1, 2])]
    model = declared(TensorProto.BFLOAT16, [helper.make_node("Neg", ["a"], ["y"])], constants)
    with pytest.raises(CompileError, match='output "y" is of type BFLOAT16'):
        import_model(save(model, tmp_path))


def test_float64_is_narrowed_and_said(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = import_model(save(model, tmp_path))
    assert any(
        'input "x" is float64 in the model, and is computed as float32' in line for line in made.warnings
    )
    assert [port.model_type for port in (*made.inputs, *made.outputs)] == ["f64", "f64"]
    (result,) = run(made, np.array(-2.5))
    assert (result, result.dtype) == (2.5, np.float64)


def test_float64_weights_of_a_recurrent_layer_are_narrowed_and_said(tmp_path):
    """ONNX wants them as the input is; exporters that do not are taken, but not without a word."""
    weights = {"w": np.ones((1, 16, 3)), "r": np.ones((1, 16, 4))}
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)
    made = import_model(
        save(model_of([node], {"x": np.zeros((5, 1, 3), np.float32)}, ["y"], weights), tmp_path)
    )
    said = [line for line in made.warnings if "is float64 in the model, and is computed as float32" in line]
    assert [line.partition("): ")[2][:13] for line in said] == ["W (operand 1)", "R (operand 2)"]


def test_a_constant_cast_to_a_narrow_float_is_rounded(tmp_path):
    """1 + 2^-12 is no float16, and 1 + 2^-9 no bfloat16."""
    for kind, near in ((TensorProto.FLOAT16, 1 + 2.0**-12), (TensorProto.BFLOAT16, 1 + 2.0**-9)):
        nodes = [
            helper.make_node("Cast", ["c"], ["n"], to=kind),
            helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
        ]
        model = declared(TensorProto.FLOAT, nodes, [helper.make_tensor("c", TensorProto.FLOAT, [1], [near])])
        (constant,) = import_model(save(model, tmp_path)).constants.values()
        assert constant.tolist() == [1.0]


def test_an_int8_constant_that_is_an_output_means_itself(tmp_path):
    """Its declared type is not looked at: ONNX Runtime takes such files, too."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [onnx.ValueInfoProto(name="y"), helper.make_tensor_value_info("z", TensorProto.FLOAT, [])],
        [helper.make_tensor("z", TensorProto.INT8, [], [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = optimize(import_model(save(model, tmp_path)))
    assert check_final(made) == []
    assert any('output "z" is declared FLOAT, and is i8' in line for line in made.warnings)


@pytest.mark.parametrize("which", [0, 1])
def test_a_split_may_have_empty_parts(which, tmp_path):
    """As the bodies of ONNX's own functions have them."""
    node = helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1)
    join = helper.make_node("Concat", ["a", "b"], ["y"], axis=1)
    sizes = np.array([8, 0] if which else [0, 8], np.int64)
    model = model_of([node, join], {"x": np.zeros((1, 8), np.float32)}, ["y"], {"sizes": sizes})
    assert import_model(save(model, tmp_path)).outputs[0].onnx_shape == (1, 8)


EMPTY = {
    "Expand of a number": ("Expand", "zero", [3, 0]),
    "Expand of a column": ("Expand", "column", [3, 0]),
    "Tile": ("Tile", "x", [1, 0]),
    "Gather": ("Gather", "x", []),
}


@pytest.mark.quick
@pytest.mark.parametrize("form", EMPTY)
def test_what_has_no_elements_adds_none(form, tmp_path):
    """Exporters write it for paddings of 0, as in `block_diag` and `stft`."""
    op, operand, numbers = EMPTY[form]
    rng = np.random.default_rng(5)
    given = {"x": rng.normal(size=(3, 4)).astype(np.float32)}
    constants = {"zero": np.float32(0), "column": np.zeros((3, 1), np.float32)}
    constants = {name: array for name, array in constants.items() if name == operand}
    axis = {"axis": 1} if op == "Gather" else {}
    nodes = [
        helper.make_node(op, [operand, "numbers"], ["none"], **axis),
        helper.make_node("Concat", ["none", "x", "none"], ["y"], axis=1),
    ]
    check(
        model_of(nodes, given, ["y"], {**constants, "numbers": np.array(numbers, np.int64)}), given, tmp_path
    )


def test_a_symbol_that_is_the_batch_of_one_input_is_1_everywhere(tmp_path):
    shapes = {"x": ["batch", 4], "state": [2, "batch", 4]}
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "state"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [onnx.ValueInfoProto(name="y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = save(model, tmp_path)
    assert [port.onnx_shape for port in import_model(path).inputs] == [(1, 4), (2, 1, 4)]
    assert [port.onnx_shape for port in import_model(path, dims={"batch": 3}).inputs] == [(3, 4), (2, 3, 4)]


@pytest.mark.quick
def test_range_of_a_narrow_float_is_refused(tmp_path):
    nodes = [helper.make_node("Range", ["a", "b", "d"], ["r"]), helper.make_node("Cast", ["r"], ["f"], to=1)]
    nodes.append(helper.make_node("Add", ["x", "f"], ["y"]))
    constants = {"a": np.float16(0.1), "b": np.float16(0.35), "d": np.float16(0.1)}
    model = model_of(nodes, {"x": np.zeros(3, np.float32)}, ["y"], constants)
    with pytest.raises(CompileError, match="Range of FLOAT16") as caught:
        import_model(save(model, tmp_path))
    assert caught.value.code == "MM203"


def test_a_range_of_float32_is_what_a_hint_says(tmp_path):
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [v]) for name, v in (("a", 1), ("b", 5), ("c", 2))
    ]
    model = declared(TensorProto.FLOAT, [helper.make_node("Range", ["a", "b", "c"], ["y"])], constants)
    (made,) = import_model(save(model, tmp_path)).constants.values()
    assert made.tolist() == [1.0, 3.0]
