# SPDX-License-Identifier: Apache-2.0
"""What holds for every test.

Temporary folders lie in pytest's own, which it removes after some runs: a worker of pytest-xdist ends without
the clean-up that Python does at its end. Random numbers of a test do not depend on which tests its worker ran
before.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

FIRST_STATES: dict[str, Any] = {}  # of the generator `RNG` of a module, by the module's name


@pytest.fixture(scope="session", autouse=True)
def temporary_folders_are_removed(tmp_path_factory: pytest.TempPathFactory) -> None:
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))


@pytest.fixture(autouse=True)
def numbers_do_not_depend_on_other_tests(request: pytest.FixtureRequest) -> None:
    rng = getattr(request.module, "RNG", None)
    if isinstance(rng, np.random.Generator):
        state = FIRST_STATES.setdefault(request.module.__name__, deepcopy(rng.bit_generator.state))
        rng.bit_generator.state = state
