/* SPDX-License-Identifier: Apache-2.0 */
/* The one definition of requantization: (acc * multiplier + 2^(shift-1)) >> shift in 64 bits, one rounding.
 * compiler/mmcc/ops/requantize.py is its twin in numpy. Right shifts of negative numbers are arithmetic on
 * every compiler mmcc supports; the declaration below refuses any other at compile time. */
#ifndef MMCC_REQUANTIZE_H
#define MMCC_REQUANTIZE_H

#include "mmcc_runtime.h"

#include <stdint.h>

typedef char mmcc_assert_arithmetic_shift[((int64_t)-1 >> 1) == -1 ? 1 : -1];

/* value / 2^bits, rounded down. */
MMCC_INLINE int32_t mmcc_shift_right(int32_t value, int32_t bits)
{
    return value >> bits;
}

MMCC_INLINE int32_t mmcc_clamp(int32_t value, int32_t low, int32_t high)
{
    value = value < low ? low : value;
    return value > high ? high : value;
}

/* For any shift of 1 to 62. Results beyond 2^30, which every caller clamps to 8 bits, stop there. */
MMCC_INLINE int32_t mmcc_requantize(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int64_t limit = (int64_t)1 << 30;
    const int64_t scaled = ((int64_t)acc * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
    return (int32_t)(scaled < -limit ? -limit : (scaled > limit ? limit : scaled));
}

/* Armv6-M multiplies 32x32->32 only: a 64-bit product there is a call of the library. */
#if defined(__ARM_ARCH) && __ARM_ARCH == 6 && !defined(MMCC_SHORT_MULTIPLY)
#define MMCC_SHORT_MULTIPLY 1
#endif

/* The high word of acc * multiplier. */
MMCC_INLINE int32_t mmcc_product_high(int32_t acc, int32_t multiplier)
{
#ifdef MMCC_SHORT_MULTIPLY
    const int32_t acc_high = acc >> 16, multiplier_high = multiplier >> 16;
    const uint32_t acc_low = (uint32_t)acc & 0xFFFFu, multiplier_low = (uint32_t)multiplier & 0xFFFFu;
    const int32_t first = acc_high * (int32_t)multiplier_low + (int32_t)(acc_low * multiplier_low >> 16);
    const int32_t second = (int32_t)acc_low * multiplier_high + (first & 0xFFFF);
    return acc_high * multiplier_high + (first >> 16) + (second >> 16);
#else
    return (int32_t)(((int64_t)acc * multiplier) >> 32);
#endif
}

/* Requantization plus a zero point for shift = 33 + right, with twice = 2 * zero + 1. Rounding then leaves the low word
 * of the product alone, so that its high word is all that counts; and half up is the floor of half of (the floor
 * in units of one half, plus one). Four instructions where there is a 32x32->64 multiply. */
MMCC_INLINE int32_t mmcc_requantize_high(int32_t acc, int32_t multiplier, int32_t right, int32_t twice)
{
    return ((mmcc_product_high(acc, multiplier) >> right) + twice) >> 1;
}

/* The same of sums of up to 62 bits, halves up, for shift = 33 + right: their products have more than 64 bits, of which
 * rounding leaves the low word alone. */
MMCC_INLINE int64_t mmcc_requantize_wide(int64_t acc, int32_t multiplier, int32_t right)
{
    const int64_t low = (int64_t)(((uint64_t)(uint32_t)acc * (uint32_t)multiplier) >> 32);
    return (((int64_t)(int32_t)(acc >> 32) * multiplier + low + ((int64_t)1 << right)) >> right) >> 1;
}

/* value, if it lies between the bounds, or the nearest one. */
MMCC_INLINE int32_t mmcc_clamp_wide(int64_t value, int32_t low, int32_t high)
{
    return (value < low) ? low : ((value > high) ? high : (int32_t)value);
}

/* The int8 nearest to value - 128. Limits of 0 and 255 become one instruction (USAT) where those of int8 do not,
 * which is why kernels carry values 128 too high. */
MMCC_INLINE int8_t mmcc_narrow(int32_t value)
{
    return (int8_t)(mmcc_clamp(value, 0, 255) - 128);
}

#endif
