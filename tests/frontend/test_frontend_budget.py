# SPDX-License-Identifier: Apache-2.0
"""Files made to cost time, memory or screens of text: each answer within 10 s, 1 GiB and 4 KB."""

from __future__ import annotations

import gc
import resource
import sys
import time
from pathlib import Path

import pytest
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import nasty_models

SAYS = {  # what the message must say of some of them
    "functions_17": "131072 nodes once its functions are inlined",
    "functions_through_branch": "calls itself",
    "sum_of_many": "more than 16384 nodes",
    "chain_too_long": "70000 nodes; up to 65536",
    "long_scales": "a list of 67108864 numbers; 1024 are allowed",
    "long_shape": "a list of 16777216 numbers; 1024 are allowed",
    "long_text": 'auto_pad is "\\x1b\\x1b',
    "many_axes_of_input": "100000 axes; up to 16",
    "cycle": "the graph has a cycle",
    "many_unknown": "2501 operators or features are not supported",
    "folded_convolutions": "are left",
    "list_of_many": "a sequence of 67,108,864 tensors; 4,096 are the most",
    "lists_of_many": "sequences of more than 8,388,608 tensors together",
    "lists_in_lists": "or 32,768 nodes that are made of them",
    "loop_of_large_steps": "unrolled it is more than 8,192 nodes",
}


@pytest.mark.parametrize("name", nasty_models.NASTY)
def test_an_answer_within_limits(name, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(nasty_models.NASTY[name]().SerializeToString())
    gc.collect()
    before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = ""
    try:
        load_graph(path, CompileOptions())
    except CompileError as error:
        text = str(error)
    assert time.process_time() - before < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**20  # KiB
    assert len(text.encode()) <= 4096
    assert all(c.isprintable() or c == "\n" for c in text)
    assert SAYS.get(name, "") in text
    assert not text or "makes no sense" not in text


def test_work_grows_with_the_file_and_not_with_its_square(tmp_path):
    """Names and layouts of many inputs, operands of one node, and a chain of readers."""
    for make in (
        lambda n: nasty_models.many_inputs("Sum", n),
        lambda n: nasty_models.chain("Identity", 4 * n),
        lambda n: nasty_models.chain("Relu", 2 * n),
    ):
        seconds: list[float] = []
        for count in (500, 2000):
            path = tmp_path / "model.onnx"
            path.write_bytes(make(count).SerializeToString())
            before = time.process_time()
            load_graph(path, CompileOptions())
            seconds.append(time.process_time() - before)
        assert seconds[1] < 9 * seconds[0] + 0.5  # 16 times if it were quadratic
