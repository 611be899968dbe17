/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the digits network by one thread, then by several as docs/threads.md shows it: the outputs must be the same. */
#include "digits.h"

#include <string.h>

#include "shown.h"

#define RUNS 3

static DIGITS_ARENA(arena);
static digits_context model;

static void run(void)
{
    int8_t *const input = digits_input_0(&model);
    for (uint32_t k = 0; k < DIGITS_INPUT_0_BYTES; ++k) {
        input[k] = (int8_t)(uint8_t)((k * 2654435761u) >> 13);
    }
    (void)digits_run(&model);
}

/* The threads that the page says to start. */
static void start(int32_t workers);

#ifdef POSIX
static pool threads = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
static void *const user = &threads;

static void start(int32_t workers)
{
    pthread_t thread;
    for (int32_t k = 0; k < workers; ++k) {
        pthread_create(&thread, NULL, worker, &threads);
    }
}
#else
static void *const user = NULL;
#ifdef FREERTOS
static void start(int32_t workers)
{
    (void)workers;
    shared.other = started(second_core);
}
#else
static void start(int32_t workers)
{
    (void)workers;
}
#endif
#endif

int main(int argc, char **argv)
{
    int8_t alone[DIGITS_OUTPUT_0_BYTES];
    (void)argv;
    if (digits_init(&model, arena, sizeof arena) != MMCC_OK) {
        return 1;
    }
    run();
    memcpy(alone, digits_output_0(&model), sizeof alone);
    start(argc > 1 ? 7 : 2);
    (void)digits_parallel_with(&model, parallel, user);
    for (int32_t k = 0; k < RUNS; ++k) {
        run();
        if (memcmp(alone, digits_output_0(&model), sizeof alone) != 0) {
            return 2;
        }
    }
    return 0;
}
