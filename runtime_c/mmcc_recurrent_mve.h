/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sums of recurrent layers on Armv8.1-M vectors (Helium). */
#ifndef MMCC_RECURRENT_MVE_H
#define MMCC_RECURRENT_MVE_H

#include "mmcc_runtime.h"

#include <stdint.h>

/* A function that is assembly as a whole: compilers must not change how it is called. */
#if defined(__clang__)
#define MMCC_MVE_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noinline, unused))
#else
#define MMCC_MVE_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noipa, unused))
#endif

/* Four rows at r0, one behind the other, times r2 values at r1; their sums to r3, and where the weights go on to r0. */
#define MMCC_MVE_FOUR_ROWS(lanes, load_values, values_step, load_weights, weights_step, type)                  \
    __asm__ volatile("push {r3-r11, lr}\n add r5, r0, r2\n add r7, r5, r2\n add r3, r7, r2\n add r11, r3, r2\n" \
                     " mov r4, #0\n mov r6, #0\n mov r8, #0\n mov r10, #0\n"                                   \
                     " wlstp." lanes " lr, r2, 2f\n"                                                           \
                     "1: " load_values " q0, [r1], #" values_step "\n"                                         \
                     " " load_weights " q1, [r0], #" weights_step "\n vmladava." type " r4, q0, q1\n"          \
                     " " load_weights " q2, [r5], #" weights_step "\n vmladava." type " r6, q0, q2\n"          \
                     " " load_weights " q1, [r7], #" weights_step "\n vmladava." type " r8, q0, q1\n"          \
                     " " load_weights " q2, [r3], #" weights_step "\n vmladava." type " r10, q0, q2\n"         \
                     " letp lr, 1b\n"                                                                          \
                     "2: pop {r3}\n strd r4, r6, [r3]\n strd r8, r10, [r3, #8]\n mov r0, r11\n"                           \
                     " pop {r4-r11, pc}\n" ::: "memory")

MMCC_MVE_ASSEMBLY static const int8_t *mmcc_mve_rows_of_halves(__attribute__((unused)) const int8_t *w,
                                                               __attribute__((unused)) const int16_t *values,
                                                               __attribute__((unused)) int32_t count,
                                                               __attribute__((unused)) int32_t *sums)
{
    MMCC_MVE_FOUR_ROWS("16", "vldrh.u16", "16", "vldrb.s16", "8", "s16");
}

MMCC_MVE_ASSEMBLY static const int8_t *mmcc_mve_rows_of_bytes(__attribute__((unused)) const int8_t *w,
                                                              __attribute__((unused)) const int8_t *values,
                                                              __attribute__((unused)) int32_t count,
                                                              __attribute__((unused)) int32_t *sums)
{
    MMCC_MVE_FOUR_ROWS("8", "vldrb.u8", "16", "vldrb.u8", "16", "s8");
}

#endif
