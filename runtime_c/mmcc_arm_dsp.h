/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: int8 arithmetic for cores with Arm's DSP instructions (Cortex-M4, M7, M33). The inner loops are assembly
 * because they need all 14 registers, which compilers do not manage without spilling. */
#ifndef MMCC_ARM_DSP_H
#define MMCC_ARM_DSP_H

#if !defined(__ARM_FEATURE_DSP) && !defined(__ARM_ARCH_7EM__)
#error "compiled for a core with Arm's DSP instructions (Cortex-M4, M7, M33): use its flags, or compile for this target"
#endif

#include "mmcc_requantize.h"
#include "mmcc_runtime.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes 0 and 2, or 1 and 3, of a word as halfwords. */
MMCC_INLINE uint32_t mmcc_dsp_even(uint32_t word)
{
    uint32_t pair;
    __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
    return pair;
}

MMCC_INLINE uint32_t mmcc_dsp_odd(uint32_t word)
{
    uint32_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}

/* The same added to a pair of sums. */
MMCC_INLINE uint32_t mmcc_dsp_add_even(uint32_t sums, uint32_t word)
{
    __asm__("sxtab16 %0, %0, %1" : "+r"(sums) : "r"(word));
    return sums;
}

MMCC_INLINE uint32_t mmcc_dsp_add_odd(uint32_t sums, uint32_t word)
{
    __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(sums) : "r"(word));
    return sums;
}

/* sum + (a * the low or high half of pair) / 2^16. */
MMCC_INLINE int32_t mmcc_dsp_scale_low(int32_t a, uint32_t pair, int32_t sum)
{
    int32_t result;
    __asm__("smlawb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(pair), "r"(sum));
    return result;
}

MMCC_INLINE int32_t mmcc_dsp_scale_high(int32_t a, uint32_t pair, int32_t sum)
{
    int32_t result;
    __asm__("smlawt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(pair), "r"(sum));
    return result;
}

MMCC_INLINE int8_t mmcc_dsp_saturate(int32_t value)
{
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value));
    return (int8_t)result;
}

/* The same for value >> right, where right is a constant of 1 to 31. */
#define MMCC_DSP_NARROW(result, value, right) __asm__("ssat %0, #8, %1, asr %2" : "=r"(result) : "r"(value), "I"(right))

MMCC_INLINE uint32_t mmcc_dsp_word(const int8_t *from)
{
    uint32_t word;
    memcpy(&word, from, 4);
    return word;
}

/* A function that is assembly as a whole: compilers must not change how it is called. */
#if defined(__clang__)
#define MMCC_DSP_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noinline, unused))
#else
#define MMCC_DSP_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noipa, unused))
#endif

/* Output pixels of a convolution: runs of values, each times its weight in every filter. Either one pixel of several
 * runs, or pixels side by side of one run each; then runs is NULL. The assembly below copies this to its stack. */
typedef struct {
    const int8_t *const *runs;     /*  0: where each run begins */
    const int8_t *const *runs_end; /*  4 */
    int32_t bytes;                 /*  8: of each run, a multiple of 4 */
    const int8_t *weights;         /* 12: block of filters after block; a word of each filter of a block in turn */
    const int32_t *scale;          /* 16: of each block the biases, then the multipliers */
    const uint8_t *shift;          /* 20 */
    int8_t *y;                     /* 24 */
    int32_t blocks;                /* 28: of 8 or 4 filters */
    int32_t zero2;                 /* 32: 2 * zero point of the output + 1 */
    const int8_t *x;               /* 36: the run of the first pixel */
    int32_t pixels;                /* 40 */
    int32_t x_step;                /* 44: from pixel to pixel */
    int32_t y_step;                /* 48 */
} mmcc_dsp_pixels;

/* Four values x in r9 times a word of each of two filters (at lr, added to a and b), at the price of one widening
 * a word. A word of weights w holds in each half w[even] * 256 + w[odd], so that
 *     half * x[even]  +  (low byte of half) * (x[odd] * 256 + 127 - x[even])
 * is 256 times the sum of products, plus 127 * w[odd], which the bias takes off. r8 is the x[even], r9 what is in
 * parentheses. Sums wrap at 32 bits on the way; the result fits. */
