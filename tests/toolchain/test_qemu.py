# SPDX-License-Identifier: Apache-2.0
"""Firmware on emulated boards: results, exact counts, RAM and stack that stay within what was stated."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from mmcc.errors import CompileError, Exit
from mmcc.resources import data_dir
from mmcc.toolchain import compile_objects, measure
from mmcc.toolchain.firmware import build_firmware, linked_ram
from mmcc.toolchain.qemu import run_firmware, run_program
from toolchains import ALL, BOARDS, FIRMWARE, ready

SAMPLE = 80
SAMPLES = bytes((7 * i) % 256 for i in range(3 * SAMPLE))
INCLUDES = [data_dir("runtime_c") / "firmware"]
COUNTED = tuple(name for name in ALL if name not in ("host", "wasm32"))


def build(target, folder: Path, source="toy.c", **options) -> Path:
    return build_firmware(target, [FIRMWARE / source], [], folder, **options)


def run_case(name: str, case: int, folder: Path, *flags: str, **options):
    target = ready(name)
    elf = build(target, folder, "stacks.c", flags=[f"-DCASE={case}", *flags], **options)
    return run_firmware(elf, target, struct.pack("<4i", 3, 1, -5, 14), 8, folder, timeout=20)


def static_bound(name: str, case: int, folder: Path) -> int:
    target = ready(name)
    objects = compile_objects(
        target, [FIRMWARE / "stacks.c"], folder, include_dirs=INCLUDES, flags=[f"-DCASE={case}"]
    )
    return measure(target, objects, ["mmcc_adapter_run"], folder).stack["mmcc_adapter_run"].bytes


def expected(sample: int) -> tuple[int, ...]:
    weights = [1, -2, 3, -4, 5, -6, 7, -8, 9] + [0] * 71
    values = struct.unpack("80b", SAMPLES[sample * SAMPLE : (sample + 1) * SAMPLE])
    products = [a * b for a, b in zip(values, weights, strict=True)]
    return sum(products[:64]), sum(products[64:]), sample + 1


@pytest.mark.parametrize("name", ALL)
def test_a_model_runs_and_is_counted(name, tmp_path):
    target = ready(name)
    elf = build(target, tmp_path)
    run = run_firmware(elf, target, SAMPLES, SAMPLE, tmp_path / "run")
    out = [struct.unpack_from("<4i", run.outputs, 16 * i) for i in range(3)]
    assert [(o[0], o[1], o[3]) for o in out] == [expected(i) for i in range(3)]
    again = run_firmware(elf, target, SAMPLES, SAMPLE, tmp_path / "again")
    assert again.instructions == run.instructions
    assert again.outputs == run.outputs
    assert len(run.instructions) == (3 if name in COUNTED else 0)
    assert all(400 < count < 20000 for count in run.instructions)
    assert 0 < run.stack_bytes < (400 if target.bare_metal else 4096)


@pytest.mark.parametrize("name", COUNTED)
def test_laps_add_up_and_the_hook_costs_nothing(name, tmp_path):
    target = ready(name)
    plain = run_firmware(build(target, tmp_path / "a"), target, SAMPLES, SAMPLE, tmp_path / "a/run")
    elf = build(target, tmp_path / "b", hooks=True)
    hooked = run_firmware(elf, target, SAMPLES, SAMPLE, tmp_path / "b/run", profile=True)
    assert plain.laps == ()
    assert [lap.node for lap in hooked.laps] == [-1, 0, 1, 0]
    assert all(lap.instructions >= 0 for lap in hooked.laps)
    assert sum(lap.instructions for lap in hooked.laps) == hooked.instructions[0]
    assert sum(hooked.by_node().values()) == hooked.instructions[0]
    assert hooked.instructions[0] == pytest.approx(plain.instructions[0], abs=24)
    assert hooked.profile
    assert any(function.startswith("dot") for function in hooked.profile.functions)
    executed = sum(hooked.profile.mnemonics.values())
    assert executed == sum(hooked.profile.functions.values())
    assert executed == pytest.approx(sum(hooked.instructions), abs=300)  # with the hooks


@pytest.mark.parametrize("name", ["cortex-m4", "rv32imac"])
def test_a_costly_hook_is_taken_off_when_it_is_rehearsed(name, tmp_path):
    target = ready(name)
    counts = []
    for flags in ([], ["-DCOSTLY_HOOK"]):
        elf = build(target, tmp_path, hooks=True, flags=flags)
        counts.append(run_firmware(elf, target, SAMPLES, SAMPLE, tmp_path).instructions[0])
    assert counts[1] == pytest.approx(counts[0], abs=12)


def test_one_instruction_more_is_counted_as_one(tmp_path):
    """The count is the function's own instructions: neither marker nor call."""
    target = ready("cortex-m3")
    counts = []
    for nops in (0, 1, 100):
        code = (
            '#include "adapter.h"\n'
            "const uint32_t mmcc_adapter_inputs = 0, mmcc_adapter_outputs = 0;\n"
            "const uint32_t mmcc_adapter_input_bytes[] = {0}, mmcc_adapter_output_bytes[] = {0};\n"
            "int32_t mmcc_adapter_init(void) { return 0; }\n"
            "void *mmcc_adapter_input(uint32_t k) { (void)k; return 0; }\n"
            "const void *mmcc_adapter_output(uint32_t k) { (void)k; return 0; }\n"
            f'int32_t mmcc_adapter_run(void) {{ __asm__ volatile(".rept {nops}\\n mov r8, r8\\n .endr");'
            " return 0; }\n"
        )
        source = tmp_path / f"nops{nops}.c"
        source.write_text(code)
        elf = build_firmware(target, [source], [], tmp_path / str(nops))
        counts.append(run_firmware(elf, target, b"", 0, tmp_path / str(nops)).instructions)
    assert counts == [(2,), (3,), (102,)]  # movs r0, #0 and bx lr


