# SPDX-License-Identifier: Apache-2.0
"""Folders for work in progress, gone at the end whatever ends the program; signals wait for a safe moment."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_holders = 0  # that are in the middle of something
_waiting: tuple[Callable[[int], None], int] | None = None  # what a signal asked for meanwhile


class ScratchFolder(tempfile.TemporaryDirectory[str]):
    """A new empty folder in `parent` (None: where temporary files go), named `prefix` and some letters.

    It vanishes at the end of its `with` block, or of the program. tempfile's own one stays behind if a signal
    comes just after the folder is made, before Python knows that it is to be removed, or while it is removed.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        with held():
            super().__init__(prefix=prefix, dir=parent)

    def cleanup(self) -> None:
        with held():
            super().cleanup()


def end_by(number: int, leave: Callable[[int], None]) -> None:
    """Have signal `number` call `leave` with its number: at once, or at the end of `held`."""

    def told(number: int, _: FrameType | None) -> None:
        global _waiting
        if _holders:
            _waiting = leave, number
        else:
            leave(number)

    signal.signal(number, told)


@contextmanager
def held() -> Generator[None]:
    """Signals of `end_by` wait until the block is left. They reach the main thread only, so only it holds."""
    global _holders, _waiting
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _holders += 1
    try:
        yield
    finally:
        _holders -= 1
        if _waiting and not _holders:
            (leave, number), _waiting = _waiting, None
            leave(number)
