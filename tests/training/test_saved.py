# SPDX-License-Identifier: Apache-2.0
"""Parameters in memory that does not forget: torn and spoiled sets are seen, and the set before is taken."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mmcc
import pytest
from mmcc.package.host import package_sources

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "runtime_c"
DIGITS = HERE.parents[1] / "examples" / "digits" / "digits_fp32.onnx"


def test_saved_and_loaded(tmp_path: Path) -> None:
    train = mmcc.TrainOptions(optimizer="momentum", update="logits*")
    made = mmcc.compile_training(DIGITS, tmp_path / "net", train, name="net", stack=4096)
    sources = [*package_sources(made.folder), HERE / "saved.c"]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-O1"]
    command = ["gcc", *flags, f"-I{made.folder}", *map(str, sources), "-lm", "-o", str(tmp_path / "saved")]
    subprocess.run(command, check=True)
    out = subprocess.run([tmp_path / "saved"], check=True, capture_output=True, text=True).stdout
    said = {what: (int(status), of) for what, status, of in (line.split() for line in out.splitlines())}
    initial = said["nothing"][1]
    assert said["nothing"][0] == 9, "no set was ever written"
    assert said["first"][0] == said["second"][0] == 0
    assert len({initial, said["first"][1], said["second"][1], said["torn"][1]}) == 4
    assert said["torn"][0] == 9
    assert said["power"] == (0, initial)
    assert said["loaded"] == (0, said["second"][1]), "the set before the torn one"
    assert said["newest"] == (0, said["again"][1])
    assert said["spoiled"] == (0, said["second"][1])
    assert said["foreign"] == (9, said["second"][1]), "what was there stays"
    assert said["unsteady"] == (9, initial), "what came is no set: all begins anew"


@pytest.mark.quick
def test_the_power_may_go_at_every_byte(tmp_path: Path) -> None:
    """Of a save, and of the one behind it: the newest set that was written whole is loaded."""
    program = tmp_path / "torn"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-O1"]
    command = ["gcc", *flags, f"-I{RUNTIME}", str(HERE / "torn.c"), "-o", str(program)]
    subprocess.run(command, check=True)
    out = subprocess.run([program], check=False, capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (0, f"tried {4 * 85 * 85}\n"), out.stdout + out.stderr
