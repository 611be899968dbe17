/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: what values times weights add to eight sums, or to twice eight, one value after the other. */
#ifndef MMCC_PRODUCTS_H
#define MMCC_PRODUCTS_H

#include "mmcc_math.h"
#include "mmcc_runtime.h"

#include <stdint.h>

/* Cortex-M cores with a unit for floats load many registers an instruction, which compilers do not of their own. */
#if defined(__thumb2__) && defined(__ARM_FEATURE_FMA) && !defined(MMCC_SET4)
#define MMCC_PRODUCTS_OF_FOUR 1

/* The value in register x times the eight weights from register s16 or s24 on, to operands or to registers. */
#define MMCC_EIGHT_BY_S16(x)                                                                                   \
    " vfma.f32 %0, s16, " x "\n vfma.f32 %1, s17, " x "\n vfma.f32 %2, s18, " x "\n vfma.f32 %3, s19, " x "\n" \
    " vfma.f32 %4, s20, " x "\n vfma.f32 %5, s21, " x "\n vfma.f32 %6, s22, " x "\n vfma.f32 %7, s23, " x "\n"
#define MMCC_EIGHT_BY_S24(x)                                                                                   \
    " vfma.f32 %0, s24, " x "\n vfma.f32 %1, s25, " x "\n vfma.f32 %2, s26, " x "\n vfma.f32 %3, s27, " x "\n" \
    " vfma.f32 %4, s28, " x "\n vfma.f32 %5, s29, " x "\n vfma.f32 %6, s30, " x "\n vfma.f32 %7, s31, " x "\n"
#define MMCC_LOW_BY_S16(x)                                                                                     \
    " vfma.f32 s0, s16, " x "\n vfma.f32 s1, s17, " x "\n vfma.f32 s2, s18, " x "\n vfma.f32 s3, s19, " x "\n" \
    " vfma.f32 s4, s20, " x "\n vfma.f32 s5, s21, " x "\n vfma.f32 s6, s22, " x "\n vfma.f32 s7, s23, " x "\n"
#define MMCC_HIGH_BY_S16(x)                                                                                    \
    " vfma.f32 s8, s16, " x "\n vfma.f32 s9, s17, " x "\n vfma.f32 s10, s18, " x "\n vfma.f32 s11, s19, " x "\n"\
    " vfma.f32 s12, s20, " x "\n vfma.f32 s13, s21, " x "\n vfma.f32 s14, s22, " x "\n vfma.f32 s15, s23, " x "\n"
#define MMCC_FOUR_OPERANDS(a, b, c, d) "+t"(a), "+t"(b), "+t"(c), "+t"(d)
#define MMCC_OPERANDS8(sum)                                               \
    MMCC_FOUR_OPERANDS((sum)->v0, (sum)->v1, (sum)->v2, (sum)->v3),       \
        MMCC_FOUR_OPERANDS((sum)->v4, (sum)->v5, (sum)->v6, (sum)->v7)

#endif

/* Of each value eight weights lie side by side. */
MMCC_INLINE void mmcc_products8(const float *w, const float *x, int32_t count, mmcc_float8 *sum)
{
    int32_t left = count;
#if defined(MMCC_PRODUCTS_OF_FOUR)
    if (left >= 4) {
        left -= 4;
        /* clang-format off */
        __asm__("1: vldmia %[x]!, {s8-s11}\n vldmia %[w]!, {s16-s31}\n" MMCC_EIGHT_BY_S16("s8") MMCC_EIGHT_BY_S24("s9")
                " vldmia %[w]!, {s16-s31}\n" MMCC_EIGHT_BY_S16("s10") MMCC_EIGHT_BY_S24("s11")
                " subs %[left], #4\n bpl 1b\n"
                : MMCC_OPERANDS8(sum), [w] "+r"(w), [x] "+r"(x), [left] "+r"(left)
                :
                : "s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25",
                  "s26", "s27", "s28", "s29", "s30", "s31", "cc", "memory");
        /* clang-format on */
        left += 4;
    }
#endif
    for (; left > 0; --left) {
        *sum = mmcc_scale8(*x, mmcc_load8(w), *sum);
        ++x;
        w += 8;
    }
}

