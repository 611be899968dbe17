/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sums over lines of int8 activations, and over two of them, for cores with Arm's DSP instructions. */
#ifndef MMCC_ARM_DSP_LINES_H
#define MMCC_ARM_DSP_LINES_H

#include "mmcc_arm_dsp.h"

#include <stdint.h>

/* sum + the products of the low and of the high halves of two pairs. */
MMCC_INLINE int32_t mmcc_dsp_products(uint32_t a, uint32_t b, int32_t sum)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

/* Four sums of products of an activation's line, less its zero point, and four lines or columns of another. The
 * assembly below knows where the members are. */
typedef struct {
    const int8_t *a, *end; /* at least one word */
    int32_t step;          /* from row to row of the other */
    uint32_t less;         /* in both halves what is added to a */
    int32_t sums[4];
} mmcc_dsp_line;

#define MMCC_DSP_LINE(loop)                                                                                    \
    __asm__ volatile("push {r4-r11, lr}\n push {r0}\n add r7, r0, #8\n ldr r3, [r0, #4]\n ldr r0, [r0]\n"      \
                     " ldm r7, {r4, r6-r10}\n add r5, r4, r4, lsl #1\n1: " loop                                \
                     " cmp r0, r3\n bne 1b\n pop {r0}\n add r0, r0, #16\n stm r0, {r7-r10}\n"                  \
                     " pop {r4-r11, pc}\n" ::: "memory")

#define MMCC_DSP_ROW(from, sum)                                                                                \
    " ldr lr, [r1" from "]\n sxtb16 r2, lr\n smlad " sum ", r11, r2, " sum "\n sxtb16 lr, lr, ror #8\n"        \
    " smlad " sum ", r12, lr, " sum "\n"

/* The other's rows are four lines, from `b` on. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_line_by_rows(__attribute__((unused)) mmcc_dsp_line *line,
                                                    __attribute__((unused)) const int8_t *b)
{
    /* clang-format off */
    MMCC_DSP_LINE(" ldr lr, [r0], #4\n sxtab16 r11, r6, lr\n sxtab16 r12, r6, lr, ror #8\n"
                  MMCC_DSP_ROW("", "r7") MMCC_DSP_ROW(", r4", "r8") MMCC_DSP_ROW(", r4, lsl #1", "r9")
                  MMCC_DSP_ROW(", r5", "r10") " add r1, r1, #4\n");
    /* clang-format on */
}

/* Two rows of four columns: what pairs of values meet comes together before bytes come apart. */
#define MMCC_DSP_COLUMNS(near, far)                                                                            \
    " ldr lr, [r1" near "]\n ldr r2, [r1" far "]\n pkhbt r12, lr, r2, lsl #16\n pkhtb r2, r2, lr, asr #16\n"   \
    " sxtb16 lr, r12\n smlad r7, r11, lr, r7\n sxtb16 r12, r12, ror #8\n smlad r8, r11, r12, r8\n"             \
    " sxtb16 lr, r2\n smlad r9, r11, lr, r9\n sxtb16 r2, r2, ror #8\n smlad r10, r11, r2, r10\n"

/* Four neighbouring columns, from `b` on. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_line_by_columns(__attribute__((unused)) mmcc_dsp_line *line,
                                                       __attribute__((unused)) const int8_t *b)
{
    /* clang-format off */
    MMCC_DSP_LINE(" ldr r11, [r0]\n sxtab16 r11, r6, r11\n" MMCC_DSP_COLUMNS("", ", r4, lsl #1")
                  " ldr r11, [r0], #4\n sxtab16 r11, r6, r11, ror #8\n" MMCC_DSP_COLUMNS(", r4", ", r5")
                  " add r1, r1, r4, lsl #2\n");
    /* clang-format on */
}

#endif
