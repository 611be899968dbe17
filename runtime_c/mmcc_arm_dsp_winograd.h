/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: int8 convolutions of 3x3 by Winograd's F(2x2, 3x3), for cores with Arm's DSP instructions: 16 products where
 * the plain sum takes 36. All in integers: filters are 4 times as large as in Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks" (2016), so that they need no fractions, and so are the sums, exactly. */
#ifndef MMCC_ARM_DSP_WINOGRAD_H
#define MMCC_ARM_DSP_WINOGRAD_H

#include "mmcc_arm_dsp.h"

/* A tile is 2x2 outputs, made of 4x4 inputs. Four tiles side by side are a quad. Values lie as [quad][pair of
 * channels][position of 4x4][tile of the quad], a word for each pair; sums as [quad][position][tile][filter of two]. */
#define MMCC_DSP_POSITIONS 16
#define MMCC_DSP_PAIR_WORDS 64  /* of a quad and a pair of channels */
#define MMCC_DSP_SUMS 128       /* of a quad and two filters */
#define MMCC_DSP_COLUMN_WORDS 8 /* of a column of four rows and four channels, transformed by rows */

MMCC_INLINE uint32_t mmcc_dsp_plus(uint32_t a, uint32_t b)
{
    uint32_t sums;
    __asm__("sadd16 %0, %1, %2" : "=r"(sums) : "r"(a), "r"(b));
    return sums;
}

MMCC_INLINE uint32_t mmcc_dsp_minus(uint32_t a, uint32_t b)
{
    uint32_t differences;
    __asm__("ssub16 %0, %1, %2" : "=r"(differences) : "r"(a), "r"(b));
    return differences;
}

/* Transforms four rows of a column: rows 0 - 2, 1 + 2, 2 - 1 and 1 - 3 of each four channels, even ones, then odd. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_winograd_column(const int8_t *const *rows, int32_t channels, uint32_t *to)
{
    const int8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    for (const int8_t *const end = a + channels; a < end; a += 4, b += 4, c += 4, d += 4) {
        const uint32_t first = mmcc_dsp_word(a), second = mmcc_dsp_word(b);
        const uint32_t third = mmcc_dsp_word(c), fourth = mmcc_dsp_word(d);
        const uint32_t b0 = mmcc_dsp_even(second), c0 = mmcc_dsp_even(third);
        const uint32_t b1 = mmcc_dsp_odd(second), c1 = mmcc_dsp_odd(third);
        to[0] = mmcc_dsp_minus(mmcc_dsp_even(first), c0);
        to[1] = mmcc_dsp_minus(mmcc_dsp_odd(first), c1);
        to[2] = mmcc_dsp_plus(b0, c0);
        to[3] = mmcc_dsp_plus(b1, c1);
        to[4] = mmcc_dsp_minus(c0, b0);
        to[5] = mmcc_dsp_minus(c1, b1);
        to[6] = mmcc_dsp_minus(b0, mmcc_dsp_even(fourth));
        to[7] = mmcc_dsp_minus(b1, mmcc_dsp_odd(fourth));
        to += MMCC_DSP_COLUMN_WORDS;
    }
}

/* A row of a tile: the same over its four columns. */
MMCC_INLINE void mmcc_dsp_winograd_row(uint32_t first, uint32_t second, uint32_t third, uint32_t fourth, uint32_t *to)
{
    to[0] = mmcc_dsp_minus(first, third);
    to[4] = mmcc_dsp_plus(second, third);
    to[8] = mmcc_dsp_minus(third, second);
    to[12] = mmcc_dsp_minus(second, fourth);
}

