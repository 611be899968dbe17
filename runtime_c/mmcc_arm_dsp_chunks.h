/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: int8 depthwise convolutions with windows of 3x3, several outputs of a channel together, for cores with Arm's
 * DSP instructions. */
#ifndef MMCC_ARM_DSP_CHUNKS_H
#define MMCC_ARM_DSP_CHUNKS_H

#include "mmcc_arm_dsp.h"

/* Words that a channel needs: multiplier, rounding, shift, bias; of each column the weights of two rows as a pair; of
 * each column the weight of the third row, in the half in which its values are, beside 0. */
#define MMCC_DSP_CHANNEL 10

/* Words of a column of four channels. */
#define MMCC_DSP_COLUMN 8

/* Chunks of outputs of four channels. */
typedef struct {
    const uint32_t *w; /*  0: what four channels need */
    int8_t *y;         /*  4 */
    int32_t y_step;    /*  8 */
    const uint32_t *x; /* 12: widened columns */
    int32_t chunks;    /* 16 */
} mmcc_dsp_chunks;

/* clang-format off */
/* The columns of three rows, four channels: pairs of values of the first two rows of channels 0 and 1, then the last
 * row of 0 and 2 and of 1 and 3; the same with the pairs of channels 2 and 3. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_widen_rows(__attribute__((unused)) mmcc_dsp_stretch *stretch)
{
    __asm__ volatile("push {r0, r4-r11, lr}\n ldm r0, {r0-r7}\n"
                     "1: ldr r8, [r0]\n ldr r9, [r1]\n ldr lr, [r2]\n add r0, r0, r5\n add r1, r1, r6\n"
                     " add r2, r2, r7\n pkhbt r11, r8, r9, lsl #16\n pkhtb r12, r9, r8, asr #16\n"
                     " sxtb16 r8, r11\n sxtb16 r9, r11, ror #8\n sxtb16 r10, r12\n sxtb16 r11, r12, ror #8\n"
                     " sxtb16 r12, lr\n sxtb16 lr, lr, ror #8\n stm r3!, {r8, r9, r12, lr}\n"
                     " stm r3!, {r10-r12, lr}\n subs r4, r4, #1\n bne 1b\n pop {r0}\n"
                     MMCC_DSP_NEXT_QUAD(0, 20) MMCC_DSP_NEXT_QUAD(4, 24)
                     MMCC_DSP_NEXT_QUAD(8, 28) " pop {r4-r11, pc}\n" ::: "memory");
}
/* clang-format on */

/* Fills in what the channels need, from the constants of a layer. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_widen_windows(const int8_t *weights, const int32_t *scale, const uint8_t *shift, int32_t zero2,
                       int32_t channels, uint32_t *to)
{
    for (int32_t c = 0; c < channels; c += 4) {
        for (int32_t i = 0; i < 4; ++i) {
            uint32_t *const one = to + MMCC_DSP_CHANNEL * i;
            one[0] = (uint32_t)scale[4 + i];
            one[1] = (uint32_t)zero2 << shift[i];
            one[2] = shift[i];
            one[3] = (uint32_t)scale[i];
        }
        for (int32_t j = 0; j < 3; ++j) {
            const uint32_t low = mmcc_dsp_word(weights), high = mmcc_dsp_word(weights + 4);
            const uint32_t third = mmcc_dsp_word(weights + 8);
            uint32_t *const at = to + 4 + j;
            at[0] = mmcc_dsp_even(low);
            at[MMCC_DSP_CHANNEL] = mmcc_dsp_odd(low);
            at[2 * MMCC_DSP_CHANNEL] = mmcc_dsp_even(high);
            at[3 * MMCC_DSP_CHANNEL] = mmcc_dsp_odd(high);
            at[3] = mmcc_dsp_even(third) & 0xFFFFU;
            at[MMCC_DSP_CHANNEL + 3] = mmcc_dsp_odd(third) & 0xFFFFU;
            at[2 * MMCC_DSP_CHANNEL + 3] = mmcc_dsp_even(third) & 0xFFFF0000U;
            at[3 * MMCC_DSP_CHANNEL + 3] = mmcc_dsp_odd(third) & 0xFFFF0000U;
            weights += 12;
        }
        scale += 8;
        shift += 4;
        to += 4 * MMCC_DSP_CHANNEL;
    }
}

#endif
