# SPDX-License-Identifier: Apache-2.0
"""What --flash leaves makes weights larger for faster kernels: no more than that, and the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from c_quality import convs
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions, silent
from mmcc.errors import CompileError
from mmcc.verification.verify import VerifyOptions, verify_package
from toolchains import ready

LAYERS, DEPTH = 3, 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convs(tmp_path_factory.mktemp("model"), DEPTH, LAYERS)


def compiled(model: Path, out: Path, flash: int, ram: int = 65536) -> dict[str, Any]:
    options = CompileOptions(name="n", target="cortex-m4", ram=ram, flash=flash)
    return compile_model(model, out, options).report


def kernels(folder: Path) -> int:
    """Layers by Winograd."""
    return (folder / "n.c").read_text().count("n_conv_winograd(")


def test_weights_grow_as_far_as_flash_allows(model: Path, tmp_path: Path) -> None:
    ready("cortex-m4")
    plain = compiled(model, tmp_path / "plain", 0)
    assert kernels(tmp_path / "plain") == 0
    assert plain["plan"]["grown"] == 0
    found: list[int] = []
    for more in (0, 2000, 9000, 60000):
        limit = plain["flash"]["total"] + more
        report = compiled(model, tmp_path / str(more), limit)
        assert report["flash"]["total"] <= limit
        found.append(kernels(tmp_path / str(more)))
        layer = 32 * DEPTH * DEPTH - 9 * DEPTH * DEPTH
        assert layer * found[-1] - 200 <= report["plan"]["grown"] <= layer * found[-1] + 200
    assert found[0] == 0
    assert found == sorted(found)
    assert found[-1] == LAYERS
    assert 0 < found[2] < LAYERS
    with pytest.raises(CompileError, match="of flash are needed"):
        compiled(model, tmp_path / "less", plain["flash"]["total"] - 3000)


def test_a_guess_of_the_code_that_is_too_low_costs_no_flash(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made larger is made again, for what is really left."""
    ready("cortex-m4")
    limit = compiled(model, tmp_path / "plain", 0)["flash"]["total"] + 12000
    monkeypatch.setattr("mmcc.driver.ram_fit.code_bytes", lambda graph: 0)
    report = compiled(model, tmp_path / "n", limit)
    assert report["flash"]["total"] <= limit
    assert 0 < kernels(tmp_path / "n") < LAYERS


def test_the_board_computes_what_the_model_does(model: Path, tmp_path: Path) -> None:
    ready("cortex-m4")
    compiled(model, tmp_path / "n", 10**6)
    assert kernels(tmp_path / "n") == LAYERS
    asked = VerifyOptions(on="qemu", per_node=True, samples=2)
    rows = verify_package(tmp_path / "n", asked, silent)["per_node"]
    assert [row for row in rows if not row["ok"]] == []


def test_none_where_ram_leaves_nothing(model: Path, tmp_path: Path) -> None:
    ready("cortex-m4")
    report = compiled(model, tmp_path / "n", 10**6, ram=6000)
    assert kernels(tmp_path / "n") == 0
    assert report["plan"]["grown"] == 0
