/* The one definition of requantization: (acc * multiplier + 2^(shift-1)) >> shift in 64 bits, one rounding.
 * compiler/mmcc/ops/requantize.py is its twin in numpy. Right shifts of negative numbers are arithmetic on
 * every compiler mmcc supports; MMCC_ASSERT_ARITHMETIC_SHIFT refuses any other at compile time. */
#ifndef MMCC_REQUANTIZE_H
#define MMCC_REQUANTIZE_H

#include <stdint.h>

typedef char mmcc_assert_arithmetic_shift[((int64_t)-1 >> 1) == -1 ? 1 : -1];

static inline int32_t mmcc_requantize(int32_t acc, int32_t multiplier, int32_t shift)
{
    return (int32_t)(((int64_t)acc * multiplier + ((int64_t)1 << (shift - 1))) >> shift);
}

/* The same for shift = 32 + right with right >= 1: adding 2^(shift-1) then leaves the low word alone, so the
 * high word of the product is all that counts. Three instructions where there is a 32x32->64 multiply. */
static inline int32_t mmcc_requantize_high(int32_t acc, int32_t multiplier, int32_t right)
{
    const int32_t high = (int32_t)(((int64_t)acc * multiplier) >> 32);
    return (high + ((int32_t)1 << (right - 1))) >> right;
}

static inline int32_t mmcc_clamp(int32_t value, int32_t low, int32_t high)
{
    value = value < low ? low : value;
    return value > high ? high : value;
}

#endif
