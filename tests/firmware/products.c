/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of mmcc_products.h for the test bench. All sizes are known to the compiler, as they are to one that makes copies
 * of a kernel for the layers that it sees. */
#include <string.h>

#include "adapter.h"
#include "mmcc_products.h"

enum {
    COUNT = 41,
    WEIGHTS = 16 * COUNT,
    CASES = 14,
    OF_CASE = 32,
};

const uint32_t mmcc_adapter_inputs = 1;
const uint32_t mmcc_adapter_outputs = 1;
const uint32_t mmcc_adapter_input_bytes[] = {(WEIGHTS + COUNT) * 4};
const uint32_t mmcc_adapter_output_bytes[] = {CASES * OF_CASE * 4};

static struct {
    float w[WEIGHTS], x[COUNT], y[CASES][OF_CASE];
} arena __attribute__((section(".bss.mmcc_arena"), aligned(16)));

int32_t mmcc_adapter_init(void)
{
    memset(&arena, 0, sizeof arena);
    return 0;
}

void *mmcc_adapter_input(uint32_t k)
{
    (void)k;
    return arena.w;
}

const void *mmcc_adapter_output(uint32_t k)
{
    (void)k;
    return arena.y;
}

MMCC_INLINE void sums(int32_t at, int32_t count, int32_t step)
{
    mmcc_float8 side_by_side = mmcc_set8(1.0f);
    mmcc_float8 apart = mmcc_set8(2.0f);
    mmcc_products8(arena.w, arena.x, count, &side_by_side);
    mmcc_products8_apart(arena.w, step, arena.x, count, &apart);
    mmcc_store8(arena.y[at], side_by_side);
    mmcc_store8(arena.y[at] + 8, apart);
    mmcc_products16(arena.w, arena.x, count, arena.y[at] + 16);
}

int32_t mmcc_adapter_run(void)
{
    sums(0, 0, 8);
    sums(1, 1, 8);
    sums(2, 2, 8);
    sums(3, 3, 8);
    sums(4, 4, 8);
    sums(5, 5, 8);
    sums(6, 6, 8);
    sums(7, 7, 9);
    sums(8, 8, 9);
    sums(9, 9, 9);
    sums(10, 36, 8); /* here bytes from weights to weights are what is left after four */
    sums(11, 37, 8);
    sums(12, 40, 9); /* and here */
    sums(13, 41, 9);
    return 0;
}
