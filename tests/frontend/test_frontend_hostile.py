# SPDX-License-Identifier: Apache-2.0
"""Files that are broken or mean harm: always a CompileError that says what and where, never a traceback."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from frontend_models import save
from hostile_models import fails, node, small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcc.errors import CompileError, Exit
from mmcc.frontend import import_model
from mmcc.frontend.problems import CODES
from mmcc.frontend.registry import REGISTRY
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick


W = np.zeros((4, 3, 3, 3), np.float32)


CONV = small(node("Conv", ["x", "w"], ["c"], name="first"), node("Relu", ["c"], ["y"]), constants={"w": W})


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"not a model", b"version https://git-lfs", b"PK\3\4zip"])
def test_not_onnx(data, tmp_path):
    fails(data, tmp_path, "MM101", "model.onnx")


def test_truncated(tmp_path):
    data = CONV.SerializeToString()
    for length in range(0, len(data), 7):
        with pytest.raises(CompileError) as caught:
            import_model(save(data[:length], tmp_path))
        assert caught.value.exit in (Exit.BAD_MODEL, Exit.UNSUPPORTED)


def test_no_file(tmp_path):
    with pytest.raises(CompileError, match="there is no file"):
        import_model(tmp_path / "missing.onnx")
    with pytest.raises(CompileError, match="is a folder"):
        import_model(tmp_path)


def test_names_that_are_not_text(tmp_path):
    data = small(node("Relu", ["x"], ["y"], name="abcdef")).SerializeToString()
    fails(data.replace(b"abcdef", b"ab\xff\xfeef"), tmp_path, "MM101", "not UTF-8")


def test_versions(tmp_path):
    fails(small(node("Relu", ["x"], ["y"]), opset=999), tmp_path, "MM204", "999", exit=Exit.UNSUPPORTED)
    fails(small(node("Relu", ["x"], ["y"]), ir=99), tmp_path, "MM204", "99", exit=Exit.UNSUPPORTED)


def test_names(tmp_path):
    relu = node("Relu", ["x"], ["y"], name="again")
    fails(small(relu, relu), tmp_path, "MM102", '"y" is defined twice', 'node 1 (Relu) "again"')
    fails(small(node("Relu", ["x"], ["x"]), outputs=["x"]), tmp_path, "MM102", "defined twice")
    fails(small(node("Relu", ["nobody"], ["y"])), tmp_path, "MM102", '"nobody" is read but nothing')
    fails(small(relu, outputs=["z"]), tmp_path, "MM102", '"z" is not defined')
    fails(small(relu, outputs=["y", "", ""]), tmp_path, "MM102", "2 outputs have no name")
    fails(small(outputs=[]), tmp_path, "MM101")
    model = small(node("Conv", ["x", "w"], ["y"]), constants={"w": W})
    model.graph.initializer.append(model.graph.initializer[0])
    fails(model, tmp_path, "MM102", '"w" is defined twice')


def test_cycle(tmp_path):
    nodes = [node("Add", ["x", "b"], ["a"], name="n"), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    fails(small(*nodes), tmp_path, "MM102", "cycle", 'node 0 (Add) "n"')


def test_unsorted_graph_is_sorted(tmp_path):
    nodes = [node("Relu", ["a"], ["y"]), node("Abs", ["x"], ["a"])]
    graph = import_model(save(small(*nodes), tmp_path))
    assert [n.where[0].op for n in graph.nodes] == ["Abs", "Relu"]
    assert [n.where[0].node for n in graph.nodes] == [1, 0]


def test_missing_initializer(tmp_path):
    fails(small(node("Conv", ["x", "w"], ["y"])), tmp_path, "MM102", '"w"')


def test_inputs(tmp_path):
    model = small(node("Relu", ["x"], ["y"]))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0
    fails(model, tmp_path, "MM105", "[1, 3, 0, 8]")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**60
    fails(model, tmp_path, "MM105")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -1
    fails(model, tmp_path, "MM109", '"x.2" (axis 2 of input "x")', "--dim x.2=N")
    import_model(save(model, tmp_path), dims={"x.2": 8})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    fails(model, tmp_path, "MM102", "no tensor of known rank")
    model.graph.input[0].type.Clear()
    fails(model, tmp_path, "MM102", "no tensor of known rank")


def test_element_types(tmp_path):
    for kind in (TensorProto.FLOAT8E8M0, TensorProto.STRING, TensorProto.COMPLEX64, 77):
        model = small(node("Identity", ["x"], ["y"]))
        model.graph.input[0].type.tensor_type.elem_type = kind
        fails(model, tmp_path, "MM203", 'input "x"', exit=Exit.UNSUPPORTED)
    scale = small(node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E8M0))
    fails(scale, tmp_path, "MM203", "FLOAT8E8M0", exit=Exit.UNSUPPORTED)


def test_symbolic_batch_is_one(tmp_path):
    model = small(node("Relu", ["x"], ["y"]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "unk__7"
    assert import_model(save(model, tmp_path)).inputs[0].onnx_shape == (1, 3, 8, 8)
    assert import_model(save(model, tmp_path), dims={"unk__7": 2}).inputs[0].onnx_shape == (2, 3, 8, 8)
    fails(model, tmp_path, "MM110", "one of: unk__7", exit=Exit.USAGE, dims={"N": 2})


def test_subgraphs(tmp_path):
    branch = helper.make_graph([node("Relu", ["x"], ["r"])], "b", [], [onnx.ValueInfoProto(name="r")])
    loop = small(node("Loop", ["", "c", "x"], ["y"], body=branch), constants={"c": np.array(True)})
    fails(loop, tmp_path, "MM103", "does not fit the Loop")


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        (node("Conv", ["x", "w"], ["y"], strides=[1]), "MM104", "strides [1]"),
        (node("Conv", ["x", "w"], ["y"], strides=[0, 1]), "MM104", "strides [0, 1]"),
        (node("Conv", ["x", "w"], ["y"], strides=2), "MM103", "strides is not of type INTS"),
        (node("Conv", ["x", "w"], ["y"], pads=[2**62, 0, 0, 0]), "MM105", "pad"),
        (node("Conv", ["x", "w"], ["y"], pads=[2**30, 2**30, 2**30, 2**30]), "MM105", "elements"),
        (node("Conv", ["x", "w"], ["y"], kernel_shape=[5, 5]), "MM104", "kernel_shape [5, 5]"),
        (node("Conv", ["x", "w"], ["y"], group=3), "MM104", "groups"),
        (node("Conv", ["x", "w"], ["y"], group=0), "MM104", "groups"),
        (node("Conv", ["x", "w"], ["y"], dilations=[9, 9]), "MM104", "larger than its padded input"),
        (node("Conv", ["x", "w"], ["y"], auto_pad="MAYBE"), "MM103", "MAYBE"),
        (node("Conv", ["x", "w"], ["y"], surprise=1), "MM103", 'no attribute "surprise"'),
        (node("Conv", ["x"], ["y"]), "MM103", "1 operands, not 2 to 3"),
        (node("Concat", ["x", "x"], ["y"]), "MM103", "attribute axis is missing"),
        (node("Dropout", ["x"], ["y"], seed=0.5), "MM103", "attribute seed is not of type INT"),
        (node("Conv", ["x", "", "w"], ["y"]), "MM103", "operand 1 is missing"),
        (node("Conv", ["x", "w", "w"], ["y"]), "MM104", "a bias of"),
        (node("Add", ["x", "w"], ["y"]), "MM104", "do not broadcast"),
        (node("Reshape", ["x", "shape"], ["y"]), "MM104", "cannot reshape"),
        (node("Transpose", ["x"], ["y"], perm=[0, 1, 1, 2]), "MM104", "permute"),
        (node("Concat", ["x", "w"], ["y"], axis=1), "MM104", "concatenate"),
        (node("Concat", ["x", "x"], ["y"], axis=9), "MM104", "axis 9 of a tensor of rank 4"),
        (node("Gather", ["x", "nine"], ["y"], axis=1), "MM104", "outside axis 1"),
        (node("Gather", ["x", "w"], ["y"], axis=1), "MM104", "indices"),
        (node("Squeeze", ["x", "nine"], ["y"]), "MM104", "axis 9"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[2, 2, 2, 2]), "MM104", "not smaller"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[2**40, 2]), "MM105", ""),
        (node("MatMul", ["x", "nine"], ["y"]), "MM203", "i64"),
        (node("Expand", ["x", "huge"], ["y"]), "MM105", ""),
        (node("Tile", ["x", "huge4"], ["y"]), "MM105", ""),
        (node("Pad", ["x", "huge8"], ["y"]), "MM105", ""),
        (node("Clip", ["x", "nan"], ["y"]), "MM104", "not a number"),
        (node("LeakyRelu", ["x"], ["y"], alpha=float("nan")), "MM103", "not a number"),
        (node("Elu", ["x"], ["y"], alpha=float("inf")), "MM103", "infinite"),
        (node("Not", ["x"], ["y"]), "MM104", "bool"),
        (node("Flatten", ["x"], ["y"], axis=7), "MM104", "axis 7"),
        (node("Split", ["x"], ["y", "z"], axis=1), "MM104", ""),
        (node("Slice", ["x", "nine", "nine", "zero", "zero"], ["y"]), "MM104", "slice"),
        (node("Resize", ["x", "", "scales"], ["y"]), "MM104", "scales"),
        (node("Relu", ["x"], ["y"], name="\x1b[31m\n\r\u202e" * 50), "MM103", "2 outputs"),
        (node("Softmax", ["x"], ["y"], axis=4), "MM104", "axis 4"),
        (node("BatchNormalization", ["x", "v", "v", "v", "neg"], ["y"]), "MM107", "finite"),
    ],
)
def test_bad_nodes(bad, code, says, tmp_path):
    if bad.op_type == "Relu":
        bad.output.append("z")
    elif not bad.name:
        bad.name = "culprit"
    constants = {
        "w": W,
        "shape": np.array([5, 5]),
        "nine": np.array([9]),
        "zero": np.array([0]),
        "huge": np.array([2**40, 1, 1, 1]),
        "huge4": np.array([2**40, 1, 1, 1]),
        "huge8": np.array([2**40, 0, 0, 0, 0, 0, 0, 0]),
        "nan": np.array(np.nan, np.float32),
        "scales": np.array([1, 1, 0, -1], np.float32),
        "v": np.ones(3, np.float32),
        "neg": np.full(3, -1, np.float32),
    }
    exit = Exit.UNSUPPORTED if code.startswith("MM2") else Exit.BAD_MODEL
    fails(small(bad, constants=constants), tmp_path, code, says, f"node 0 ({bad.op_type})", exit=exit)


def test_an_empty_input_of_more_than_can_be_counted(tmp_path):
    """NumPy counts the elements of an empty array without its axes of 0."""
    model = small(node("Relu", ["x"], ["y"]))
    for dim, extent in zip(
        model.graph.input[0].type.tensor_type.shape.dim, (1, 0, 2**33, 2**33), strict=True
    ):
        dim.dim_value = extent
    fails(model, tmp_path, "MM105", "8589934592")


def test_an_output_without_elements(tmp_path):
    constants = {"nine": np.array([9]), "zero": np.array([0])}
    empty = small(node("Slice", ["x", "nine", "nine", "zero"], ["y"]), constants=constants)
    fails(empty, tmp_path, "MM105", 'output "y" has shape [0, ')


@pytest.mark.parametrize(
    ("operands", "outputs", "parts", "code", "says"),
    [
        (["x"], 4, 3, "MM103", "num_outputs is 3, and the node has 4 outputs"),
        (["x"], 2, 3, "MM103", "num_outputs is 3, and the node has 2 outputs"),
        (["x"], 2, -1, "MM103", "num_outputs is -1"),
        (["x"], 2, None, "MM103", "are both missing"),
        (["x", "sizes"], 2, 2, "MM103", "are both given"),
        (["x", "short"], 2, None, "MM104", "[1, 1]"),
        (["x", "less"], 2, None, "MM104", "[4, -1]"),
        (["x", "sizes"], 3, None, "MM104", "[1, 2]"),
        (["x"], 5, 5, "MM104", "[1, 1, 1, 1, -1]"),
    ],
)
def test_parts_of_a_split(operands, outputs, parts, code, says, tmp_path):
    """Only some of these are noticed by ONNX's own shape inference, and by ONNX Runtime before it aborts."""
    names = ["y", "b", "c", "d", "e"][:outputs]
    bad = node("Split", operands, names, axis=1, **({} if parts is None else {"num_outputs": parts}))
    sizes = {"sizes": [1, 2], "short": [1, 1], "less": [4, -1]}
    model = small(bad, constants={name: np.array(listed) for name, listed in sizes.items()}, opset=18)
    fails(model, tmp_path, code, says, "node 0 (Split)")


