/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: functions of gates in integers, the same on every core. compiler/mmcc/ops/recurrent_int8.py has them in numpy.
 * Sums of gates have 16 bits of fraction, gates 15, c has 20. */
#ifndef MMCC_RECURRENT_H
#define MMCC_RECURRENT_H

#include "mmcc_requantize.h"
#include "mmcc_runtime.h"

#include <stdint.h>

/* The sum of a gate: what x and h add, each times its scale, and the bias, which makes up for rounding down. */
MMCC_INLINE int32_t mmcc_gate_sum(int32_t over_x, int32_t over_h, const int32_t *numbers)
{
    return (int32_t)(((int64_t)over_x * numbers[0] + (int64_t)over_h * numbers[1]) >> 32) + numbers[2];
}

/* result = value, kept within `bits` bits, from 0 or with a sign; bits are a number in digits. */
#ifdef __ARM_FEATURE_SAT
#define MMCC_GATE_PLACE(result, value, bits) __asm__("usat %0, #" #bits ", %1" : "=r"(result) : "r"(value))
#define MMCC_GATE_SIGNED(result, value, bits) __asm__("ssat %0, #" #bits ", %1" : "=r"(result) : "r"(value))
#else
#define MMCC_GATE_PLACE(result, value, bits) ((result) = mmcc_clamp((value), 0, (int32_t)((1u << (bits)) - 1u)))
#define MMCC_GATE_SIGNED(result, value, bits)                                                                  \
    ((result) = mmcc_clamp((value), -(int32_t)(1u << ((bits)-1)), (int32_t)((1u << ((bits)-1)) - 1u)))
#endif

/* 1 / (1 + e^-x) by a table of 1,024 lines from -16 to 16, of which `bits` of the place are on one. */
MMCC_INLINE int32_t mmcc_gate_line(const uint16_t *table, int32_t place, int32_t bits)
{
    const uint16_t *at = table + (place >> bits);
    const int32_t part = place & (((int32_t)1 << bits) - 1);
    return ((int32_t)at[0] << bits) + ((int32_t)at[1] - at[0]) * part;
}

MMCC_INLINE int32_t mmcc_gate_sigmoid(const uint16_t *table, int32_t value)
{
    int32_t place;
    MMCC_GATE_PLACE(place, value + (1 << 20), 21);
    return (mmcc_gate_line(table, place, 11) + 2048) >> 12;
}

MMCC_INLINE int32_t mmcc_gate_tanh(const uint16_t *table, int32_t value)
{
    int32_t place;
    MMCC_GATE_PLACE(place, value + (1 << 19), 20);
    return mmcc_shift_right(mmcc_gate_line(table, place, 10) - (1 << 25) + 512, 10);
}

/* Two gates, or a gate and h, of 15 bits each: rounded to 15 bits. */
MMCC_INLINE int32_t mmcc_gate_times(int32_t a, int32_t b)
{
    return mmcc_shift_right(a * b + 16384, 15);
}

/* h of 30 bits, rounded to 15. */
MMCC_INLINE int16_t mmcc_gate_h(int32_t exact)
{
    int32_t value;
    MMCC_GATE_SIGNED(value, mmcc_shift_right(exact + 16384, 15), 16);
    return (int16_t)value;
}

/* forget * c + fresh, where fresh has 30 bits; kept within 1,024. */
MMCC_INLINE int32_t mmcc_gate_cell(int32_t forget, int32_t c, int32_t fresh)
{
    int32_t after;
    MMCC_GATE_SIGNED(after, (int32_t)(((int64_t)forget * c + (int64_t)fresh * 32 + 16384) >> 15), 31);
    return after;
}

#endif
