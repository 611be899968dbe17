# SPDX-License-Identifier: Apache-2.0
"""Packages of the differential campaign share what is the same with all that it knows, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from fuzz_shared import Parts, Shared, parts_of

pytestmark = pytest.mark.quick
HEADER = """
/* Of @ alone. */
enum {
    %_MEMORY_SRAM,
    %_MEMORY_WEIGHTS
};

typedef struct {
    int8_t rows;
} @_view;

typedef struct {
    @_view x;
} @_copy_layer;

void @_copy(uint8_t *const *memory, const @_copy_layer *layer);
"""
KERNELS = """#include "@_internal.h"

#if defined(FAST)
static void @_copy_fast(const @_view *view)
{
    (void)view;

}
#endif

void @_copy(uint8_t *const *memory, const @_copy_layer *layer)
{
    (void)memory[%_MEMORY_WEIGHTS];
    @_copy_fast(&layer->x);
}
"""


def package(name: str, header: str = HEADER, kernels: str = KERNELS) -> Parts:
    def named(text: str) -> str:
        return text.replace("@", name).replace("%", name.upper())

    return Parts(name, parts_of(named(header)), parts_of(named(kernels)))


def left(second: Parts) -> tuple[set[str], str]:
    """Names that are the first package's, and the second's kernels that are left."""
    shared = Shared()
    assert shared.left(package("p10"))[0] == {}
    names, _, kernels = shared.left(second)
    assert all(word.replace("p11", "p10") == other for word, other in names.items())
    return set(names), "".join(kernels)


def test_what_is_the_same_is_left_out() -> None:
    later = HEADER.replace("%_MEMORY_WEIGHTS", "%_MEMORY_WEIGHTS,\n    %_MEMORY_INPUT").replace(
        "alone", "now"
    )
    for second in (package("p11"), package("p11", later)):
        names, kernels = left(second)
        assert names == {"p11_view", "p11_copy_layer", "p11_copy", "p11_copy_fast"}
        assert kernels.split() == ["#include", '"p11_internal.h"']


@pytest.mark.parametrize(
    ("header", "kernels", "same"),
    [
        (HEADER.replace("int8_t rows", "int16_t rows"), KERNELS, set()),
        (
            HEADER.replace("    %_MEMORY_SRAM,\n", ""),
            KERNELS,
            {"p11_view", "p11_copy_layer", "p11_copy_fast"},
        ),
        (HEADER, KERNELS.replace("(void)view;", "(void)*view;"), {"p11_view", "p11_copy_layer"}),
        (
            HEADER,
            KERNELS.replace("memory[", "%_START + memory["),
            {"p11_view", "p11_copy_layer", "p11_copy_fast"},
        ),
        (HEADER, KERNELS.replace("#if", "#define STEP 1\n#if"), {"p11_view", "p11_copy_layer"}),
    ],
    ids=["a type", "a value", "a function", "something elsewhere", "a macro"],
)
def test_what_knows_something_else_is_not(header: str, kernels: str, same: set[str]) -> None:
    names, rest = left(package("p11", header, kernels))
    assert names == same
    assert "p11_copy(" in rest