/* All values of a tile, from its four columns. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_winograd_tile(const uint32_t *const *columns, int32_t channels, uint32_t *to)
{
    const uint32_t *a = columns[0], *b = columns[1], *c = columns[2], *d = columns[3];
    for (const uint32_t *const end = a + 2 * channels; a < end;) {
        mmcc_dsp_winograd_row(a[0], b[0], c[0], d[0], to);
        mmcc_dsp_winograd_row(a[2], b[2], c[2], d[2], to + 16);
        mmcc_dsp_winograd_row(a[4], b[4], c[4], d[4], to + 32);
        mmcc_dsp_winograd_row(a[6], b[6], c[6], d[6], to + 48);
        mmcc_dsp_winograd_row(a[1], b[1], c[1], d[1], to + MMCC_DSP_PAIR_WORDS);
        mmcc_dsp_winograd_row(a[3], b[3], c[3], d[3], to + MMCC_DSP_PAIR_WORDS + 16);
        mmcc_dsp_winograd_row(a[5], b[5], c[5], d[5], to + MMCC_DSP_PAIR_WORDS + 32);
        mmcc_dsp_winograd_row(a[7], b[7], c[7], d[7], to + MMCC_DSP_PAIR_WORDS + 48);
        a += MMCC_DSP_COLUMN_WORDS;
        b += MMCC_DSP_COLUMN_WORDS;
        c += MMCC_DSP_COLUMN_WORDS;
        d += MMCC_DSP_COLUMN_WORDS;
        to += 2 * MMCC_DSP_PAIR_WORDS;
    }
}

/* Sums of products of quads and two filters at each position. The assembly below knows where the members are. */
typedef struct {
    const uint32_t *x;     /*  0: values */
    uint32_t *sums;        /*  4 */
    int32_t quads;         /*  8 */
    int32_t bytes;         /* 12: of two filters at a position */
    const int16_t *weights; /* 16: [position][pair of channels][filter of two], a word for each pair */
} mmcc_dsp_winograd;

/* A pair of channels, the one at `at` bytes behind r12, in four tiles, times a word of two filters. */
#define MMCC_DSP_WINOGRAD_PAIR(at)                                                                             \
    " ldr r9, [lr, #4]\n ldr r8, [lr], #8\n ldr r10, [r12, #" #at "+8]\n ldr r11, [r12, #" #at "+12]\n"         \
    " smlad r4, r8, r10, r4\n smlad r5, r9, r10, r5\n smlad r6, r8, r11, r6\n smlad r7, r9, r11, r7\n"          \
    " ldr r10, [r12, #" #at "]\n ldr r11, [r12, #" #at "+4]\n"                                                  \
    " smlad r0, r8, r10, r0\n smlad r1, r9, r10, r1\n smlad r2, r8, r11, r2\n smlad r3, r9, r11, r3\n"

/* The first one: sums begin with it. */
#define MMCC_DSP_WINOGRAD_FIRST                                                                                \
    " ldr r9, [lr, #4]\n ldr r8, [lr], #8\n ldr r10, [r12, #8]\n ldr r11, [r12, #12]\n"                         \
    " smuad r4, r8, r10\n smuad r5, r9, r10\n smuad r6, r8, r11\n smuad r7, r9, r11\n"                          \
    " ldr r10, [r12]\n ldr r11, [r12, #4]\n"                                                                    \
    " smuad r0, r8, r10\n smuad r1, r9, r10\n smuad r2, r8, r11\n smuad r3, r9, r11\n"

/* A function that multiplies the first pair of channels and then `pairs`. On the stack are the place of the sums, quads
 * left, the begin and the end of the position's weights; its first sums, quads, its first values, positions left. */
#define MMCC_DSP_WINOGRAD_LOOP(pairs)                                                                          \
    __asm__ volatile("push {r4-r11, lr}\n sub sp, sp, #32\n ldm r0, {r4-r7, lr}\n mov r12, r4\n"              \
                     " add r7, r7, lr\n mov r9, #16\n strd r5, r6, [sp]\n strd lr, r7, [sp, #8]\n"             \
                     " strd r5, r6, [sp, #16]\n strd r4, r9, [sp, #24]\n"                                     \
                     "1: " MMCC_DSP_WINOGRAD_FIRST pairs                                                       \
                     " ldr r9, [sp, #4]\n ldr r8, [sp]\n ldr lr, [sp, #8]\n stm r8, {r0-r7}\n"                \
                     " subs r9, r9, #1\n beq 4f\n add r8, r8, #512\n str r8, [sp]\n str r9, [sp, #4]\n"       \
                     " b 1b\n" /* the next quad */                                                            \
                     "4: ldr r9, [sp, #28]\n ldr r12, [sp, #24]\n ldr r8, [sp, #16]\n ldr r10, [sp, #20]\n"    \
                     " ldr r11, [sp, #12]\n subs r9, r9, #1\n beq 5f\n str r9, [sp, #28]\n"                   \
                     " add r12, r12, #16\n str r12, [sp, #24]\n add r8, r8, #32\n str r8, [sp, #16]\n"         \
                     " str r8, [sp]\n str r10, [sp, #4]\n str r11, [sp, #8]\n sub lr, r11, lr\n"              \
                     " add r10, r11, lr\n str r10, [sp, #12]\n mov lr, r11\n b 1b\n"                          \
                     "5: add sp, sp, #32\n pop {r4-r11, pc}\n" ::: "memory")