#define MMCC_DSP_X_SCALED "ldr r9, [r12], #4\n sxtb16 r8, r9\n eor r9, r9, #0x007F007F\n"
#define MMCC_DSP_SCALED(a, b)                                                                                 \
    "ldrd r10, r11, [lr], #8\n"                                                                               \
    " smlad " #a ", r10, r8, " #a "\n smlad " #b ", r11, r8, " #b "\n"                                        \
    " sxtb16 r10, r10\n sxtb16 r11, r11\n"                                                                    \
    " smlad " #a ", r10, r9, " #a "\n smlad " #b ", r11, r9, " #b "\n"

/* The same for weights as they are, where 256 times the sum does not fit 32 bits. r7 is free. */
#define MMCC_DSP_X_PLAIN "ldr r9, [r12], #4\n sxtb16 r8, r9\n sxtb16 r9, r9, ror #8\n"
#define MMCC_DSP_PLAIN(a, b)                                                                                  \
    "ldrd r10, r11, [lr], #8\n"                                                                               \
    " sxtb16 r7, r10\n smlad " #a ", r7, r8, " #a "\n sxtb16 r10, r10, ror #8\n smlad " #a ", r10, r9, " #a "\n" \
    " sxtb16 r7, r11\n smlad " #b ", r7, r8, " #b "\n sxtb16 r11, r11, ror #8\n smlad " #b ", r11, r9, " #b "\n"

/* Requantization: ((hi32(acc * multiplier) >> right) + zero2) >> 1, saturated. r8 is at the multipliers, r9 at the
 * shifts, r12 is zero2. */
#define MMCC_DSP_OUT(a)                                                                                        \
    "ldr r10, [r8], #4\n ldrb r11, [r9], #1\n smmul " #a ", " #a ", r10\n asr " #a ", " #a ", r11\n"            \
    " add " #a ", " #a ", r12\n ssat " #a ", #8, " #a ", asr #1\n"

/* A function that makes blocks of filters for pixels. `accs` are the registers of their sums, `word` is what is done
 * for four values, `out` and `store` what for the sums. In the loop r12 is at the values, lr at the weights; on the
 * stack are a copy of the argument, at 52 where the run ends, at 56 the next run, at 60 the argument and at 64 the
 * pixel's outputs. */
#define MMCC_DSP_BLOCKS(accs, word, out, store)                                                                \
    __asm__ volatile("push {r4-r11, lr}\n sub sp, sp, #68\n str r0, [sp, #60]\n"                               \
                     " ldm r0!, {r1-r9}\n ldm r0, {r0, r10-r12}\n add lr, sp, #36\n stm lr, {r0, r10-r12}\n"   \
                     " str r7, [sp, #64]\n cmp r1, #0\n itt eq\n moveq r1, lr\n addeq r2, lr, #4\n"           \
                     " stm sp, {r1-r9}\n mov lr, r4\n"                                                        \
                     "1: ldr r12, [sp, #16]\n ldm r12!, {" accs "}\n str r12, [sp, #16]\n ldr r10, [sp]\n"     \
                     "2: ldr r12, [r10], #4\n ldr r11, [sp, #8]\n str r10, [sp, #56]\n"                        \
                     " add r10, r12, r11\n str r10, [sp, #52]\n"                                               \
                     " tst r11, #4\n bne 4f\n" /* an odd number of words */                                    \
                     "3: " word "4: " word " ldr r9, [sp, #52]\n cmp r12, r9\n bne 3b\n"                       \
                     " ldr r10, [sp, #56]\n ldr r11, [sp, #4]\n cmp r10, r11\n bne 2b\n"                       \
                     " ldrd r8, r9, [sp, #16]\n ldr r12, [sp, #32]\n" out                                      \
                     " strd r8, r9, [sp, #16]\n ldrd r8, r9, [sp, #24]\n" store                                \
                     " subs r9, r9, #1\n strd r8, r9, [sp, #24]\n bne 1b\n" /* the next pixel */                \
                     " ldrd r9, r10, [sp, #40]\n subs r9, r9, #1\n beq 5f\n ldr r7, [sp, #36]\n"               \
                     " add r7, r7, r10\n strd r7, r9, [sp, #36]\n ldr r0, [sp, #60]\n ldr lr, [r0, #12]\n"     \
                     " ldrd r4, r5, [r0, #16]\n strd r4, r5, [sp, #16]\n ldr r8, [sp, #64]\n"                  \
                     " ldr r10, [sp, #48]\n add r8, r8, r10\n str r8, [sp, #64]\n ldr r9, [r0, #28]\n"         \
                     " strd r8, r9, [sp, #24]\n b 1b\n"                                                        \
                     "5: add sp, sp, #68\n pop {r4-r11, pc}\n" ::: "memory")

