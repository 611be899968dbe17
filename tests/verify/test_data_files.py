# SPDX-License-Identifier: Apache-2.0
"""Samples from files that people have, and what is said of those that cannot be read."""

from __future__ import annotations

import wave

import numpy as np
import pytest
from mmcc.errors import CompileError
from mmcc.ir.element_type import ElementType
from mmcc.ir.ports import Port
from mmcc.verification.data_files import Preprocessing, load_data
from PIL import Image

pytestmark = pytest.mark.quick


def port(*shape):
    return Port("x", "x", shape, ElementType.F32, tuple(range(len(shape))), None)


def sound(path, values, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.asarray(values, "<i2").tobytes())
    return path


def test_lines_of_csv_with_names_and_labels(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b,label\n1,2.5,3\n-1,0,4\n")
    found = load_data(path, [port(1, 2)])
    np.testing.assert_array_equal(found["input_0"], np.float32([[[1, 2.5]], [[-1, 0]]]))
    np.testing.assert_array_equal(found["labels"], [3, 4])
    path.write_text("1,2\n")
    assert "labels" not in load_data(path, [port(2)])


def test_sound_is_cut_into_pieces_and_channels_are_averaged(tmp_path):
    path = sound(tmp_path / "a.wav", [16384, -16384, 0, 32767, 1])
    found = load_data(path, [port(1, 2)], preprocessing=Preprocessing(std=(0.5,)))["input_0"]
    np.testing.assert_allclose(found, [[[1, -1]], [[0, 2]]], atol=1e-4)
    stereo = sound(tmp_path / "b.wav", [16384, 0, 0, 0], channels=2)
    np.testing.assert_allclose(load_data(stereo, [port(1, 2)])["input_0"], [[[0.25, 0]]])


def test_folders_of_images_are_classes_in_either_layout(tmp_path):
    for name, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 7), colour).save(tmp_path / name / "1.png")
        (tmp_path / name / "notes.txt").write_text("no image")
    prepare = Preprocessing((0.0, 0.0, 0.0), (255.0, 255.0, 51.0))
    first = load_data(tmp_path, [port(1, 3, 4, 5)], preprocessing=prepare)
    assert first["input_0"].shape == (2, 1, 3, 4, 5)
    np.testing.assert_array_equal(first["input_0"][:, 0, :, 2, 2], [[1, 0, 0], [0, 0, 5]])
    np.testing.assert_array_equal(first["labels"], [0, 1])
    last = load_data(tmp_path, [port(1, 4, 5, 3)], preprocessing=prepare)["input_0"]
    np.testing.assert_array_equal(last, first["input_0"].transpose(0, 1, 3, 4, 2))
    grey = load_data(tmp_path / "cat", [port(4, 5, 1)])
    assert grey["input_0"].shape == (1, 4, 5, 1)
    assert "labels" not in grey


@pytest.mark.parametrize(
    ("name", "content", "shape", "says"),
    [
        ("x.csv", "1,2,3,4\n", (2,), "2 numbers, or 3"),
        ("x.csv", "1,2\n1\n", (2,), "a line a sample"),
        ("x.csv", "1,2\n1,x\n", (2,), "a line a sample"),
        ("x.npy", "no array", (2,), "numpy.save"),
        ("x.wav", "RIFF", (2,), "a WAV file"),
        ("short.wav", [1, 2, 3], (4,), "longer sound"),
        ("empty", None, (2,), "or in a folder for each class"),
        ("f/x.png", "no image", (1, 3, 2, 2), "leaving it out"),
        ("f/x.png", "no image", (7,), "an .npz file"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_a_way_out(name, content, shape, says, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.mkdir()
    elif isinstance(content, list):
        sound(path, content)
    else:
        path.write_text(content)
    with pytest.raises(CompileError) as caught:
        load_data(path.parent if "/" in name else path, [port(*shape)])
    assert caught.value.code == "MM007"
    assert says in caught.value.hint


def test_values_for_one_input_are_not_for_two(tmp_path):
    sound(tmp_path / "a.wav", [1, 2])
    with pytest.raises(CompileError, match="the model has 2"):
        load_data(tmp_path / "a.wav", [port(2), port(2)])
