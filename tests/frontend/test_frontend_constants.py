# SPDX-License-Identifier: Apache-2.0
"""Constants as files store them, bad ones, and bombs made of them."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np
import pytest
from frontend_models import save
from hostile_models import fails, node, small
from mmcc.errors import CompileError, Exit
from mmcc.frontend import import_model
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick


def constant_proto(**fields):
    proto = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3])
    for name, value in fields.items():
        if isinstance(value, (list, tuple)):
            proto.ClearField(name)
            getattr(proto, name).extend(value)
        else:
            setattr(proto, name, value)
    return proto


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "MM108"),
        ({"raw_data": b"\0" * 431}, "MM108"),
        ({"raw_data": b"\0" * 436}, "MM108"),
        ({"float_data": [0.0] * 107}, "MM108"),
        ({"dims": [4, 3, 3, -3]}, "MM105"),
        ({"dims": [2**31, 2**31, 3, 3], "raw_data": b"\0" * 16}, "MM105"),
        ({"dims": [2**62] * 4}, "MM105"),
        ({"data_type": 99, "raw_data": b"\0" * 432}, "MM203"),
        ({"data_type": TensorProto.STRING, "string_data": [b"a"] * 108}, "MM203"),
        ({"data_type": TensorProto.INT8, "int32_data": [300] * 108}, "MM108"),
    ],
)
def test_bad_constants(fields, code, tmp_path):
    model = small(node("Conv", ["x", "w"], ["y"]))
    model.graph.initializer.append(constant_proto(**fields))
    exit = Exit.UNSUPPORTED if code == "MM203" else Exit.BAD_MODEL
    fails(model, tmp_path, code, '"w"', exit=exit)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([1.5, -2], np.float64), TensorProto.DOUBLE),
        (np.array([1.5, -2], np.float16), TensorProto.FLOAT16),
        (np.array([1.5, -2], np.float32), TensorProto.BFLOAT16),
        (np.array([-8, 7, 3], np.int64), TensorProto.INT4),
        (np.array([15, 0, 3], np.int64), TensorProto.UINT4),
        (np.array([True, False]), TensorProto.BOOL),
        (np.array([-(2**40), 5]), TensorProto.INT64),
        (np.array([2**16 - 1, 5]), TensorProto.UINT16),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_every_way_to_store_a_constant(array, kind, raw, tmp_path):
    from mmcc.frontend.tensors import to_array

    proto = helper.make_tensor("w", kind, array.shape, array.tolist())
    if raw:
        proto = numpy_helper.from_array(numpy_helper.to_array(proto), "w")
    np.testing.assert_array_equal(to_array(proto, tmp_path), array)


def external(location, **entries):
    proto = constant_proto(data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        proto.external_data.add(key=key, value=str(value))
    model = small(node("Conv", ["x", "w"], ["y"]))
    model.graph.initializer.append(proto)
    return model


def test_external_data(tmp_path):
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    data = np.arange(108, dtype=np.float32).tobytes()
    (home / "w.bin").write_bytes(b"\0" * 8 + data)
    (home / "sub" / "w.bin").write_bytes(data)
    (tmp_path / "secret.bin").write_bytes(data)
    os.symlink(tmp_path / "secret.bin", home / "link.bin")
    os.symlink(home / "loop", home / "loop")
    os.mkfifo(home / "pipe")
    for location, more in (
        ("w.bin", {"offset": 8}),
        ("w.bin", {"offset": 8, "length": 432}),
        ("sub/w.bin", {}),
    ):
        graph = import_model(save(external(location, **more), home))
        assert graph.constants["w"].sum() == np.arange(108).sum()
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "sub/../../secret.bin"):
        fails(external(location), home, "MM106", "outside the model's folder")
    for location in ("missing.bin", "sub", "loop", "pipe", "", "w.bin\0"):
        fails(external(location), home, "MM106")
    digest = hashlib.sha1((home / "w.bin").read_bytes()).hexdigest()
    graph = import_model(save(external("w.bin", offset=8, checksum=digest.upper()), home))
    assert graph.constants["w"].sum() == np.arange(108).sum()
    other = hashlib.sha1(data).hexdigest()  # of another file
    fails(
        external("w.bin", offset=8, checksum=other),
        home,
        "MM106",
        f"SHA-1 is {digest}, the model says {other}",
    )
    for more in ({"offset": -1}, {"offset": 9}, {"length": 2**60}, {"offset": "x"}, {"offset": 2**70}):
        fails(external("w.bin", **more), home, "MM106")


def small_bomb(*nodes, **constants):
    """The nodes' result b, added to the input."""
    return small(
        *nodes,
        node("ReduceMean", ["b"], ["m"], keepdims=0),
        node("Add", ["x", "m"], ["y"]),
        constants=constants,
    )


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", ["s"], ["b"])], {"s": np.array([2**20, 2**9])}),
        ([node("ConstantOfShape", ["s"], ["b"])], {"s": np.array([2**62, 2**62])}),
        ([node("Expand", ["one", "s"], ["b"])], {"one": np.ones(1, np.float32), "s": np.array([2**30])}),
        ([node("Tile", ["one", "s"], ["b"])], {"one": np.ones(1, np.float32), "s": np.array([2**30])}),
        ([node("Pad", ["one", "s"], ["b"])], {"one": np.ones(1, np.float32), "s": np.array([2**29, 2**29])}),
        (
            [node("Range", ["o", "n", "d"], ["b"])],
            {"o": np.float32(0), "n": np.float32(1e9), "d": np.float32(1)},
        ),
        (
            [node("Conv", ["i", "k"], ["b"], pads=[2**15] * 4, strides=[2**15, 2**15])],
            {"i": np.ones((1, 1, 1, 1), np.float32), "k": np.ones((1, 1, 1, 1), np.float32)},
        ),
        (
            [node("ConvTranspose", ["i", "k"], ["b"], strides=[2**15, 2**15], output_shape=[1, 1])],
            {"i": np.ones((1, 1, 2, 2), np.float32), "k": np.ones((1, 1, 1, 1), np.float32)},
        ),
        (
            [node("MaxPool", ["i"], ["b"], kernel_shape=[2**15, 2**15], pads=[2**15 - 1] * 4)],
            {"i": np.ones((1, 1, 1, 1), np.float32)},
        ),
        (
            [node("Resize", ["i", "", "r"], ["b"], mode="linear")],
            {"i": np.ones((1, 1, 1, 2**13), np.float32), "r": np.array([1, 1, 2**16, 2**-13], np.float32)},
        ),
    ],
)
def test_memory_bombs(nodes, constants, tmp_path):
    began = time.monotonic()
    model = small_bomb(*nodes, **{k: np.asarray(v) for k, v in constants.items()})
    with pytest.raises(CompileError) as caught:
        import_model(save(model, tmp_path))
    assert caught.value.code in ("MM105", "MM111"), str(caught.value)
    assert time.monotonic() - began < 5


def test_many_small_bombs_share_one_budget(tmp_path):
    nodes = [node("ConstantOfShape", ["s"], [f"b{k}"]) for k in range(40)]
    nodes.append(node("Sum", [f"b{k}" for k in range(40)], ["b"]))
    fails(small_bomb(*nodes, s=np.array([2**21])), tmp_path, "MM111", "bytes")
    fails(
        small_bomb(*nodes[:2], node("Add", ["b0", "b1"], ["b"]), s=np.array([99])),
        tmp_path,
        "MM111",
        max_bytes=99,
    )
