# SPDX-License-Identifier: Apache-2.0
"""What tests of compiled code share: skip where a tool is missing, but not in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mmcc.target import Target, load_target

FIRMWARE = Path(__file__).resolve().parents[1] / "firmware"
BOARDS = (
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m4",
    "cortex-m7",
    "cortex-m33",
    "cortex-m55",
    "rv32imac",
)
ALL = (*BOARDS, "aarch64", "rv64gcv", "wasm32", "host")


def emulated_on(target: Target) -> str:
    """What --on calls the machine that its code runs on here."""
    return "wasm" if target.engine else "qemu"


def ready(name: str) -> Target:
    """The target, if its tools are installed; else the test is skipped, or fails when CI=true."""
    target = load_target(name)
    missing = [tool for tool in target.packages if tool != "libc" and shutil.which(tool) is None]
    if missing:
        reason = f"{name} needs {', '.join(f'{tool} ({target.packages[tool]})' for tool in missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return target
