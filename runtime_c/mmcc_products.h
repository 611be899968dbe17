/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: what values times weights add to eight sums, or to twice eight, one value after the other. */
#ifndef MMCC_PRODUCTS_H
#define MMCC_PRODUCTS_H

#include "mmcc_math.h"
#include "mmcc_runtime.h"

#include <stdint.h>

/* Cortex-M cores with a unit for floats load many registers an instruction, which compilers do not of their own: there
 * four values and their weights are. What steps on is "+&r" where a register is read besides: of an equal value that
 * they know, compilers take one register for both. */

/* Of each value eight weights lie side by side. */
MMCC_INLINE void mmcc_products8(const float *w, const float *x, int32_t count, mmcc_float8 *sum)
{
    int32_t done = 0;
#if defined(__thumb2__) && defined(__ARM_FEATURE_FMA) && !defined(MMCC_SET4)
    if (count >= 4) {
        const float *weights = w;
        const float *values = x;
        int32_t left = count - 4;
        /* clang-format off */
        __asm__("1: vldmia %[x]!, {s8-s11}\n vldmia %[w]!, {s16-s31}\n"
                " vfma.f32 %0, s16, s8\n vfma.f32 %1, s17, s8\n vfma.f32 %2, s18, s8\n vfma.f32 %3, s19, s8\n"
                " vfma.f32 %4, s20, s8\n vfma.f32 %5, s21, s8\n vfma.f32 %6, s22, s8\n vfma.f32 %7, s23, s8\n"
                " vfma.f32 %0, s24, s9\n vfma.f32 %1, s25, s9\n vfma.f32 %2, s26, s9\n vfma.f32 %3, s27, s9\n"
                " vfma.f32 %4, s28, s9\n vfma.f32 %5, s29, s9\n vfma.f32 %6, s30, s9\n vfma.f32 %7, s31, s9\n"
                " vldmia %[w]!, {s16-s31}\n"
                " vfma.f32 %0, s16, s10\n vfma.f32 %1, s17, s10\n vfma.f32 %2, s18, s10\n vfma.f32 %3, s19, s10\n"
                " vfma.f32 %4, s20, s10\n vfma.f32 %5, s21, s10\n vfma.f32 %6, s22, s10\n vfma.f32 %7, s23, s10\n"
                " vfma.f32 %0, s24, s11\n vfma.f32 %1, s25, s11\n vfma.f32 %2, s26, s11\n vfma.f32 %3, s27, s11\n"
                " vfma.f32 %4, s28, s11\n vfma.f32 %5, s29, s11\n vfma.f32 %6, s30, s11\n vfma.f32 %7, s31, s11\n"
                " subs %[left], #4\n bpl 1b\n"
                : "+t"(sum->v0), "+t"(sum->v1), "+t"(sum->v2), "+t"(sum->v3), "+t"(sum->v4), "+t"(sum->v5),
                  "+t"(sum->v6), "+t"(sum->v7), [w] "+r"(weights), [x] "+r"(values), [left] "+r"(left)
                :
                : "s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25",
                  "s26", "s27", "s28", "s29", "s30", "s31", "cc", "memory");
        /* clang-format on */
        done = count - (left + 4);
    }
#endif
    for (int32_t i = done; i < count; ++i) {
        *sum = mmcc_scale8(x[i], mmcc_load8(&w[8 * i]), *sum);
    }
}

/* The same where the eight weights of a value lie `step` floats behind those of the value before. */
MMCC_INLINE void mmcc_products8_apart(const float *w, int32_t step, const float *x, int32_t count, mmcc_float8 *sum)
{
    int32_t done = 0;
#if defined(__thumb2__) && defined(__ARM_FEATURE_FMA) && !defined(MMCC_SET4)
    if (count >= 4) {
        const float *weights = w;
        const float *values = x;
        int32_t left = count - 4;
        /* clang-format off */
        __asm__("1: vldmia %[x]!, {s8-s11}\n"
                " vldmia %[w], {s16-s23}\n add %[w], %[bytes]\n vldmia %[w], {s24-s31}\n add %[w], %[bytes]\n"
                " vfma.f32 %0, s16, s8\n vfma.f32 %1, s17, s8\n vfma.f32 %2, s18, s8\n vfma.f32 %3, s19, s8\n"
                " vfma.f32 %4, s20, s8\n vfma.f32 %5, s21, s8\n vfma.f32 %6, s22, s8\n vfma.f32 %7, s23, s8\n"
                " vfma.f32 %0, s24, s9\n vfma.f32 %1, s25, s9\n vfma.f32 %2, s26, s9\n vfma.f32 %3, s27, s9\n"
                " vfma.f32 %4, s28, s9\n vfma.f32 %5, s29, s9\n vfma.f32 %6, s30, s9\n vfma.f32 %7, s31, s9\n"
                " vldmia %[w], {s16-s23}\n add %[w], %[bytes]\n vldmia %[w], {s24-s31}\n add %[w], %[bytes]\n"
                " subs %[left], #4\n"
                " vfma.f32 %0, s16, s10\n vfma.f32 %1, s17, s10\n vfma.f32 %2, s18, s10\n vfma.f32 %3, s19, s10\n"
                " vfma.f32 %4, s20, s10\n vfma.f32 %5, s21, s10\n vfma.f32 %6, s22, s10\n vfma.f32 %7, s23, s10\n"
                " vfma.f32 %0, s24, s11\n vfma.f32 %1, s25, s11\n vfma.f32 %2, s26, s11\n vfma.f32 %3, s27, s11\n"
                " vfma.f32 %4, s28, s11\n vfma.f32 %5, s29, s11\n vfma.f32 %6, s30, s11\n vfma.f32 %7, s31, s11\n"
                " bpl 1b\n"
                : "+t"(sum->v0), "+t"(sum->v1), "+t"(sum->v2), "+t"(sum->v3), "+t"(sum->v4), "+t"(sum->v5),
                  "+t"(sum->v6), "+t"(sum->v7), [w] "+&r"(weights), [x] "+&r"(values), [left] "+&r"(left)
                : [bytes] "r"(4 * step)
                : "s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25",
                  "s26", "s27", "s28", "s29", "s30", "s31", "cc", "memory");
        /* clang-format on */
        done = count - (left + 4);
    }
#endif
    for (int32_t i = done; i < count; ++i) {
        *sum = mmcc_scale8(x[i], mmcc_load8(&w[step * i]), *sum);
    }
}

