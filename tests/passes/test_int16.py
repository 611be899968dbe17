# SPDX-License-Identifier: Apache-2.0
"""16x8 models as quantizers write them: computed in integers, as ONNX Runtime computes them in float."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.passes import optimize
from mmcc.verification.agreement import Agreement
from onnx import helper
from operator_models import array

pytestmark = pytest.mark.quick


class Quantized:
    """A model that is written node by node, each result quantized to int16."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.nodes, self.fixed = x, [], {}
        self.scales = {"x": 2.0**-12 * 1.1}
        self.last = self.quantized("x")
        self.opset = 21

    def quantized(self, name: str, dtype: type = np.int16, zero: int = 0) -> str:
        scale = self.fixed[f"{name}.s"] = np.float32(self.scales[name])
        assert scale > 0
        self.fixed[f"{name}.z"] = np.array(zero, dtype)
        pair = [f"{name}.s", f"{name}.z"]
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *pair], [f"{name}.q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", *pair], [f"{name}.d"]))
        return f"{name}.d"

    def add(self, op: str, inputs: list[str], y: str, scale: float, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [y], **attributes))
        self.scales[y] = scale
        return self.quantized(y)

    def weights(self, name: str, *shape: int, most: int = 127) -> str:
        rng = np.random.default_rng(len(self.fixed))
        self.fixed[name] = rng.integers(-most, most + 1, shape).astype(np.int8)
        self.fixed[f"{name}.s"] = (rng.random(shape[0]) * 0.002 + 0.001).astype(np.float32)
        self.fixed[f"{name}.z"] = np.zeros(shape[0], np.int8)
        inputs = [name, f"{name}.s", f"{name}.z"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.d"], axis=0))
        return f"{name}.d"

    def checked(self, y: str) -> Graph:
        """The graph, each node of which gives what ONNX Runtime does of the same operands."""
        path = save(
            model_of(
                self.nodes, {"x": self.x}, [y], self.fixed, opset=self.opset, ir=10 if self.opset < 23 else 11
            ),
            self.folder,
        )
        graph = optimize(import_model(path))
        agreement = Agreement(graph, path, {})
        agreement.run([self.x])
        for (index,), tally in agreement.tallies.items():
            integer = not graph.tensors[graph.nodes[index].output].dtype.is_float
            assert tally.ok(integer), (str(graph.nodes[index].op), tally)
        return graph


@pytest.fixture
def model(tmp_path) -> Quantized:
    made = Quantized(array(1, 8, 12, 9))
    made.folder = tmp_path
    return made


def kinds(graph: Graph) -> Counter[str]:
    return Counter(type(node.op).__name__ for node in graph.nodes)


def test_layers_sums_and_products_are_integers(model):
    a = model.add("Conv", ["x.d", model.weights("w", 8, 8, 3, 3)], "a", 3.137e-4, pads=[1] * 4)
    r = model.add("Relu", [a], "r", 3.137e-4)
    d = model.add("Conv", [r, model.weights("v", 8, 1, 3, 3)], "d", 1.931e-4, pads=[1] * 4, group=8)
    model.fixed["bias"] = np.linspace(-1, 1, 8).astype(np.float32)
    p = model.add("Conv", [d, model.weights("u", 8, 8, 1, 1), "bias"], "p", 1.0457e-4)
    s = model.add("Add", [r, p], "s", 3.917e-4)
    m = model.add("Mul", [s, d], "m", 6.871e-4)
    t = model.add("Sub", [m, s], "t", 6.133e-4)
    q = model.add("MaxPool", [t], "q", 6.133e-4, kernel_shape=[2, 2], strides=[2, 2])
    found = kinds(model.checked(q))
    assert found == {
        "Quantize": 1,
        "Dequantize": 1,
        "ConvInt16": 3,
        "AddInt16": 2,
        "MulInt16": 1,
        "MaxPool": 1,
    }, found


def test_a_dense_layer_and_another_scale(model):
    model.nodes.append(helper.make_node("Reshape", ["x.d", "flat"], ["f"]))
    model.fixed["flat"] = np.array([8, 108])
    model.nodes.append(helper.make_node("Transpose", [model.weights("w", 6, 108)], ["wt"], perm=[1, 0]))
    a = model.add("MatMul", ["f", "wt"], "a", 1e-4)
    b = model.add("Clip", [a, "low", "high"], "b", 5e-5)
    model.fixed |= {"low": np.float32(-0.5), "high": np.float32(1.25)}
    found = kinds(model.checked(b))
    assert found["DenseInt16"] == found["RescaleInt16"] == 1, found
    assert not {"Dense", "Unary", "Binary"} & set(found)


def test_constants_beside_integers_are_integers(model):
    """Numbers, and tensors that quantizers write in 8 or in 16 bits."""
    model.fixed |= {"half": np.float32(0.4931), "one": np.array([[[-0.73]]], np.float32)}
    for name, dtype, zero in (("few", np.uint8, 131), ("many", np.int16, 0)):
        info = np.iinfo(dtype)
        model.fixed |= {name: np.linspace(info.min, info.max, 9).astype(dtype), f"{name}.z": dtype(zero)}
        model.fixed[f"{name}.s"] = np.float32(0.011 if dtype == np.uint8 else 4.1e-5)
        inputs = [name, f"{name}.s", f"{name}.z"]
        model.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.d"]))
    a = model.add("Mul", ["x.d", "half"], "a", 1.31e-4)
    b = model.add("Add", [a, "one"], "b", 1.72e-4)
    c = model.add("Mul", [b, "few.d"], "c", 1.93e-4)
    d = model.add("Sub", ["many.d", c], "d", 2.17e-4)
    graph = model.checked(d)
    assert kinds(graph) == {"Quantize": 1, "Dequantize": 1, "MulInt16": 2, "AddInt16": 2}
    assert graph.warnings == ()


@pytest.mark.parametrize("number", [1.0, -1.0, 0.03, 7.9])
def test_a_number_beside_integers_of_all_sizes(number, tmp_path):
    """One shift for both: the number must not take the bits of what it is added to."""
    model = Quantized(np.linspace(-8.9, 8.9, 65536, dtype=np.float32).reshape(1, 1, 256, 256))
    model.folder = tmp_path
    model.fixed["number"] = np.float32(number)
    graph = model.checked(model.add("Add", ["x.d", "number"], "y", 5.4321e-4))
    assert kinds(graph)["AddInt16"] == 1


def test_scales_too_different_for_one_shift_stay_float(model):
    a = model.add("Mul", ["x.d", "x.d"], "a", 0.9)
    graph = model.checked(model.add("Add", ["x.d", a], "y", 3e-4))
    assert kinds(graph)["Binary"] == 1
    assert any("too different for one shift" in warning for warning in graph.warnings)


def test_a_constant_that_float32_loses_stays_one_of_floats(model):
    """With steps twice as large half of all sums are half-way: exact ones go up, those of float32 do not."""
    model.fixed |= {"epsilon": np.arange(1, 10).astype(np.int16), "epsilon.z": np.int16(0)}
    model.fixed["epsilon.s"] = np.float32(1e-9)
    model.nodes.append(helper.make_node("DequantizeLinear", ["epsilon", "epsilon.s", "epsilon.z"], ["e.d"]))
    graph = model.checked(model.add("Add", ["x.d", "e.d"], "a", 2 * model.scales["x"]))
    assert kinds(graph)["Binary"] == 1
    assert any("so small beside a step" in warning for warning in graph.warnings)


def test_a_constant_beyond_float32_stays_one_of_floats(model):
    """As quantizers write the mask of an attention: -32767 steps are no float32, and the result is -32768."""
    model.fixed |= {"mask": np.where(np.tri(12, 9) > 0, 0, -32767).astype(np.int16), "mask.z": np.int16(0)}
    model.fixed["mask.s"] = np.float32(1.0384911e34)
    model.nodes.append(helper.make_node("DequantizeLinear", ["mask", "mask.s", "mask.z"], ["mask.d"]))
    graph = model.checked(model.add("Add", ["x.d", "mask.d"], "a", 1.0384911e34))
    assert kinds(graph)["Binary"] == 1
    assert any("beyond what float32 has" in warning for warning in graph.warnings)


def test_means_and_sums_are_integers(model):
    a = model.add("GlobalAveragePool", ["x.d"], "a", 0.7e-4)
    model.fixed |= {"axes": np.array([2]), "both": np.array([1, 3])}
    b = model.add("ReduceMean", ["x.d", "axes"], "b", 1.03e-4, keepdims=1)
    c = model.add("Sub", [b, a], "c", 1.13e-4)
    d = model.add("AveragePool", [c], "d", 1.07e-4, kernel_shape=[1, 3], strides=[1, 2])
    e = model.add("ReduceSum", [d, "both"], "e", 1.9e-3, keepdims=1)
    graph = model.checked(e)
    found = kinds(graph)
    assert found["MeanInt16"] == 3, found
    assert found["ConvInt16"] == found["AddInt16"] == 1, found
    assert found["Quantize"] == found["Dequantize"] == 1, found
    assert graph.warnings == ()


def test_a_window_as_large_as_the_image_has_no_weights(model):
    graph = model.checked(model.add("AveragePool", ["x.d"], "a", 0.7e-4, kernel_shape=[12, 9]))
    assert kinds(graph) == {"Quantize": 1, "MeanInt16": 1, "Dequantize": 1}


def test_windows_of_several_sizes_stay_float(model):
    a = model.add("AveragePool", ["x.d"], "a", 1.1e-4, kernel_shape=[3, 3], pads=[1] * 4)
    graph = model.checked(a)
    assert kinds(graph)["AveragePool"] == 1
    assert any("fewer elements than others" in warning for warning in graph.warnings)


def test_choices_are_of_integers(model):
    """Of what has the scale of the result, of another, and of a number."""
    model.fixed |= {"mask": np.tri(12, 9) > 0, "none": np.float32(-1e9), "index": np.array([4, 0, 4, 11])}
    a = model.add("Relu", ["x.d"], "a", 1.1e-4)
    b = model.add("Where", ["mask", a, "none"], "b", 1.7e-4)
    c = model.add("Where", ["mask", "x.d", b], "c", 2.1e-4)
    d = model.add("Gather", [c, "index"], "d", 2.1e-4, axis=2)
    found = kinds(model.checked(d))
    assert found["Where"] == 2, found
    assert found["Quantize"] == found["Dequantize"] == 1, found
    assert not {"Unary", "Binary"} & set(found)


FUNCTIONS = {
    "Sigmoid": 2.0**-15,
    "Tanh": 2.0**-15,
    "Erf": 2.0**-15,
    "Softsign": 2.0**-15,
    "Gelu": 2.1e-4,
    "HardSwish": 2.2e-4,
    "Elu": 2.3e-4,
    "Softplus": 2.4e-4,
    "LeakyRelu": 2.6e-4,
    "Sqrt": 1.1e-4,
    "Exp": 5e-3,
    "Floor": 3.1e-4,
    "Reciprocal": 1e-2,
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_are_polynomials_on_pieces(function, tmp_path):
    """Of all integers, roots of negative ones and bends included; then a clamp, which is joined."""
    model = Quantized((np.arange(-(2**15), 2**15) * 2.69e-4).astype(np.float32).reshape(1, 1, 256, 256))
    model.folder = tmp_path
    a = model.add(function, ["x.d"], "a", FUNCTIONS[function])
    graph = model.checked(model.add("Relu", [a], "r", FUNCTIONS[function]))
    assert kinds(graph) == {"Quantize": 1, "PiecewiseInt16": 1, "Dequantize": 1}
    assert graph.warnings == ()


def test_a_chain_of_functions_is_one_table(model):
    model.fixed |= {"root": np.float32(1.414), "one": np.float32(1), "half": np.float32(0.5)}
    model.nodes += [
        helper.make_node("Div", ["x.d", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["p"]),
        helper.make_node("Mul", ["x.d", "p"], ["m"]),
    ]
    graph = model.checked(model.add("Mul", ["m", "half"], "y", 2.1e-4))
    assert kinds(graph) == {"Quantize": 1, "PiecewiseInt16": 1, "Dequantize": 1}


CONVERSIONS = {
    "half": [("Cast", ["x.d"], {"to": 10}), ("Tanh", ["c0"], {}), ("Cast", ["c1"], {"to": 1})],
    "integer": [("Cast", ["x.d"], {"to": 6}), ("Cast", ["c0"], {"to": 1})],
    "bool": [("Cast", ["x.d"], {"to": 9}), ("Not", ["c0"], {}), ("Cast", ["c1"], {"to": 1})],
}


@pytest.mark.parametrize("types", CONVERSIONS)
def test_functions_convert_what_the_model_has(types, tmp_path):
    """Also where they are looked at in float64. A float16 has steps, each of which is a piece: too many."""
    model = Quantized(np.linspace(-8.9, 8.9, 65536, dtype=np.float32).reshape(1, 1, 256, 256))
    model.folder = tmp_path
    *before, (op, inputs, attributes) = CONVERSIONS[types]
    for k, (name, read, more) in enumerate(before):
        model.nodes.append(helper.make_node(name, read, [f"c{k}"], **more))
    graph = model.checked(model.add(op, inputs, "y", 3e-4, **attributes))
    assert kinds(graph)["PiecewiseInt16"] == (types != "half")


def test_a_function_of_integers_with_zero_points(model):
    model.nodes.append(helper.make_node("Sin", ["x.d"], ["s"]))
    model.scales |= {"s": 2.1e-5, "y": 2.0**-16}
    model.nodes.append(helper.make_node("Sigmoid", [model.quantized("s", zero=-77)], ["y"]))
    found = kinds(model.checked(model.quantized("y", zero=-(2**15))))
    assert found == {"Quantize": 1, "PiecewiseInt16": 2, "Dequantize": 1}


def test_a_function_of_too_many_pieces_stays_float_and_says_so(model):
    model.fixed["many"] = np.float32(300)
    model.nodes.append(helper.make_node("Mul", ["x.d", "many"], ["m"]))
    graph = model.checked(model.add("Sin", ["m"], "s", 2.0**-15))
    assert kinds(graph)["Unary"] == 1
    assert any("more than 256 pieces" in warning for warning in graph.warnings)


@pytest.mark.parametrize("axis", [1, 3])
def test_softmax_is_of_integers(model, axis):
    graph = model.checked(model.add("Softmax", ["x.d"], "s", 2.0**-15, axis=axis))
    assert kinds(graph)["SoftmaxInt16"] == 1
    assert graph.warnings == ()


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1.0])
def test_lines_are_normalized_in_integers(model, op, epsilon):
    model.opset = 23
    model.fixed |= {
        "g": np.linspace(-0.5, 2, 9).astype(np.float32),
        "b": np.linspace(-1, 1, 9).astype(np.float32),
    }
    inputs = ["x.d", "g", "b"] if op == "LayerNormalization" else ["x.d", "g"]
    graph = model.checked(model.add(op, inputs, "y", 1.1e-4, epsilon=epsilon))
    assert kinds(graph) == {"Quantize": 1, "LayerNormInt16": 1, "Dequantize": 1}


@pytest.mark.parametrize(("most", "step"), [(0.0, 2.0**-15), (1e-6, 1e-4), (1e-3, 2.0**-10)])
def test_small_scales_beside_large_biases_do_not_leave_64_bits(model, most, step):
    """A norm that training began with scales of 0: its bias is all there is."""
    model.opset = 23
    model.fixed |= {
        "g": np.linspace(-most, most, 9).astype(np.float32),
        "b": (np.linspace(-1, 1, 9) * 3e4 * step).astype(np.float32),
    }
    graph = model.checked(model.add("LayerNormalization", ["x.d", "g", "b"], "y", step))
    assert kinds(graph)["LayerNormInt16"] == 1


def test_attention_is_of_integers(model):
    model.nodes.append(helper.make_node("Reshape", ["x.d", "flat"], ["f"]))
    model.fixed |= {"flat": np.array([1, 8, 108]), "d": np.sqrt(np.float32(108))}
    k = model.add("Transpose", ["f"], "k", model.scales["x"], perm=[0, 2, 1])
    s = model.add("MatMul", ["f", k], "s", 1.03e-2)
    m = model.add("Div", [s, "d"], "m", 1.07e-3)
    p = model.add("Softmax", [m], "p", 2.0**-15)
    graph = model.checked(model.add("MatMul", [p, "f"], "o", 1.3e-4))
    found = kinds(graph)
    assert found["MatMulInt16"] == 2, found
    assert found["SoftmaxInt16"] == found["PiecewiseInt16"] == 1, found
    assert not {"Unary", "Binary", "MatMul", "Softmax"} & set(found)
    assert graph.warnings == ()


def test_what_has_no_form_stays_float_and_says_so(model):
    s = model.add("LogSoftmax", ["x.d"], "s", 1e-3)
    graph = model.checked(s)
    assert kinds(graph)["Softmax"] == 1
    (warning,) = graph.warnings
    assert "there is no form of log_softmax for int16" in warning


def test_sums_beyond_32_bits_stay_float(model):
    """600 products of the largest values do not fit; 500 do."""
    model.fixed["w"] = np.full((2, 8, 9, 9), 127, np.int8)
    model.fixed |= {"w.s": np.full(2, 0.001, np.float32), "w.z": np.zeros(2, np.int8)}
    model.nodes.append(helper.make_node("DequantizeLinear", ["w", "w.s", "w.z"], ["w.d"], axis=0))
    graph = model.checked(model.add("Conv", ["x.d", "w.d"], "a", 0.02))
    assert kinds(graph)["Conv"] == 1
    assert any("does not fit 32 bits" in warning for warning in graph.warnings)
