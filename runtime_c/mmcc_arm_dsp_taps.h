/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: depthwise layers pixel by pixel, by lists of taps, for cores with Arm's DSP instructions. */
#ifndef MMCC_ARM_DSP_TAPS_H
#define MMCC_ARM_DSP_TAPS_H

#include "mmcc_arm_dsp.h"

#include <stdint.h>

/* A tap of a depthwise window: a pixel's channels and their weights. */
typedef struct {
    const int8_t *x, *w;
} mmcc_dsp_tap;

/* One pixel of a depthwise layer, channels by fours. */
typedef struct {
    const mmcc_dsp_tap *taps; /*  0 */
    const mmcc_dsp_tap *end;  /*  4: of the taps, of which there is one at least */
    const int32_t *scale;     /*  8: of each four channels the biases, then the multipliers */
    const uint8_t *shift;     /* 12 */
    int8_t *y;                /* 16 */
    int32_t channels;         /* 20: a multiple of 4 */
    int32_t zero2;            /* 24: 2 * zero point of the output + 1 */
} mmcc_dsp_depthwise;

#define MMCC_DSP_FINISHED(sum, multiplier)                                                                      \
    " smmul " sum ", " sum ", " multiplier "\n ldrb " multiplier ", [r0], #1\n asr " sum ", " sum ", " multiplier \
    "\n add " sum ", " sum ", lr\n ssat " sum ", #8, " sum ", asr #1\n"

/* clang-format off */

/* r12 is the argument, r2 the channel, r3 at the scale; r4 to r7 are the sums. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_channels(__attribute__((unused)) const mmcc_dsp_depthwise *pixel)
{
    __asm__ volatile("push {r4-r11, lr}\n mov r12, r0\n ldr r0, [r12, #12]\n push {r0}\n"
                     " ldr r1, [r12, #4]\n ldr r3, [r12, #8]\n mov r2, #0\n"
                     "1: ldr r0, [r12]\n ldm r3!, {r4-r7}\n"
                     "2: ldrd r8, r9, [r0], #8\n ldr r8, [r8, r2]\n ldr r9, [r9, r2]\n sxtb16 r10, r8\n"
                     " sxtb16 r11, r9\n sxtb16 r8, r8, ror #8\n sxtb16 r9, r9, ror #8\n"
                     " smlabb r4, r10, r11, r4\n smlatt r6, r10, r11, r6\n smlabb r5, r8, r9, r5\n"
                     " smlatt r7, r8, r9, r7\n cmp r0, r1\n bne 2b\n"
                     " ldm r3!, {r8-r11}\n ldr r0, [sp]\n ldr lr, [r12, #24]\n"
                     MMCC_DSP_FINISHED("r4", "r8") MMCC_DSP_FINISHED("r5", "r9")
                     MMCC_DSP_FINISHED("r6", "r10") MMCC_DSP_FINISHED("r7", "r11")
                     " str r0, [sp]\n ldr r0, [r12, #16]\n ldr r8, [r12, #20]\n add r0, r0, r2\n"
                     " strb r4, [r0]\n strb r5, [r0, #1]\n strb r6, [r0, #2]\n strb r7, [r0, #3]\n"
                     " add r2, r2, #4\n cmp r2, r8\n bne 1b\n add sp, sp, #4\n pop {r4-r11, pc}\n" ::: "memory");
}

/* clang-format on */

/* The same for integers of 16 bits with weights that are widened: taps inside the image only. */
typedef struct {
    const int16_t *x, *w;
} mmcc_dsp_tap16;

typedef struct {
    const mmcc_dsp_tap16 *taps; /*  0 */
    const mmcc_dsp_tap16 *end;  /*  4: of the taps, of which there may be none */
    const int32_t *scale;       /*  8: of each channel the bias, the multiplier, the shift */
    int16_t *y;                 /* 12 */
    int32_t bytes;              /* 16: of a pixel, a multiple of 8 */
    int32_t left;               /* 20: bits that sums are shifted left before all else */
} mmcc_dsp_depthwise16;

#define MMCC_DSP_CHANNEL16(sum, at, saturate)                                                                  \
    " ldrd r8, r9, [r3, #" at "]\n lsl " sum ", " sum ", r10\n smmul " sum ", " sum ", r8\n"                    \
    " asr " sum ", " sum ", r9\n add " sum ", " sum ", #1\n " saturate(sum) "\n"

#define MMCC_DSP_SIGNED16(sum) "ssat " sum ", #16, " sum ", asr #1"
#define MMCC_DSP_POSITIVE16(sum) "usat " sum ", #15, " sum ", asr #1"

/* r12 is the argument, r2 and lr are bytes to the pairs of channels, r3 is at the scale; r4 to r7 are the sums. */
#define MMCC_DSP_CHANNELS16(saturate)                                                                          \
    __asm__ volatile("push {r4-r11, lr}\n mov r12, r0\n ldr r1, [r12, #4]\n ldr r3, [r12, #8]\n mov r2, #0\n"   \
                     "1: ldr r0, [r12]\n ldr r4, [r3]\n ldr r5, [r3, #12]\n ldr r6, [r3, #24]\n"               \
                     " ldr r7, [r3, #36]\n add lr, r2, #4\n cmp r0, r1\n beq 3f\n"                            \
                     "2: ldrd r8, r9, [r0], #8\n ldr r10, [r8, r2]\n ldr r11, [r9, r2]\n ldr r8, [r8, lr]\n"    \
                     " ldr r9, [r9, lr]\n smlabb r4, r10, r11, r4\n smlatt r5, r10, r11, r5\n"                 \
                     " smlabb r6, r8, r9, r6\n smlatt r7, r8, r9, r7\n cmp r0, r1\n bne 2b\n"                  \
                     "3: ldr r10, [r12, #20]\n"                                                               \
                     MMCC_DSP_CHANNEL16("r4", "4", saturate) MMCC_DSP_CHANNEL16("r5", "16", saturate)          \
                     MMCC_DSP_CHANNEL16("r6", "28", saturate) MMCC_DSP_CHANNEL16("r7", "40", saturate)         \
                     " pkhbt r4, r4, r5, lsl #16\n pkhbt r6, r6, r7, lsl #16\n ldr r0, [r12, #12]\n"           \
                     " str r4, [r0, r2]\n str r6, [r0, lr]\n add r3, r3, #48\n add r2, r2, #8\n"               \
                     " ldr r8, [r12, #16]\n cmp r2, r8\n bne 1b\n pop {r4-r11, pc}\n" ::: "memory")

MMCC_DSP_ASSEMBLY static void mmcc_dsp_channels16_all(__attribute__((unused)) const mmcc_dsp_depthwise16 *pixel)
{
    MMCC_DSP_CHANNELS16(MMCC_DSP_SIGNED16);
}

MMCC_DSP_ASSEMBLY static void mmcc_dsp_channels16_positive(__attribute__((unused)) const mmcc_dsp_depthwise16 *pixel)
{
    MMCC_DSP_CHANNELS16(MMCC_DSP_POSITIVE16);
}

#endif