/* Twice eight sums, of these alone; of each value eight weights of the ones lie before eight of the others. */
MMCC_INLINE void mmcc_products16(const float *w, const float *x, int32_t count, float *sums)
{
    int32_t done = 0;
    mmcc_float8 one = mmcc_set8(0.0f);
    mmcc_float8 other = one;
#if defined(__thumb2__) && defined(__ARM_FEATURE_FMA) && !defined(MMCC_SET4)
    if (count >= 4) {
        const float *weights = w;
        const float *values = x;
        int32_t left = count - 4;
        /* clang-format off */
        __asm__ volatile("vmov d0, %[zero], %[zero]\n vmov d1, %[zero], %[zero]\n vmov d2, %[zero], %[zero]\n"
                " vmov d3, %[zero], %[zero]\n vmov d4, %[zero], %[zero]\n vmov d5, %[zero], %[zero]\n"
                " vmov d6, %[zero], %[zero]\n vmov d7, %[zero], %[zero]\n"
                "1: vldmia %[x]!, {s24-s27}\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s0, s16, s24\n vfma.f32 s1, s17, s24\n vfma.f32 s2, s18, s24\n vfma.f32 s3, s19, s24\n"
                " vfma.f32 s4, s20, s24\n vfma.f32 s5, s21, s24\n vfma.f32 s6, s22, s24\n vfma.f32 s7, s23, s24\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s8, s16, s24\n vfma.f32 s9, s17, s24\n vfma.f32 s10, s18, s24\n vfma.f32 s11, s19, s24\n"
                " vfma.f32 s12, s20, s24\n vfma.f32 s13, s21, s24\n vfma.f32 s14, s22, s24\n vfma.f32 s15, s23, s24\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s0, s16, s25\n vfma.f32 s1, s17, s25\n vfma.f32 s2, s18, s25\n vfma.f32 s3, s19, s25\n"
                " vfma.f32 s4, s20, s25\n vfma.f32 s5, s21, s25\n vfma.f32 s6, s22, s25\n vfma.f32 s7, s23, s25\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s8, s16, s25\n vfma.f32 s9, s17, s25\n vfma.f32 s10, s18, s25\n vfma.f32 s11, s19, s25\n"
                " vfma.f32 s12, s20, s25\n vfma.f32 s13, s21, s25\n vfma.f32 s14, s22, s25\n vfma.f32 s15, s23, s25\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s0, s16, s26\n vfma.f32 s1, s17, s26\n vfma.f32 s2, s18, s26\n vfma.f32 s3, s19, s26\n"
                " vfma.f32 s4, s20, s26\n vfma.f32 s5, s21, s26\n vfma.f32 s6, s22, s26\n vfma.f32 s7, s23, s26\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s8, s16, s26\n vfma.f32 s9, s17, s26\n vfma.f32 s10, s18, s26\n vfma.f32 s11, s19, s26\n"
                " vfma.f32 s12, s20, s26\n vfma.f32 s13, s21, s26\n vfma.f32 s14, s22, s26\n vfma.f32 s15, s23, s26\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s0, s16, s27\n vfma.f32 s1, s17, s27\n vfma.f32 s2, s18, s27\n vfma.f32 s3, s19, s27\n"
                " vfma.f32 s4, s20, s27\n vfma.f32 s5, s21, s27\n vfma.f32 s6, s22, s27\n vfma.f32 s7, s23, s27\n"
                " vldmia %[w]!, {s16-s23}\n"
                " vfma.f32 s8, s16, s27\n vfma.f32 s9, s17, s27\n vfma.f32 s10, s18, s27\n vfma.f32 s11, s19, s27\n"
                " vfma.f32 s12, s20, s27\n vfma.f32 s13, s21, s27\n vfma.f32 s14, s22, s27\n vfma.f32 s15, s23, s27\n"
                " subs %[left], #4\n bpl 1b\n vstmia %[sums], {s0-s15}\n"
                : [w] "+&r"(weights), [x] "+&r"(values), [left] "+&r"(left)
                : [sums] "r"(sums), [zero] "r"(0)
                : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15",
                  "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "cc", "memory");
        /* clang-format on */
        done = count - (left + 4);
        if (done == count) {
            return;
        }
        one = mmcc_load8(sums);
        other = mmcc_load8(&sums[8]);
    }
#endif
    for (int32_t i = done; i < count; ++i) {
        one = mmcc_scale8(x[i], mmcc_load8(&w[16 * i]), one);
        other = mmcc_scale8(x[i], mmcc_load8(&w[(16 * i) + 8]), other);
    }
    mmcc_store8(sums, one);
    mmcc_store8(&sums[8], other);
}

#endif
