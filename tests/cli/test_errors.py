# SPDX-License-Identifier: Apache-2.0
"""What an error says is printable and below 4 KB, whatever a file holds."""

from __future__ import annotations

import json
import pickle

import pytest
from mmcc.errors import CompileError, Exit, Where, printable

pytestmark = pytest.mark.quick
EVIL = "\x1b[31mred\0\u202e" + "n" * 10_000_000 + "\ud800"


def is_fit(text: str) -> bool:
    return len(text.encode()) <= 4096 and all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("unit", ["x", "\x1b", "ä", "💥", "\n", "\ud800", "\u202e"])
def test_any_text_is_bounded_and_printable(unit):
    places = tuple(Where(unit * 5000, k, unit * 5000, unit * 5000) for k in range(40))
    for count in (0, 1, 100, 100_000):
        error = CompileError(
            "MM101", unit * count, exit=Exit.BAD_MODEL, at=places[: count + 1], hint=unit * count
        )
        assert is_fit(str(error))
        assert is_fit(error.message)
        assert is_fit(error.hint)
        told = json.loads(json.dumps(error.to_json()))["error"]
        assert all(len(text) <= 500 for place in told["where"] for text in (place["op"], place["name"]))


def test_long_text_ends_in_dots_and_short_text_is_left():
    error = CompileError("MM101", "line one\nline two", exit=Exit.BAD_MODEL, hint="do this")
    assert (error.message, error.hint) == ("line one\nline two", "do this")
    assert CompileError("MM101", EVIL, exit=Exit.BAD_MODEL).message.startswith("\\x1b[31mred\\x00\\u202ennn")
    assert CompileError("MM101", EVIL, exit=Exit.BAD_MODEL).message.endswith("...")


def test_places_that_do_not_fit_are_counted():
    places = tuple(Where("model.onnx", k, "Conv", "n" * 300) for k in range(100))
    error = CompileError("MM101", "much", exit=Exit.BAD_MODEL, at=places, hint="less")
    shown = str(error).count("\n  --> model.onnx")
    assert f"  --> and {100 - shown} more places" in str(error)
    assert shown > 10
    assert str(error).endswith("= try: less")


def test_operator_names_are_escaped():
    error = CompileError("MM201", "no", exit=Exit.UNSUPPORTED, at=(Where("m\n", 1, "Foo\x1b[31m", "a\nb"),))
    assert is_fit(str(error))
    assert "m\\n, node 1 (Foo\\x1b[31m) " in str(error)


def test_printable_looks_only_at_what_it_shows():
    assert len(printable(EVIL, 80)) <= 80
    assert printable("short\n") == "short\\n"


def test_an_error_comes_back_from_another_process_as_it_was():
    """Pools of processes, and dask, send exceptions by pickle; one that fails to load ends the pool."""
    places = (Where("m.onnx", 3, "Conv", "c"), Where("m.onnx", 4, "Relu", ""))
    error = CompileError("MM101", EVIL, exit=Exit.DOES_NOT_FIT, at=places, hint="line one\nline two")
    error.add_note("of the second model")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        found = pickle.loads(pickle.dumps(error, protocol))
        assert (type(found), str(found), found.to_json()) == (CompileError, str(error), error.to_json())
        assert (found.at, found.exit, found.__notes__) == (places, Exit.DOES_NOT_FIT, error.__notes__)


def test_a_hint_that_takes_work_is_found_once_and_only_if_somebody_asks():
    asked = []

    def find() -> str:
        asked.append(1)
        return "line one\nline two" + "x" * 10_000

    error = CompileError("MM040", "too large", exit=Exit.DOES_NOT_FIT, hint=find)
    assert (error.code, error.message, asked) == ("MM040", "too large", [])
    assert "= try: line one\n         line two" in str(error)
    assert is_fit(error.hint)
    found = pickle.loads(pickle.dumps(error))
    assert (str(found), found.to_json(), asked) == (str(error), error.to_json(), [1])
