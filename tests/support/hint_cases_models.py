# SPDX-License-Identifier: Apache-2.0
"""Hints about models, followed: see test_hints.py."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from cli_runs import MODEL
from frontend_models import check, model_of, save
from hint_runs import FLOATS, RELU, X, accepted, mmcc, node, refused
from hints import follows
from mmcc.checker import replay
from mmcc.driver.compile import compile_model
from mmcc.driver.load import load_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.not_onnx import FORMATS
from mmcc.kernels.epilogue import check_accumulator
from mmcc.ops.movement import Pad, Reshape, Slice
from mmcc.passes.streaming.stream import stream_graph
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from streams import ROWS, Stream
from toolchains import ready


@follows("HINTS ")
def any_other_operator(folder, _):
    """The model is cut off before it, with the tool that is named."""
    nodes = [node("Conv", ["x", "w"], ["a"]), node("NonZero", ["a"], ["y"])]
    model = model_of(nodes, X, ["y"], {"w": FLOATS})
    refused(model, folder, "onnx.utils.extract_model")
    whole, part = save(onnx.shape_inference.infer_shapes(model), folder), folder / "part.onnx"
    onnx.utils.extract_model(whole, part, ["x"], ["a"])
    assert len(import_model(part).nodes) == 1


class _Reader(CalibrationDataReader):
    def __init__(self, given):
        self.left = [given] * 2

    def get_next(self):
        return self.left.pop() if self.left else None


def _quantized(folder, model, given, nodes_to_exclude=(), form=QuantFormat.QDQ):
    """The model after ONNX Runtime's static quantization."""
    made = folder / "static.onnx"
    quantize_static(
        save(model, folder, "float.onnx"),
        made,
        _Reader(given),
        quant_format=form,
        nodes_to_exclude=list(nodes_to_exclude),
    )
    return made


@follows(*(f"FORMATS {kind.name}" for kind in FORMATS))
def other_formats(folder, _):
    """Each says how to get ONNX; the tools are not ours to install: what they write is read."""
    for kind in FORMATS:
        data = b"\0" * kind.start + (kind.magic or b"\x0anode") + b"\0" * 40
        name = f"model{kind.suffixes[0] if kind.suffixes else '.onnx'}"
        with pytest.raises(CompileError) as caught:
            import_model(save(data, folder, name))
        assert caught.value.hint == kind.hint
        assert any(what in kind.hint for what in ("model.onnx", "git lfs pull", "the ONNX file"))
        accepted(RELU, folder)


@follows("frontend/converters/elementwise.py: 'exporting the model for inference'")
def dropout(folder, _):
    fixed = {"r": np.float32(0.5), "t": np.array(True)}
    model = model_of([node("Dropout", ["x", "r", "t"], ["y"])], X, ["y"], fixed)
    refused(model, folder, "for inference")
    check(
        model_of([node("Dropout", ["x", "r", "t"], ["y"])], X, ["y"], fixed | {"t": np.array(False)}),
        X,
        folder,
    )


@follows("frontend/converters/windows.py: 'exporting with explicit pads'")
def explicit_pads(folder, _):
    window = {"kernel_shape": [1, 1], "strides": [4, 4]}
    model = model_of([node("MaxPool", ["x"], ["y"], auto_pad="SAME_UPPER", **window)], X, ["y"])
    refused(model, folder, "explicit pads")
    check(model_of([node("MaxPool", ["x"], ["y"], pads=[0, 0, 0, 0], **window)], X, ["y"]), X, folder)


@follows("frontend/converters/resizing.py: 'stating `axes` by numbers of 0 and more'")
def axes_from_the_last_one(folder, _):
    def model(*axes):
        given = {"mode": "nearest", "keep_aspect_ratio_policy": "not_larger", "axes": axes}
        nodes = [node("Resize", ["x", "", "", "s"], ["y"], **given)]
        return model_of(nodes, X, ["y"], {"s": np.array([2, 9], np.int64)}, 18)

    refused(model(2, -1), folder, "0 and more")
    check(model(2, 3), X, folder)


@follows(
    "frontend/converters/resizing.py: "
    "'quantizing with quant_format QuantFormat.QDQ, where it resizes floats and is rounded like them'"
)
def resized_integers(folder, _):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Resize", ["a", "", "s"], ["b"], mode="linear"),
        node("Conv", ["b", "w"], ["y"]),
    ]
    model = model_of(nodes, X, ["y"], {"w": FLOATS, "s": np.array([1, 1, 2, 2], np.float32)}, 17)
    with pytest.raises(CompileError, match=r"linear Resize of [iu]8") as caught:
        import_model(_quantized(folder, model, X, form=QuantFormat.QOperator))
    assert "QuantFormat.QDQ" in caught.value.hint
    import_model(_quantized(folder, model, X))