#define MMCC_DSP_OUT4 MMCC_DSP_OUT(r0) MMCC_DSP_OUT(r1) MMCC_DSP_OUT(r2) MMCC_DSP_OUT(r3)
#define MMCC_DSP_OUT8 MMCC_DSP_OUT4 MMCC_DSP_OUT(r4) MMCC_DSP_OUT(r5) MMCC_DSP_OUT(r6) MMCC_DSP_OUT(r7)
#define MMCC_DSP_STORE4 " strb r0, [r8], #1\n strb r1, [r8], #1\n strb r2, [r8], #1\n strb r3, [r8], #1\n"
#define MMCC_DSP_STORE8                                                                                        \
    MMCC_DSP_STORE4 " strb r4, [r8], #1\n strb r5, [r8], #1\n strb r6, [r8], #1\n strb r7, [r8], #1\n"

MMCC_DSP_ASSEMBLY static void mmcc_dsp_scaled8(__attribute__((unused)) const mmcc_dsp_pixels *pixels)
{
    MMCC_DSP_BLOCKS("r0-r7",
                    MMCC_DSP_X_SCALED MMCC_DSP_SCALED(r0, r1) MMCC_DSP_SCALED(r2, r3) MMCC_DSP_SCALED(r4, r5)
                        MMCC_DSP_SCALED(r6, r7),
                    MMCC_DSP_OUT8, MMCC_DSP_STORE8);
}

MMCC_DSP_ASSEMBLY static void mmcc_dsp_plain4(__attribute__((unused)) const mmcc_dsp_pixels *pixels)
{
    MMCC_DSP_BLOCKS("r0-r3", MMCC_DSP_X_PLAIN MMCC_DSP_PLAIN(r0, r1) MMCC_DSP_PLAIN(r2, r3), MMCC_DSP_OUT4,
                    MMCC_DSP_STORE4);
}

/* Moves on by `filters` that are done, each with `taps` bytes of weights. */
MMCC_INLINE void mmcc_dsp_advance(mmcc_dsp_pixels *pixels, int32_t filters, int32_t taps)
{
    pixels->weights += filters * taps;
    pixels->scale += 2 * filters;
    pixels->shift += filters;
    pixels->y += filters;
}

