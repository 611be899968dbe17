/* SPDX-License-Identifier: Apache-2.0 */
/* e^x of a block of floats for the test bench, which fails where the function for x <= 0 has other bits. */
#include <string.h>

#include "adapter.h"
#include "mmcc_math.h"

enum {
    FLOATS = 4096,
};

const uint32_t mmcc_adapter_inputs = 1;
const uint32_t mmcc_adapter_outputs = 1;
const uint32_t mmcc_adapter_input_bytes[] = {FLOATS * 4};
const uint32_t mmcc_adapter_output_bytes[] = {FLOATS * 4};

static float arena[FLOATS] __attribute__((section(".bss.mmcc_arena"), aligned(16)));

int32_t mmcc_adapter_init(void)
{
    memset(arena, 0, sizeof arena);
    return 0;
}

void *mmcc_adapter_input(uint32_t k)
{
    (void)k;
    return arena;
}

const void *mmcc_adapter_output(uint32_t k)
{
    (void)k;
    return arena;
}

int32_t mmcc_adapter_run(void)
{
    for (int32_t i = 0; i < FLOATS; ++i) {
        const float x = arena[i];
        arena[i] = mmcc_expf(x);
        const float below = mmcc_expf_below(x);
        if (!(x > 0.0f) && memcmp(&arena[i], &below, sizeof below) != 0) {
            return 1;
        }
    }
    return 0;
}