@follows(
    "frontend/converters/classes.py: 'leaving it out, and a Sigmoid behind the node where that is meant'"
)
def transform_of_one_score(folder, _):
    line = {"x": np.zeros((1, 2), np.float32)}

    def regressor(y, **more):
        return helper.make_node(
            "LinearRegressor", ["x"], [y], domain="ai.onnx.ml", coefficients=[1.0, 2.0], **more
        )

    def model(*nodes):
        made = model_of([*nodes], line, ["y"])
        made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
        return made

    refused(model(regressor("y", post_transform="LOGISTIC")), folder, "a Sigmoid")
    check(model(regressor("s"), node("Sigmoid", ["s"], ["y"])), line, folder)


@follows("frontend/converters/windows.py: 'exporting with a batch of 1'")
def large_batch(folder, _):
    many = {"x": np.zeros((1000, 4, 4, 4), np.float32)}
    refused(model_of([node("Conv", ["x", "w"], ["y"])], many, ["y"], {"w": FLOATS}), folder, "batch of 1")
    accepted(model_of([node("Conv", ["x", "w"], ["y"])], X, ["y"], {"w": FLOATS}), folder)


def _symbolic():
    model = model_of([node("Relu", ["x"], ["y"])], X, ["y"])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    return model


@follows("frontend/ports.py: ' '.join((f'--dim {printable(symbol)}=N' for symbol in missing))")
def symbols(folder, _):
    path = save(_symbolic(), folder)
    assert "--dim height=N" in mmcc("check", path, exit=3)
    mmcc("check", path, "--dim", "height=8")


@follows(
    "frontend/ports.py: f'one of: {known}' if known else 'leaving it out: all of its dimensions are fixed'"
)
def unknown_symbols(folder, _):
    path = save(_symbolic(), folder)
    assert "one of: height" in mmcc("check", path, "--dim", "width=8", exit=2)
    mmcc("check", path, "--dim", "height=8")
    path = save(RELU, folder)
    assert "leaving it out" in mmcc("check", path, "--dim", "width=8", exit=2)
    mmcc("check", path)


@follows("frontend/ports.py: '1 or more'")
def no_extent(folder, _):
    refused(_symbolic(), folder, "1 or more", dims={"height": 0})
    accepted(_symbolic(), folder, dims={"height": 1})


@follows("checker/replay.py: 'smaller sizes through --dim'")
def too_large_to_check(folder, monkeypatch):
    """With little memory allowed to the check of a plan; the sizes are those of the model's."""
    monkeypatch.setattr(replay, "MOST_BYTES", 2**14)
    path, out = save(_symbolic(), folder), folder / "out"
    assert "smaller sizes through --dim" in mmcc("compile", path, "-o", out, "--dim", "height=4000", exit=3)
    mmcc("compile", path, "-o", out, "--dim", "height=4")


@follows("driver/options.py: 'leave it out, or --ram min, limits of several memories, --weights staged'")
def weights_in_ram_with_least_ram(folder, _):
    with pytest.raises(CompileError, match="takes RAM that nothing else needs"):
        CompileOptions(weights_in_ram=True, least_ram=True)
    CompileOptions(weights_in_ram=True)


@follows("driver/weights_in_ram.py: 'leave out --weights-in-ram'")
def weights_in_ram_of_several_memories(folder, _):
    options = {"target": "stm32h743", "name": "net"}
    with pytest.raises(CompileError, match="has several memories"):
        compile_model(MODEL, folder / "a", CompileOptions(**options, weights_in_ram=True))
    compile_model(MODEL, folder / "b", CompileOptions(**options))


@follows("cli/options.py: '--dim height=96'")
def malformed_dim(folder, _):
    path = save(_symbolic(), folder)
    assert "--dim height=96" in mmcc("check", path, "--dim", "height", exit=2)
    mmcc("check", path, "--dim", "height=96")


@follows("cli/options.py: '--state h=h_next, or --state h=h_next=first.npy'")
def malformed_state(folder, _):
    given = {"x": np.ones((1, 4), np.float32), "h": np.ones((1, 4), np.float32)}
    path = save(model_of([node("Add", ["x", "h"], ["h_next"])], given, ["h_next"]), folder)
    assert "--state h=h_next" in mmcc("check", path, "--state", "h", exit=2)
    mmcc("check", path, "--state", "h=h_next")
    np.save(folder / "first.npy", given["h"])
    mmcc("check", path, "--state", f"h=h_next={folder / 'first.npy'}")