/* The last filters, fewer than a block: the block is made beside and copied. No pointer to the function that makes it:
 * a stack of what is called so would not be in the bound. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_rest(mmcc_dsp_pixels *pixels, bool scaled, int32_t filters)
{
    int8_t spare[8];
    int8_t *y = pixels->y;
    int32_t count = pixels->pixels;
    pixels->y = spare;
    pixels->blocks = 1;
    pixels->pixels = 1;
    for (; count > 0; --count) {
        if (scaled) {
            mmcc_dsp_scaled8(pixels);
        } else {
            mmcc_dsp_plain4(pixels);
        }
        memcpy(y, spare, (size_t)filters);
        y += pixels->y_step;
        pixels->x += pixels->x_step;
    }
}

/* All filters of pixels; weights are in blocks of 8. Alters its argument. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_scaled(mmcc_dsp_pixels *pixels, int32_t filters, int32_t taps)
{
    const int32_t rest = filters & 7;
    pixels->blocks = mmcc_shift_right(filters, 3);
    if (pixels->blocks > 0) {
        mmcc_dsp_scaled8(pixels);
        mmcc_dsp_advance(pixels, filters - rest, taps);
    }
    if (rest > 0) {
        mmcc_dsp_rest(pixels, true, rest);
    }
}

/* The same for plain weights, in blocks of 4. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_plain(mmcc_dsp_pixels *pixels, int32_t filters, int32_t taps)
{
    const int32_t rest = filters & 3;
    pixels->blocks = mmcc_shift_right(filters, 2);
    if (pixels->blocks > 0) {
        mmcc_dsp_plain4(pixels);
        mmcc_dsp_advance(pixels, filters - rest, taps);
    }
    if (rest > 0) {
        mmcc_dsp_rest(pixels, false, rest);
    }
}

/* Outputs of four channels of a depthwise convolution, one after the other along a row. */
typedef struct {
    const uint32_t *x; /*  0: widened values of the first window */
    int32_t x_step;    /*  4: bytes from one window to the next */
    int8_t *y;         /*  8 */
    int32_t y_step;    /* 12 */
    int32_t count;     /* 16 */
    const uint32_t *w; /* 20: 4 biases, widened weights, 4 multipliers, 4 roundings, 4 shifts */
} mmcc_dsp_quad;

#define MMCC_DSP_QUAD_BEGIN                                                                                    \
    __asm__ volatile("push {r4-r11, lr}\n sub sp, sp, #28\n ldm r0, {r1-r6}\n stm sp, {r1-r6}\n mov r12, r1\n"   \
                     "1: ldr lr, [sp, #20]\n ldm lr!, {r0-r3}\n" ::: "memory")

/* Two rows of a column: a word of values and one of weights for each channel. */
#define MMCC_DSP_QUAD_PAIR                                                                                     \
    __asm__ volatile("ldm r12!, {r4-r7}\n ldm lr!, {r8-r11}\n smlad r0, r4, r8, r0\n smlad r1, r5, r9, r1\n"    \
                     " smlad r2, r6, r10, r2\n smlad r3, r7, r11, r3\n" ::: "memory")

/* A single row: a word for two channels, 0 and 2 or 1 and 3. */
#define MMCC_DSP_QUAD_ONE                                                                                      \
    __asm__ volatile("ldm r12!, {r4-r5}\n ldm lr!, {r8-r9}\n smlabb r0, r4, r8, r0\n smlabb r1, r5, r9, r1\n"   \
                     " smlatt r2, r4, r8, r2\n smlatt r3, r5, r9, r3\n" ::: "memory")

/* Requantize, store, go on with the next output or return. */
#define MMCC_DSP_QUAD_END                                                                                      \
    __asm__ volatile("ldm lr!, {r4-r11}\n smmla r0, r0, r4, r8\n smmla r1, r1, r5, r9\n smmla r2, r2, r6, r10\n" \
                     " smmla r3, r3, r7, r11\n ldm lr, {r4-r7}\n asr r0, r0, r4\n asr r1, r1, r5\n"             \
                     " asr r2, r2, r6\n asr r3, r3, r7\n ldrd r12, r4, [sp, #8]\n"                              \
                     " ssat r0, #8, r0, asr #1\n ssat r1, #8, r1, asr #1\n ssat r2, #8, r2, asr #1\n"            \
                     " ssat r3, #8, r3, asr #1\n strb r0, [r12]\n strb r1, [r12, #1]\n strb r2, [r12, #2]\n"     \
                     " strb r3, [r12, #3]\n add r12, r12, r4\n str r12, [sp, #8]\n ldrd r12, r4, [sp]\n"         \
                     " add r12, r12, r4\n str r12, [sp]\n ldr r4, [sp, #16]\n subs r4, r4, #1\n"                \
                     " str r4, [sp, #16]\n bne 1b\n add sp, sp, #28\n pop {r4-r11, pc}\n" ::: "memory")

