"""The placement benchmark runs on a small instance and checks what it measures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
import bench_placement as bench

INSTANCE = "id,lower,upper,size\na,0,2,4\nb,0,1,2\nc,1,3,2\nd,2,3,4\ne,1,2,1\n"


@pytest.mark.quick
def test_the_benchmark_solves_a_small_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.csv").write_text(INSTANCE)
    assert bench.main([str(tmp_path), "--capacity", "7"]) == 0
    assert "1 of 1 within 7" in capsys.readouterr().out
    assert bench.main([str(tmp_path), "--capacity", "6"]) == 1


@pytest.mark.quick
def test_the_benchmark_does_not_trust_the_solver() -> None:
    text = INSTANCE.splitlines()
    assert text[0] == "id,lower,upper,size"
    buffers = [bench.Buffer("a", bench.BufferKind.TENSOR, 4, bench.Span(0, 2), ("sram",), 1)] * 2
    with pytest.raises(ValueError, match="overlap"):
        bench.check(buffers, {"a": 0})
