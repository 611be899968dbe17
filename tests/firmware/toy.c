/* SPDX-License-Identifier: Apache-2.0 */
/* A model of three steps for the test bench: int8 dot products, a transcendental function, a requantization. */
#include <math.h>
#include <string.h>

#include "adapter.h"

#if defined(MMCC_HOOKS) && defined(COSTLY_HOOK)
#define STEP(node) (mmcc_adapter_step(node), waste())
#elif defined(MMCC_HOOKS)
#define STEP(node) mmcc_adapter_step(node)
#else
#define STEP(node) ((void)0)
#endif

#ifndef ARENA_BYTES
#define ARENA_BYTES 1024
#endif

enum {
    FIRST = 64,
    SECOND = 16,
    WORDS = 4,
};

const uint32_t mmcc_adapter_inputs = 2;
const uint32_t mmcc_adapter_outputs = 1;
const uint32_t mmcc_adapter_input_bytes[] = {FIRST, SECOND};
const uint32_t mmcc_adapter_output_bytes[] = {WORDS * 4};

static uint8_t arena[ARENA_BYTES] __attribute__((section(".bss.mmcc_arena"), aligned(16)));
static const int8_t toy_weights[FIRST + SECOND] = {1, -2, 3, -4, 5, -6, 7, -8, 9};
static uint32_t runs;

#ifdef COSTLY_HOOK
static __attribute__((noinline)) void waste(void)
{
    for (volatile int32_t i = 0; i < 100; ++i) {
    }
}
#endif

static __attribute__((noinline)) int32_t dot(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t sum[8];
    memset(sum, 0, sizeof sum);
    for (int32_t i = 0; i < n; ++i) {
        sum[i % 8] += a[i] * b[i];
    }
    for (int32_t i = 1; i < 8; ++i) {
        sum[0] += sum[i];
    }
    return sum[0];
}

int32_t mmcc_adapter_init(void)
{
    memset(arena, 0, sizeof arena);
    return 0;
}

void *mmcc_adapter_input(uint32_t k)
{
    return k == 0 ? arena : arena + FIRST;
}

const void *mmcc_adapter_output(uint32_t k)
{
    (void)k;
    return arena + FIRST + SECOND;
}

int32_t mmcc_adapter_run(void)
{
    int32_t out[WORDS];
    STEP(0);
    out[0] = dot((const int8_t *)arena, toy_weights, FIRST);
    STEP(1);
    out[1] = dot((const int8_t *)arena + FIRST, toy_weights + FIRST, SECOND);
    const float y = tanhf((float)out[0] * 0.01F) * 100.0F;
    out[2] = (int32_t)y;
    STEP(0);
    ++runs;
    out[3] = (int32_t)runs;
    memcpy(arena + FIRST + SECOND, out, sizeof out);
    return 0;
}

#if defined(MMCC_HOOKS) && defined(COSTLY_HOOK)
void mmcc_adapter_rehearse(void)
{
    STEP(0);
    STEP(1);
}
#endif