/* Again and again until the weights of the position end; r12 goes on by `bytes` each time. */
#define MMCC_DSP_WINOGRAD_MORE(others, bytes)                                                                  \
    " b 3f\n2: " MMCC_DSP_WINOGRAD_PAIR(0) "3: " others                                                       \
    " ldr r8, [sp, #12]\n add r12, r12, #" #bytes "\n cmp lr, r8\n bne 2b\n"

#define MMCC_DSP_WINOGRAD_TO_4 MMCC_DSP_WINOGRAD_PAIR(256) MMCC_DSP_WINOGRAD_PAIR(512) MMCC_DSP_WINOGRAD_PAIR(768)
#define MMCC_DSP_WINOGRAD_TO_8                                                                                 \
    MMCC_DSP_WINOGRAD_TO_4 MMCC_DSP_WINOGRAD_PAIR(1024) MMCC_DSP_WINOGRAD_PAIR(1280)                           \
    MMCC_DSP_WINOGRAD_PAIR(1536) MMCC_DSP_WINOGRAD_PAIR(1792)

/* Multiples of 2, 4 and 8 pairs of channels, and 8 alone. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_winograd_2(__attribute__((unused)) const mmcc_dsp_winograd *quads)
{
    MMCC_DSP_WINOGRAD_LOOP(MMCC_DSP_WINOGRAD_MORE(MMCC_DSP_WINOGRAD_PAIR(256), 512));
}

MMCC_DSP_ASSEMBLY static void mmcc_dsp_winograd_4(__attribute__((unused)) const mmcc_dsp_winograd *quads)
{
    MMCC_DSP_WINOGRAD_LOOP(MMCC_DSP_WINOGRAD_MORE(MMCC_DSP_WINOGRAD_TO_4, 1024));
}

MMCC_DSP_ASSEMBLY static void mmcc_dsp_winograd_8(__attribute__((unused)) const mmcc_dsp_winograd *quads)
{
    MMCC_DSP_WINOGRAD_LOOP(MMCC_DSP_WINOGRAD_MORE(MMCC_DSP_WINOGRAD_TO_8, 2048));
}

MMCC_DSP_ASSEMBLY static void mmcc_dsp_winograd_once(__attribute__((unused)) const mmcc_dsp_winograd *quads)
{
    MMCC_DSP_WINOGRAD_LOOP(MMCC_DSP_WINOGRAD_TO_8 " add r12, r12, #2048\n");
}

/* What turns the sums of a filter into outputs, and where the outputs of a row of tiles are. The assembly below knows
 * where the members are. */
typedef struct {
    const uint32_t *sums; /*  0: of the first tile */
    int8_t *y[2];         /*  4: of the filter, in both rows */
    int32_t y_step;       /* 12 */
    int32_t multiplier;   /* 16 */
    int32_t right;        /* 20 */
    int32_t zero2;        /* 24: 2 * zero point of the output + 1 */
    uint32_t bias;        /* 28 */
    int32_t made;         /* 32: tiles */
    int32_t tiles;        /* 36 */
} mmcc_dsp_tiles;

