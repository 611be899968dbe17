/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sums of recurrent layers on cores with Arm's DSP instructions. */
#ifndef MMCC_RECURRENT_DSP_H
#define MMCC_RECURRENT_DSP_H

#include "mmcc_arm_dsp.h"

#include <stdint.h>

/* Values that rows of weights are multiplied by: whole fours. `start` is -128 times their sum. Assembly knows where the
 * members are. */
typedef struct {
    const int16_t *values, *end;
    int64_t start;
} mmcc_dsp_vector;

typedef struct {
    mmcc_dsp_vector x, h;
} mmcc_dsp_gates;

MMCC_INLINE mmcc_dsp_vector mmcc_dsp_vector_of(const int16_t *values, int32_t count)
{
    int32_t less = 0;
    for (int32_t i = 0; i < count; i += 4) {
        uint32_t pairs[2];
        memcpy(pairs, values + i, sizeof pairs);
        __asm__("smlad %0, %1, %3, %0\n\tsmlad %0, %2, %3, %0"
                : "+&r"(less)
                : "r"(pairs[0]), "r"(pairs[1]), "r"(0xFFFFFFFFu));
    }
    return (mmcc_dsp_vector){values, values + count, (int64_t)less * 128};
}

MMCC_INLINE mmcc_dsp_gates mmcc_dsp_gates_of(const int16_t *x, int32_t features, const int16_t *h, int32_t inner)
{
    return (mmcc_dsp_gates){mmcc_dsp_vector_of(x, features), mmcc_dsp_vector_of(h, inner)};
}

/* A word has weights of two rows for two values: in each half the first row's times 256, plus the second row's, plus
 * 128, which always fits. So three instructions make four products:
 *     words times values, in 64 bits:       256 * (sum of the first row) + what the next line makes
 *     low bytes times values, in 32 bits:   (sum of the second row) + 128 * (sum of values)
 * Both begin with -128 * (sum of values). Then the second line makes the second row's sum, which fits however often it
 * wraps on the way, and the first line is above it by 256 times the first row's sum. */
#define MMCC_DSP_TWO_ROWS(word, pair, low, high, sum)                                                          \
    " smlald " #low ", " #high ", " #word ", " #pair "\n uxtb16 " #word ", " #word "\n"                        \
    " smlad " #sum ", " #word ", " #pair ", " #sum "\n"
#define MMCC_DSP_FOUR_ROWS_OF_PAIR(pair)                                                                       \
    " ldrd r5, r6, [r0], #8\n" MMCC_DSP_TWO_ROWS(r5, pair, r7, r8, r9) MMCC_DSP_TWO_ROWS(r6, pair, r10, r11, r12)
#define MMCC_DSP_FOUR_ROWS                                                                                     \
    " ldrd r3, r4, [r1], #8\n" MMCC_DSP_FOUR_ROWS_OF_PAIR(r3) MMCC_DSP_FOUR_ROWS_OF_PAIR(r4)

/* What the sums of both rows are, in place of the sum in 64 bits and the other. */
#define MMCC_DSP_FIRST_ROW(low, high, sum)                                                                     \
    " subs " #low ", " #low ", " #sum "\n sbc " #high ", " #high ", " #sum ", asr #31\n"                       \
    " lsr " #low ", " #low ", #8\n orr " #low ", " #low ", " #high ", lsl #24\n"

/* Stores them, and turns to the other vector, at 5; behind the last gate it goes on. */
#define MMCC_DSP_STORE_ROWS                                                                                    \
    MMCC_DSP_FIRST_ROW(r7, r8, r9)                                                                             \
    MMCC_DSP_FIRST_ROW(r10, r11, r12)                                                                          \
    " ldm sp, {r4, r5, r6}\n stm r4!, {r7, r9, r10, r12}\n str r4, [sp]\n str lr, [sp, #8]\n mov lr, r6\n"     \
    " cmp r4, r5\n bne 5b\n"

/* Sums of four rows of weights times x, then of the next four rows times h, of each gate, up to `end`; where the
 * weights go on. On the stack: where sums go, their end, the vector that is not in turn. */
MMCC_DSP_ASSEMBLY static const int8_t *mmcc_dsp_gate_sums(__attribute__((unused)) const mmcc_dsp_gates *gates,
                                                          __attribute__((unused)) const int8_t *w,
                                                          __attribute__((unused)) int32_t *sums,
                                                          __attribute__((unused)) const int32_t *end)
{
    __asm__ volatile("push {r4-r11, lr}\n add r4, r0, #16\n push {r2, r3, r4}\n mov lr, r0\n mov r0, r1\n"
                     "5: ldm lr, {r1, r2, r7, r8}\n mov r9, r7\n mov r10, r7\n mov r11, r8\n mov r12, r7\n"
                     " sub r4, r2, r1\n ands r4, r4, #24\n beq 1f\n cmp r4, #16\n bhi 2f\n beq 3f\n b 4f\n"
                     "1:" MMCC_DSP_FOUR_ROWS "2:" MMCC_DSP_FOUR_ROWS "3:" MMCC_DSP_FOUR_ROWS
                     "4:" MMCC_DSP_FOUR_ROWS " cmp r1, r2\n bne 1b\n" MMCC_DSP_STORE_ROWS
                     " add sp, sp, #12\n pop {r4-r11, pc}\n" ::: "memory");
}

#endif
