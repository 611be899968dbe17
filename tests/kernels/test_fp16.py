# SPDX-License-Identifier: Apache-2.0
"""Layers with sums in float16: kernels with and without arithmetic for them, and `--fp16-math`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ir_text import read
from kernel_bench import Bench
from loop_models import loops_of, one_loop
from mmcc.driver.compile import compile_model
from mmcc.driver.load import load_model
from mmcc.driver.options import CompileOptions, silent
from mmcc.errors import CompileError
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Node
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.dense import Dense
from mmcc.ops.half_layers import has_half_layer, rounded_sums, sums_in_halves
from mmcc.passes.half_layers import compute_in_halves
from mmcc.selfcheck.judge import allowance
from mmcc.target import load_target
from mmcc.verification.verify import VerifyOptions, verify_package
from onnx import helper, numpy_helper, save
from op_case import rng_of
from op_cases_float_layers import conv
from op_cases_fp16 import POINT, SAME, all_halves, dense, layers_in_halves
from qemu_bench import QemuBench
from toolchains import ready

TARGET = "aarch64_fp16"
MOST = {"conv_3x3": 0.17, "conv_1x1": 0.17, "by_channel": 0.55, "dense_128": 0.3}  # instructions a product


def halves_net(folder, narrow=np.float16):
    """A first layer, a depthwise one, a point with a residual, and a dense layer."""
    rng, kind = rng_of("halves_net"), helper.np_dtype_to_tensor_dtype(np.dtype(narrow))
    shapes = {"aw": (24, 3, 3, 3), "ab": (24,), "bw": (24, 1, 3, 3), "bb": (24,)}
    shapes |= {"cw": (24, 24, 1, 1), "cb": (24,), "fw": (10, 24), "fb": (10,)}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "aw", "ab"], ["a_"], strides=[2, 2], **pads),
        helper.make_node("Relu", ["a_"], ["a"]),
        helper.make_node("Conv", ["a", "bw", "bb"], ["b"], group=24, **pads),
        helper.make_node("Conv", ["b", "cw", "cb"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["y"], transB=1),
    ]
    ports = [helper.make_tensor_value_info(n, kind, s) for n, s in (("x", [1, 3, 12, 12]), ("y", [1, 10]))]
    values = {name: (rng.normal(size=shape) * 0.3).astype(narrow) for name, shape in shapes.items()}
    constants = [numpy_helper.from_array(array, name) for name, array in values.items()]
    graph = helper.make_graph(nodes, "halves", ports[:1], ports[1:], constants)
    path = folder / "halves.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_without_the_arithmetic_sums_are_float32_and_rounded_once():
    """On this machine, and on a Cortex-A53."""
    cases = layers_in_halves()
    bench = Bench(cases, load_target("host"), sanitize=False)
    assert {each.template for each in bench.package.kernels} == {"simd_conv_float", "simd_depthwise_float"}
    for case in cases:
        bench.check(case.name)
    base = ready("aarch64")
    assert base.qemu is not None
    QemuBench(cases[::4], replace(base, qemu=replace(base.qemu, cpu="cortex-a53"))).check_all()


def test_with_the_arithmetic():
    """The references' bits, as sums are exact; in float32 products take 0.28 and more."""
    measured = [
        conv("conv_3x3", (12, 12, 32), 32, SAME),
        conv("conv_1x1", (12, 12, 64), 64, POINT),
        conv("by_channel", (12, 12, 64), 64, SAME, 64),
        dense("dense_128", (128,), 128),
    ]
    bench = QemuBench([*layers_in_halves(), *map(all_halves, measured)], ready(TARGET))
    bench.check_all()
    each = {case.name: bench.instructions(case.name) / bench.cases[case.name].nest.macs for case in measured}
    assert {name for name, count in each.items() if count > MOST[name]} == set(), each


class RoundedBench(QemuBench):
    """What kernels make is what sums make that are rounded after each product."""

    def _compare(self, case, got, what, tolerance):
        if not self.recording:
            want = rounded_sums(case.op, *case.inputs)
            np.testing.assert_array_equal(got.reshape(want.shape), want, err_msg=what)