/* Tiles of four outputs. A tile's sums a are at 4x4 positions; of column i, u = a0 + a1 + a2 and d = a1 - a2 - a3. Then
 * the outputs are u0 + u1 + u2 and u1 - u2 - u3, below them d0 + d1 + d2 and d1 - d2 - d3. They are in r7, r8, r9 and
 * r10. Sums wrap at 32 bits on the way; the results fit. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_winograd_outputs(__attribute__((unused)) const mmcc_dsp_tiles *tiles)
{
    /* clang-format off */
    __asm__ volatile("push {r4-r11, lr}\n sub sp, sp, #12\n mov r12, r0\n ldm r12!, {r0-r6}\n"
                     " ldm r12, {r7-r9}\n stm sp, {r7-r9}\n"
                     "1: ldr r7, [r0]\n ldr r11, [r0, #128]\n ldr r12, [r0, #256]\n ldr lr, [r0, #384]\n"
                     " add r7, r7, r11\n sub r9, r11, r12\n add r7, r7, r12\n sub r9, r9, lr\n"
                     " ldr r8, [r0, #32]\n ldr r10, [r0, #160]\n ldr r11, [r0, #288]\n ldr r12, [r0, #416]\n"
                     " ldr lr, [sp]\n"
                     " add r8, r8, r10\n sub r10, r10, r11\n add r8, r8, r11\n sub r10, r10, r12\n"
                     " add r8, r8, lr\n add r10, r10, lr\n add r7, r7, r8\n add r9, r9, r10\n"
                     " ldr r11, [r0, #192]\n ldr r12, [r0, #320]\n ldr lr, [r0, #64]\n"
                     " add lr, lr, r11\n sub r11, r11, r12\n add lr, lr, r12\n add r7, r7, lr\n sub r8, r8, lr\n"
                     " ldr lr, [r0, #448]\n sub r11, r11, lr\n add r9, r9, r11\n sub r10, r10, r11\n"
                     " ldr r11, [r0, #224]\n ldr r12, [r0, #352]\n ldr lr, [r0, #96]\n"
                     " sub r8, r8, r11\n sub r11, r11, r12\n sub r8, r8, r12\n sub r8, r8, lr\n"
                     " ldr lr, [r0, #480]\n sub r10, r10, r11\n add r10, r10, lr\n"
                     " smmul r7, r7, r4\n smmul r8, r8, r4\n smmul r9, r9, r4\n smmul r10, r10, r4\n"
                     " asr r7, r7, r5\n asr r8, r8, r5\n asr r9, r9, r5\n asr r10, r10, r5\n"
                     " add r7, r7, r6\n add r8, r8, r6\n add r9, r9, r6\n add r10, r10, r6\n"
                     " ssat r7, #8, r7, asr #1\n ssat r8, #8, r8, asr #1\n"
                     " ssat r9, #8, r9, asr #1\n ssat r10, #8, r10, asr #1\n"
                     " ldr r11, [sp, #4]\n ldr r12, [sp, #8]\n"
                     " strb r7, [r1]\n strb r8, [r1, r3]\n add r1, r1, r3, lsl #1\n"
                     " strb r9, [r2]\n strb r10, [r2, r3]\n add r2, r2, r3, lsl #1\n"
                     " add r11, r11, #1\n str r11, [sp, #4]\n tst r11, #3\n ite ne\n addne r0, r0, #8\n"
                     " addeq r0, r0, #488\n cmp r11, r12\n bne 1b\n"
                     " add sp, sp, #12\n pop {r4-r11, pc}\n" ::: "memory");
    /* clang-format on */
}

/* All columns of one row or two: whole tiles in their place, parts of others by way of a tile beside. Alters its
 * argument. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_winograd_finish(mmcc_dsp_tiles *tiles, int32_t columns, bool both)
{
    int8_t spare[4];
    int8_t *const y[2] = {tiles->y[0], tiles->y[1]};
    const int32_t whole = both ? mmcc_shift_right(columns, 1) : 0, step = tiles->y_step;
    if (whole > 0) {
        tiles->made = 0;
        tiles->tiles = whole;
        mmcc_dsp_winograd_outputs(tiles);
    }
    const uint32_t *const sums = tiles->sums;
    for (int32_t column = 2 * whole; column < columns; column += 2) {
        const int32_t tile = mmcc_shift_right(column, 1), left = columns - column;
        tiles->sums = sums + mmcc_shift_right(tile, 2) * MMCC_DSP_SUMS + (tile & 3) * 2;
        tiles->y[0] = spare;
        tiles->y[1] = spare + 2;
        tiles->y_step = 1;
        tiles->made = 0;
        tiles->tiles = 1;
        mmcc_dsp_winograd_outputs(tiles);
        for (int32_t i = 0; i < (both ? 2 : 1); ++i) {
            for (int32_t j = 0; j < (left > 1 ? 2 : 1); ++j) {
                y[i][(column + j) * step] = spare[2 * i + j];
            }
        }
    }
}

#endif