/* Columns to widen. Each call does four channels and moves on to the next four. */
typedef struct {
    const int8_t *row[3]; /*  0: where the first column of each row is */
    uint32_t *to;         /* 12 */
    int32_t count;        /* 16: columns */
    int32_t step[3];      /* 20: bytes from one column to the next; 0 for a row outside the image, all of one value */
    int32_t to_step;      /* 32: bytes from one widened column to the next */
} mmcc_dsp_stretch;

/* Outputs of a row that are made together, and the columns that they need. */
typedef struct {
    int32_t count;         /* outputs */
    int32_t first, behind; /* columns of their windows */
    int32_t from, to;      /* those within the image */
    int32_t stride, y_step, channels;
    int32_t to_step;  /* bytes from one widened column to the next */
    uint32_t outside; /* a widened pair of values outside the image */
} mmcc_dsp_span;

/* Windows begin at column `first`, `width` is the image's: first <= from <= to <= behind, whatever of it is outside. */
MMCC_INLINE void mmcc_dsp_set_span(mmcc_dsp_span *span, int32_t first, int32_t window, int32_t width)
{
    span->first = first;
    span->behind = first + (span->count - 1) * span->stride + window;
    span->from = first < 0 ? 0 : first;
    if (span->from > span->behind) {
        span->from = span->behind; /* all columns are before the image */
    }
    span->to = span->behind < width ? span->behind : width;
    if (span->to < span->from) {
        span->to = span->from; /* none of them is in the image */
    }
}

/* The next `count` rows of a window. */
MMCC_CODE_ATTRIBUTE
__attribute__((noinline, unused)) static void
mmcc_dsp_set_stretch(mmcc_dsp_stretch *stretch, const int8_t *const *rows,
                     const int32_t *steps, int32_t count,
                     const mmcc_dsp_span *span, uint32_t *to)
{
    for (int32_t i = 0; i < count; ++i) {
        stretch->row[i] = rows[i] + span->from * steps[i];
        stretch->step[i] = steps[i];
    }
    stretch->to = to;
    stretch->count = span->to - span->from;
    stretch->to_step = span->to_step;
}

MMCC_INLINE void mmcc_dsp_fill(uint32_t *to, int32_t words, uint32_t value)
{
    for (int32_t i = 0; i < words; ++i) {
        to[i] = value;
    }
}

/* Adds 4 to the pointer at an offset from r0, if the step at another is not 0. */
#define MMCC_DSP_NEXT_QUAD(pointer, step)                                                                      \
    " ldr r2, [r0, #" #step "]\n ldr r1, [r0, #" #pointer "]\n cbz r2, 9f\n adds r1, r1, #4\n"                  \
    " str r1, [r0, #" #pointer "]\n9:"

/* clang-format off */
/* The columns of three rows, four channels: pairs of values of the first two rows, a word a channel, then two channels
 * of the last row a word. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_three_rows(__attribute__((unused)) mmcc_dsp_stretch *stretch)
{
    __asm__ volatile("push {r0, r4-r11, lr}\n ldm r0, {r0-r7}\n"
                     "1: ldr r8, [r0]\n ldr r9, [r1]\n ldr lr, [r2]\n add r0, r0, r5\n add r1, r1, r6\n"
                     " add r2, r2, r7\n pkhbt r11, r8, r9, lsl #16\n pkhtb r12, r9, r8, asr #16\n"
                     " sxtb16 r8, r11\n sxtb16 r9, r11, ror #8\n sxtb16 r10, r12\n sxtb16 r11, r12, ror #8\n"
                     " sxtb16 r12, lr\n sxtb16 lr, lr, ror #8\n stm r3!, {r8-r12, lr}\n"
                     " subs r4, r4, #1\n bne 1b\n pop {r0}\n" MMCC_DSP_NEXT_QUAD(0, 20) MMCC_DSP_NEXT_QUAD(4, 24)
                     MMCC_DSP_NEXT_QUAD(8, 28) " pop {r4-r11, pc}\n" ::: "memory");
}

/* Two rows of a larger window. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_two_rows(__attribute__((unused)) mmcc_dsp_stretch *stretch)
{
    __asm__ volatile("push {r0, r4-r11, lr}\n ldr lr, [r0, #32]\n ldm r0, {r0-r6}\n"
                     "1: ldr r8, [r0]\n ldr r9, [r1]\n add r0, r0, r5\n add r1, r1, r6\n"
                     " pkhbt r11, r8, r9, lsl #16\n pkhtb r12, r9, r8, asr #16\n"
                     " sxtb16 r8, r11\n sxtb16 r9, r11, ror #8\n sxtb16 r10, r12\n sxtb16 r11, r12, ror #8\n"
                     " stm r3, {r8-r11}\n add r3, r3, lr\n"
                     " subs r4, r4, #1\n bne 1b\n pop {r0}\n" MMCC_DSP_NEXT_QUAD(0, 20) MMCC_DSP_NEXT_QUAD(4, 24)
                     " pop {r4-r11, pc}\n" ::: "memory");
}
/* clang-format on */

