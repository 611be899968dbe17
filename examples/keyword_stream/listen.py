# SPDX-License-Identifier: Apache-2.0
"""What `make demo-stream` runs: a network listens to a WAV file on an emulated Cortex-M4, hop by hop.

The model is a whole sequence; `--stream` makes it take 16 ms a call. The recording is synthesised like those
that it was trained on, but is none of them.
"""

from __future__ import annotations

import os
import re
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import mmcc
import numpy as np
from mmcc.package.host import package_sources
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.counting import count, read_log
from mmcc.toolchain.firmware import build_firmware, linked_ram
from mmcc.toolchain.qemu import run_program

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from sounds import HOP, RATE, SOUNDS, Heard, recording  # noqa: E402  (beside this file)

BUILD = HERE.parents[1] / "build" / "demo-stream"
MODEL = HERE / "keyword_stream.onnx"
TARGET = "cortex-m4"
RAM = 24 * 1024
SEED, SECONDS = 1001, 40.0
LATE = 0.3  # seconds after a sound's end in which it may be said


@dataclass(frozen=True, slots=True)
class Said:
    """What the board said: sounds by name and the millisecond; instructions of each hop, bytes of stack."""

    sounds: list[tuple[int, str]]
    instructions: list[int]
    stack: int


def compiled(folder: Path) -> Path:
    """The firmware, linked to the limit; says what it needs."""
    arguments = f"--stream audio:2 --ram {RAM // 1024}K --target {TARGET} -o {os.path.relpath(folder)}"
    print(f"$ mmcc compile {os.path.relpath(MODEL)} {arguments}", flush=True)
    made = mmcc.compile_model(MODEL, folder, stream="audio:2", ram=RAM, target=TARGET)
    ram = made.report["ram"]
    parts = " + ".join(f"{part} {ram[part]:,}" for part in ("arena", "state", "context", "static", "stack"))
    print(f"  RAM:  {ram['total']:,} of {RAM:,} bytes = {parts}")
    own = folder.parent / "names"
    own.mkdir(parents=True, exist_ok=True)
    quoted = ", ".join(f'"{name}"' for name in ("nothing", *SOUNDS))
    table = f"static const char *const NAMES[] = {{ {quoted} }};\n"
    (own / "names.h").write_text(f"#define RATE {RATE}u\n{table}")
    elf = build_firmware(
        load_target(TARGET),
        package_sources(folder),
        [folder, own],
        folder.parent / "firmware",
        ram_limit=RAM,
        stack_bytes=load_package(folder).stack,
        main=HERE / "listener.c",
    )
    print(f"  the linked firmware has {linked_ram(elf):,} bytes in that RAM, its own variables apart")
    return elf


def recorded(path: Path, seconds: float) -> list[Heard]:
    """Write a WAV file, and tell what is in it."""
    audio, heard = recording(np.random.default_rng(SEED), seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(audio * 32767).astype("<i2").tobytes())
    return heard


def listened(elf: Path, folder: Path) -> Said:
    """Switch the board on in a folder that has heard.wav."""
    *lines, last = run_program(elf, load_target(TARGET), folder, timeout=600).strip().split("\n")
    said = [re.fullmatch(r"(\d+) ms: (.+)", line) for line in lines]
    instructions, _ = count(read_log(folder / "mmcount.log"), ())
    return Said([(int(x[1]), x[2]) for x in said if x], list(instructions), int(last.split()[1]))


def matched(heard: list[Heard], said: Said) -> tuple[list[tuple[Heard, int]], list[tuple[int, str]]]:
    """The sounds that were said, with the millisecond, and what was said of nothing."""
    left, right = list(said.sounds), list[tuple[Heard, int]]()
    for sound in heard:
        begin, end = (1000 * at / RATE for at in (sound.begin, sound.end + LATE * RATE))
        for at, name in left:
            if name == sound.name and begin <= at <= end:
                right.append((sound, at))
                left.remove((at, name))
                break
    return right, left


def demonstrate(folder: Path, seconds: float = SECONDS) -> tuple[list[Heard], Said]:
    """Let the board listen, and say what it heard and what that took."""
    elf = compiled(folder / "keyword_stream_c")
    heard = recorded(folder / "run" / "heard.wav", seconds)
    said = listened(elf, folder / "run")
    right, wrong = matched(heard, said)
    when = {at: sound for sound, at in right}
    print(f"\n{os.path.relpath(folder / 'run' / 'heard.wav')}, {seconds:g} s:")
    for at, name in said.sounds:
        known = when.get(at)
        note = f"{at - 1000 * known.end / RATE:+5.0f} ms from its end" if known else "there was none"
        print(f"  {at / 1000:7.3f} s  {name:<13} {note}")
    late = mean(at - 1000 * sound.end / RATE for sound, at in right) if right else 0.0
    print(f"{len(right)} of {len(heard)} sounds heard, {len(wrong)} of none; {late:+.0f} ms from their end")
    most = max(said.instructions)
    print(f"latency: a hop of {1000 * HOP / RATE:g} ms, {most:,} instructions for it at most")
    a_second = sum(said.instructions) / len(said.instructions) * RATE / HOP
    print(
        f"{a_second / 1e6:.2f} million instructions a second of audio, {said.stack} bytes of stack, measured"
    )
    return heard, said


if __name__ == "__main__":
    try:
        demonstrate(BUILD)
    except mmcc.CompileError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(int(error.exit))