def test_with_the_arithmetic_sums_of_any_values_are_rounded_after_each_product():
    rng, cases = rng_of("rounded"), []
    for case in (
        conv("conv", (5, 7, 19), 24, SAME, activation=Leaky(0.3)),
        conv("by_channel", (5, 7, 24), 24, SAME, 24, activation=Clamp(-0.3, 1.1)),
        dense("dense", (150,), 24),
    ):
        shapes = [np.shape(array) for array in case.inputs]
        values = tuple(rng.standard_normal(shape).astype(np.float16) for shape in shapes)
        cases.append(replace(case, inputs=values))
    assert all((rounded_sums(case.op, *case.inputs) != case.want).any() for case in cases)
    RoundedBench(cases, ready(TARGET)).check_all()


def test_what_is_neither_of_both_kinds_of_sums_is_found():
    """Sums of 4,096 products that are rounded each are far from the others where all are positive."""
    rng, op = rng_of("found"), Dense()
    node, zeros = Node(op, ("x", "w", "b"), ("y",)), np.zeros(64, np.float16)
    for sizes in (rng.standard_normal, rng.random):
        operands = [sizes(shape).astype(np.float16) for shape in ((4096,), (64, 4096))]
        (want,) = op.reference(*operands, zeros)
        rounded = rounded_sums(op, *operands, zeros)
        assert np.abs(rounded - want).max() > 0.005 * np.abs(want).max()
        for good in (want, rounded, np.where(np.arange(64) % 2, want, rounded)):
            assert allowance(node, 0, [*operands, zeros], want, good).all()
        for wrong in (zeros, want * np.float16(1.02), np.roll(rounded, 1)):
            assert allowance(node, 0, [*operands, zeros], want, wrong).mean() < 0.05


def test_a_layer_with_constants_beyond_float16_is_float32():
    """They would be infinite."""
    for largest, dtype in ((65504.0, ElementType.F16), (65520.0, ElementType.F32)):
        graph = compute_in_halves(
            read(f"""
                input %x: f16[16]
                constant %w: f32[16,16] = all {largest}
                constant %b: f32[16] = all 0
                %wide = Cast(f32)(%x)
                %sums = Dense()(%wide, %w, %b)
                %y = Cast(f16)(%sums)
                output %y
            """),
            lambda _: False,
        )
        assert [graph.tensors[n.inputs[0]].dtype for n in graph.nodes if isinstance(n.op, Dense)] == [dtype]


def test_layers_of_loops_are_found(tmp_path):
    inside = [
        helper.make_node("Cast", ["f8"], ["hh"], to=10),
        helper.make_node("Gemm", ["hh", "W", "B"], ["p"]),
        helper.make_node("Cast", ["p"], ["h2"], to=1),
    ]
    constants = {"W": np.eye(16, dtype=np.float16), "B": np.zeros(16, np.float16)}
    given = {"h0": np.zeros((1, 16), np.float32)}
    save(one_loop(inside, [("h0", "h", "h2", 1)], [], ["last_h"], given, constants, 400), tmp_path / "m.onnx")
    graph = load_model(tmp_path / "m.onnx", CompileOptions(fp16_math=True)).graph
    assert loops_of(graph)
    assert has_half_layer(graph)


def test_a_package_with_sums_in_float16_is_verified(tmp_path):
    path = halves_net(tmp_path)
    ready(TARGET)
    done = compile_model(path, tmp_path / "out", CompileOptions(target=TARGET, fp16_math=True))
    layers = [node for node in done.graph.nodes if sums_in_halves(node.op, ElementType.F16)]
    types = {done.graph.tensors[name].dtype for node in layers for name in (*node.inputs, node.output)}
    rest = {type(node.op).__name__ for node in done.graph.nodes if node not in layers}
    assert (len(layers), types) == (4, {ElementType.F16})
    assert rest.isdisjoint({"Conv", "Dense"})
    found = verify_package(tmp_path / "out", VerifyOptions(on="qemu", per_node=True), silent)
    assert found["ok"], found


def test_what_has_no_arithmetic_or_no_layers_in_float16_is_refused(tmp_path):
    half, single = halves_net(tmp_path), tmp_path / "single"
    single.mkdir()
    wide = halves_net(single, np.float32)
    refused = [(half, "aarch64", f"-t {TARGET}"), (wide, TARGET, "between tensors in float16")]
    for path, target, says in refused:
        with pytest.raises(CompileError) as told:
            compile_model(path, tmp_path / "out", CompileOptions(target=target, fp16_math=True))
        assert told.value.code == "MM124"
        assert says in f"{told.value} {told.value.hint}"
    compile_model(wide, tmp_path / "out", CompileOptions(target=TARGET, self_check=False))