@follows("kernels/epilogue.py: 'leaving this layer in float (nodes_to_exclude of quantize_static)'")
def accumulator(folder, _):
    """70,000 products of int8 leave 32 bits: the passes see to it, or lowering tells."""
    site = SimpleNamespace(output=SimpleNamespace(tensor=SimpleNamespace(name="y")))
    with pytest.raises(CompileError, match="nodes_to_exclude"):
        check_accumulator(2**31, site)
    wide = {"x": np.ones((1, 70_000), np.float32)}
    fixed = {"w": np.ones((70_000, 1), np.float32)}
    model = model_of([node("MatMul", ["x", "w"], ["y"], name="one")], wide, ["y"], fixed)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1]))
    mmcc("compile", _quantized(folder, model, wide, ["one"]), "-o", folder / "out")


@follows(
    "passes/streaming/reads.py: '--window W, which runs it and what follows over the newest W rows'",
    "passes/streaming/padding.py: 'count_include_pad=1 for means, or a model without this padding'",
    "passes/streaming/ends.py: "
    "'a model that drops no rows at the end of its sequence (by a Slice or a ConvTranspose)'",
    "driver/options.py: '--stream INPUT:AXIS --window ROWS'",
)
def streams(folder, _):
    def load(*nodes, window=0, stream="x:2"):
        model = save(model_of(nodes, {"x": np.ones((1, 4, 8), np.float32)}, ["y"], constants), folder)
        return load_model(model, CompileOptions(stream=stream, window=window))

    constants = {"w": np.ones((4, 4, 3), np.float32)}
    constants |= {name: np.array([k]) for name, k in (("zero", 0), ("seven", 7), ("two", 2))}
    mean = node("GlobalAveragePool", ["x"], ["y"])
    with pytest.raises(CompileError, match="--window"):
        load(mean)
    load(mean, window=8)
    with pytest.raises(CompileError, match="INPUT:AXIS"):
        load(mean, window=8, stream="")
    pool = {"kernel_shape": [3], "pads": [2, 0]}
    with pytest.raises(CompileError, match="count_include_pad"):
        load(node("AveragePool", ["x"], ["y"], **pool))
    load(node("AveragePool", ["x"], ["y"], count_include_pad=1, **pool))
    cut = node("Slice", ["x", "zero", "seven", "two"], ["c"])
    with pytest.raises(CompileError, match="drops no rows"):
        load(cut, node("Conv", ["c", "w"], ["y"], pads=[0, 2]))
    load(node("Conv", ["x", "w"], ["y"], pads=[0, 2]))
    attention = (  # nothing says that the last axis is time but the option
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["t", "x"], ["s"]),
        node("Softmax", ["s"], ["p"]),
        node("MatMul", ["p", "t"], ["y"]),
    )
    for axis, rows in ((2, 8), (1, 4)):
        with pytest.raises(CompileError, match="--window"):
            load(*attention, stream=f"x:{axis}")
        made = load(*attention, stream=f"x:{axis}", window=rows)
        assert made.whole.inputs[0].axes[axis] == 0


@follows("passes/streaming/hops.py: 'a causal model: all its padding before the first row'")
def streams_of_numbers(folder, _):
    def model(pads):
        b = Stream("numbers", 1, 1)
        x = b.add(Reshape((ROWS,)), b.centred(b.x, 3, pads=pads))
        return b.graph(b.add(Slice((0,), (1,), (ROWS,)), b.add(Pad((1,), (0,)), x)))

    with pytest.raises(CompileError, match="a causal model"):
        stream_graph(model((1, 1)), "x0:1")
    stream_graph(model((2, 0)), "x0:1")


@follows("verification/compare.py: 'fewer --samples, or --limit of those in --data, or --on host'")
def calls_of_a_stream(folder, _):
    ready("cortex-m4")
    model = model_of([node("Relu", ["x"], ["y"])], {"x": np.ones((1, 4, 8), np.float32)}, ["y"])
    mmcc("compile", save(model, folder), "-o", folder / "out", "--stream", "x:1", "-t", "cortex-m4")
    assert "fewer --samples" in mmcc("verify", folder / "out", "--on", "qemu", "--samples", 1100, exit=2)
    mmcc("verify", folder / "out", "--on", "qemu")
    mmcc("verify", folder / "out", "--samples", 1100)
