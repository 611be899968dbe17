# SPDX-License-Identifier: Apache-2.0
"""What `make demo-llm` runs: a small language model writes stories on an emulated Cortex-M4.

One word a call. Keys and values of the words before are a state of the package, updated in place; the
firmware (writer.c) picks the next word. Then the same stories are written with ONNX Runtime.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mmcc
import numpy as np
from mmcc.package.host import package_sources
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.counting import count, read_log
from mmcc.toolchain.firmware import build_firmware, linked_ram
from mmcc.toolchain.qemu import run_program
from mmcc.verification.oracle import Oracle

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from stories import END, LENGTH, faults, vocabulary  # noqa: E402  (beside this file)

BUILD = HERE.parents[1] / "build" / "demo-llm"
MODEL = HERE / "tiny_llm.onnx"
TARGET = "cortex-m4"
RAM = 32 * 1024
CLOCK = 80  # MHz, of the board that the last line speaks of
CYCLES = 1.5  # for an instruction, roughly: `mmcc bench --cycles` models boards


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a story begins, and how freely it goes on: 0 takes the likeliest word each time."""

    words: str
    temperature: float = 0.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Written:
    """What the board wrote, instructions of each word, and bytes of stack."""

    stories: list[list[str]]
    instructions: list[int]
    stack: int


PROMPTS = (
    Prompt("once there was a clever fox named mia ."),
    Prompt("once there was a shy owl named leo . leo had a yellow kite ."),
    *(Prompt("once", 0.7, seed) for seed in (3, 4, 5)),
)


def compiled(folder: Path) -> Path:
    """The firmware, linked to the limit; says what it needs."""
    arguments = f"--state cache=cache_out --ram {RAM // 1024}K --target {TARGET} -o {os.path.relpath(folder)}"
    print(f"$ mmcc compile {os.path.relpath(MODEL)} {arguments}", flush=True)
    made = mmcc.compile_model(MODEL, folder, states={"cache": "cache_out"}, ram=RAM, target=TARGET)
    ram = made.report["ram"]
    parts = " + ".join(f"{part} {ram[part]:,}" for part in ("arena", "state", "context", "static", "stack"))
    print(f"  RAM:  {ram['total']:,} of {RAM:,} bytes = {parts}")
    own = folder.parent / "words"
    own.mkdir(parents=True, exist_ok=True)
    quoted = ", ".join(f'"{word}"' for word in vocabulary())
    table = f"static const char *const WORDS[] = {{ {quoted} }};\n"
    (own / "words.h").write_text(f"#define POSITIONS {LENGTH}\n{table}")
    elf = build_firmware(
        load_target(TARGET),
        package_sources(folder),
        [folder, own],
        folder.parent / "firmware",
        ram_limit=RAM,
        stack_bytes=load_package(folder).stack,
        main=HERE / "writer.c",
    )
    print(f"  the linked firmware has {linked_ram(elf):,} bytes in that RAM, its own variables apart")
    return elf


def written(elf: Path, folder: Path, prompts: Sequence[Prompt]) -> Written:
    """Switch the board on, and type the beginnings of stories."""
    folder.mkdir(parents=True, exist_ok=True)
    number = {word: k for k, word in enumerate(vocabulary())}
    typed = [len(prompts)]
    for prompt in prompts:
        tokens = [number[word] for word in prompt.words.split()]
        typed += [prompt.seed, round(1000 * prompt.temperature), len(tokens), *tokens]
    (folder / "prompts.bin").write_bytes(np.array(typed, "<u4").tobytes())
    *lines, last = run_program(elf, load_target(TARGET), folder, timeout=600).strip().split("\n")
    instructions, _ = count(read_log(folder / "mmcount.log"), ())
    return Written([line.split() for line in lines], list(instructions), int(last.split()[1]))


def by_onnx_runtime(prompts: Sequence[Prompt]) -> list[list[str]]:
    """The stories of prompts that take the likeliest word."""
    words = vocabulary()
    number = {word: k for k, word in enumerate(words)}
    oracle, found = Oracle(MODEL, ["logits", "cache_out"]), list[list[str]]()
    for prompt in prompts:
        told, cache = prompt.words.split(), np.zeros((4, 2, LENGTH, 12), np.float32)
        for position in range(LENGTH):
            given = {"token": np.array([number[told[position]]]), "position": np.array([position])}
            logits, cache = oracle.run({**given, "cache": cache})
            if position + 1 == len(told):
                told.append(words[int(logits.argmax())])
            if told[position + 1] == END:
                break
        found.append(told)
    return found


def demonstrate(prompts: Sequence[Prompt], folder: Path) -> Written:
    """Let the board write, and say what it took and how good it is."""
    board = written(compiled(folder / "tiny_llm_c"), folder / "run", prompts)
    for prompt, words in zip(prompts, board.stories, strict=True):
        how = f"temperature {prompt.temperature}" if prompt.temperature else "the likeliest words"
        print(f"\n> {prompt.words}   ({how})\n{' '.join(words).replace(' .', '.')}")
        print(f"  {'; '.join(faults(words)) or 'nothing is wrong with it'}")
    plain = [prompt for prompt in prompts if not prompt.temperature]
    told = [words for prompt, words in zip(prompts, board.stories, strict=True) if prompt in plain]
    same = sum(a == b for a, b in zip(told, by_onnx_runtime(plain), strict=True))
    print(f"\nONNX Runtime writes {same} of {len(plain)} stories of likeliest words as the board does")
    most = max(board.instructions)
    print(f"{most:,} instructions a word, {board.stack} bytes of stack at most, measured")
    print(f"about {CLOCK * 1e6 / CYCLES / most:.0f} words a second at {CLOCK} MHz")
    return board


if __name__ == "__main__":
    try:
        demonstrate(PROMPTS, BUILD)
    except mmcc.CompileError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(int(error.exit))
