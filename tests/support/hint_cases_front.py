# SPDX-License-Identifier: Apache-2.0
"""Hints of quantizing, building and packaging, followed: see test_hints.py."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from frontend_models import model_of, save
from hint_cases_tools import CONV
from hint_runs import RELU, mmcc, node
from hints import follows
from mmcc.driver.compile import compile_model
from mmcc.driver.link import link_models
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from PIL import Image


def calibration(folder, shape=(1, 4, 8, 8)):
    path = folder / "calibration.npz"
    np.savez(path, input_0=np.random.default_rng(2).standard_normal((4, *shape)).astype(np.float32))
    return path


@follows(
    "quantization/quantize.py: 'the float model it was made from'",
    "quantization/quantize.py: \"pip install 'mmcc[quantize]'\"",
)
def quantized_twice(folder, monkeypatch):
    model, data, out = save(CONV, folder), calibration(folder), folder / "q.onnx"
    args = ("quantize", model, "--data", data, "-o", out, "--no-corrections")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "mmcc[quantize]" in mmcc(*args, exit=8)
    monkeypatch.undo()
    mmcc(*args)
    assert "the float model" in mmcc("quantize", out, "--data", data, "-o", folder / "r.onnx", exit=2)
    mmcc("quantize", model, "--data", data, "-o", folder / "r.onnx")


@follows("quantization/quantize.py: 'leaving such samples out'")
def samples_that_are_no_numbers(folder, _):
    model, path = save(CONV, folder), calibration(folder)
    args = ("quantize", model, "--data", path, "-o", folder / "q.onnx", "--no-corrections")
    array = np.load(path)["input_0"]
    array[2, 0, 0, 0, 0] = np.nan
    np.savez(path, input_0=array)
    assert "leaving such samples out" in mmcc(*args, exit=2)
    np.savez(path, input_0=np.delete(array, 2, axis=0))
    mmcc(*args)


@follows("quantization/quantize.py: 'classes counted from 0, -1 if unknown'")
def labels_that_are_no_classes(folder, _):
    model, path = save(CONV, folder), calibration(folder)
    args = ("quantize", model, "--data", path, "-o", folder / "q.onnx", "--no-corrections")
    array = np.load(path)["input_0"]
    labels = np.zeros(len(array), np.int64)
    labels[1] = 10**6
    np.savez(path, input_0=array, labels=labels)
    said = " ".join(mmcc(*args, exit=2).split())  # where lines end depends on the path
    assert "sample 1 has label 1000000" in said
    assert "-1 if unknown" in said
    labels[1] = -1
    np.savez(path, input_0=array, labels=labels)
    mmcc(*args)


@follows("quantization/quantize.py: '--mixed with a larger loss, or --method percentile'")
def a_loss_that_no_model_keeps(folder, monkeypatch):
    model, data = save(CONV, folder), calibration(folder)
    monkeypatch.setattr("mmcc.quantization.quantize._sensitivity", lambda *_: [])
    args = ("quantize", model, "--data", data, "-o", folder / "q.onnx", "--mixed")
    assert "a larger loss" in mmcc(*args, 200, exit=2)
    mmcc(*args, 5)


@follows("quantization/quantize.py: f'mmcc check {printable(model.name)}'")
def a_quantizer_that_gives_up(folder, monkeypatch):
    model, data = save(CONV, folder), calibration(folder)
    monkeypatch.setattr("mmcc.quantization.quantize._prepared", lambda *_: 1 / 0)
    assert "mmcc check model.onnx" in mmcc("quantize", model, "--data", data, exit=2)
    assert "can be compiled" in mmcc("check", model)


@follows("cli/quantize.py: f'{option} 127.5, or {option} 123.7,116.3,103.5'")
def a_mean_that_is_no_number(folder, _):
    model, data = save(CONV, folder), calibration(folder)
    args = ("quantize", model, "--data", data, "-o", folder / "q.onnx", "--no-corrections")
    assert "--std 127.5" in mmcc(*args, "--std", "0", exit=2)
    mmcc(*args, "--std", "127.5")


@follows("verification/data_files.py: \"pip install 'mmcc[quantize]', or the images as an .npz file\"")
def images_without_pillow(folder, monkeypatch):
    weights = {"w": np.linspace(-1, 1, 12).reshape(4, 3, 1, 1).astype(np.float32)}
    model = model_of(
        [node("Conv", ["x", "w"], ["y"])], {"x": np.zeros((1, 3, 8, 8), np.float32)}, ["y"], weights
    )
    path, images = save(model, folder), folder / "images"
    images.mkdir()
    Image.new("RGB", (8, 8), (9, 8, 7)).save(images / "a.png")
    args = ("quantize", path, "-o", folder / "q.onnx", "--no-corrections", "--data")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "as an .npz file" in mmcc(*args, images, exit=8)
    mmcc(*args, calibration(folder, (1, 3, 8, 8)))
    monkeypatch.undo()
    mmcc(*args, images)


@follows("driver/options.py: did_you_mean(kind, KINDS) + f\"one of {', '.join(KINDS)}\"")
def a_kind_of_package_that_is_none(folder, _):
    model = save(RELU, folder)
    with pytest.raises(CompileError) as caught:
        compile_model(model, folder / "out", CompileOptions(packages=("zefyr",), stack=1024))
    kind = caught.value.hint.removeprefix("did you mean ").split("?")[0]
    compile_model(model, folder / "out", CompileOptions(packages=(kind,), stack=1024, self_check=False))
    assert (folder / "out" / "zephyr" / "module.yml").is_file()


@follows("cli/build.py: f\"{did_you_mean(name, names)}one of {', '.join(names)}\"")
def a_model_that_the_project_does_not_name(folder, _):
    save(RELU, folder)
    (folder / "mmcc.toml").write_text('[model.relu]\nfile = "model.onnx"\nself_check = false\nstack = 1024\n')
    said = mmcc("build", folder / "mmcc.toml", "--only", "rely", exit=2)
    name = said.partition("did you mean ")[2].partition("?")[0]
    mmcc("build", folder / "mmcc.toml", "--only", name)


@follows(
    "cli/compile.py: f'{did_you_mean(name.lower(), chips())}"
    "mmcc targets list, or a target file with its memories'",
    "cli/compile.py: 'leave out --chip or --target'",
)
def a_chip_that_is_not_known(folder, _):
    args = ("compile", save(RELU, folder), "-o", folder / "out", "--stack", "1K", "--no-self-check")
    said = mmcc(*args, "--chip", "STM32F411RT", exit=2)
    name = said.partition("did you mean ")[2].partition("?")[0]
    assert name in mmcc("targets", "list")
    assert "leave out" in mmcc(*args, "--chip", name, "--target", "host", exit=2)
    mmcc(*args, "--chip", name)


@follows("driver/link.py: 'mmcc compile for each model'")
def what_only_one_model_can_have(folder, _):
    model, options = save(RELU, folder), CompileOptions(io="rows", stack=1024, self_check=False)
    with pytest.raises(CompileError, match="for one model"):
        link_models({"a": model, "b": model}, folder / "out", options)
    for name in ("a", "b"):
        compile_model(model, folder / name, options)


@follows("cli/sweep.py: '--io arena,external'")
def a_way_that_is_none(folder, _):
    args = ("sweep", save(RELU, folder), "-o", folder / "out", "-j", 1, "--io")
    assert "--io arena,external" in mmcc(*args, "arena,extern", exit=2)
    mmcc(*args, "arena,external")


@follows(
    "cli/sweep.py: '--executor local, or dask://HOST:PORT'",
    "report/sweep_table.py: \"pip install 'mmcc[parquet]', or table.csv, which is written anyway\"",
    "driver/sweep_cluster.py: \"pip install 'mmcc[dask]'\"",
)
def clusters_and_tables(folder, monkeypatch):
    args = ("sweep", save(RELU, folder), "-o", folder / "out", "-j", 1)
    assert "--executor local" in mmcc(*args, "--executor", "dusk://here:1", exit=2)
    for module in ("pyarrow", "pyarrow.parquet", "distributed"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "mmcc[parquet]" in mmcc(*args, "--parquet", exit=8)
    assert "mmcc[dask]" in mmcc(*args, "--executor", "dask://127.0.0.1:1", exit=8)
    monkeypatch.undo()
    mmcc(*args, "--parquet", "--executor", "local")
    assert (folder / "out" / "table.csv").is_file()


@follows(
    "driver/sweep_cluster.py: 'dask scheduler, dask worker HOST:PORT, and --executor dask://HOST:PORT'",
    "driver/sweep_cluster.py: f'pip install mmcc=={__version__} for workers'",
)
def a_cluster_that_is_none(folder, monkeypatch):
    from distributed import LocalCluster

    args = ("sweep", save(RELU, folder), "-o", folder / "out", "--executor")
    monkeypatch.setattr("mmcc.driver.sweep_cluster.SECONDS", 1.0)
    assert "dask scheduler" in mmcc(*args, "dask://127.0.0.1:1", exit=8)
    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        monkeypatch.setattr("mmcc.driver.sweep_cluster._version", lambda: "0.0.1")
        assert "pip install mmcc==" in mmcc(*args, address, exit=2)
        monkeypatch.undo()
        mmcc(*args, address)
