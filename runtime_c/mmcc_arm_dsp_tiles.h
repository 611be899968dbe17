/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: products of two int8 activations on cores with Arm's DSP instructions, where several lines of the first meet
 * the same matrix: four of its columns are widened once, a tile. */
#ifndef MMCC_ARM_DSP_TILES_H
#define MMCC_ARM_DSP_TILES_H

#include "mmcc_arm_dsp_lines.h"

/* A tile holds, of every four values along its columns, the even ones of each column in turn, then the odd ones, two in
 * a word; then each value that is left over, of each column a word. `less` is in both halves what is added to a value.
 * Here the columns are lines of memory, `step` bytes apart. */
MMCC_INLINE void mmcc_dsp_tile_of_lines(const int8_t *b, int32_t step, int32_t inner, uint32_t less, uint32_t *tile)
{
    for (int32_t n = 0; n < 4; ++n) {
        const int8_t *from = b + n * step;
        uint32_t *to = tile + n;
        int32_t i = 0;
        for (; i + 4 <= inner; i += 4) {
            const uint32_t word = mmcc_dsp_word(from + i);
            to[0] = mmcc_dsp_add_even(less, word);
            to[4] = mmcc_dsp_add_odd(less, word);
            to += 8;
        }
        for (; i < inner; ++i) {
            *to = (uint32_t)(from[i] + (int16_t)less);
            to += 4;
        }
    }
}

/* Four columns of two rows, whose pairs are side by side in the tile. */
MMCC_INLINE void mmcc_dsp_tile_pairs(uint32_t first, uint32_t second, uint32_t less, uint32_t *to)
{
    const uint32_t near = (first & 0xFFFFu) | (second << 16), far = (first >> 16) | (second & 0xFFFF0000u);
    to[0] = mmcc_dsp_add_even(less, near);
    to[1] = mmcc_dsp_add_odd(less, near);
    to[2] = mmcc_dsp_add_even(less, far);
    to[3] = mmcc_dsp_add_odd(less, far);
}

/* The same where the columns lie side by side in memory, and values along them `step` bytes apart. */
MMCC_INLINE void mmcc_dsp_tile_of_columns(const int8_t *b, int32_t step, int32_t inner, uint32_t less, uint32_t *tile)
{
    int32_t i = 0;
    for (; i + 4 <= inner; i += 4) {
        mmcc_dsp_tile_pairs(mmcc_dsp_word(b), mmcc_dsp_word(b + 2 * step), less, tile);
        mmcc_dsp_tile_pairs(mmcc_dsp_word(b + step), mmcc_dsp_word(b + 3 * step), less, tile + 4);
        tile += 8;
        b += 4 * step;
    }
    for (; i < inner; ++i) {
        for (int32_t n = 0; n < 4; ++n) {
            tile[n] = (uint32_t)(b[n] + (int16_t)less);
        }
        tile += 4;
        b += step;
    }
}

/* Lines of the first operand times a tile: four outputs of each, requantized: ((high word of sum * multiplier) +
 * rounding) >> right, then >> 1, where `rounding` is the epilogue's number shifted left by `right`. Assembly knows
 * where members are, and counts in y. */
typedef struct {
    int8_t *y;            /*  0 */
    int32_t y_step;       /*  4: from line to line, in bytes */
    int32_t multiplier;   /*  8 */
    int32_t right;        /* 12 */
    int32_t rounding;     /* 16 */
    int32_t a_next;       /* 20: from the end of a line to the next */
    const int8_t *y_end;  /* 24: behind the last line, which is not y */
    const int8_t *a;      /* 28 */
    const uint32_t *tile; /* 32 */
    const uint32_t *end;  /* 36: of its pairs, of which there are some */
    uint32_t less;        /* 40: in both halves what is added to a */
    int32_t rest;         /* 44: values behind the pairs */
} mmcc_dsp_tile;

#define MMCC_DSP_TILE_PAIRS(pair)                                                                              \
    " ldm r0!, {r3, r11, r12, lr}\n smlad r7, " #pair ", r3, r7\n smlad r8, " #pair ", r11, r8\n"              \
    " smlad r9, " #pair ", r12, r9\n smlad r10, " #pair ", lr, r10\n"
#define MMCC_DSP_TILE_WORD                                                                                     \
    " ldr r3, [r1], #4\n sxtab16 r4, r6, r3\n sxtab16 r5, r6, r3, ror #8\n" MMCC_DSP_TILE_PAIRS(r4)            \
        MMCC_DSP_TILE_PAIRS(r5)
#define MMCC_DSP_TILE_VALUE                                                                                    \
    " ldrsb r4, [r1], #1\n ldm r0!, {r3, r11, r12, lr}\n sxtah r4, r4, r6\n mla r7, r4, r3, r7\n"              \
    " mla r8, r4, r11, r8\n mla r9, r4, r12, r9\n mla r10, r4, lr, r10\n"

/* clang-format off */

/* An odd word begins in the middle of the loop. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_lines_by_tile(__attribute__((unused)) mmcc_dsp_tile *tile)
{
    __asm__ volatile("push {r0, r4-r11, lr}\n mov r5, r0\n ldr r6, [r0, #40]\n ldr r1, [r0, #28]\n"
                     "1: ldrd r0, r2, [r5, #32]\n mov r7, #0\n mov r8, #0\n mov r9, #0\n mov r10, #0\n"
                     " sub r3, r2, r0\n tst r3, #32\n bne 3f\n"
                     "2:" MMCC_DSP_TILE_WORD "3:" MMCC_DSP_TILE_WORD " cmp r0, r2\n bne 2b\n"
                     " ldr r5, [sp]\n ldr r2, [r5, #44]\n cbz r2, 5f\n"
                     "4:" MMCC_DSP_TILE_VALUE " subs r2, r2, #1\n bne 4b\n"
                     "5: ldm r5, {r0, r3, r11, r12, lr}\n add r3, r0, r3\n"
                     MMCC_DSP_OUTPUT("r7") MMCC_DSP_OUTPUT("r8") MMCC_DSP_OUTPUT("r9") MMCC_DSP_OUTPUT("r10")
                     " ldrd r0, r2, [r5, #20]\n str r3, [r5]\n add r1, r1, r0\n cmp r3, r2\n bne 1b\n"
                     " pop {r0, r4-r11, pc}\n" ::: "memory");
}

/* clang-format on */

#endif
