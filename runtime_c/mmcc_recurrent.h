/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: functions of gates in integers, the same on every core. compiler/mmcc/ops/recurrent_int8.py has them in numpy.
 * Sums of gates have 16 bits of fraction, gates 15, c has 20. */
#ifndef MMCC_RECURRENT_H
#define MMCC_RECURRENT_H

#include "mmcc_requantize.h"
#include "mmcc_runtime.h"

#include <stdint.h>

/* The sum of a gate: what x and h add, each times its scale, rounded; and the bias. */
MMCC_INLINE int32_t mmcc_gate_sum(int32_t over_x, int32_t over_h, const int32_t *numbers)
{
    const int64_t half = (int64_t)1 << 31;
    return (int32_t)(((int64_t)over_x * numbers[0] + (int64_t)over_h * numbers[1] + half) >> 32) + numbers[2];
}

/* The same for one of the two. */
MMCC_INLINE int32_t mmcc_gate_part(int32_t sum, int32_t scale, int32_t bias)
{
    return (int32_t)(((int64_t)sum * scale + ((int64_t)1 << 31)) >> 32) + bias;
}

/* tanh by a table of 512 lines, `bits` of the size being places on a line. */
MMCC_INLINE int32_t mmcc_gate_line(const uint16_t *table, int32_t size, int32_t bits)
{
    const int32_t most = ((int32_t)512 << bits) - 1, near = size < most ? size : most;
    const uint16_t *at = table + (near >> bits);
    const int32_t part = near & (((int32_t)1 << bits) - 1);
    return ((int32_t)at[0] << bits) + ((int32_t)at[1] - at[0]) * part;
}

MMCC_INLINE int32_t mmcc_gate_tanh(const uint16_t *table, int32_t value)
{
    const int32_t found = (mmcc_gate_line(table, value < 0 ? -value : value, 10) + 1024) >> 11;
    return value < 0 ? -found : found;
}

MMCC_INLINE int32_t mmcc_gate_sigmoid(const uint16_t *table, int32_t value)
{
    const int32_t found = mmcc_gate_line(table, value < 0 ? -value : value, 11);
    return ((int32_t)(1 << 27) + (value < 0 ? -found : found) + 4096) >> 13;
}

/* Two gates, or a gate and h, of 15 bits each: rounded to 15 bits. */
MMCC_INLINE int32_t mmcc_gate_times(int32_t a, int32_t b)
{
    return mmcc_shift_right(a * b + 16384, 15);
}

/* h of 30 bits, rounded to 15. */
MMCC_INLINE int16_t mmcc_gate_h(int32_t exact)
{
    const int32_t value = mmcc_shift_right(exact + 16384, 15);
    return (int16_t)(value < 32767 ? value : 32767);
}

/* forget * c + fresh, where fresh has 30 bits; kept within 1,024. */
MMCC_INLINE int32_t mmcc_gate_cell(int32_t forget, int32_t c, int32_t fresh)
{
    const int64_t after = ((int64_t)forget * c + (int64_t)fresh * 32 + 16384) >> 15;
    const int64_t most = (int64_t)1 << 30;
    return (int32_t)(after < -most ? -most : (after > most ? most : after));
}

#endif
