# SPDX-License-Identifier: Apache-2.0
"""Samples that nobody should give, under sanitizers: labels that are no class, images that are no numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mmcc
import numpy as np
import pytest
from mmcc.api import TrainOptions
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.qemu import run_firmware
from mmcc.verification.compare import sanitized_program
from numpy.typing import NDArray
from test_made_again import RATE, chain, samples

NO_CLASSES = (-1, 3, 2**31 - 1, -(2**31))
RUN, STEP, APPLY = 0, 1, 2


@pytest.mark.parametrize(
    "train",
    [TrainOptions(weight_decay=0.0), TrainOptions(optimizer="adam", accumulate=2)],
    ids=["sgd", "adam, sums"],
)
def test_odd_samples_fault_nothing(train: TrainOptions, tmp_path: Path) -> None:
    """A label that is no class changes no bit of what is learned. What is no number spreads, and no index is
    made of it: a max pool's tap is one of its window."""
    model = chain(tmp_path, 2, pooled=0)
    made = mmcc.compile_training(model, tmp_path / "net", train, name="net", ram="min", recompute=1.5)
    program = sanitized_program(made.folder, load_package(made.folder))
    (image, label), sums = samples(1)[0], train.get("accumulate", 1) > 1
    step = [STEP, STEP, APPLY] if sums else [STEP]

    def answers(labels: Sequence[int], x: NDArray[np.float32]) -> list[float]:
        """Outputs before, losses of the steps, and outputs after."""
        order, inputs = [RUN], [image.tobytes()]
        for each in labels:
            order += step
            one = [x.tobytes(), np.array([each], np.int32).tobytes()]
            inputs += [*one, *one, RATE.tobytes()] if sums else [*one, RATE.tobytes()]
        run = run_firmware(
            program, load_target("host"), b"".join([*inputs, image.tobytes()]), 0, tmp_path / "run",
            calls=bytes([*order, RUN]),
        )  # fmt: skip
        return np.frombuffer(run.outputs, np.float32).tolist()

    before, losses, after = np.split(np.array(answers(NO_CLASSES, image)), [3, -3])
    assert before.tolist() == after.tolist()
    assert not losses.any()
    before, losses, after = np.split(np.array(answers(label.tolist(), image)), [3, -3])
    assert before.tolist() != after.tolist()
    assert losses.all()
    for odd in (np.nan, np.inf, -np.inf):
        for x in (np.full_like(image, odd), np.where(image > 1, np.float32(odd), image)):
            assert len(answers([0, 1], x)) == 6 + 2 * step.count(STEP)
