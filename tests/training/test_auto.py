# SPDX-License-Identifier: Apache-2.0
"""`--update auto`: as many of the last layers as fit."""

from __future__ import annotations

from pathlib import Path

import mmcc
import pytest
from mmcc.api import CompileResult, TrainOptions
from mmcc.driver import train
from mmcc.errors import CompileError, Exit
from test_made_again import chain


def compiled(
    model: Path, out: Path, update: str, optimizer: str = "sgd", accumulate: int = 1, **given
) -> CompileResult:
    given = {"name": "net", "recompute": 1.0, "stack": 1024, "self_check": False} | given
    options = TrainOptions(update=update, optimizer=optimizer, accumulate=accumulate)
    return mmcc.compile_training(model, out, options, **given)


def test_auto_trains_as_many_of_the_last_layers_as_fit(tmp_path: Path) -> None:
    """What two layers need at least is enough for them, and not for a third."""
    model = chain(tmp_path, 2)
    two = compiled(model, tmp_path / "two", "last:2", ram="min")
    limit = two.report["ram"]["total"]
    with pytest.raises(CompileError) as raised:
        compiled(model, tmp_path / "three", "last:3", ram=limit)
    assert raised.value.exit in (Exit.DOES_NOT_FIT, Exit.NO_PLAN)
    auto = compiled(model, tmp_path / "auto", "auto", ram=limit)
    assert auto.module.parameters == two.module.parameters
    assert auto.report["ram"]["total"] <= limit
    with pytest.raises(CompileError):
        compiled(model, tmp_path / "little", "auto", ram=256)
    with pytest.raises(CompileError, match=r"MM117.*fits a limit"):  # with --ram N, see above
        compiled(model, tmp_path / "none", "auto")


def test_layers_that_keep_more_than_all_ram_are_not_planned(tmp_path: Path, monkeypatch) -> None:
    """Adam keeps two moments and a sum of each parameter, which alone tells that these do not fit."""
    model, tried = chain(tmp_path, 4), list[int]()
    least = compiled(model, tmp_path / "least", "last:1", ram="min", optimizer="adam", accumulate=2)
    limit = least.report["ram"]["total"] + 2 * least.report["ram"]["state"]

    def compile_module(module, *others):
        tried.append(len(module.parameters))
        return usual(module, *others)

    usual = train.compile_module
    monkeypatch.setattr(train, "compile_module", compile_module)
    auto = compiled(model, tmp_path / "auto", "auto", ram=limit, optimizer="adam", accumulate=2)
    assert tried == [len(auto.module.parameters)] == [2]
