# SPDX-License-Identifier: Apache-2.0
"""States of a package, which the model has as inputs and outputs: what one run gives is fed to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from mmcc.package.record import KeptState


class Kept:
    """The model's inputs that are states, from the values they begin with on."""

    def __init__(self, states: Sequence[KeptState]) -> None:
        self.outputs = [state.output for state in states]  # by their names in the model
        self._inputs = [state.port.onnx_name for state in states]
        self.values: dict[str, NDArray[Any]] = {state.port.onnx_name: state.first for state in states}

    def become(self, outputs: Sequence[NDArray[Any]]) -> None:
        """Take the values of `outputs` after a run."""
        self.values = dict(zip(self._inputs, outputs, strict=True))
