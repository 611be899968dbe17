# SPDX-License-Identifier: Apache-2.0
"""The table of chips: names, cores and sizes that make sense, and what --chip makes of them."""

from __future__ import annotations

import json
import re

import pytest
from cli_runs import MODEL, run
from mmcc.chips import chips, find_chip
from mmcc.target import list_chips, list_targets, load_target

pytestmark = pytest.mark.quick


def test_the_table():
    assert len(chips()) > 200
    assert list(chips()) == sorted(chips())
    for chip in chips().values():
        assert re.fullmatch(r"[a-z0-9]+", chip.name)
        assert chip.core in list_targets()
        assert 4 <= chip.ram / 1024 <= 2048, chip
        assert 0 <= chip.weights_cost < 8
        assert chip.flash == 0 or 16 <= chip.flash / 1024 <= 2560, chip
        assert chip.source.startswith(("ST ", "Nordic", "NXP")) or chip.source.endswith(" datasheet"), chip
    assert not set(chips()) & {*list_targets(), *list_chips()}


def test_a_line_of_stm32_has_more_of_both_or_the_same():
    """Of one line, the larger flash has no less RAM: a slip of the pen would show."""
    lines = {}
    for chip in chips().values():
        if chip.name.startswith("stm32"):
            lines.setdefault(chip.name[:9], []).append(chip)
    for of_line in lines.values():
        rams = [chip.ram for chip in sorted(of_line, key=lambda chip: chip.flash)]
        assert rams == sorted(rams), of_line[0].name


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("STM32F411RET6", "stm32f411xe"),
        ("stm32f411re", "stm32f411xe"),
        ("stm32f411xe", "stm32f411xe"),
        ("nRF52840-QIAA", "nrf52840"),
        ("NRF52840", "nrf52840"),
        ("nRF52832-QFAA", "nrf52832xxaa"),
        ("nrf52832", None),  # two sizes
        ("ATSAMD21G18A-AU", "samd21x18"),
        ("ATSAME70Q21B", "same70x21"),
        ("MK64FN1M0VLL12", "k64fn1m0"),
        ("stm32f4", None),
        ("stm32f411rz", None),
        ("", None),
        ("..", None),
    ],
)
def test_names_as_they_are_printed(printed, name):
    found = find_chip(printed)
    assert (found.name if found else None) == name


def test_a_target_of_a_chip_has_its_memory():
    target = load_target("stm32f411re")
    assert (target.name, target.kernels) == ("stm32f411xe", load_target("cortex-m4").kernels)
    assert [region.size for region in target.memory] == [128 * 1024]
    shown = json.loads(run("targets", "show", "STM32F411RE", "--json").stdout)
    assert shown["memory"][0]["size"] == 128 * 1024
    assert "stm32f411xe" in run("targets", "list", "F411").stdout


def test_a_chip_with_a_file_of_its_own_is_known_by_what_is_printed_on_it():
    for printed, name in (
        ("STM32H743ZIT6", "stm32h743"),
        ("MIMXRT1062DVL6", "imxrt1062"),
        ("rp2350a", "rp2350"),
    ):
        assert load_target(printed).memory == load_target(name).memory
    assert run("targets", "show", "STM32H743ZIT6").exit_code == 0


def test_most_sizes_are_what_others_publish():
    """Not in one document of one person only: scripts/check_chips.py says how it was found."""
    checked = [chip for chip in chips().values() if chip.checked]
    assert len(checked) > 200
    assert all(set(chip.checked.split()) <= {"modm-devices", "pyocd", "zephyr"} for chip in checked)


def test_a_chip_limits_ram_and_flash_unless_they_are_given(tmp_path):
    args = ("compile", MODEL, "--no-self-check", "--json", "-o", tmp_path / "c")
    report = json.loads(run(*args, "--chip", "stm32f411ce", "--stack", "1K").stdout)
    assert (report["target"], report["ram"]["limit"]) == ("stm32f411xe", 128 * 1024)
    report = json.loads(run(*args, "--chip", "stm32f411ce", "--stack", "1K", "--ram", "8K").stdout)
    assert report["ram"]["limit"] == 8 * 1024
    small = run(*args, "--chip", "stm32f030f4", "--stack", "1K")
    assert json.loads(small.stdout)["ram"]["total"] <= 4 * 1024
    assert run(*args, "--chip", "stm32f030f4", "--stack", "3K").exit_code == 5