/* The same where the eight weights of a value lie `step` floats behind those of the value before. */
MMCC_INLINE void mmcc_products8_apart(const float *w, int32_t step, const float *x, int32_t count, mmcc_float8 *sum)
{
    int32_t left = count;
#if defined(MMCC_PRODUCTS_OF_FOUR)
    if (left >= 4) {
        left -= 4;
        /* clang-format off */
        __asm__("1: vldmia %[x]!, {s8-s11}\n"
                " vldmia %[w], {s16-s23}\n add %[w], %[bytes]\n vldmia %[w], {s24-s31}\n add %[w], %[bytes]\n"
                MMCC_EIGHT_BY_S16("s8") MMCC_EIGHT_BY_S24("s9")
                " vldmia %[w], {s16-s23}\n add %[w], %[bytes]\n vldmia %[w], {s24-s31}\n add %[w], %[bytes]\n"
                " subs %[left], #4\n" MMCC_EIGHT_BY_S16("s10") MMCC_EIGHT_BY_S24("s11") " bpl 1b\n"
                : MMCC_OPERANDS8(sum), [w] "+r"(w), [x] "+r"(x), [left] "+r"(left)
                : [bytes] "r"(4 * step)
                : "s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25",
                  "s26", "s27", "s28", "s29", "s30", "s31", "cc", "memory");
        /* clang-format on */
        left += 4;
    }
#endif
    for (; left > 0; --left) {
        *sum = mmcc_scale8(*x, mmcc_load8(w), *sum);
        ++x;
        w += step;
    }
}

/* Twice eight sums, of these alone; of each value eight weights of the ones lie before eight of the others. */
MMCC_INLINE void mmcc_products16(const float *w, const float *x, int32_t count, float *sums)
{
    int32_t left = count;
    mmcc_float8 one = mmcc_set8(0.0f), other = one;
#if defined(MMCC_PRODUCTS_OF_FOUR)
    if (left >= 4) {
        left -= 4;
        /* clang-format off */
        __asm__("vmov d0, %[zero], %[zero]\n vmov d1, %[zero], %[zero]\n vmov d2, %[zero], %[zero]\n"
                " vmov d3, %[zero], %[zero]\n vmov d4, %[zero], %[zero]\n vmov d5, %[zero], %[zero]\n"
                " vmov d6, %[zero], %[zero]\n vmov d7, %[zero], %[zero]\n"
                "1: vldmia %[x]!, {s24-s27}\n"
                " vldmia %[w]!, {s16-s23}\n" MMCC_LOW_BY_S16("s24") " vldmia %[w]!, {s16-s23}\n" MMCC_HIGH_BY_S16("s24")
                " vldmia %[w]!, {s16-s23}\n" MMCC_LOW_BY_S16("s25") " vldmia %[w]!, {s16-s23}\n" MMCC_HIGH_BY_S16("s25")
                " vldmia %[w]!, {s16-s23}\n" MMCC_LOW_BY_S16("s26") " vldmia %[w]!, {s16-s23}\n" MMCC_HIGH_BY_S16("s26")
                " vldmia %[w]!, {s16-s23}\n" MMCC_LOW_BY_S16("s27") " vldmia %[w]!, {s16-s23}\n" MMCC_HIGH_BY_S16("s27")
                " subs %[left], #4\n bpl 1b\n vstmia %[sums], {s0-s15}\n"
                : [w] "+r"(w), [x] "+r"(x), [left] "+r"(left)
                : [sums] "r"(sums), [zero] "r"(0)
                : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15",
                  "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "cc", "memory");
        /* clang-format on */
        left += 4;
        if (left == 0) {
            return;
        }
        one = mmcc_load8(sums);
        other = mmcc_load8(sums + 8);
    }
#endif
    for (; left > 0; --left) {
        one = mmcc_scale8(*x, mmcc_load8(w), one);
        other = mmcc_scale8(*x, mmcc_load8(w + 8), other);
        ++x;
        w += 16;
    }
    mmcc_store8(sums, one);
    mmcc_store8(sums + 8, other);
}

#endif
