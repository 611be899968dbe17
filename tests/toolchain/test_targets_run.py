# SPDX-License-Identifier: Apache-2.0
"""Whole models as firmware under QEMU: the same bits as on the host, within the RAM that was proved."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.target import list_targets
from mmcc.verification.bench import bench_qemu
from mmcc.verification.compare import run_host, run_qemu, run_wasm
from mmcc.verification.samples import load_npz, samples_of
from shared_models import ROOT, inputs_path, model_path, needs_shared, outputs_path
from toolchains import ready

DIGITS = ROOT / "examples" / "digits"
BOARDS = [name for name in list_targets() if name not in ("host", "cortex-m")]
MLPERF = [
    *("kws_dscnn_int8_qdq", "ic_resnet8_int8_qdq", "vww_mbv1_int8_qdq", "ad_autoenc_int8_qdq"),
    *("kws_dscnn_fp32", "ic_resnet8_fp32", "vww_mbv1_fp32", "ad_autoenc_fp32"),
    *("mcunet_vww_int8_qdq", "digits_cnn_int8_qdq", "digits_cnn_fp32", "digits_mb32_int8_qdq"),
]
SAMPLES = 3


def on_board(model, data, target, folder, ram=0):
    """Outputs on the host, in QEMU, and what the run in QEMU measured."""
    result = compile_model(model, folder, CompileOptions(target=target, ram=ram, name="net"))
    package = load_package(folder)
    samples = samples_of(package.inputs, load_npz(data), "input", data)[:SAMPLES]
    here = run_host(folder, package, samples)
    there, run = (run_wasm if target == "wasm32" else run_qemu)(folder, package, samples)
    return result.report, here, there, run


def same(here, there, exact):
    for mine, theirs in zip(here, there, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            if exact:
                np.testing.assert_array_equal(a, b)
            else:
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(a).max())))


@pytest.mark.parametrize("target", BOARDS)
def test_the_digits_on_every_target(target, tmp_path):
    ready(target)
    model, data = DIGITS / "digits_int8.onnx", DIGITS / "test_data.npz"
    report, here, there, run = on_board(model, data, target, tmp_path / "net")
    same(here, there, exact=True)
    if target not in ("aarch64", "rv64gcv"):
        assert run.stack_bytes <= report["ram"]["stack"]


@pytest.mark.parametrize("target", BOARDS)
def test_a_float_network_on_every_target(target, tmp_path):
    ready(target)
    model, data = DIGITS / "digits_fp32.onnx", DIGITS / "test_data.npz"
    _, here, there, _ = on_board(model, data, target, tmp_path / "net")
    same(here, there, exact=False)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", MLPERF)
def test_real_networks_as_firmware(name, target, tmp_path):
    ready(target)
    data = inputs_path(name)
    report, here, there, run = on_board(model_path(name), data, target, tmp_path / "net")
    same(here, there, exact="int8" in name)
    assert run.stack_bytes <= report["ram"]["stack"]
    if "int8" in name and "digits" not in name and "mcunet" not in name:
        want = np.load(outputs_path(name))["output_0"][:SAMPLES]
        tops = [sample[0].reshape(-1).argmax() for sample in there]
        assert tops == [sample.reshape(-1).argmax() for sample in want]


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imac"])
def test_the_linker_proves_the_limit(target, tmp_path):
    """A package compiled for just what it reports links into that much RAM, and runs there."""
    ready(target)
    model, data = DIGITS / "digits_int8.onnx", DIGITS / "test_data.npz"
    first = compile_model(model, tmp_path / "a", CompileOptions(target=target, name="net")).report
    ram = first["ram"]["total"]
    report, here, there, _ = on_board(model, data, target, tmp_path / "b", ram=ram)
    assert report["ram"]["total"] == report["ram"]["limit"] == ram
    same(here, there, exact=True)


def test_bench_counts_exactly_and_by_node(tmp_path):
    ready("cortex-m4")
    folder = tmp_path / "net"
    compile_model(DIGITS / "digits_int8.onnx", folder, CompileOptions(target="cortex-m4", name="net"))
    package = load_package(folder)
    first, second = bench_qemu(folder, package), bench_qemu(folder, package)
    assert first == second
    by_node = sum(row["instructions"] for row in first["per_node"])
    assert 0.98 * first["instructions"] <= by_node <= 1.02 * first["instructions"]
