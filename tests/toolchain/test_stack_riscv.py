# SPDX-License-Identifier: Apache-2.0
"""Frames with vector registers, whose length the processor says: bounds against what emulated ones take."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from mmcc.target import Target
from mmcc.toolchain import compile_objects, find_tool, link, measure
from mmcc.toolchain.stack.listing import Listing
from mmcc.toolchain.stack.vector_frames import grows_by
from toolchains import ready

# f keeps vectors over a call; `other` notes how far down the stack is then.
SOURCE = """
#include <riscv_vector.h>
#include <stdint.h>
#include <stdio.h>
void f(int32_t *a, const int32_t *b, int32_t wide);
static uintptr_t low;
__attribute__((always_inline)) static inline void *here(void)
{
    void *sp;
    __asm__ volatile("mv %0, sp" : "=r"(sp));
    return sp;
}
__attribute__((noinline)) static void other(void)
{
    low = (uintptr_t)here();
    __asm__ volatile("" ::: "memory");
}
__attribute__((noinline)) void f(int32_t *a, const int32_t *b, int32_t wide)
{
    const size_t n = __riscv_vsetvlmax_e32m4();
    vint32m4_t x = __riscv_vle32_v_i32m4(a, n), y = __riscv_vle32_v_i32m4(b, n);
    LOCAL
    other();
    x = __riscv_vadd_vv_i32m4(x, y, n);
    if (wide) {
        vint32m2_t z = __riscv_vle32_v_i32m2(a, __riscv_vsetvlmax_e32m2());
        other();
        __riscv_vse32_v_i32m2(a, z, __riscv_vsetvlmax_e32m2());
    }
    __riscv_vse32_v_i32m4(a, x, n);
}
int main(void)
{
    static int32_t a[1024], b[1024];
    const uintptr_t before = (uintptr_t)here();
    f(a, b, 1);
    printf("%d\\n", (int)(before - low));
    return 0;
}
"""
ALIGNED = "volatile char kept[64] __attribute__((aligned(64))); kept[0] = 1;"


def built(folder: Path, local: str, level: str) -> tuple[Target, tuple[Path, ...]]:
    target = ready("rv64gcv")
    source = folder / "kept.c"
    source.write_text(SOURCE.replace("LOCAL", local))
    return target, compile_objects(target, [source], folder, flags=[level])


@pytest.mark.parametrize(("local", "level", "more"), [("", "-O2", 0), ("", "-O0", 0), (ALIGNED, "-O2", 64)])
def test_frames_of_vectors_are_as_large_as_the_longest_registers_make_them(
    tmp_path: Path, local: str, level: str, more: int
) -> None:
    """Aligned frames may have `more`: where the caller's stack ended is not known."""
    target, objects = built(tmp_path, local, level)
    elf = link(target, objects, tmp_path / "kept.elf", flags=["-static"])
    for bits in (128, 1024):
        bound = measure(replace(target, vector_bits=bits), objects, ["f"], tmp_path).stack["f"]
        cpu = f"rv64,v=true,vext_spec=v1.0,vlen={bits}"
        done = subprocess.run(
            [find_tool("qemu-riscv64", target), "-cpu", cpu, elf], capture_output=True, text=True, check=True
        )
        assert not bound.assumed
        assert int(done.stdout) <= bound.bytes <= int(done.stdout) + more


def test_without_a_longest_register_the_stack_is_a_margin(tmp_path: Path) -> None:
    target, objects = built(tmp_path, "", "-O2")
    found = measure(replace(target, vector_bits=0), objects, ["f"], tmp_path).stack["f"]
    assert "keeps vector registers on the stack" in found.assumed
    assert found.bytes == target.stack_bytes


@pytest.mark.parametrize(
    ("code", "grown"),
    [
        (["csrr\ta5,vlenb", "li\ta6,14", "mul\ta5,a5,a6", "sub\tsp,sp,a5"], 14 * 32),
        (["csrr\ta5,vlenb", "sll\ta6,a5,0x2", "sub\ta5,a6,a5", "add\tsp,sp,a5"], -3 * 32),
        (["csrr\ta5,vlenb", "sh1add\ta5,a5,a5", "addi\ta5,a5,64", "sub\tsp,sp,a5"], 3 * 32 + 64),
        (["and\tsp,sp,-64"], 64),
        (["csrr\ta5,vlenb", "lw\ta5,0(a0)", "sub\tsp,sp,a5"], None),  # something else
        (["csrr\ta5,vlenb", "srl\ta5,a5,0x1", "sub\tsp,sp,a5"], None),
        (["csrr\ta5,vlenb", "mul\ta5,a5,a5", "sub\tsp,sp,a5"], None),
        (["csrr\ta5,vlenb", "beqz\ta0,10 <f+0x10>", "sub\tsp,sp,a5"], None),
        (["beqz\ta0,8 <f+0x8>", "csrr\ta5,vlenb", "sub\tsp,sp,a5"], None),  # the jump knows no a5
        (["csrr\ta5,vlenb", "jal\tra,100 <g>", "sub\tsp,sp,a5"], None),
        (["sub\tsp,sp,a5"], None),
    ],
)
def test_amounts_are_followed_through_straight_code(code: list[str], grown: int | None) -> None:
    text = "0000000000000000 <f>:\n" + "".join(f"{4 * k:4x}:\t{line}\n" for k, line in enumerate(code))
    assert grows_by(Listing.parse(text), 4 * (len(code) - 1), 32) == grown
