# SPDX-License-Identifier: Apache-2.0
"""The process that ONNX's own code runs in: it outlives whatever a question does to it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
from mmcc.frontend import sandbox
from mmcc.frontend.sandbox import MAX_ASKED, Sandbox, answer

pytestmark = pytest.mark.quick

ECHO = "answer = given"


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
        "import sys\nsys.exit(1)",
        "raise KeyboardInterrupt",
        "not a program",
        "answer = given\nraise ValueError",
        "answer = 'no bytes'",
        "no_answer = given",
        "answer = bytes(2**28 + 1)",
    ],
)
def test_what_fails_has_no_answer_and_the_next_question_has_one(script, limited):
    assert answer(script, b"given") is None
    assert answer(ECHO, b"next") == b"next"


def test_no_question_sees_another():
    assert answer("import sys\nsys.left = 1\nsys.modules['left'] = sys\nanswer = b''", b"") == b""
    left = "import sys\nanswer = str(hasattr(sys, 'left') or 'left' in sys.modules).encode()"
    assert answer(left, b"") == b"False"


def test_a_process_that_is_gone_is_begun_anew(limited):
    assert answer(ECHO, b"first") == b"first"
    sandbox._server.process.kill()
    sandbox._server.process.wait()
    assert answer(ECHO, b"next") == b"next"


def test_what_is_printed_is_no_answer():
    """Not by an import, nor by a script, nor what is still in a buffer when it is forked."""
    assert answer("import this\nprint('more')\nanswer = given", b"given") == b"given"
    assert answer(ECHO, b"next") == b"next"


def test_modules_of_the_users_folder_are_not_run(monkeypatch, tmp_path):
    for name in ("signal", "struct", "resource", "socket", "onnx", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'a').write({name!r})")
    sandbox._end()
    monkeypatch.chdir(tmp_path)
    for folder in ("", str(tmp_path)):
        monkeypatch.syspath_prepend(folder)
    assert answer("import onnx, numpy\nanswer = onnx.__file__.encode()", b"").endswith(b"__init__.py")
    assert not (tmp_path / "run").exists()
    sandbox._end()


def test_limits_that_are_lower_already_stay(tmp_path):
    """A shell's `ulimit`: limits that could only be raised are left."""
    code = f"from mmcc.frontend.sandbox import answer\nassert answer({ECHO!r}, b'given') == b'given'"
    for limit in ("-v 1900000", "-t 4", "-c 0"):
        command = f"ulimit {limit}; exec {sys.executable} -c {shlex.quote(code)}"
        subprocess.run(["bash", "-c", command], check=True, timeout=60)


def test_a_fork_asks_a_process_of_its_own():
    assert answer(ECHO, b"first") == b"first"
    child = os.fork()
    if not child:
        os._exit(answer(ECHO, b"forked") != b"forked")
    assert answer(ECHO, b"ours") == b"ours"
    assert os.waitpid(child, 0)[1] == 0


def test_a_fork_in_the_middle_of_a_question():
    asked = threading.Thread(target=answer, args=("import time\ntime.sleep(0.5)\nanswer = b''", b""))
    asked.start()
    while not sandbox._lock.locked():
        time.sleep(0.001)
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(answer(ECHO, b"forked") != b"forked")
    assert os.waitpid(child, 0)[1] == 0
    asked.join()


def test_a_model_asks_so_often_and_the_same_once(monkeypatch):
    asked = []
    monkeypatch.setattr(sandbox, "answer", lambda _, given: asked.append(given) or given)
    box = Sandbox()
    for k in [*range(MAX_ASKED), *range(MAX_ASKED)]:
        assert box.answer(ECHO, b"%d" % k) == b"%d" % k
    assert box.answer(ECHO, b"one more") is None
    assert len(asked) == MAX_ASKED
