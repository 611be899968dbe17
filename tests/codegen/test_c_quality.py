# SPDX-License-Identifier: Apache-2.0
"""Findings of cppcheck's MISRA addon and of clang-tidy in generated C may only become fewer."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from c_quality import PACKAGES, ROOT, count, load

NONE_OF = ("MISRA 10.1", "MISRA 10.3", "MISRA 10.4", "MISRA 14.2")


@pytest.mark.parametrize("package", PACKAGES)
def test_counts_do_not_rise(package: str) -> None:
    for tool in ("cppcheck", "clang-tidy", "arm-none-eabi-gcc"):
        if shutil.which(tool) is None:
            reason = f"{tool} is not installed"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    table, found = load(), count(package)
    worse = {rule: (table.get((package, rule), 0), n) for rule, n in found.items()}
    worse = {rule: pair for rule, pair in worse.items() if pair[1] > pair[0]}
    assert worse == {}, "rule: (before, now); if fewer elsewhere: python tests/support/c_quality.py"


@pytest.mark.quick
def test_rules_that_are_kept_have_no_findings_and_others_have_a_reason() -> None:
    rules = {rule for _, rule in load()}
    assert rules.isdisjoint(NONE_OF)
    text = (ROOT / "docs" / "misra.md").read_text()
    listed = set(re.findall(r"^\| (\d+\.\d+) \|", text, re.MULTILINE))
    assert {rule.removeprefix("MISRA ") for rule in rules if rule.startswith("MISRA")} <= listed
