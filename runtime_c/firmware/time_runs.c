/* SPDX-License-Identifier: Apache-2.0 */
/* In place of main.c: runs a model over and over on inputs of its own, and prints processor time a run, turn by turn.
 * The first turns are not printed: engines of WebAssembly compile better what has run for a while. */
#define _POSIX_C_SOURCE 200809L /* NOLINT(bugprone-reserved-identifier): what the C library asks for */
#include "adapter.h"
#include "port.h"

#include <time.h>

enum { WARM_TURNS = 10,
       TURNS = 30,
       NANOSECONDS_OF_TURN = 4000000 };

static int64_t now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static void fill_inputs(void)
{
    uint32_t state = 1;
    for (uint32_t k = 0; k < mmcc_adapter_inputs; ++k) {
        uint8_t *const bytes = mmcc_adapter_input(k);
        for (uint32_t i = 0; i < mmcc_adapter_input_bytes[k]; ++i) {
            state = state * 1664525U + 1013904223U;
            /* the highest byte of a float: 0.5 to 2, so that no value is large or NaN */
            bytes[i] = (uint8_t)(i % 4U == 3U ? 0x3FU : state >> 24);
        }
    }
}

static int32_t once(void)
{
    fill_inputs();
    return mmcc_adapter_run();
}

static int64_t turn(int32_t runs)
{
    const int64_t began = now();
    for (int32_t i = 0; i < runs; ++i) {
        (void)mmcc_port_call_on_model_stack(mmcc_adapter_run);
    }
    return (now() - began) / runs;
}

int main(void)
{
    if (mmcc_port_call_on_model_stack(mmcc_adapter_init) != 0 || mmcc_port_call_on_model_stack(once) != 0) {
        mmcc_port_print("FAILED the first run\n");
        return MMCC_EXIT_IO;
    }
    const int64_t first = turn(1) + 1;
    const int32_t runs = first < NANOSECONDS_OF_TURN ? (int32_t)(NANOSECONDS_OF_TURN / first) : 1;
    for (int32_t i = 0; i < WARM_TURNS + TURNS; ++i) {
        const int64_t each = turn(runs);
        if (i >= WARM_TURNS) {
            mmcc_port_print("time ");
            mmcc_port_print_u32((uint32_t)each);
            mmcc_port_print("\n");
        }
    }
    return 0;
}

__attribute__((noinline)) void mmcc_adapter_step(uint32_t node)
{
    (void)node;
}
