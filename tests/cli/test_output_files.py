# SPDX-License-Identifier: Apache-2.0
"""Files that are asked for by name: whole or not there; what cannot be written is told with the option."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from cli_runs import run
from doc_pages import DIGITS
from mmcc.errors import CompileError
from mmcc.output_file import check_file, whole_file, write_file
from mmcc.planner import explain

pytestmark = pytest.mark.quick
MODEL = DIGITS / "digits_int8.onnx"


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "one", "-o")
    path.chmod(0o640)
    with pytest.raises(UnicodeEncodeError), whole_file(path, "-o") as made:
        made.write_text("half\udcff", encoding="utf-8")
    assert path.read_text() == "one"
    link = tmp_path / "link"
    link.symlink_to(path)
    write_file(link, b"two", "-o")
    assert link.is_symlink()
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert {each.name for each in tmp_path.iterdir()} == {"a.txt", "link"}


def test_what_is_no_file_is_told_with_the_option(tmp_path):
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "no/x", "there is no folder")):
        with pytest.raises(CompileError, match=says) as caught:
            check_file(path, "--svg")
        assert (caught.value.code, caught.value.hint) == (
            "MM006",
            "--svg with a path where files of yours can be",
        )
    with pytest.raises(CompileError, match="No space left") as caught:
        write_file(type(tmp_path)("/dev/full"), "text" * 10000, "--html")
    assert "--html" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (("analyze", MODEL, "--svg", "{}"), "--svg"),
        (("sweep", MODEL, "--targets", "cortex-m4", "--ram", "8K", "-o", "{}/x"), "-o"),
        (("compile", MODEL, "-t", "cortex-m4", "--stack", "1K", "--dump", "{}/x", "-o", "never"), "--dump"),
        (("quantize", DIGITS / "digits_fp32.onnx", "--data", "none.npz", "-o", "{}/x.onnx"), "-o"),
    ],
)
def test_commands_say_which_of_their_files_cannot_be_written(tmp_path, args, option):
    """Before they work for long: the calibration data of the last is not even there."""
    taken = tmp_path / "taken"
    taken.mkdir() if option == "--svg" else taken.write_text("a file")
    told = run(*(str(arg).format(taken) for arg in args))
    assert told.exit_code == 2
    assert "MM006" in told.output
    assert f"{option} with a path" in told.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_says_so(tmp_path, number):
    fifo = tmp_path / "model.onnx"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "mmcc", "check", str(fifo)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        with fifo.open("wb"):  # as soon as it reads the model, and waits for it
            process.send_signal(number)
        told = process.stderr.read()
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert f"stopped by {signal.Signals(number).name}" in told


@pytest.mark.parametrize(
    ("event", "code", "says"), [(KeyboardInterrupt, 130, "stopped by SIGINT"), (MemoryError, 3, "MM901")]
)
def test_what_ends_the_search_for_a_hint_is_told_as_what_ends_any_other(
    tmp_path, monkeypatch, event, code, says
):
    """Plans for what is proposed instead of a limit take as long as the one that did not fit."""

    def ended(*_: object) -> list[str]:
        raise event

    monkeypatch.setattr(explain, "_remedies", ended)
    told = run("compile", MODEL, "-t", "cortex-m4", "--stack", "1K", "--ram", "1100", "-o", tmp_path / "m")
    assert (told.exit_code, says in told.output) == (code, True), told.output
