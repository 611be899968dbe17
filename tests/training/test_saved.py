# SPDX-License-Identifier: Apache-2.0
"""Parameters in memory that does not forget: torn and spoiled sets are seen, and the set before is taken."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mmcc
from mmcc.package.host import package_sources

HERE = Path(__file__).parent
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