/* A last single row. */
MMCC_INLINE void mmcc_dsp_one_row(mmcc_dsp_stretch *stretch)
{
    const int8_t *from = stretch->row[0];
    uint32_t *to = stretch->to;
    for (int32_t i = 0; i < stretch->count; ++i) {
        const uint32_t word = mmcc_dsp_word(from);
        to[0] = mmcc_dsp_even(word);
        to[1] = mmcc_dsp_odd(word);
        from += stretch->step[0];
        to += stretch->to_step / 4;
    }
    stretch->row[0] += stretch->step[0] != 0 ? 4 : 0;
}

/* Four channels of a layer as it lies in the weights. */
typedef struct {
    uint32_t *w; /* to be filled in: what mmcc_dsp_quad.w points to */
    const int32_t *scale;
    const int8_t *weights;
    int32_t words; /* of weights */
    int32_t zero2;
    const uint8_t *shift;
} mmcc_dsp_source;

MMCC_DSP_ASSEMBLY static void mmcc_dsp_prepare(__attribute__((unused)) const mmcc_dsp_source *source)
{
    __asm__ volatile("push {r4-r11, lr}\n ldm r0, {r0-r3, r11, r12}\n"
                     " ldm r1!, {r4-r7}\n stm r0!, {r4-r7}\n subs r3, r3, #3\n blt 2f\n"
                     "1: ldm r2!, {r6, r8, r10}\n sxtb16 r5, r6\n sxtb16 r6, r6, ror #8\n sxtb16 r7, r8\n"
                     " sxtb16 r8, r8, ror #8\n sxtb16 r9, r10\n sxtb16 r10, r10, ror #8\n stm r0!, {r5-r10}\n"
                     " subs r3, r3, #3\n bge 1b\n"
                     "2: adds r3, r3, #3\n beq 4f\n"
                     "3: ldr r6, [r2], #4\n sxtb16 r5, r6\n sxtb16 r6, r6, ror #8\n stm r0!, {r5, r6}\n"
                     " subs r3, r3, #1\n bne 3b\n"
                     "4: ldm r1, {r4-r7}\n stm r0!, {r4-r7}\n ldrb r4, [r12]\n ldrb r5, [r12, #1]\n"
                     " ldrb r6, [r12, #2]\n ldrb r7, [r12, #3]\n lsl r8, r11, r4\n lsl r9, r11, r5\n"
                     " lsl r10, r11, r6\n lsl r11, r11, r7\n stm r0!, {r8-r11}\n stm r0, {r4-r7}\n"
                     " pop {r4-r11, pc}\n" ::: "memory");
}

/* Where outputs have a narrower range than int8, which is rare: a second pass. */
MMCC_INLINE void mmcc_dsp_clamp(int8_t *y, int32_t count, int32_t low, int32_t high)
{
    for (int32_t i = 0; i < count; ++i) {
        const int32_t value = y[i] < low ? low : y[i];
        y[i] = (int8_t)(value > high ? high : value);
    }
}

#endif
