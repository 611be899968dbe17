# SPDX-License-Identifier: Apache-2.0
"""What `make demo-train` runs: the digits model learns on an emulated Cortex-M4, in 40 KiB of RAM.

The images change: they are inverted, or shifted by a pixel with noise added. The firmware is fed labelled
samples, and fine-tunes some of its layers (learner.c); then it keeps its parameters, is switched off, and on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmcc
import numpy as np
from mmcc.package.host import package_sources
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.firmware import build_firmware, linked_ram
from mmcc.toolchain.qemu import run_program
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "demo-train"
TARGET = "cortex-m4"
RAM = 40 * 1024
UPDATE = "block*,logits*,head.bias"
LEARN, EPOCHS, RATE = 180, 10, 0.02

Images = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Learned:
    """What the board said: images right before and after each epoch, mean losses, and bytes of stack."""

    right: list[int]
    losses: list[float]
    stack: int


def inverted(images: Images) -> Images:
    """White on black becomes black on white."""
    return (1 - images).astype(np.float32)


def shifted(images: Images) -> Images:
    """One pixel to the right, and noise of 15 % of the range."""
    moved = np.roll(images, 1, -1)
    moved[..., 0] = 0
    return (moved + np.random.default_rng(0).normal(0, 0.15, moved.shape)).astype(np.float32)


def compiled(folder: Path) -> Path:
    """The firmware, linked to the limit; says what it needs."""
    arguments = (
        f'--name digits --update "{UPDATE}" --ram {RAM // 1024}K --target {TARGET} -o {_shown(folder)}'
    )
    print(f"$ mmcc train {_shown(HERE / 'digits_fp32.onnx')} {arguments}", flush=True)
    made = mmcc.compile_training(
        HERE / "digits_fp32.onnx", folder, {"update": UPDATE}, name="digits", ram=RAM, target=TARGET
    )
    ram = made.report["ram"]
    parts = " + ".join(f"{part} {ram[part]:,}" for part in ("arena", "state", "context", "static", "stack"))
    print(f"  RAM:  {ram['total']:,} of {RAM:,} bytes = {parts}")
    elf = build_firmware(
        load_target(TARGET),
        package_sources(folder),
        [folder],
        folder.parent / "firmware",
        ram_limit=RAM,
        stack_bytes=load_package(folder).stack,
        main=HERE / "learner.c",
    )
    print(f"  the linked firmware has {linked_ram(elf):,} bytes in that RAM, its own variables apart")
    return elf


def learned(elf: Path, folder: Path, images: Images, labels: NDArray[Any], epochs: int) -> Learned:
    """Switch the board on, with these samples before its sensor; with no epochs it loads what it kept."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = np.zeros(len(images), np.dtype([("image", "<f4", 64), ("label", "<i4")]))
    samples["image"], samples["label"] = images.reshape(-1, 64), labels
    numbers = np.array([LEARN, len(images) - LEARN, epochs, round(RATE * 1e6)], "<u4")
    (folder / "samples.bin").write_bytes(numbers.tobytes() + samples.tobytes())
    said = run_program(elf, load_target(TARGET), folder, timeout=600).split("\n")
    values: dict[str, list[int]] = {"right": [], "loss": [], "stack": []}
    for name, value in (line.split() for line in said if line):
        values[name].append(int(value))
    return Learned(values["right"], [loss / 1000 for loss in values["loss"]], values["stack"][0])


def show(title: str, board: Learned, tested: int) -> None:
    """Accuracy before, after each epoch, and the loss."""
    print(f"\n{title}: {tested} images that it does not learn from")
    print(f"  before      {board.right[0] / tested:6.1%}")
    for number, (right, loss) in enumerate(zip(board.right[1:], board.losses, strict=True), 1):
        print(f"  epoch {number:<5} {right / tested:6.1%}   loss {loss:.3f}")


def demonstrate(names: Sequence[str], folder: Path) -> dict[str, tuple[Learned, Learned]]:
    """By kind of change: what the board learned, and what it knows after a power cycle."""
    with np.load(HERE / "test_data.npz") as data:
        images, labels = data["input_0"], data["labels"]
    mixed = np.random.default_rng(1).permutation(len(images))
    elf, found = compiled(folder / "digits_c"), {}
    for name in names:
        (folder / name / "kept.bin").unlink(missing_ok=True)
        changed = {"inverted": inverted, "shifted": shifted}[name](images)[mixed]
        board = learned(elf, folder / name, changed, labels[mixed], EPOCHS)
        show(name, board, len(images) - LEARN)
        again = learned(elf, folder / name, changed, labels[mixed], 0)
        print(
            f"  off and on  {again.right[0] / (len(images) - LEARN):6.1%}   with the parameters that it kept"
        )
        print(f"  stack: {max(board.stack, again.stack)} bytes at most, measured")
        found[name] = board, again
    return found


def _shown(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    try:
        demonstrate(["inverted", "shifted"], BUILD)
    except mmcc.CompileError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(int(error.exit))