@pytest.mark.parametrize("name", BOARDS)
def test_ram_is_limited_by_the_linker(name, tmp_path):
    target = ready(name)
    elf = build(target, tmp_path, stack_bytes=512)
    needed = linked_ram(elf)
    assert 1024 + 512 < needed < 1024 + 512 + 64
    exact = build(target, tmp_path / "exact", stack_bytes=512, ram_limit=needed)
    run_firmware(exact, target, SAMPLES, SAMPLE, tmp_path / "exact/run", watch_memory=True)
    with pytest.raises(CompileError, match=rf"needs {needed} bytes of RAM, 4 more than the limit") as caught:
        build(target, tmp_path / "less", stack_bytes=512, ram_limit=needed - 4)
    assert (caught.value.code, caught.value.exit) == ("MM803", Exit.DOES_NOT_FIT)


@pytest.mark.parametrize("name", ["aarch64", "rv64gcv", "wasm32", "host"])
def test_ram_is_limited_where_there_is_an_operating_system(name, tmp_path):
    target = ready(name)
    build(target, tmp_path, stack_bytes=4096, ram_limit=4096 + 1100)
    with pytest.raises(CompileError, match="more than the limit of 5000"):
        build(target, tmp_path, stack_bytes=4096, ram_limit=5000)


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("case", [1, 2, 3, 4, 5])
def test_the_stack_stays_within_its_bound(name, case, tmp_path):
    limit = static_bound(name, case, tmp_path / "static")
    used = run_case(name, case, tmp_path / "run", stack_bytes=8192).stack_bytes
    assert used <= limit
    if case != 4:  # a library's worst case is rarely what happens
        assert limit <= used + 96


@pytest.mark.parametrize("name", ["aarch64", "rv64gcv", "wasm32", "host"])
@pytest.mark.parametrize("case", [1, 2, 3, 4, 5])
def test_the_stack_stays_within_its_bound_under_an_operating_system(name, case, tmp_path):
    limit = static_bound(name, case, tmp_path / "static")
    used = run_case(name, case, tmp_path / "run").stack_bytes
    assert used <= limit
    assert used > 0 or (name, case) == (
        "wasm32",
        3,
    )  # values whose addresses nobody takes are in no memory there


@pytest.mark.parametrize("name", [*BOARDS, "wasm32"])
def test_a_stack_of_exactly_the_bound_is_enough(name, tmp_path):
    limit = static_bound(name, 1, tmp_path / "static")
    run_case(name, 1, tmp_path / "run", stack_bytes=limit)


@pytest.mark.parametrize("name", ALL)
def test_an_overflow_of_the_stack_is_reported(name, tmp_path):
    with pytest.raises(CompileError, match=r"overflows its stack: STACK OVERFLOW|Lockup") as caught:
        run_case(name, 10, tmp_path, stack_bytes=16384)
    assert caught.value.code == "MM805"


@pytest.mark.parametrize("name", [*BOARDS, "wasm32"])
def test_a_small_overflow_of_the_stack_is_reported(name, tmp_path):
    size = 5008 if name in BOARDS else 4992  # no registers are saved in a module's memory
    with pytest.raises(CompileError, match="overflows its stack: STACK OVERFLOW"):
        run_case(name, 1, tmp_path, stack_bytes=size)


@pytest.mark.parametrize("name", ALL)
def test_a_wild_store_is_a_fault(name, tmp_path):
    nowhere = "0xA0000000U" if name == "cortex-m0plus" else "0xF0000000U"
    with pytest.raises(CompileError, match=r"ended with 99: FAULT"):
        run_case(name, 9, tmp_path, f"-DWILD_ADDRESS={nowhere}")


@pytest.mark.parametrize(
    "name", ["cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imac"]
)
def test_a_store_beyond_the_limit_is_a_fault_that_names_the_function(name, tmp_path):
    """The board has RAM there; the protection unit does not let the program have it."""
    qemu = ready(name).qemu
    assert qemu
    assert qemu.ram
    address = qemu.ram.origin + 20_480
    run_case(name, 9, tmp_path / "in", f"-DWILD_ADDRESS={address - 512}U", ram_limit=20_480)
    with pytest.raises(CompileError, match=r"FAULT .*\(in (shape|mmcc_adapter_run)"):
        run_case(name, 9, tmp_path / "out", f"-DWILD_ADDRESS={address}U", ram_limit=20_480)
    with pytest.raises(CompileError, match=r"FAULT"):  # code is not to be written either
        run_case(name, 9, tmp_path / "code", f"-DWILD_ADDRESS={qemu.code.origin + 64 if qemu.code else 0}U")


