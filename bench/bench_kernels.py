# SPDX-License-Identifier: Apache-2.0
"""Instructions of single kernels on emulated targets, beside CMSIS-NN's: a layer a firmware, results checked.

    python bench/bench_kernels.py [--targets cortex-m3,cortex-m4] [--json FILE] [--portable]
    python bench/bench_kernels.py --all [--profile] [--targets cortex-m4] [NAME ...]

The first form prints the layers that CMSIS-NN was measured on, a column for each target: our instructions for
one multiply-accumulate (or element), CMSIS-NN's in parentheses, and an x where a goal is missed. The second
goes through many layers of real networks; names choose those that contain one of them. Code is what the
kernels' object file holds. Weights are spread as trained ones are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower
from mmcc.codegen.render import render
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Group, MemoryPlan, Place, Plan, Slot
from mmcc.ir.regions import SRAM
from mmcc.ir.types import geometry
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.elementwise_int8 import Lookup
from mmcc.ops.matmul import Operands
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.requantize import multipliers_and_shifts
from mmcc.ops.softmax import SoftmaxInt8, exp_table
from mmcc.ops.window import Window
from mmcc.target import Target, load_target
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import FirmwareRun, run_firmware
from nearest_places import graph_of
from op_case import OpCase, rng_of
from op_cases_float_layers import conv as float_conv
from op_cases_int8 import add, matmul, mean, mul, normalized
from op_cases_int8_layers import CONSTANTS, conv, dense, int8, transposed

NAME = "k"
ALIGN = 16


@dataclass(frozen=True, slots=True)
class Row:
    """What one case cost."""

    name: str
    shape: str
    unit: str  # what the instructions are divided by
    units: int
    instructions: int
    code: int


def same(size: int, stride: int = 1) -> Window:
    """A window padded as frameworks do it: for stride 2 and even images only below and to the right."""
    low, high = ((size - 1) // 2, size // 2) if stride == 1 else ((size - 2) // 2, (size - 1) // 2)
    return Window((size, size), (stride, stride), (1, 1), (low, low, high, high))


def depthwise(name: str, h: int, w: int, c: int, size: int = 3, stride: int = 1) -> Callable[[], OpCase]:
    return lambda: conv(name, (h, w, c), c, same(size, stride), zeros=(-128, -128), groups=c)


def ordinary(name: str, h: int, w: int, c: int, filters: int, size: int = 3, stride: int = 1):
    return lambda: conv(name, (h, w, c), filters, same(size, stride), zeros=(-128, -128))


def point(name: str, h: int, w: int, c: int, filters: int) -> Callable[[], OpCase]:
    return lambda: conv(name, (h, w, c), filters, Window((1, 1)), zeros=(-128, -128))


def _kws_first() -> OpCase:
    window = Window((10, 4), (2, 2), (1, 1), (4, 1, 5, 1))
    return conv("conv 10x4 first, KWS", (49, 10, 1), 64, window, zeros=(83, -128))


def _average(size: int, stride: int, scale: float, shape: tuple[int, int, int]) -> Callable[[], OpCase]:
    table = multipliers_and_shifts(np.array([scale / size**2]))
    op = AveragePoolInt8(Window((size, size), (stride, stride)), -128, -128)
    name = f"average pool {size}x{size}"
    return lambda: OpCase(name, op, (int8(rng_of("average"), *shape), *table), CONSTANTS)


def _softmax() -> OpCase:
    table = exp_table(0.1).astype(np.int32)
    op = SoftmaxInt8(1 << 24, -128)
    return OpCase("softmax 1000", op, (int8(rng_of("softmax"), 1000), table), (False, True))


def _matmul(a: tuple[int, ...], b: tuple[int, ...], operands: Operands, zeros: tuple[int, int] = (3, -5)):
    name = f"matmul {'transposed' if operands.transposed else 'plain'}{'' if zeros[1] else ', zero point 0'}"
    return lambda: matmul(name, a, b, operands, 0.005, zeros=zeros)


def _lookup() -> OpCase:
    rng = rng_of("lookup")
    return OpCase("lookup", Lookup(), (int8(rng, 16, 16, 16), int8(rng, 256)), (False, True))


def _max_pool(size: int, stride: int) -> Callable[[], OpCase]:
    return lambda: OpCase(
        f"max pool {size}x{size}",
        MaxPool(Window((size, size), (stride, stride))),
        (int8(rng_of("max"), 17, 17, 32),),
    )


CASES: tuple[Callable[[], OpCase], ...] = (
    ordinary("conv 3x3 first, VWW", 96, 96, 3, 8, stride=2),
    ordinary("conv 3x3 first, ResNet-8", 32, 32, 3, 16),
    ordinary("conv 3x3 first, MCUNet", 80, 80, 3, 16, stride=2),
    ordinary("conv 3x3 first, MobileNetV2", 64, 64, 3, 32, stride=2),
    _kws_first,
    ordinary("conv 3x3", 32, 32, 16, 16),
    ordinary("conv 3x3", 16, 16, 32, 32),
    ordinary("conv 3x3", 8, 8, 64, 64),
    ordinary("conv 3x3 stride 2", 32, 32, 16, 32, stride=2),
    lambda: conv("conv 1x1 stride 2", (32, 32, 16), 32, Window((1, 1), (2, 2)), zeros=(-128, -128)),
    point("conv 1x1", 48, 48, 8, 16),
    point("conv 1x1", 24, 24, 32, 32),
    point("conv 1x1", 25, 5, 64, 64),
    point("conv 1x1", 6, 6, 128, 128),
    point("conv 1x1", 3, 3, 256, 256),
    point("conv 1x1", 14, 14, 96, 576),
    point("conv 1x1", 7, 7, 960, 160),
    depthwise("depthwise 3x3", 48, 48, 8),
    depthwise("depthwise 3x3", 24, 24, 32),
    depthwise("depthwise 3x3", 25, 5, 64),
    depthwise("depthwise 3x3", 12, 12, 64),
    depthwise("depthwise 3x3", 7, 7, 960),
    depthwise("depthwise 3x3", 6, 6, 128),
    depthwise("depthwise 3x3", 5, 5, 96),
    depthwise("depthwise 3x3", 4, 4, 128),
    depthwise("depthwise 3x3", 3, 3, 256),
    depthwise("depthwise 3x3", 48, 48, 16, stride=2),
    depthwise("depthwise 3x3", 12, 12, 64, stride=2),
    depthwise("depthwise 3x3", 6, 6, 128, stride=2),
    depthwise("depthwise 5x5", 20, 20, 48, size=5),
    depthwise("depthwise 5x5", 10, 10, 96, size=5, stride=2),
    depthwise("depthwise 7x7", 20, 20, 48, size=7),
    depthwise("depthwise 7x7", 5, 5, 192, size=7),
    lambda: dense("dense", (640,), 128),
    lambda: dense("dense", (128,), 128),
    lambda: dense("dense", (64,), 10),
    lambda: dense("dense", (1280,), 1000),
    lambda: transposed("transposed 2x2", (8, 8, 32), 16, Window((2, 2), (2, 2)), (16, 16)),
    lambda: add("add", (16, 16, 32), (16, 16, 32)),
    lambda: mul("mul", (16, 16, 32), (16, 16, 32), 0.01),
    _lookup,
    _max_pool(2, 2),
    _max_pool(3, 2),
    _average(2, 2, 0.8731, (17, 17, 32)),  # a scale that nothing can be made of
    _average(3, 2, 0.8731, (17, 17, 32)),
    _average(8, 8, 0.9, (8, 8, 64)),
    lambda: mean("mean", (7, 7, 160), (0, 1)),
    _softmax,
    _matmul((65, 4, 16), (65, 4, 16), Operands(transposed=True, heads=True)),
    _matmul((65, 4, 65), (65, 4, 16), Operands(heads=True)),
    _matmul((64, 64), (64, 64), Operands(transposed=True)),
    _matmul((64, 64), (64, 64), Operands()),
    _matmul((64, 32), (64, 32), Operands(transposed=True)),
    _matmul((64, 64), (64, 32), Operands()),
    _matmul((64, 64), (64, 64), Operands(transposed=True), (3, 0)),
    lambda: normalized("layer norm", (65, 64)),
    lambda: normalized("layer norm", (16, 192)),
)


def plan_of(graph: Graph) -> Plan:
    """All tensors side by side."""
    buffers: list[Buffer] = []
    slots: dict[str, Slot] = {}
    places: dict[str, Place] = {}
    end = 0
    for tensor in graph.tensors.values():
        if not graph.is_constant(tensor.name):
            rows, cols, channels = geometry(tensor.shape)
            pixel = channels * tensor.dtype.size
            slots[tensor.name] = Slot(tensor.name, 0, cols * pixel, pixel, rows)
            places[tensor.name] = Place(SRAM, end)
            buffers.append(Buffer(tensor.name, BufferKind.TENSOR, tensor.bytes, Span(0, 1), (SRAM,)))
            end += -(-tensor.bytes // ALIGN) * ALIGN
    return Plan((Group((0,)),), frozenset(), tuple(buffers), slots, places)


@dataclass(frozen=True, slots=True)
class Reference:
    """A layer that CMSIS-NN was measured on: its figures and our goals, instructions a unit by target."""

    make: Callable[[], OpCase]
    cmsis: dict[str, float]
    goals: dict[str, float]


def _float_conv() -> OpCase:
    return float_conv("float conv 3x3", (16, 16, 32), 32, same(3))


REFERENCES = (
    Reference(
        ordinary("conv 3x3", 16, 16, 32, 32),
        {"cortex-m3": 2.87, "cortex-m4": 1.93, "cortex-m55": 0.256},
        {"cortex-m3": 2.6, "cortex-m4": 1.25},
    ),
    Reference(
        point("conv 1x1", 16, 16, 64, 64),
        {"cortex-m3": 3.08, "cortex-m4": 2.06, "cortex-m55": 0.393},
        {"cortex-m3": 2.6, "cortex-m4": 1.25},
    ),
    Reference(
        depthwise("depthwise 3x3", 16, 16, 64),
        {"cortex-m3": 9.67, "cortex-m4": 8.04, "cortex-m55": 2.33},
        {"cortex-m3": 7.0, "cortex-m4": 3.2},
    ),
    Reference(
        lambda: dense("dense", (256,), 128),
        {"cortex-m3": 3.52, "cortex-m4": 2.07, "cortex-m55": 0.202},
        {"cortex-m3": 2.8, "cortex-m4": 1.3},
    ),
    Reference(
        ordinary("conv 3x3 first", 32, 32, 3, 16),
        {"cortex-m3": 5.50, "cortex-m4": 4.77, "cortex-m55": 1.42},
        {"cortex-m3": 4.0, "cortex-m4": 2.2},
    ),
    Reference(
        lambda: add("add", (16, 16, 32), (16, 16, 32)),
        {"cortex-m3": 84.0, "cortex-m4": 81.0, "cortex-m55": 13.8},
        {"cortex-m3": 40.0, "cortex-m4": 20.0},
    ),
    Reference(
        _average(2, 2, 0.9, (16, 16, 32)),
        {"cortex-m4": 9.8},
        {"cortex-m3": 6.0, "cortex-m4": 3.0, "cortex-m55": 0.7},
    ),
    Reference(_average(8, 8, 0.9, (8, 8, 64)), {"cortex-m4": 9.8}, {"cortex-m3": 6.0, "cortex-m4": 3.0}),
    Reference(_float_conv, {}, {"cortex-m4": 2.0}),
)
for _reference in REFERENCES:  # M7 and M33 are within 2 % of M4
    for _figures in (_reference.cmsis, _reference.goals):
        if "cortex-m4" in _figures:
            _figures |= dict.fromkeys(("cortex-m7", "cortex-m33"), _figures["cortex-m4"])


def trained(case: OpCase) -> OpCase:
    """The case with weights spread as trained ones are: a bell, its tails at the limits of int8."""
    if not isinstance(case.op, ConvInt8 | DenseInt8):
        return case
    w = rng_of(f"{case.name} weights").normal(0, 36, case.inputs[1].shape)
    w = np.clip(np.round(w), -127, 127).astype(np.int8)
    return replace(case, inputs=(case.inputs[0], w, *case.inputs[2:]))


def measure(case: OpCase, target: Target, folder: Path, profile: bool) -> Row:
    """Build, run, compare."""
    graph = graph_of(case)
    package = emit(
        Module.of(graph),
        lower(Module.of(graph), MemoryPlan.of(plan_of(graph)), NAME, target),
        EmitOptions(NAME),
        target,
    )
    for name, text in package.files.items():
        (folder / name).write_text(text)
    (folder / "adapter.c").write_text(render("adapter.c.j2", on_heap=False, **package.values))
    sources = [folder / name for name in (f"{NAME}.c", f"{NAME}_kernels.c", f"{NAME}_weights.c", "adapter.c")]
    elf = build_firmware(target, sources, [folder], folder / "build", stack_bytes=4096)
    samples = b"".join(case.inputs[k].tobytes() for k in case.activations)
    run = run_firmware(elf, target, samples, len(samples), folder / "run", profile=profile)
    got = np.frombuffer(run.outputs, case.want.dtype).reshape(case.want.shape)
    np.testing.assert_array_equal(got, case.want, err_msg=case.name)
    if profile:
        show_profile(run)
    macs = case.nest.macs
    unit, units = ("MAC", macs) if macs else ("tap", case.nest.iterations)
    shape = " ".join("x".join(map(str, a.shape)) for a in (case.inputs[0], case.want))
    code = code_bytes(folder / "build" / "model" / f"{NAME}_kernels.o")
    return Row(case.name, shape, unit, units, run.instructions[0], code)


def show_profile(run: FirmwareRun) -> None:
    """Where the instructions went."""
    assert run.profile is not None
    for title, table in (("functions", run.profile.functions), ("mnemonics", run.profile.mnemonics)):
        top = ", ".join(f"{name} {count:,}" for name, count in list(table.items())[:14])
        print(f"    {title}: {top}")


def code_bytes(path: Path) -> int:
    """Bytes of code in an object file."""
    with path.open("rb") as stream:
        sections = ELFFile(stream).iter_sections()
        return sum(s["sh_size"] for s in sections if s.name.startswith(".text"))


def run_case(case: OpCase, target: Target, profile: bool) -> Row:
    """Measure in a folder that is then removed."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(trained(case), target, Path(folder), profile)


