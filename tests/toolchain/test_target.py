# SPDX-License-Identifier: Apache-2.0
"""Targets: all load, users may bring their own, mistakes are explained."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import mmcc
import pytest
from mmcc.errors import CompileError, Exit
from mmcc.ir.regions import Cache, Region
from mmcc.ops import OPS
from mmcc.planner.cost import USUAL
from mmcc.resources import data_dir
from mmcc.target import COST_KEYS, Qemu, Target, Window, list_targets, load_target

pytestmark = pytest.mark.quick

NAMES = [
    "aarch64",
    "aarch64_fp16",
    "cortex-m",
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m33",
    "cortex-m4",
    "cortex-m55",
    "cortex-m7",
    "host",
    "rv32imac",
    "rv64gcv",
    "wasm32",
]


def test_the_targets_are_these():
    assert list(list_targets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_target_is_complete(name):
    target = load_target(name)
    assert target.name == name
    assert target.kernels[-1] == "portable"
    assert target.compiler in target.packages
    assert target.objdump in target.packages
    assert target.cost["conv_mac"] > 0
    if target.qemu:
        assert target.qemu.program in target.packages
        assert target.bare_metal == (target.qemu.ram is not None)
    assert target.webassembly == bool(target.engine)


def test_cortex_m_is_the_m4_and_says_so():
    general, m4 = load_target("cortex-m"), load_target("cortex-m4")
    assert general.flags == m4.flags
    assert general.qemu == m4.qemu
    assert "cortex-m55" in general.note


def test_a_users_target_builds_on_a_known_one(tmp_path):
    path = tmp_path / "my-board.toml"
    path.write_text(
        'same_as = "cortex-m7"\nstack_bytes = 512\n'
        "[cost]\nconv_mac = 1.5\n"
        "[qemu]\nram = { origin = 0x20000000, length = 0x80000 }\n"
    )
    mine, m7 = load_target(str(path)), load_target("cortex-m7")
    assert (mine.name, mine.stack_bytes, mine.flags) == ("my-board", 512, m7.flags)
    assert mine.cost == {**m7.cost, "conv_mac": 1.5}
    assert mine.qemu
    assert m7.qemu
    assert mine.qemu.ram == Window(0x20000000, 0x80000)
    assert mine.qemu.code == m7.qemu.code


def test_a_users_target_builds_on_a_chip(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('same_as = "stm32h743"\nstack_bytes = 512')
    assert load_target(str(path)) == replace(load_target("stm32h743"), name="mine", stack_bytes=512)


def test_figures_in_another_unit_are_not_mixed(tmp_path):
    """Of a target whose costs are cycles none are taken for instructions, whatever the file has itself."""
    path = tmp_path / "mine.toml"
    for unit, own in (("instructions", {"conv_mac": 0.96}), ("instructions", {}), ("cycles", {"call": 50.0})):
        lines = [f'cost_unit = "{unit}"', "[cost]", *(f"{name} = {value}" for name, value in own.items())]
        path.write_text("\n".join(('same_as = "cortex-m4"', *lines)))
        under = load_target("cortex-m4").cost if unit == "cycles" else {}
        assert load_target(str(path)).cost == {**under, **own}
    path.write_text('same_as = "cortex-m0plus"\ncost_unit = "cycles"')
    assert not load_target(str(path)).cost_of_small_frames


CACHES = 'same_as = "cortex-m4"\n[[cache]]\nsize = 64\n'
MEMORY = 'same_as = "cortex-m4"\n[[memory]]\nname = "dtcm"\n'
LENGTHS = {"code": 0x400000, "constants": 0xE00000, "io": 0x200000}


def board(**origins: int) -> str:
    """The emulated board of the Cortex-M4 with windows elsewhere, or for regions of memory."""
    own = [f"{n} = {{origin = {at}, length = {LENGTHS[n]}}}" for n, at in origins.items() if n in LENGTHS]
    regions = [f"{n} = {{origin = {at}, length = 0x1000}}" for n, at in origins.items() if n not in LENGTHS]
    return "\n".join((f"{MEMORY}[qemu]", *own, f"memory = {{{', '.join(regions)}}}"))


def test_a_target_has_regions_of_memory(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(
        MEMORY + "size = 0x20000\nread_cost = 0.25\nwrite_cost = 0.25\ndma = false\n"
        '[[memory]]\nname = "psram"\nalign = 64\nsection = ".psram"\nread_cost = 3\nwrite_cost = 2.5\n'
    )
    dtcm = Region("dtcm", size=0x20000, read_cost=0.25, write_cost=0.25, dma=False)
    psram = Region("psram", align=64, section=".psram", read_cost=3.0, write_cost=2.5)
    assert load_target(str(path)).memory == (dtcm, psram)
    assert load_target("cortex-m4").memory == (Region("sram"),)


def test_a_target_has_caches(tmp_path: Path) -> None:
    """Those of microcontrollers are in the model of cycles: no plan of theirs is chosen by these."""
    path = tmp_path / "caches.toml"
    path.write_text(CACHES + "beyond = 0.5\n[[cache]]\nsize = 4096\nbeyond = 2\n")
    assert load_target(str(path)).cache == (Cache(64, 0.5), Cache(4096, 2.0))
    assert {name for name in list_targets() if load_target(name).cache} == {"host", "aarch64", "aarch64_fp16"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('same_as = "cortex-m4"\nclock = 3', r'unknown key "clock"'),
        ('same_as = "cortex-m4"\nstack_bytes = "2K"', r'"stack_bytes": must be of type int, not str'),
        ('same_as = "cortex-m4"\nstack_bytes = true', r"must be of type int, not bool"),
        ('same_as = "cortex-m4"\nstack_bytes = -1', r"must be a finite number, not negative: -1"),
        ('same_as = "cortex-m4"\ncost = {conv_mac = nan}', r'"cost", conv_mac: must be a finite number'),
        ('same_as = "cortex-m4"\ncost = {conv_mac = inf}', r'"cost", conv_mac: must be a finite number'),
        (
            'same_as = "cortex-m4"\ncost = {conv_mac = -1}',
            r'"cost", conv_mac: must be a finite number, not negative: -1.0',
        ),
        ('same_as = "cortex-m4"\nkernels = "portable"', r'"kernels": must be a list'),
        ('same_as = "cortex-m4"\nkernels = [1]', r'"kernels": must be of type str'),
        (MEMORY + 'size = "64K"', r'"memory", table 1, "size": must be of type int, not str'),
        (MEMORY + "speed = 1", r'"memory", table 1: unknown key "speed"'),
        (MEMORY + "cache_line = 24", r'"memory", "cache_line": must be a power of two, 16 \(align\) or less'),
        (MEMORY + "align = 8", r'"memory", "align": must be a power of two, 16 or more: 8'),
        (MEMORY + "write_cost = -1.0", r'"write_cost": must be a finite number, not negative: -1.0'),
        (MEMORY + "section = '.a\"b'", r'"section": is no name of a section'),
        (MEMORY + '[[memory]]\nname = "dtcm"', r"must be regions of different names"),
        (MEMORY + '[[memory]]\nname = "input_0"', r'"input_0" cannot be the name of a region'),
        (CACHES + "beyond = -0.5", r'"beyond": must be a finite number, not negative: -0.5'),
        (CACHES, r'"cache", table 1: "beyond" is missing'),
        (
            CACHES + "beyond = 1\n[[cache]]\nsize = 64\nbeyond = 1",
            r"must be caches of growing sizes, not \[64, 64\]",
        ),
        ('same_as = "cortex-m4"\nmemory = []', r"must be regions of different names"),
        ('same_as = "cortex-m4"\n[qemu]\nram = {origin = 0}', r'"ram": "length" is missing'),
        (board(code=0x20300000), r'"qemu": "code" begins at 0x20300000, and "ram" ends at 0x20400000'),
        (board(constants=0x1FF00000), r'"ram" begins at 0x20000000, and "constants" ends at 0x20d00000'),
        (board(io=0x21D00000), r'"io" begins at 0x21d00000, and "constants" ends at 0x21e00000'),
        (board(dtcm=0x21800000), r'"memory, dtcm" begins at 0x21800000, and "constants" ends at 0x21e00000'),
        (board(dtcm=0x20300000), r'"memory, dtcm" begins at 0x20300000, and "ram" ends at 0x20400000'),
        (board(dtcm=0x22000000), r'"qemu", "memory": "dtcm" is not between ram and io'),
        (board(dtcm=0x21F00000, io=0x22000000), r'"dtcm" is between constants and io, which are protected'),
        (board(dtcm=0x20400080), r'"dtcm": length must be a power of two that divides the origin'),
        (board(axi=0x20400000), r'no region is called "axi"'),
        ('same_as = "cortex-m4"\ncost = {a = "b"}', r'"cost", a: must be of type float'),
        ('same_as = "cortex-m4"\ncost = 3', r'"cost": must be a table'),
        ('same_as = "cortex-m4"\n[qemu]\nram = 3', r'"ram": must be a table'),
        ('same_as = "cortex-m4"\ncost = {conv_mc = 1}', r'unknown key "conv_mc"\n.*did you mean conv_mac\?'),
        ('same_as = "cortex-m4"\ncost_unit = "cycle"', r'must be instructions or cycles, not "cycle"'),
        ('same_as = "cortex-m4"\nflag = []', r'unknown key "flag"\n.*did you mean flags\?'),
        ('same_as = "cortexm4"', r"did you mean cortex-m4\?"),
        ('same_as = "nothing"', r'same_as = "nothing" is no known target'),
        ("same_as = 3", r"is no known target"),
        ('description = "d"', r'"firmware" is missing'),
        ("flags = [", r"target mine.toml: "),
    ],
)
def test_mistakes_in_a_file_are_user_errors(text, says, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CompileError, match=says) as caught:
        load_target(str(path))
    assert (caught.value.code, caught.value.exit) == ("MM002", Exit.USAGE)


@cache
def read_by_code() -> frozenset[tuple[str, str]]:
    """(last part of the object's name, attribute) of every attribute that the compiler's code reads."""
    files = [path for path in Path(mmcc.__file__).parent.rglob("*.py") if path.name != "target.py"]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    return frozenset(
        (ast.unparse(node.value).split(".")[-1], node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute)
    )


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Target, r"target|_target|host|plain|load_target\(.*"),
        (Qemu, "qemu"),
        (Window, "code|constants|ram|io|window|board"),
        (Region, "region|target"),
    ],
)
def test_every_key_of_a_target_is_used(kind: type, names: str) -> None:
    """A key that nobody reads promises what is not so. `load_target` allows no others in a file."""
    used = {attribute for owner, attribute in read_by_code() if re.fullmatch(names, owner)}
    assert [field.name for field in fields(kind) if field.name not in used] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_a_target_file_is_read(name: str) -> None:
    """Tables that are added to those of `same_as` say what is asked for: tools, figures."""
    target = load_target(name)
    table = tomllib.loads((data_dir("targets") / f"{name}.toml").read_text())
    assert set(table) - {"same_as"} <= {field.name for field in fields(Target)}
    assert set(table.get("qemu", {})) <= {field.name for field in fields(Qemu)}
    tools = {target.compiler, target.objdump, "libc"} | ({target.qemu.program} if target.qemu else set())
    tools |= {target.engine, "wasm-ld"} if target.engine else set()
    assert set(target.packages) == tools
    assert {*target.cost, *target.cost_of_small_frames} <= COST_KEYS


def test_every_figure_that_the_planner_asks_for_may_be_stated():
    assert {name for name in USUAL if not name.startswith("_")} <= COST_KEYS
    assert {name for name in USUAL if name.startswith("_")} == {
        f"_{key.split('_')[-1]}" for key in COST_KEYS if key not in USUAL
    }
    kinds = [kind for kind in OPS.values() if kind.kernel]
    asked = {f"{kind.kernel}_element" for kind in kinds} | {
        "call",
        "element_row",
        "conv_row",
        "depthwise_float_mac",
    }
    assert asked <= COST_KEYS
    for name in NAMES:
        assert set(load_target(name).cost) <= COST_KEYS


@pytest.mark.parametrize(
    ("name", "meant"), [("cortex_m4", "cortex-m4"), ("hots", "host"), ("./cortex-m4.tml", "cortex-m4")]
)
def test_a_misspelt_target_is_guessed(name, meant):
    with pytest.raises(CompileError, match=rf"did you mean {meant}\?"):
        load_target(name)


@pytest.mark.parametrize("name", ["cortex-m9", "there/is/none.toml"])
def test_an_unknown_target_lists_the_known_ones(name):
    with pytest.raises(CompileError, match="one of: aarch64, aarch64_fp16, cortex-m, ") as caught:
        load_target(name)
    assert (caught.value.code, caught.value.exit) == ("MM001", Exit.USAGE)
