/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: int8 convolutions of four pixels together, for cores with Arm's DSP instructions: two filters at a time, so
 * that a weight is read and widened once for four pixels. Their values are widened beforehand, into memory that the
 * kernel was lent. */
#ifndef MMCC_ARM_DSP_FOUR_H
#define MMCC_ARM_DSP_FOUR_H

#include "mmcc_arm_dsp.h"

/* Widens the next words of four pixels; returns what follows in `to`. Of four values x of a pixel, words p are the
 * x[even] and q the x[odd] * 256 + 127 - x[even] of mmcc_arm_dsp.h. They lie as they are loaded in the loop below, that
 * of its last load first: q of pixels 2 and 3, p of all, q of pixels 0 and 1. */
MMCC_DSP_ASSEMBLY static uint32_t *mmcc_dsp_widen_four(__attribute__((unused)) const int8_t *const *x,
                                                       __attribute__((unused)) uint32_t *to,
                                                       __attribute__((unused)) int32_t words)
{
    __asm__ volatile("push {r4-r11, lr}\n mov r12, r1\n mov lr, r2\n ldm r0, {r0-r3}\n"
                     "1: ldr r4, [r0], #4\n ldr r5, [r1], #4\n ldr r6, [r2], #4\n ldr r7, [r3], #4\n"
                     " sxtb16 r8, r4\n sxtb16 r9, r5\n sxtb16 r10, r6\n sxtb16 r11, r7\n"
                     " eor r4, r4, #0x007F007F\n eor r5, r5, #0x007F007F\n eor r6, r6, #0x007F007F\n"
                     " eor r7, r7, #0x007F007F\n stm r12!, {r6-r11}\n stm r12!, {r4, r5}\n"
                     " subs lr, lr, #1\n bne 1b\n mov r0, r12\n pop {r4-r11, pc}\n" ::: "memory");
}

/* Pairs of filters for four pixels, or the first of them. What makes four copies this to its stack. */
typedef struct {
    const uint32_t *x;     /*  0: widened values */
    const uint32_t *x_end; /*  4 */
    const int32_t *scale;  /*  8: of each pair the biases, then the multipliers */
    const uint8_t *shift;  /* 12 */
    int8_t *y[4];          /* 16 */
    int32_t pairs;         /* 32 */
    int32_t zero2;         /* 36: 2 * zero point of the output + 1 */
    const int8_t *weights; /* 40: scaled; a word of each filter of a pair in turn */
} mmcc_dsp_four;

#define MMCC_DSP_FOUR_PRODUCTS(a, b, c, d)                                                                     \
    " smlad " #a ", r8, r10, " #a "\n smlad " #b ", r9, r10, " #b "\n smlad " #c ", r8, r11, " #c "\n"          \
    " smlad " #d ", r9, r11, " #d "\n"

/* Four values of each pixel, r12, times a word of each filter, lr. Loads stand together: behind another, a load takes
 * one cycle of a Cortex-M4. */
#define MMCC_DSP_FOUR_WORD                                                                                     \
    " ldr r9, [lr, #4]\n ldr r8, [lr], #8\n ldr r10, [r12, #8]\n ldr r11, [r12, #12]\n"                         \
    MMCC_DSP_FOUR_PRODUCTS(r0, r1, r2, r3) " ldr r10, [r12, #16]\n ldr r11, [r12, #20]\n"                       \
    MMCC_DSP_FOUR_PRODUCTS(r4, r5, r6, r7) " ldr r10, [r12, #24]\n ldr r11, [r12, #28]\n"                       \
    " sxtb16 r8, r8\n sxtb16 r9, r9\n" MMCC_DSP_FOUR_PRODUCTS(r0, r1, r2, r3)                                   \
    " ldr r11, [r12, #4]\n ldr r10, [r12], #32\n" MMCC_DSP_FOUR_PRODUCTS(r4, r5, r6, r7)

#define MMCC_DSP_FOUR_EACH(before, behind)                                                                     \
    before "r0, r0" behind "r8\n" before "r2, r2" behind "r8\n" before "r4, r4" behind "r8\n"                   \
    before "r6, r6" behind "r8\n" before "r1, r1" behind "r9\n" before "r3, r3" behind "r9\n"                   \
    before "r5, r5" behind "r9\n" before "r7, r7" behind "r9\n"

#define MMCC_DSP_FOUR_STORE(a, b, c, d, at)                                                                    \
    " ldrd r8, r9, [sp, #" #at "]\n strb " #b ", [r8, #1]\n strb " #a ", [r8], #2\n strb " #d ", [r9, #1]\n"     \
    " strb " #c ", [r9], #2\n strd r8, r9, [sp, #" #at "]\n"