def show_references(targets: list[Target]) -> list[dict[str, Any]]:
    """The table beside CMSIS-NN, and its figures."""
    print(f"{'instructions a unit (CMSIS-NN)':<44}" + "".join(f"{target.name:>22}" for target in targets))
    table: list[dict[str, Any]] = []
    for reference in REFERENCES:
        case, cells = reference.make(), list[str]()
        for target in targets:
            row = run_case(case, target, profile=False)
            each = row.instructions / row.units
            cmsis, goal = reference.cmsis.get(target.name), reference.goals.get(target.name)
            missed = " x" if goal is not None and each > goal else "  "
            cells.append(f"{each:.3g} ({cmsis:g}){missed}" if cmsis else f"{each:.3g}{missed}")
            table.append(asdict(row) | {"target": target.name, "each": each, "cmsis_nn": cmsis, "goal": goal})
        print(
            f"{case.name:<20} {row.shape:<18} {row.unit:<4}" + "".join(f"{c:>22}" for c in cells), flush=True
        )
    return table


def show_all(targets: list[Target], names: list[str], profile: bool) -> list[dict[str, Any]]:
    """Many layers, one after the other."""
    table: list[dict[str, Any]] = []
    print(f"{'kernel':<28} {'input, output':<24} {'instructions':>13} {'units':>11}  each     code")
    for make in CASES:
        case = make()
        if names and not any(name in case.name for name in names):
            continue
        for target in targets:
            row = run_case(case, target, profile)
            each = f"{row.instructions / row.units:6.2f}/{row.unit}"
            counts = f"{row.instructions:>13,} {row.units:>11,} {each} {row.code:>6}"
            print(f"{row.name:<28} {row.shape:<24} {counts}", flush=True)
            table.append(asdict(row) | {"target": target.name})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--targets", default="cortex-m3,cortex-m4,cortex-m55", help="names with commas")
    parser.add_argument("--all", action="store_true", help="many layers of real networks")
    parser.add_argument("--portable", action="store_true", help="plain C, whatever the target has besides")
    parser.add_argument(
        "--profile", action="store_true", help="executed instructions by function and mnemonic"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    targets = [load_target(name) for name in arguments.targets.split(",")]
    if arguments.portable:
        targets = [replace(target, kernels=("portable",)) for target in targets]
    if arguments.all or arguments.names:
        table = show_all(targets, arguments.names, arguments.profile)
    else:
        table = show_references(targets)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
