# SPDX-License-Identifier: Apache-2.0
"""Every convolutional and dense model: compiled, built, and held to ONNX Runtime's outputs on the host."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions, silent
from mmcc.package.record import load_package
from mmcc.verification.verify import VerifyOptions, verify_package
from shared_models import (
    MODELS,
    inputs_path,
    kept_models,
    model_path,
    needs_shared,
    outputs_path,
)

pytestmark = [needs_shared, pytest.mark.slow]

GENERATED = [
    *("gen_mobilenetv2_035_144", "gen_mobilenetv2_100_224", "gen_mobilenetv2_100_224_qdq_u8s8"),
    *("gen_squeezenet11_224", "gen_tiny_yolov2_416", "gen_resnet50_224", "gen_yolov2_first8_160"),
]
# bytes of arena with input and output, as known from the literature or an exhaustive search
OPTIMA = {
    "kws_dscnn_int8_qdq": 8_640,
    "ic_resnet8_int8_qdq": 33_792,
    "vww_mbv1_int8_qdq": 37_248,
    "ad_autoenc_int8_qdq": 768,
    "gen_mobilenetv2_035_144_qdq_s8s8": 250_560,
    "mbv2_100_224_xt_int8_qdq": 1_209_600,
    "gen_mobilenetv2_100_224_qdq_u8s8": 1_209_600,
}
SCRATCH = 2_048
LABELLED = {
    "digits_cnn_fp32": 359,
    "digits_cnn_fp32_dynamo": 359,
    "digits_cnn_int8_qdq": 359,
    "digits_cnn_int8_qop_u8s8": 359,
    "digits_mb32_fp32": 355,
    "digits_mb32_int8_qdq": 354,
    "ic_resnet8_fp32": 2,
    "ic_resnet8_int8_qdq": 2,
    "mcunet_vww_int8_qdq": 3,
    "micro_speech_int8_qdq": 4,
    "vww_mbv1_fp32": 4,
    "vww_mbv1_int8_qdq": 4,
}


@pytest.fixture(scope="module")
def package_of(tmp_path_factory):
    """Compile a model once for all tests of this file."""
    made = {}

    def package(name, **options):
        key = (name, tuple(sorted(options.items())))
        if key not in made:
            out = tmp_path_factory.mktemp("models") / name
            made[key] = compile_model(model_path(name), out, CompileOptions(name="net", **options))
        return made[key]

    return package


def names():
    kept = kept_models() if MODELS.is_dir() else []
    return [*kept, *GENERATED]


@pytest.mark.parametrize("name", names())
def test_the_c_computes_what_the_model_computes(name, package_of):
    result = package_of(name)
    options = VerifyOptions(data=inputs_path(name), expected=outputs_path(name))
    found = verify_package(result.folder, options, silent)
    assert found["ok"], {k: v for k, v in found.items() if k != "per_node"}
    if name in LABELLED:
        assert found["accuracy"]["correct"] == LABELLED[name]


@pytest.mark.parametrize("name", [n for n in names() if "int8" in n or "qdq" in n or "qop" in n.lower()])
def test_int8_node_by_node(name, package_of):
    result = package_of(name)
    options = VerifyOptions(
        data=inputs_path(name), expected=outputs_path(name), per_node=True, limit=3, model=model_path(name)
    )
    rows = verify_package(result.folder, options, silent)["per_node"]
    assert rows
    assert [row for row in rows if not row["ok"]] == []
    assert result.report["warnings"] == [], "no part of them computes in float"


@pytest.mark.parametrize("name", OPTIMA)
def test_known_optima_of_the_arena(name, package_of):
    result = package_of(name)
    report = result.report
    assert report["ram"]["arena"] <= OPTIMA[name] + SCRATCH
    scratch = sum(b["size"] for b in report["plan"]["buffers"] if b["kind"] == "scratch")
    assert report["ram"]["arena"] - scratch <= OPTIMA[name]
    assert report["plan"]["proved_optimal"]


@pytest.mark.parametrize("name", ["gen_vgg16_224", "gen_yolov2_608", "gen_vgg19_224"])
def test_the_largest_can_at_least_be_checked(name):
    from mmcc.driver.check import check_model

    assert check_model(model_path(name), {}, {}, silent)["macs"] > 10**10


@pytest.mark.parametrize("name", ["kws_dscnn_int8_qdq", "kws_dscnn_fp32", "digits_mb32_int8_qdq"])
@pytest.mark.parametrize("options", [{"io": "external"}, {"weights": "bin"}, {"float_io": True}], ids=str)
def test_options_change_no_output(name, options, package_of):
    plain, other = package_of(name), package_of(name, **options)
    arrays = np.load(inputs_path(name))["input_0"]
    for sample in arrays[:3]:
        np.testing.assert_array_equal(plain.run([sample])[0], other.run([sample])[0])


def test_the_report_has_what_users_rely_on(package_of):
    folder = package_of("kws_dscnn_int8_qdq").folder
    report = json.loads((folder / "report.json").read_text())
    assert report["schema"] == 2
    assert report["model"]["macs"] == 2_656_768
    assert report["model"]["params"] == 22_604
    parts = {"arena", "state", "context", "static", "stack", "workers"}
    linked = {"concurrent", "parts_proved", "stacks", "worker_stack"}
    others = {"limit", "least", "total", "regions", "states", "stack_from", "weights"}
    assert {*others, *parts, *linked} == set(report["ram"])
    assert report["ram"]["total"] == sum(report["ram"][part] for part in parts)
    (region,) = report["ram"]["regions"]
    assert (region["name"], region["bytes"], region["size"]) == ("sram", report["ram"]["arena"], None)
    assert {"total", "weights", "code"} == set(report["flash"])
    buffer = report["plan"]["buffers"][0]
    assert set(buffer) == {"name", "kind", "region", "offset", "size", "first_step", "last_step"}
    figures = {"macs", "weights", "constant_bytes", "in_ram", "predicted", "handoff"}
    assert {"index", "op", "name", "from", "reads", "out_shape", *figures} == set(report["nodes"][0])
    assert report["weights"] is None, "weights that are at hand are not read"
    for port in (*report["inputs"], *report["outputs"]):
        assert {"name", "shape", "dtype", "scale", "zero_point", "offset"} <= set(port)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    path = model_path("kws_dscnn_int8_qdq")
    first = compile_model(path, tmp_path / "a", CompileOptions(target="host")).files
    second = compile_model(path, tmp_path / "b", CompileOptions(target="host")).files
    assert first.keys() == second.keys()
    for name in first:
        if not name.startswith("report"):
            assert first[name].read_bytes() == second[name].read_bytes(), name


def test_a_package_knows_its_model(package_of):
    package = load_package(package_of("kws_dscnn_int8_qdq").folder)
    assert package.name == "net"
    assert package.inputs[0].onnx_shape == (1, 49, 10, 1)
