# SPDX-License-Identifier: Apache-2.0
"""The process that ONNX's own code runs in: it outlives whatever a question does to it."""

from __future__ import annotations

import os

import pytest
from mmcc.frontend import sandbox
from mmcc.frontend.sandbox import MAX_ASKED, Sandbox, answer

pytestmark = pytest.mark.quick

ECHO = "sys.stdout.buffer.write(given)"


@pytest.fixture
def limited(monkeypatch):
    """Another process, with limits that a test can wait for."""
    sandbox._end()
    monkeypatch.setattr(sandbox, "SECONDS", 1)
    monkeypatch.setattr(sandbox, "MEMORY", 2**30)
    yield
    sandbox._end()


def test_bytes_come_back_whatever_they_are():
    for given in (b"", b"\0\n\xff", bytes(range(256)) * 2**14):
        assert answer(ECHO, given) == given


@pytest.mark.parametrize(
    "script",
    [
        "import os\nos.abort()",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "bytearray(2**31)",
        "sys.exit(1)",
        "raise KeyboardInterrupt",
        "not a program",
        "sys.stdout.buffer.write(given)\nraise ValueError",
    ],
)
def test_what_fails_has_no_answer_and_the_next_question_has_one(script, limited):
    assert answer(script, b"given") is None
    assert answer(ECHO, b"next") == b"next"


def test_no_question_sees_another():
    assert answer("import sys\nsys.left = 1\nsys.modules['left'] = sys", b"") == b""
    assert (
        answer("import sys\nsys.stdout.write(str(hasattr(sys, 'left') or 'left' in sys.modules))", b"")
        == b"False"
    )


def test_a_process_that_is_gone_is_begun_anew(limited):
    assert answer(ECHO, b"first") == b"first"
    sandbox._server.process.kill()
    sandbox._server.process.wait()
    assert answer(ECHO, b"lost") in (None, b"lost")
    assert answer(ECHO, b"next") == b"next"


def test_a_fork_asks_a_process_of_its_own():
    assert answer(ECHO, b"first") == b"first"
    child = os.fork()
    if not child:
        os._exit(answer(ECHO, b"forked") != b"forked")
    assert answer(ECHO, b"ours") == b"ours"
    assert os.waitpid(child, 0)[1] == 0


def test_a_model_asks_so_often_and_the_same_once(monkeypatch):
    asked = []
    monkeypatch.setattr(sandbox, "answer", lambda _, given: asked.append(given) or given)
    box = Sandbox()
    for k in [*range(MAX_ASKED), *range(MAX_ASKED)]:
        assert box.answer(ECHO, b"%d" % k) == b"%d" % k
    assert box.answer(ECHO, b"one more") is None
    assert len(asked) == MAX_ASKED
