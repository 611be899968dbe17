# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: temporary folders lie in pytest's own, which it removes after some runs.

A worker of pytest-xdist ends without the clean-up that Python does at its end.
"""

from __future__ import annotations

import tempfile

import pytest


@pytest.fixture(scope="session", autouse=True)
def temporary_folders_are_removed(tmp_path_factory: pytest.TempPathFactory) -> None:
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