def test_attribute_given_twice(tmp_path):
    bad = node("Softmax", ["x"], ["y"], axis=1)
    bad.attribute.append(bad.attribute[0])
    fails(small(bad), tmp_path, "MM103", "twice")


@pytest.mark.parametrize("scale", [0.0, -0.1, np.nan, np.inf])
def test_scales(scale, tmp_path):
    constants = {"s": np.array(scale, np.float32), "z": np.array(0, np.int8)}
    quantize = small(node("QuantizeLinear", ["x", "s", "z"], ["y"], name="q"), constants=constants)
    fails(quantize, tmp_path, "MM107", "a scale is", '(QuantizeLinear) "q"')


def test_quantization_parameters(tmp_path):
    constants = {
        "s": np.full(3, 0.1, np.float32),
        "one": np.array(0.1, np.float32),
        "z": np.zeros(2, np.int8),
        "wide": np.array(0, np.int32),
        "q": np.zeros((3, 4), np.int8),
    }
    bad = [
        (["x", "s", "z"], "3 scales and 2 zero points"),
        (["x", "one", "wide"], "QuantizeLinear to i32"),
        (["x", "z"], "scales of type int8"),
    ]
    for inputs, says in bad:
        with pytest.raises(CompileError, match=says):
            import_model(save(small(node("QuantizeLinear", inputs, ["y"]), constants=constants), tmp_path))
    mixed = node("DequantizeLinear", ["q", "one", "other"], ["y"])
    constants["other"] = np.array(0, np.uint8)
    fails(small(mixed, constants=constants), tmp_path, "MM107", "zero points are of type uint8")
    wrong = node("DequantizeLinear", ["q", "s"], ["y"], axis=1)
    fails(small(wrong, constants=constants), tmp_path, "MM107", "[3] scales for axis 1 of [3, 4]")