def test_watching_memory_finds_it_without_a_protection_unit(tmp_path):
    target = ready("cortex-m0plus")
    flags = ["-DCASE=9", "-DWILD_ADDRESS=0x20006000U"]
    elf = build(target, tmp_path, "stacks.c", flags=flags, ram_limit=20_480)
    run_firmware(elf, target, bytes(8), 8, tmp_path)
    with pytest.raises(CompileError, match="leaves its RAM: store of 4 at 0x20006000"):
        run_firmware(elf, target, bytes(8), 8, tmp_path, watch_memory=True)


@pytest.mark.parametrize("name", ALL)
def test_a_failing_model_is_reported_with_its_status(name, tmp_path):
    with pytest.raises(CompileError, match=r"STATUS 0x00000007; FAILED mmcc_adapter_run"):
        run_case(name, 12, tmp_path)


@pytest.mark.parametrize("name", ["cortex-m4", "aarch64"])
def test_a_run_without_end_is_stopped(name, tmp_path):
    target = ready(name)
    elf = build(target, tmp_path, "stacks.c", flags=["-DCASE=11"])
    with pytest.raises(CompileError, match="did not end within 1 s") as caught:
        run_firmware(elf, target, bytes(8), 8, tmp_path, timeout=1)
    assert caught.value.code == "MM805"


@pytest.mark.parametrize("name", ALL)
def test_a_program_may_bring_its_own_main(name, tmp_path):
    target = ready(name)
    main = tmp_path / "demo.c"
    main.write_text(
        '#include "port.h"\nint main(void) { mmcc_port_print("hello "); mmcc_port_print_u32(42);\n'
        'mmcc_port_print("\\n"); return 0; }\n'
    )
    elf = build_firmware(target, [], [], tmp_path, main=main)
    assert run_program(elf, target, tmp_path) == "hello 42\n"


def test_without_qemu_the_error_names_it(tmp_path):
    target = ready("cortex-m4")
    assert target.qemu
    elf = build(target, tmp_path)
    gone = replace(target, qemu=replace(target.qemu, program="no-such-qemu"))
    with pytest.raises(CompileError, match="there is no no-such-qemu in PATH") as caught:
        run_firmware(elf, gone, SAMPLES, SAMPLE, tmp_path)
    assert caught.value.exit == Exit.TOOL_MISSING


def test_a_target_without_a_board_says_what_to_add(tmp_path):
    with pytest.raises(CompileError, match=r"add a \[qemu\] table"):
        build(replace(ready("cortex-m4"), qemu=None), tmp_path)


BIG = """
#include "adapter.h"
enum { WEIGHTS = 6 << 20, RAM = RAM_BYTES };
const uint32_t mmcc_adapter_inputs = 1, mmcc_adapter_outputs = 1;
const uint32_t mmcc_adapter_input_bytes[] = {4}, mmcc_adapter_output_bytes[] = {8};
extern const uint8_t weights[WEIGHTS];
const uint8_t weights[WEIGHTS] = {[0] = 1, [1234569] = 7, [WEIGHTS - 1] = 3};
static uint8_t arena[RAM] __attribute__((section(".bss.mmcc_arena"), aligned(16)));
static uint32_t out[2];
int32_t mmcc_adapter_init(void) { return 0; }
void *mmcc_adapter_input(uint32_t k) { (void)k; return arena; }
const void *mmcc_adapter_output(uint32_t k) { (void)k; return out; }
int32_t mmcc_adapter_run(void) {
    out[0] = out[1] = 0;
    for (uint32_t i = 0; i < WEIGHTS; i += 3) { out[0] += weights[i]; }
    out[0] += weights[WEIGHTS - 1];
    for (uint32_t i = 4; i < RAM; i += 4096) { arena[i] = (uint8_t)(i >> 12); }
    arena[RAM - 1] = 9;
    for (uint32_t i = 4; i < RAM; i += 4096) { out[1] += (uint8_t)(arena[i] - (uint8_t)(i >> 12)); }
    out[1] += arena[RAM - 1];
    return 0;
}
"""


@pytest.mark.parametrize("name", BOARDS)
def test_a_large_model_fits_the_board(name, tmp_path):
    """Six megabytes of weights, two of RAM."""
    target = ready(name)
    source = tmp_path / "big.c"
    source.write_text(BIG)
    flags = [f"-DRAM_BYTES={2 << 20}"]
    elf = build_firmware(target, [source], [], tmp_path, flags=flags, ram_limit=(2 << 20) + 4096)
    run = run_firmware(elf, target, bytes(4), 4, tmp_path)
    assert struct.unpack("<2I", run.outputs) == (1 + 7 + 3, 9)
