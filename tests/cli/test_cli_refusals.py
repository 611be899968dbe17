# SPDX-License-Identifier: Apache-2.0
"""Files, names and options that the command line refuses, and how it says so."""

from __future__ import annotations

import json
import os

import pytest
from cli_runs import MODEL, conv_model, refused, run, saved
from onnx import TensorProto, helper


@pytest.mark.quick
@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"not a model at all", b"\xff" * 4096], ids=["empty", "tiny", "text", "noise"]
)
def test_a_file_that_is_no_model(content, tmp_path):
    refused(saved(content, tmp_path), tmp_path, 3)


@pytest.mark.quick
def test_a_file_cut_short(tmp_path):
    whole = MODEL.read_bytes()
    for part in (10, 100, len(whole) // 2, len(whole) - 3):
        refused(saved(whole[:part], tmp_path), tmp_path, 3)


@pytest.mark.quick
def test_a_file_that_is_not_there(tmp_path):
    refused(tmp_path / "nowhere.onnx", tmp_path, 3, "nowhere.onnx")


@pytest.mark.quick
def test_a_file_of_a_name_that_is_nearly_right(tmp_path):
    saved(conv_model(), tmp_path, "keywords.onnx")
    refused(tmp_path / "keyword.onnx", tmp_path, 3, "there is no file", "did you mean keywords.onnx?")


@pytest.mark.quick
def test_a_folder_is_no_model(tmp_path):
    refused(tmp_path, tmp_path, 3, "is a folder, not an ONNX file")
    saved(conv_model(), tmp_path, "kws.onnx")
    refused(tmp_path, tmp_path, 3, f"try: {tmp_path / 'kws.onnx'}")
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a")
    refused(tmp_path, tmp_path, 3, "SavedModel", "tf2onnx")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.tflite", b"\x20\0\0\0TFL3", "--tflite"),
        ("m.bin", b"\x20\0\0\0TFL3", "--tflite"),  # told by its content
        ("m.tflite", b"", "--tflite"),  # told by its name
        ("m.h5", b"\x89HDF\r\n", "--keras"),
        ("m.pt", b"PK\3\4", "torch.onnx.export"),
        ("m.pth", b"\x80\x02", "torch.onnx.export"),
        ("m.pb", b"\x0a\x05", "--graphdef"),
        ("m.onnx", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_a_model_of_another_format(name, content, says, tmp_path):
    refused(saved(content, tmp_path, name), tmp_path, 3, "not an ONNX file", says)


@pytest.mark.quick
def test_an_onnx_file_may_have_any_name(tmp_path):
    path = saved(conv_model(), tmp_path, "model.pb")
    assert run("check", path).exit_code == 0


@pytest.mark.quick
def test_a_folder_that_is_no_package_is_told_in_words(tmp_path):
    result = run("verify", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "it has no .mmcc/package.json" in result.stderr
    (tmp_path / "odd" / ".mmcc" / "package.json").mkdir(parents=True)  # a folder where a file should be
    other = run("verify", str(tmp_path / "odd"))
    assert f"{tmp_path / 'odd' / '.mmcc' / 'package.json'} cannot be read: Is a directory" in " ".join(
        other.stderr.split()
    )
    assert "Errno" not in result.stderr + other.stderr


@pytest.mark.parametrize(
    ("args", "code", "exit_code"),
    [
        (["compile", "nowhere.onnx"], "MM101", 3),
        (["check", "nowhere.onnx"], "MM101", 3),
        (["compile", MODEL, "-t", "z80"], "MM001", 2),
        (["compile", MODEL, "--no-such-option"], "MM000", 2),
        (["compile", MODEL, "--recompute", "nan"], "MM000", 2),
        (["compile", MODEL, "--time-limit", "nan"], "MM000", 2),
        (["verify", "nowhere"], "MM004", 2),
    ],
)
def test_errors_are_json_where_results_are(args, code, exit_code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*args, "--json")
    assert result.exit_code == exit_code
    error = json.loads(result.stdout)["error"]
    assert (error["code"], error["exit"]) == (code, exit_code)
    assert error["message"]
    assert " ".join(error["message"].split()) in " ".join(result.stderr.split())  # for people, as ever
    assert run(*args).stdout == ""


@pytest.mark.quick
def test_an_error_as_json_says_where_it_is(tmp_path):
    model = conv_model()
    model.graph.node.append(helper.make_node("Frobnicate", ["y"], ["a"], name="first", domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.output[0].name = "a"
    result = run("check", saved(model, tmp_path), "--json")
    error = json.loads(result.stdout)["error"]
    assert error["where"] == [{"model": "model.onnx", "node": 1, "op": "Frobnicate", "name": "first"}]
    assert "onnx.utils.extract_model" in error["try"]


@pytest.mark.quick
@pytest.mark.parametrize("location", ["weights.bin", "../secret.bin", "/etc/passwd"])
def test_external_data_missing_or_outside(location, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    model = conv_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    refused(saved(model, folder), folder, 3)


@pytest.mark.quick
def test_all_unknown_operators_are_listed(tmp_path):
    model = conv_model()
    model.graph.node.append(helper.make_node("Frobnicate", ["y"], ["a"], name="first", domain="com.example"))
    model.graph.node.append(
        helper.make_node("Defenestrate", ["a"], ["b"], name="second", domain="com.example")
    )
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.output[0].name = "b"
    refused(saved(model, tmp_path), tmp_path, 4, "Frobnicate", "Defenestrate", "first")


@pytest.mark.quick
def test_a_symbolic_dimension_needs_a_value(tmp_path):
    path = saved(conv_model(dims=("N", 2, "height", 6)), tmp_path)
    refused(path, tmp_path, 3, "height", "--dim height=")
    assert run("compile", path, "-o", tmp_path / "ok", "--dim", "height=7").exit_code == 0


@pytest.mark.quick
@pytest.mark.parametrize("dim", ["height", "height=0", "height=-1", "height=x", "=3"])
def test_a_malformed_dimension(dim, tmp_path):
    refused(saved(conv_model(), tmp_path), tmp_path, 2, args=("--dim", dim))


@pytest.mark.quick
def test_absurd_sizes(tmp_path):
    refused(saved(conv_model(dims=(1, 2, 2**30, 2**30)), tmp_path), tmp_path, 3)


@pytest.mark.quick
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_that_make_no_sense(scale, tmp_path):
    refused(saved(conv_model(scale=scale), tmp_path), tmp_path, 3, "scale")


HOSTILE = ['"; #error "', "*/ int main; /*", "a\nb", "int", "x\\", "??/", "%s%n", "\u202ename", "a" * 300]


@pytest.mark.parametrize("name", HOSTILE, ids=[f"name{k}" for k in range(len(HOSTILE))])
def test_hostile_names_are_harmless(name, tmp_path):
    model = conv_model(name=name, input_name=name + "in", output_name=name + "out")
    out = tmp_path / "out"
    result = run("compile", saved(model, tmp_path), "-o", out)
    assert result.exit_code == 0, result.output
    assert run("verify", out, "--json").exit_code == 0


def test_names_that_clean_to_the_same_identifier(tmp_path):
    model = conv_model(output_name="a.b")
    model.graph.node.append(helper.make_node("Relu", ["a.b"], ["a/b"]))
    model.graph.output.append(helper.make_tensor_value_info("a/b", TensorProto.FLOAT, None))
    out = tmp_path / "out"
    assert run("compile", saved(model, tmp_path, "int.onnx"), "-o", out).exit_code == 0
    assert run("verify", out, "--json").exit_code == 0


@pytest.mark.quick
def test_an_output_that_cannot_be_written(tmp_path):
    path = saved(conv_model(), tmp_path)
    (tmp_path / "file").write_text("")
    assert run("compile", path, "-o", tmp_path / "file").exit_code == 2
    assert run("compile", path, "-o", tmp_path / "file" / "below").exit_code == 2
    if os.geteuid() != 0:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        assert run("compile", path, "-o", locked / "out").exit_code == 2


@pytest.mark.quick
@pytest.mark.parametrize("ram", ["0", "-1", "lots", "12Q", "", "1e3", "999999999999999999999G"])
def test_a_malformed_ram_limit(ram, tmp_path):
    path = saved(conv_model(), tmp_path)
    if ram == "":
        pytest.skip("an empty text means: no limit")
    refused(path, tmp_path, 2, "--ram", args=("--ram", ram))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("compile", "{}", "--ram", ""), "--ram"),
        (("compile", "{}", "--ram="), "--ram"),
        (("compile", "{}", "--json", "--name", ""), "--name"),
        (("compile", "{}", "--flash=", "--json"), "--flash"),
        (("compile", "{}", "-o", ""), "-o"),
        (("compile", ""), "an argument"),
        (("train", "{}", "--slow-memory", ""), "--slow-memory"),
        (("link", "a={}", "", "--json"), "an argument"),
        (("verify", "{}", "--data", ""), "--data"),
    ],
    ids=lambda value: "-".join(value).replace("{}", "m") if isinstance(value, tuple) else None,
)
def test_what_is_given_and_empty_is_not_as_if_left_out(command, named, tmp_path, monkeypatch):
    """As by a variable of a script that is not set: a limit would be none without a word."""
    monkeypatch.chdir(tmp_path)
    result = run(*(word.format(MODEL) for word in command))
    assert result.exit_code == 2
    assert f"{named} is empty" in result.output
    assert not list(tmp_path.iterdir())
    if "--json" in command:
        assert json.loads(result.stdout)["error"]["code"] == "MM000"


@pytest.mark.quick
@pytest.mark.parametrize("asked", ["x", "x:", "x:-1", "x:t"])
def test_a_stream_without_an_axis_is_told_the_axes(asked, tmp_path):
    path = saved(conv_model(), tmp_path)
    refused(path, tmp_path, 2, "x:AXIS", "the axis of [1, 2, 6, 6]", args=("--stream", asked))


@pytest.mark.quick
def test_a_number_for_an_input_of_many_is_called_one(tmp_path):
    path = saved(conv_model(), tmp_path)
    refused(path, tmp_path, 2, "has shape [1, 2, 6, 6], and the value is one number", args=("--bind", "x=5"))