def test_all_that_is_unsupported_is_listed(tmp_path):
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Strange", ["a"], ["b"], domain="com.example", name="one"),
        node("Strange", ["b"], ["c"], domain="com.example", name="two"),
        node("Bernoulli", ["a"], ["d"]),
        node("Resize", ["x", "", "s"], ["f"], mode="cubic", antialias=1, name="third"),
        node("Sum", ["c", "d", "f"], ["y"]),
    ]
    constants = {"s": np.array([1, 1, 0.45, 0.45], np.float32)}
    error = fails(
        small(*nodes, constants=constants, opset=18),
        tmp_path,
        "MM201",
        "3 operators or features are not supported",
        "Strange (domain com.example), 2 times",
        "Bernoulli (domain ai.onnx), once",
        "Resize: Resize with antialias",
        exit=Exit.UNSUPPORTED,
    )
    assert [w.node for w in error.at] == [3, 1, 4]


def test_dead_nodes_do_not_matter(tmp_path):
    nodes = [node("Relu", ["x"], ["y"]), node("Strange", ["x"], ["z"], domain="com.example")]
    assert len(import_model(save(small(*nodes), tmp_path)).nodes) == 1


@st.composite
def damage(draw):
    """Where and how a file is damaged."""
    flips = draw(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
    cut = draw(st.one_of(st.just(1.0), st.floats(0.5, 1)))
    return flips, cut


def _victim():
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Conv", ["d", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Clip", ["c", "zero", "six"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], ceil_mode=1),
        node("Resize", ["p", "", "scales"], ["u"], mode="linear"),
        node("Shape", ["u"], ["shape"]),
        node("Slice", ["shape", "from", "to"], ["n"]),
        node("Concat", ["n", "minus"], ["target"], axis=0),
        node("Reshape", ["u", "target"], ["f"]),
        node("Gemm", ["f", "v"], ["g"], transB=1),
        node("Softmax", ["g"], ["y"]),
    ]
    constants = {
        "s": np.array(0.1, np.float32),
        "z": np.array(3, np.int8),
        "w": W,
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "from": np.array([0]),
        "to": np.array([1]),
        "minus": np.array([-1]),
        "v": np.zeros((5, 64), np.float32),
    }
    return small(*nodes, constants=constants).SerializeToString()