/* clang-format off */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_four_pixels(__attribute__((unused)) mmcc_dsp_four *four)
{
    __asm__ volatile("push {r4-r11, lr}\n sub sp, sp, #44\n ldm r0!, {r1-r9}\n ldm r0, {r10, lr}\n stm sp, {r1-r10}\n"
                     "1: ldr r8, [sp, #8]\n ldrd r12, r10, [sp]\n ldrd r0, r1, [r8]\n sub r10, r10, r12\n"
                     " mov r2, r0\n mov r3, r1\n mov r4, r0\n mov r5, r1\n mov r6, r0\n mov r7, r1\n"
                     " tst r10, #32\n bne 3f\n" /* an odd number of words */
                     "2: " MMCC_DSP_FOUR_WORD "3: " MMCC_DSP_FOUR_WORD
                     " ldr r8, [sp, #4]\n cmp r12, r8\n bne 2b\n"
                     /* ((hi32(sum * multiplier) + (zero2 << right)) >> right) >> 1, saturated */
                     " ldrd r12, r10, [sp, #8]\n ldrd r8, r9, [r12, #8]\n ldr r11, [sp, #36]\n add r12, r12, #16\n"
                     MMCC_DSP_FOUR_EACH(" smmul ", ", ")
                     " ldrb r9, [r10, #1]\n ldrb r8, [r10], #2\n strd r12, r10, [sp, #8]\n"
                     MMCC_DSP_FOUR_EACH(" asr ", ", ")
                     " add r0, r0, r11\n add r1, r1, r11\n add r2, r2, r11\n add r3, r3, r11\n add r4, r4, r11\n"
                     " add r5, r5, r11\n add r6, r6, r11\n add r7, r7, r11\n"
                     " ssat r0, #8, r0, asr #1\n ssat r1, #8, r1, asr #1\n ssat r2, #8, r2, asr #1\n"
                     " ssat r3, #8, r3, asr #1\n ssat r4, #8, r4, asr #1\n ssat r5, #8, r5, asr #1\n"
                     " ssat r6, #8, r6, asr #1\n ssat r7, #8, r7, asr #1\n"
                     MMCC_DSP_FOUR_STORE(r0, r1, r2, r3, 16) MMCC_DSP_FOUR_STORE(r4, r5, r6, r7, 24)
                     " ldr r8, [sp, #32]\n subs r8, r8, #1\n str r8, [sp, #32]\n bne 1b\n"
                     " add sp, sp, #44\n pop {r4-r11, pc}\n" ::: "memory");
}

/* The same for the first of the four pixels alone, one word at a time. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_first_pixel(__attribute__((unused)) mmcc_dsp_four *four)
{
    __asm__ volatile("push {r4-r11, lr}\n ldrd r4, r1, [r0, #8]\n ldrd r7, r3, [r0, #32]\n ldr lr, [r0, #40]\n"
                     " ldr r2, [r0, #4]\n"
                     "1: ldr r12, [r0]\n ldrd r5, r6, [r4]\n"
                     "2: ldr r9, [lr, #4]\n ldr r8, [lr], #8\n ldr r11, [r12, #24]\n ldr r10, [r12, #8]\n"
                     " add r12, r12, #32\n smlad r5, r8, r10, r5\n smlad r6, r9, r10, r6\n"
                     " sxtb16 r8, r8\n sxtb16 r9, r9\n smlad r5, r8, r11, r5\n smlad r6, r9, r11, r6\n"
                     " cmp r12, r2\n bne 2b\n"
                     " ldrd r8, r9, [r4, #8]\n add r4, r4, #16\n ldr r12, [r0, #16]\n smmul r5, r5, r8\n"
                     " smmul r6, r6, r9\n ldrb r9, [r1, #1]\n ldrb r8, [r1], #2\n asr r5, r5, r8\n asr r6, r6, r9\n"
                     " add r5, r5, r3\n add r6, r6, r3\n ssat r5, #8, r5, asr #1\n ssat r6, #8, r6, asr #1\n"
                     " strb r6, [r12, #1]\n strb r5, [r12], #2\n str r12, [r0, #16]\n"
                     " subs r7, r7, #1\n bne 1b\n pop {r4-r11, pc}\n" ::: "memory");
}
/* clang-format on */

/* Pixels that are made together of those that are left: one or two are made one by one. */
MMCC_INLINE int32_t mmcc_dsp_together(int32_t left)
{
    if (left >= 3) {
        return left > 4 ? 4 : left;
    }
    return 1;
}

/* No pointers to functions: the stack of what they call would not be in the bound. */
MMCC_INLINE void mmcc_dsp_pairs(mmcc_dsp_four *four, int32_t count)
{
    if (count > 1) {
        mmcc_dsp_four_pixels(four);
    } else {
        mmcc_dsp_first_pixel(four);
    }
}

/* All filters of so many pixels; the last of an odd number is made beside and copied. Alters its argument. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_four_filters(mmcc_dsp_four *four, int32_t count, int32_t filters, int32_t taps)
{
    int8_t *ends[4];
    for (int32_t i = 0; i < 4; ++i) {
        ends[i] = four->y[i] + filters - 1;
    }
    four->pairs = mmcc_shift_right(filters, 1);
    if (four->pairs > 0) {
        mmcc_dsp_pairs(four, count);
        four->scale += 4 * four->pairs;
        four->shift += 2 * four->pairs;
        four->weights += 2 * four->pairs * taps;
    }
    if ((filters & 1) != 0) {
        int8_t spare[8];
        for (int32_t i = 0; i < 4; ++i) {
            four->y[i] = spare + 2 * i;
        }
        four->pairs = 1;
        mmcc_dsp_pairs(four, count);
        for (int32_t i = 0; i < count; ++i) {
            *ends[i] = spare[2 * i];
        }
    }
}

#endif
