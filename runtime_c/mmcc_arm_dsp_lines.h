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

/* Two values of 16 bits. */
MMCC_INLINE uint32_t mmcc_dsp_pair(const int16_t *from)
{
    uint32_t pair;
    memcpy(&pair, from, 4);
    return pair;
}

/* The sum of a pair's products with another, added to one of 64 bits. */
MMCC_INLINE int64_t mmcc_dsp_products_wide(uint32_t a, uint32_t b, int64_t sum)
{
    __asm__("smlald %Q0, %R0, %1, %2" : "+r"(sum) : "r"(a), "r"(b));
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
    " ldr lr, [r1" from "\n sxtb16 r2, lr\n smlad " sum ", r11, r2, " sum "\n sxtb16 lr, lr, ror #8\n"        \
    " smlad " sum ", r12, lr, " sum "\n"

/* The other's rows are four lines, from `b` on. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_line_by_rows(__attribute__((unused)) mmcc_dsp_line *line,
                                                    __attribute__((unused)) const int8_t *b)
{
    /* clang-format off */
    MMCC_DSP_LINE(" ldr lr, [r0], #4\n sxtab16 r11, r6, lr\n sxtab16 r12, r6, lr, ror #8\n"
                  MMCC_DSP_ROW(", r4]", "r8") MMCC_DSP_ROW(", r4, lsl #1]", "r9") MMCC_DSP_ROW(", r5]", "r10")
                  MMCC_DSP_ROW("], #4", "r7"));
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

/* Outputs of a line, four at a time, with their requantization: ((high word of sum * multiplier) + rounding) >> right,
 * then >> 1, where `rounding` is the epilogue's number shifted left by `right`. Assembly knows where members are. */
typedef struct {
    int8_t *y;          /*  0 */
    int32_t next;       /*  4: from the end of four outputs' values in b to the next four's */
    int32_t multiplier; /*  8 */
    int32_t right;      /* 12 */
    int32_t rounding;   /* 16 */
    const void *a;      /* 20 */
    const void *end;    /* 24: of the whole words of a, of which there is one at least */
    int32_t starts[4];  /* 28: what sums begin with */
    const int8_t *b;    /* 44 */
    int32_t step;       /* 48: from row to row of b */
    uint32_t less;      /* 52: in both halves what is added to a */
    int8_t *y_end;      /* 56: a multiple of four outputs behind y, which is not y */
    int32_t rest;       /* 60: values behind the whole words */
} mmcc_dsp_outputs;

#define MMCC_DSP_OUTPUT(sum)                                                                                   \
    " smmla " sum ", " sum ", r11, lr\n asr " sum ", " sum ", r12\n ssat " sum ", #8, " sum ", asr #1\n"        \
    " strb " sum ", [r0], #1\n"

/* `four` takes in a word of a, of `bytes` as it lies in memory, `one` a value behind them. An odd word begins in the
 * middle of the loop. r7 to r10 are the sums, r1 is at b, r4 and r5 one and three of its rows, r6 is `less`; on the
 * stack are the argument, its member a, the end of y, and `rest`. */
#define MMCC_DSP_OUTPUTS(bytes, four, one)                                                                     \
    __asm__ volatile("push {r4-r11, lr}\n ldr r12, [r0, #56]\n ldr lr, [r0, #60]\n add r11, r0, #20\n"         \
                     " push {r0, r11, r12, lr}\n add r0, r0, #44\n ldm r0, {r1, r4, r6}\n"                     \
                     " add r5, r4, r4, lsl #1\n"                                                               \
                     "1: ldr r2, [sp, #4]\n ldm r2, {r0, r3, r7-r10}\n sub r2, r3, r0\n tst r2, #" bytes "\n"    \
                     " bne 3f\n"                                                                               \
                     "2: " four "3: " four " cmp r0, r3\n bne 2b\n"                                            \
                     " ldr r3, [sp, #12]\n cmp r3, #0\n beq 5f\n4: " one " subs r3, r3, #1\n bne 4b\n"         \
                     "5: ldr r2, [sp]\n ldm r2, {r0, r3, r11, r12, lr}\n add r1, r1, r3\n" MMCC_DSP_OUTPUT("r7") \
                         MMCC_DSP_OUTPUT("r8") MMCC_DSP_OUTPUT("r9") MMCC_DSP_OUTPUT("r10") " str r0, [r2]\n"    \
                     " ldr r3, [sp, #8]\n cmp r0, r3\n bne 1b\n add sp, sp, #16\n"                             \
                     " pop {r4-r11, pc}\n" ::: "memory")

#define MMCC_DSP_WIDE_LINE 64 /* values of a line that are widened beforehand, at most */

/* Pairs of a line of a, less its zero point: of each whole word the even, then the odd bytes; then the other values.
 * Their sum. */
MMCC_INLINE int32_t mmcc_dsp_widen_line(const int8_t *a, int32_t inner, uint32_t less, uint32_t *to)
{
    int32_t sum = 0, left = inner;
    for (; left >= 8; left -= 8) {
        const uint32_t word0 = mmcc_dsp_word(a), word1 = mmcc_dsp_word(a + 4);
        to[0] = mmcc_dsp_add_even(less, word0);
        to[1] = mmcc_dsp_add_odd(less, word0);
        to[2] = mmcc_dsp_add_even(less, word1);
        to[3] = mmcc_dsp_add_odd(less, word1);
        sum = mmcc_dsp_products(to[1], 0x00010001u, mmcc_dsp_products(to[0], 0x00010001u, sum));
        sum = mmcc_dsp_products(to[3], 0x00010001u, mmcc_dsp_products(to[2], 0x00010001u, sum));
        to += 4;
        a += 8;
    }
    if (left >= 4) {
        const uint32_t word = mmcc_dsp_word(a);
        to[0] = mmcc_dsp_add_even(less, word);
        to[1] = mmcc_dsp_add_odd(less, word);
        sum = mmcc_dsp_products(to[1], 0x00010001u, mmcc_dsp_products(to[0], 0x00010001u, sum));
        to += 2;
        a += 4;
    }
    for (int32_t i = 0; i < (left & 3); ++i) {
        const int32_t value = a[i] + (int16_t)less;
        to[i] = (uint32_t)value;
        sum += value;
    }
    return sum;
}

#define MMCC_DSP_VALUE(from, sum) " ldrsb lr, [r1" from "\n mla " sum ", r12, lr, " sum "\n"

/* b's rows are lines; a is widened. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_outputs_by_rows(__attribute__((unused)) mmcc_dsp_outputs *outputs)
{
    MMCC_DSP_OUTPUTS("8",
                     " ldrd r11, r12, [r0], #8\n" MMCC_DSP_ROW(", r4]", "r8") MMCC_DSP_ROW(", r4, lsl #1]", "r9")
                         MMCC_DSP_ROW(", r5]", "r10") MMCC_DSP_ROW("], #4", "r7"),
                     " ldr r12, [r0], #4\n" MMCC_DSP_VALUE(", r4]", "r8") MMCC_DSP_VALUE(", r4, lsl #1]", "r9")
                         MMCC_DSP_VALUE(", r5]", "r10") MMCC_DSP_VALUE("], #1", "r7"));
}

/* clang-format off */

/* Outputs are neighbouring columns of b; a is as it is. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_outputs_by_columns(__attribute__((unused)) mmcc_dsp_outputs *outputs)
{
    MMCC_DSP_OUTPUTS("4",
                     " ldr r11, [r0]\n sxtab16 r11, r6, r11\n" MMCC_DSP_COLUMNS("", ", r4, lsl #1")
                     " ldr r11, [r0], #4\n sxtab16 r11, r6, r11, ror #8\n" MMCC_DSP_COLUMNS(", r4", ", r5")
                     " add r1, r1, r4, lsl #2\n",
                     " ldrsb r12, [r0], #1\n ldr lr, [r1]\n sxtah r12, r12, r6\n add r1, r1, r4\n"
                     " sxtb16 r2, lr\n sxtb16 lr, lr, ror #8\n smlabb r7, r12, r2, r7\n"
                     " smlabb r8, r12, lr, r8\n smlabt r9, r12, r2, r9\n smlabt r10, r12, lr, r10\n");
}

/* clang-format on */

/* A line of a normalization in integers; see kernels/portable/layer_norm_int8.c.j2 for what the numbers are. */
typedef struct {
    const int8_t *x;      /*  0 */
    int8_t *y;            /*  4 */
    const int32_t *scale; /*  8 */
    const int32_t *bias;  /* 12 */
    uint32_t step, start; /* 16, 20 */
    int32_t root, shift;  /* 24, 28 */
    const int8_t *end;    /* 32: of x, a multiple of 4 behind its beginning, which is not the end */
} mmcc_dsp_normal;

/* Value n of four, whose scale is in `y`: high word of (x * step + start) * root, then scaled, shifted, limited. */
#define MMCC_DSP_NORMAL(n, y)                                                                                  \
    " ldrsb r12, [r0, #" #n "]\n ldr lr, [r3], #4\n mla r12, r12, r4, r5\n smmul r12, r12, r6\n"               \
    " smmla " y ", r12, " y ", lr\n asr " y ", " y ", r7\n usat " y ", #8, " y "\n"

#define MMCC_DSP_NORMAL4                                                                                       \
    " ldm r2!, {r8-r11}\n" MMCC_DSP_NORMAL(0, "r8") MMCC_DSP_NORMAL(1, "r9") MMCC_DSP_NORMAL(2, "r10")          \
    MMCC_DSP_NORMAL(3, "r11") " orr r8, r8, r9, lsl #8\n orr r10, r10, r11, lsl #8\n"                          \
    " orr r8, r8, r10, lsl #16\n eor r8, r8, #0x80808080\n str r8, [r1], #4\n add r0, r0, #4\n"

/* An odd four begins in the middle of the loop. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_normalize(__attribute__((unused)) const mmcc_dsp_normal *line)
{
    __asm__ volatile("push {r4-r11, lr}\n ldr r12, [r0, #32]\n push {r12}\n ldm r0, {r0-r7}\n"
                     " sub r8, r12, r0\n tst r8, #4\n bne 2f\n"
                     "1: " MMCC_DSP_NORMAL4 "2: " MMCC_DSP_NORMAL4 " ldr r12, [sp]\n cmp r0, r12\n bne 1b\n"
                     " add sp, sp, #4\n pop {r4-r11, pc}\n" ::: "memory");
}

#endif