VICTIM = _victim()


@given(damage())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files(tmp_path, harm):
    """Only CompileError may come out; a damaged file may also still be a model."""
    flips, cut = harm
    data = bytearray(VICTIM)
    for place, value in flips:
        data[min(int(place * len(data)), len(data) - 1)] = value
    path = save(bytes(data[: int(cut * len(data))]), tmp_path)
    try:
        graph = import_model(path, max_bytes=2**24)
    except CompileError as error:
        code = error.code
    else:
        code = "MM101" if str(graph) else ""
    assert code in CODES


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nodes_thrown_together(tmp_path, data):
    """Operators, operands and numbers changed at random, in a file that is well formed otherwise."""
    model = onnx.ModelProto.FromString(VICTIM)
    operators = sorted(op for domain, op in REGISTRY if not domain)
    values = [t.name for t in model.graph.initializer] + [o for n in model.graph.node for o in n.output]
    for _ in range(data.draw(st.integers(1, 3))):
        victim = data.draw(st.sampled_from(list(model.graph.node)))
        match data.draw(st.integers(0, 3)):
            case 0:
                victim.op_type = data.draw(st.sampled_from(operators))
            case 1:
                place = data.draw(st.integers(0, len(victim.input) - 1))
                victim.input[place] = data.draw(st.sampled_from(["x", "", *values]))
            case 2:
                for attribute in victim.attribute:
                    attribute.i = data.draw(st.sampled_from([0, -1, 7, 2**31, -(2**63)]))
                    attribute.ints[:] = [attribute.i] * len(attribute.ints)
            case _:
                dims = model.graph.input[0].type.tensor_type.shape.dim
                data.draw(st.sampled_from(list(dims))).dim_value = data.draw(
                    st.sampled_from([0, 1, 5, 2**33])
                )
    try:
        code = "MM101" if str(import_model(save(model, tmp_path), max_bytes=2**24)) else ""
    except CompileError as error:
        code = error.code
    assert code in CODES
