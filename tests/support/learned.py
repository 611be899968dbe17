# SPDX-License-Identifier: Apache-2.0
"""What a package learns on this machine, to be compared bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmcc.package.host import host_model
from mmcc.package.record import load_package


def learned(folder: Path, steps: int) -> list[np.ndarray]:
    """Losses of some steps, and the outputs of the model after them."""
    package = load_package(folder)
    model, rng = host_model(folder, package), np.random.default_rng(7)
    entry, found = package.entries[1], []
    for _ in range(steps):
        given = [rng.random(entry.tensors[port.tensor].shape, np.float32) for port in entry.inputs]
        found += model.run(given, 1)
    x = [np.ones(package.entries[0].tensors[p.tensor].shape, np.float32) for p in package.entries[0].inputs]
    return [*found, *model.run(x)]
