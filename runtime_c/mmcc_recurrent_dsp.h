/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sums of recurrent layers on cores with Arm's DSP instructions. */
#ifndef MMCC_RECURRENT_DSP_H
#define MMCC_RECURRENT_DSP_H

#include "mmcc_arm_dsp.h"

#include <stdint.h>

/* Four values at r1 times a word of each of four rows at r0, added to r9 to r12. Bytes 0 and 2 of a word go with the
 * first two values. */
#define MMCC_DSP_ROW_OF_PAIRS(word, sum)                                                                       \
    " sxtb16 lr, " #word "\n smlad " #sum ", lr, r3, " #sum "\n sxtb16 " #word ", " #word ", ror #8\n"         \
    " smlad " #sum ", " #word ", r4, " #sum "\n"
#define MMCC_DSP_FOUR_ROWS                                                                                     \
    " ldrd r3, r4, [r1], #8\n ldm r0!, {r5-r8}\n" MMCC_DSP_ROW_OF_PAIRS(r5, r9) MMCC_DSP_ROW_OF_PAIRS(r6, r10) \
    MMCC_DSP_ROW_OF_PAIRS(r7, r11) MMCC_DSP_ROW_OF_PAIRS(r8, r12)

/* Sums of four rows of weights times `count` values, a multiple of 4; where the weights go on. */
MMCC_DSP_ASSEMBLY static const int8_t *mmcc_dsp_four_rows(__attribute__((unused)) const int8_t *w,
                                                          __attribute__((unused)) const int16_t *values,
                                                          __attribute__((unused)) int32_t count,
                                                          __attribute__((unused)) int32_t *sums)
{
    __asm__ volatile("push {r3-r11, lr}\n mov r9, #0\n mov r10, #0\n mov r11, #0\n mov r12, #0\n"
                     " ands r3, r2, #12\n add r2, r1, r2, lsl #1\n beq 1f\n cmp r3, #8\n bhi 2f\n beq 3f\n b 4f\n"
                     "1:" MMCC_DSP_FOUR_ROWS "2:" MMCC_DSP_FOUR_ROWS "3:" MMCC_DSP_FOUR_ROWS
                     "4:" MMCC_DSP_FOUR_ROWS " cmp r1, r2\n bne 1b\n"
                     " pop {r3}\n stm r3, {r9-r12}\n pop {r4-r11, pc}\n" ::: "memory");
}

#endif
