/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: floats of 16 bits and fewer, which C99 does not have. Memory holds their codes; arithmetic is in float.
 * compiler/mmcc/ir/element_type.py says what the parameters are. */
#ifndef MMCC_NARROW_H
#define MMCC_NARROW_H

#include "mmcc_runtime.h"

#include <stdint.h>
#include <string.h>

/* A sign, `fraction` bits, an exponent of this bias: the code nearest to x, ties to even. `most` is that of the
 * largest value, `over` that of what is larger, `nan` that of what is not a number; the sign is bit `sign`. With
 * `one_zero` there is no negative zero. */
MMCC_INLINE uint32_t mmcc_to_narrow(float x, int32_t fraction, int32_t bias, int32_t sign, uint32_t most,
                                    uint32_t over, uint32_t nan, uint32_t one_zero)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t negative = bits >> 31 << sign;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {
        return nan | negative;
    }
    int32_t exponent = (int32_t)(magnitude >> 23);
    uint32_t significand = magnitude & 0x7FFFFFu;
    if (exponent != 0) {
        significand |= 0x800000u;
    } else {
        exponent = 1;
    }
    exponent += bias - 127; /* below 1: a subnormal number of the narrow type */
    int32_t shift = 23 - fraction + (exponent < 1 ? 1 - exponent : 0);
    shift = shift < 25 ? shift : 25;
    const uint32_t rest = significand & ((1u << shift) - 1u);
    const uint32_t half = 1u << (shift - 1);
    uint32_t code = significand >> shift;
    code += rest > half || (rest == half && (code & 1u) != 0) ? 1u : 0u;
    if (exponent > 1) {
        code += (uint32_t)(exponent - 1) << fraction;
    }
    if (code == 0 && one_zero != 0) {
        return 0;
    }
    return (code > most ? over : code) | negative;
}

/* The value of a code, whose sign is not looked at: float has each of them. `infinite` is the code of infinity,
 * and those above it are not numbers; without infinity it is the last one that is a number. */
MMCC_INLINE float mmcc_of_magnitude(uint32_t magnitude, int32_t fraction, int32_t bias, uint32_t infinite,
                                    uint32_t has_infinity)
{
    uint32_t bits = 0x7FC00000u;
    if (magnitude < infinite || (magnitude == infinite && has_infinity == 0)) {
        if (magnitude >> fraction != 0 || bias == 127) {
            bits = (magnitude << (23 - fraction)) + ((uint32_t)(127 - bias) << 23);
        } else { /* a whole number of the smallest steps, 2^(1 - bias - fraction) */
            uint32_t step_bits = (uint32_t)(128 - bias - fraction) << 23;
            float step;
            memcpy(&step, &step_bits, sizeof step);
            return (float)magnitude * step;
        }
    } else if (magnitude == infinite) {
        bits = 0x7F800000u;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The value of a code. With `one_zero` that of a negative zero is the only one that is not a number. */
MMCC_INLINE float mmcc_of_narrow(uint32_t code, int32_t fraction, int32_t bias, int32_t sign, uint32_t infinite,
                                 uint32_t has_infinity, uint32_t one_zero)
{
    const uint32_t negative = 1u << sign;
    if (one_zero != 0 && code == negative) {
        return mmcc_of_magnitude(0xFFFFu, fraction, bias, infinite, has_infinity);
    }
    const float magnitude = mmcc_of_magnitude(code & (negative - 1u), fraction, bias, infinite, has_infinity);
    return (code & negative) != 0 ? -magnitude : magnitude;
}

MMCC_INLINE float mmcc_of_half(uint16_t code)
{
    return mmcc_of_narrow(code, 10, 15, 15, 0x7C00u, 1u, 0u);
}

MMCC_INLINE uint16_t mmcc_to_half(float x)
{
    return (uint16_t)mmcc_to_narrow(x, 10, 15, 15, 0x7BFFu, 0x7C00u, 0x7E00u, 0u);
}

#endif
