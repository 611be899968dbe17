/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: float arithmetic for kernels. A product and a sum are fused exactly where the target does that in one
 * instruction, never as the compiler likes, so that an output has the same bits whichever path computes it. */
#ifndef MMCC_MATH_H
#define MMCC_MATH_H

#include "mmcc_runtime.h"

/* The order of sums, infinities (what attention masks with) and the sign of zeros are part of what was verified. */
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(_M_FP_FAST) \
    || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ != 0)
#error "mmcc: floats must be computed as they were verified: put -fno-fast-math behind the flags of this file"
#endif

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX__) && defined(__FMA__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
#include <arm_neon.h>
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#include <arm_mve.h>
#elif defined(__SSE2__) && !defined(__FMA__)
#include <emmintrin.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__riscv_flen) || defined(FP_FAST_FMAF)
MMCC_INLINE float mmcc_fma(float a, float b, float c)
{
    return fmaf(a, b, c);
}
#else
MMCC_INLINE float mmcc_fma(float a, float b, float c)
{
    return a * b + c;
}
#endif

/* The nearest whole number, ties to the even one. A Cortex-M4 has no instruction for it: 2^23 added to what is smaller
 * leaves no bits behind the point. A zero keeps its sign, and NaN stays. gcc has no name for cores that do have such an
 * instruction: they are Armv8, and of Armv7E-M those with doubles, as a Cortex-M7. */
MMCC_INLINE float mmcc_rintf(float value)
{
#if defined(__ARM_FP) && __ARM_ARCH < 8 && !(defined(__ARM_ARCH_7EM__) && (__ARM_FP & 8))
    const float size = fabsf(value);
    return (size < 8388608.0f) ? copysignf((size + 8388608.0f) - 8388608.0f, value) : value;
#else
    return rintf(value);
#endif
}

/* min(max(value, low), high); NaN stays. */
MMCC_INLINE float mmcc_clampf(float value, float low, float high)
{
    value = low > value ? low : value;
    return high < value ? high : value;
}

MMCC_INLINE float mmcc_leakyf(float value, float slope)
{
    return value >= 0.0f ? value : value * slope;
}

/* The high word of a * b. */
MMCC_INLINE uint32_t mmcc_high(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

/* 2^f - 1 of a fraction f, both with 32 bits: f * p(f), with the polynomial of the fifth degree whose largest relative
 * error is least on [0, 1). */
MMCC_INLINE uint32_t mmcc_exp_fraction(uint32_t f)
{
    uint32_t p = 0x27A1724u + mmcc_high(0x51B593u + mmcc_high(0xE2A0Cu, f), f);
    p = 0x3D7FAAF3u + mmcc_high(0xE34488Au + mmcc_high(p, f), f);
    return mmcc_high(0xB17215AFu + mmcc_high(p, f), f);
}

/* e^value in integers, from bits of a float to bits of a float: the same on every core and with every C library, and
 * quick where there is no unit for floats. Less than 0.75 units in the last place from the exact value, also where that
 * is denormal. It is 2^(value / ln 2), with 32 bits of fraction. Rounding up carries into the exponent. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static uint32_t mmcc_exp_bits(uint32_t value)
{
    const uint32_t infinity = 0x7F800000u;
    const bool negative = (value >> 31) != 0u;
    const uint32_t exponent = (value >> 23) & 0xFFu;
    const uint32_t mantissa = (value << 8) | 0x80000000u;
    if (exponent < 96u) {
        return 0x3F800000u; /* |value| < 2^-31: 1 */
    }
    if (exponent > 133u) { /* 2^7 <= |value|, or no number */
        return (value << 1) > (infinity << 1) ? value : (negative ? 0u : infinity);
    }
    const uint64_t product = (uint64_t)mantissa * 3098164009u; /* 2^31 / ln 2 */
    const uint32_t shift = 157u - exponent;
    const uint64_t middle = 0x10000000000u; /* 256 * 2^32 */
    const uint64_t size = product >> shift; /* less than 185 * 2^32 */
    uint64_t power = middle + size;
    if (negative) {
        power = middle - size;
    }
    const uint32_t whole = (uint32_t)(power >> 32);
    const uint32_t p = mmcc_exp_fraction((uint32_t)power);
    if (whole > 383u) {
        return infinity;
    }
    if (whole > 129u) {
        return ((whole - 129u) << 23) + (p >> 9) + ((p >> 8) & 1u);
    }
    uint32_t down = 33u; /* denormal: the leading 1 is written out */
    if (whole > 105u) {
        down = 138u - whole;
    }
    const uint64_t all = 0x100000000u | p;
    const uint64_t twice = (all >> down) + 1u;
    return (uint32_t)(twice >> 1);
}

/* The bits of a float. */
MMCC_INLINE uint32_t mmcc_float_bits(float value)
{
    uint32_t bits;
    void *to = &bits;
    const void *from = &value;
    (void)memcpy(to, from, sizeof bits);
    return bits;
}

/* Whether two floats are equal; by their bits where there is no unit for floats, since comparing them is a call there:
 * then NaN is equal to itself, and zeros of two signs are not equal. */
MMCC_INLINE bool mmcc_alike(float a, float b)
{
#if (defined(__arm__) && !defined(__ARM_FP)) || (defined(__riscv) && !defined(__riscv_flen))
    return mmcc_float_bits(a) == mmcc_float_bits(b);
#else
    return a == b;
#endif
}

MMCC_INLINE float mmcc_expf(float value)
{
    const uint32_t bits = mmcc_exp_bits(mmcc_float_bits(value));
    float power;
    void *to = &power;
    const void *from = &bits;
    (void)memcpy(to, from, sizeof power);
    return power;
}

/* mmcc_expf, bit for bit, of a value that is not above 0 (or NaN): quicker where most are between -64 and -0.25, as
 * distances to a maximum are. There no result overflows or is denormal, and a shift of the mantissa loses no bits. */
MMCC_INLINE float mmcc_expf_below(float value)
{
    uint32_t bits = mmcc_float_bits(value);
    const uint32_t exponent = (bits >> 23) & 0xFFu;
    if (exponent - 125u > 7u) {
        bits = mmcc_exp_bits(bits);
    } else {
        const uint32_t mantissa = ((bits << 8) | 0x80000000u) >> (133u - exponent);
        const uint64_t down = ((uint64_t)mantissa * 3098164009u) >> 24;
        const uint64_t up = 0x7F00000000u - down; /* with a float's bias of 127 */
        const uint32_t p = mmcc_exp_fraction((uint32_t)up);
        bits = ((uint32_t)(up >> 32) << 23) + (p >> 9) + ((p >> 8) & 1u);
    }
    float power;
    void *to = &power;
    const void *from = &bits;
    (void)memcpy(to, from, sizeof power);
    return power;
}

MMCC_CODE_ATTRIBUTE __attribute__((unused)) static float mmcc_sigmoidf(float value)
{
    const float e = mmcc_expf_below(-fabsf(value));
    return (value >= 0.0f ? 1.0f : e) / (1.0f + e);
}

MMCC_CODE_ATTRIBUTE __attribute__((unused)) static float mmcc_softplusf(float value)
{
    return (value > 0.0f ? value : 0.0f) + log1pf(mmcc_expf_below(-fabsf(value)));
}

/* The remainder with the divisor's sign. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static float mmcc_modf(float a, float b)
{
    const float rest = fmodf(a, b);
    return rest != 0.0f && (rest < 0.0f) != (b < 0.0f) ? rest + b : rest;
}

/* Eight floats in vector registers where there are any. MMCC_PIXELS is how many such accumulators keep the
 * target's registers busy. */
#if defined(__AVX__) && defined(__FMA__)

#define MMCC_PIXELS 8
typedef __m256 mmcc_float8;

MMCC_INLINE mmcc_float8 mmcc_set8(float value)
{
    return _mm256_set1_ps(value);
}

MMCC_INLINE mmcc_float8 mmcc_load8(const float *from)
{
    return _mm256_loadu_ps(from);
}

MMCC_INLINE void mmcc_store8(float *to, mmcc_float8 a)
{
    _mm256_storeu_ps(to, a);
}

MMCC_INLINE mmcc_float8 mmcc_add8(mmcc_float8 a, mmcc_float8 b)
{
    return _mm256_add_ps(a, b);
}

MMCC_INLINE mmcc_float8 mmcc_sub8(mmcc_float8 a, mmcc_float8 b)
{
    return _mm256_sub_ps(a, b);
}

MMCC_INLINE mmcc_float8 mmcc_fma8(mmcc_float8 a, mmcc_float8 b, mmcc_float8 c)
{
    return _mm256_fmadd_ps(a, b, c);
}

MMCC_INLINE mmcc_float8 mmcc_scale8(float a, mmcc_float8 b, mmcc_float8 c)
{
    return _mm256_fmadd_ps(_mm256_set1_ps(a), b, c);
}

MMCC_INLINE mmcc_float8 mmcc_at_least8(mmcc_float8 a, float low)
{
    return _mm256_max_ps(_mm256_set1_ps(low), a);
}

MMCC_INLINE mmcc_float8 mmcc_at_most8(mmcc_float8 a, float high)
{
    return _mm256_min_ps(_mm256_set1_ps(high), a);
}

MMCC_INLINE mmcc_float8 mmcc_clamp8(mmcc_float8 a, float low, float high)
{
    return mmcc_at_most8(mmcc_at_least8(a, low), high);
}

MMCC_INLINE mmcc_float8 mmcc_leaky8(mmcc_float8 a, float slope)
{
    const mmcc_float8 scaled = _mm256_mul_ps(a, _mm256_set1_ps(slope));
    return _mm256_blendv_ps(scaled, a, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GE_OQ));
}

#elif defined(__riscv_vector) && defined(__clang__)

#define MMCC_PIXELS 8
typedef float mmcc_float8 __attribute__((vector_size(32)));
typedef int32_t mmcc_mask8 __attribute__((vector_size(32)));

MMCC_INLINE mmcc_float8 mmcc_set8(float value)
{
    const mmcc_float8 all = {value, value, value, value, value, value, value, value};
    return all;
}

MMCC_INLINE mmcc_float8 mmcc_load8(const float *from)
{
    mmcc_float8 all;
    __builtin_memcpy(&all, from, sizeof all);
    return all;
}

MMCC_INLINE void mmcc_store8(float *to, mmcc_float8 a)
{
    __builtin_memcpy(to, &a, sizeof a);
}

MMCC_INLINE mmcc_float8 mmcc_add8(mmcc_float8 a, mmcc_float8 b)
{
    return a + b;
}

MMCC_INLINE mmcc_float8 mmcc_sub8(mmcc_float8 a, mmcc_float8 b)
{
    return a - b;
}

MMCC_INLINE mmcc_float8 mmcc_fma8(mmcc_float8 a, mmcc_float8 b, mmcc_float8 c)
{
    return __builtin_elementwise_fma(a, b, c);
}

MMCC_INLINE mmcc_float8 mmcc_scale8(float a, mmcc_float8 b, mmcc_float8 c)
{
    return __builtin_elementwise_fma(mmcc_set8(a), b, c);
}

/* Where the mask has all bits a, else b. */
MMCC_INLINE mmcc_float8 mmcc_either8(mmcc_mask8 mask, mmcc_float8 a, mmcc_float8 b)
{
    return (mmcc_float8)((mask & (mmcc_mask8)a) | (~mask & (mmcc_mask8)b));
}

MMCC_INLINE mmcc_float8 mmcc_at_least8(mmcc_float8 a, float low)
{
    const mmcc_float8 least = mmcc_set8(low);
    return mmcc_either8(least > a, least, a);
}

MMCC_INLINE mmcc_float8 mmcc_at_most8(mmcc_float8 a, float high)
{
    const mmcc_float8 most = mmcc_set8(high);
    return mmcc_either8(most < a, most, a);
}

MMCC_INLINE mmcc_float8 mmcc_clamp8(mmcc_float8 a, float low, float high)
{
    return mmcc_at_most8(mmcc_at_least8(a, low), high);
}

MMCC_INLINE mmcc_float8 mmcc_leaky8(mmcc_float8 a, float slope)
{
    return mmcc_either8(a >= mmcc_set8(0.0f), a, a * mmcc_set8(slope));
}

#else

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)

#define MMCC_PIXELS 8
typedef float32x4_t mmcc_float4;
#define MMCC_SET4(value) vdupq_n_f32(value)
#define MMCC_LOAD4(from) vld1q_f32(from)
#define MMCC_STORE4(to, a) vst1q_f32(to, a)
#define MMCC_ADD4(a, b) vaddq_f32(a, b)
#define MMCC_FMA4(a, b, c) vfmaq_f32(c, a, b)
#define MMCC_SCALE4(a, b, c) vfmaq_n_f32(c, b, a)
#define MMCC_LOW4(a, low) vbslq_f32(vcgtq_f32(low, a), low, a)
#if defined(__aarch64__)
#define MMCC_HIGH4(a, high) vminq_f32(a, high) /* the same bits where high is not -0, and one instruction less */
#else
#define MMCC_HIGH4(a, high) vbslq_f32(vcltq_f32(high, a), high, a)
#endif
#define MMCC_LEAKY4(a, slope) vbslq_f32(vcgeq_f32(a, vdupq_n_f32(0.0f)), a, vmulq_f32(a, slope))

#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)

#define MMCC_PIXELS 2
typedef float32x4_t mmcc_float4;
#define MMCC_SET4(value) vdupq_n_f32(value)
#define MMCC_LOAD4(from) vld1q_f32(from)
#define MMCC_STORE4(to, a) vst1q_f32(to, a)
#define MMCC_ADD4(a, b) vaddq_f32(a, b)
#define MMCC_FMA4(a, b, c) vfmaq_f32(c, a, b)
#define MMCC_SCALE4(a, b, c) vfmaq_n_f32(c, b, a)
#define MMCC_LOW4(a, low) vpselq_f32(low, a, vcmpgtq_f32(low, a))
#define MMCC_HIGH4(a, high) vpselq_f32(high, a, vcmpltq_f32(high, a))
#define MMCC_LEAKY4(a, slope) vpselq_f32(a, vmulq_f32(a, slope), vcmpgeq_n_f32(a, 0.0f))

#elif defined(__SSE2__) && !defined(__FMA__)

#define MMCC_PIXELS 4
typedef __m128 mmcc_float4;
#define MMCC_SET4(value) _mm_set1_ps(value)
#define MMCC_LOAD4(from) _mm_loadu_ps(from)
#define MMCC_STORE4(to, a) _mm_storeu_ps(to, a)
#define MMCC_ADD4(a, b) _mm_add_ps(a, b)
#define MMCC_FMA4(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
#define MMCC_SCALE4(a, b, c) _mm_add_ps(_mm_mul_ps(_mm_set1_ps(a), b), c)
#define MMCC_LOW4(a, low) _mm_max_ps(low, a)
#define MMCC_HIGH4(a, high) _mm_min_ps(high, a)
#define MMCC_LEAKY4(a, slope) mmcc_leaky4(a, slope)

MMCC_INLINE mmcc_float4 mmcc_leaky4(mmcc_float4 a, mmcc_float4 slope)
{
    const mmcc_float4 keep = _mm_cmpge_ps(a, _mm_setzero_ps());
    return _mm_or_ps(_mm_and_ps(keep, a), _mm_andnot_ps(keep, _mm_mul_ps(a, slope)));
}

#elif defined(__wasm_simd128__)

#define MMCC_PIXELS 4
typedef v128_t mmcc_float4;
#define MMCC_SET4(value) wasm_f32x4_splat(value)
#define MMCC_LOAD4(from) wasm_v128_load(from)
#define MMCC_STORE4(to, a) wasm_v128_store(to, a)
#define MMCC_ADD4(a, b) wasm_f32x4_add(a, b)
#define MMCC_FMA4(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
#define MMCC_SCALE4(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_splat(a), b), c)
#define MMCC_LOW4(a, low) wasm_f32x4_pmax(a, low)
#define MMCC_HIGH4(a, high) wasm_f32x4_pmin(a, high)
#define MMCC_LEAKY4(a, slope) \
    wasm_v128_bitselect(a, wasm_f32x4_mul(a, slope), wasm_f32x4_ge(a, wasm_f32x4_const_splat(0.0f)))

#else

#define MMCC_PIXELS 2

#endif

#if defined(MMCC_SET4)

typedef struct {
    mmcc_float4 low, high;
} mmcc_float8;

MMCC_INLINE mmcc_float8 mmcc_set8(float value)
{
    const mmcc_float8 a = {MMCC_SET4(value), MMCC_SET4(value)};
    return a;
}

MMCC_INLINE mmcc_float8 mmcc_load8(const float *from)
{
    const mmcc_float8 a = {MMCC_LOAD4(from), MMCC_LOAD4(from + 4)};
    return a;
}

MMCC_INLINE void mmcc_store8(float *to, mmcc_float8 a)
{
    MMCC_STORE4(to, a.low);
    MMCC_STORE4(to + 4, a.high);
}

MMCC_INLINE mmcc_float8 mmcc_add8(mmcc_float8 a, mmcc_float8 b)
{
    const mmcc_float8 sum = {MMCC_ADD4(a.low, b.low), MMCC_ADD4(a.high, b.high)};
    return sum;
}

MMCC_INLINE mmcc_float8 mmcc_sub8(mmcc_float8 a, mmcc_float8 b)
{
    const mmcc_float4 minus = MMCC_SET4(-1.0f); /* the product is exact, so the sum is rounded like a difference */
    const mmcc_float8 less = {MMCC_FMA4(minus, b.low, a.low), MMCC_FMA4(minus, b.high, a.high)};
    return less;
}

MMCC_INLINE mmcc_float8 mmcc_fma8(mmcc_float8 a, mmcc_float8 b, mmcc_float8 c)
{
    c.low = MMCC_FMA4(a.low, b.low, c.low);
    c.high = MMCC_FMA4(a.high, b.high, c.high);
    return c;
}

MMCC_INLINE mmcc_float8 mmcc_scale8(float a, mmcc_float8 b, mmcc_float8 c)
{
    c.low = MMCC_SCALE4(a, b.low, c.low);
    c.high = MMCC_SCALE4(a, b.high, c.high);
    return c;
}

MMCC_INLINE mmcc_float8 mmcc_at_least8(mmcc_float8 a, float low)
{
    const mmcc_float4 least = MMCC_SET4(low);
    a.low = MMCC_LOW4(a.low, least);
    a.high = MMCC_LOW4(a.high, least);
    return a;
}

MMCC_INLINE mmcc_float8 mmcc_at_most8(mmcc_float8 a, float high)
{
    const mmcc_float4 most = MMCC_SET4(high);
    a.low = MMCC_HIGH4(a.low, most);
    a.high = MMCC_HIGH4(a.high, most);
    return a;
}

MMCC_INLINE mmcc_float8 mmcc_clamp8(mmcc_float8 a, float low, float high)
{
    return mmcc_at_most8(mmcc_at_least8(a, low), high);
}

MMCC_INLINE mmcc_float8 mmcc_leaky8(mmcc_float8 a, float slope)
{
    const mmcc_float4 slopes = MMCC_SET4(slope);
    a.low = MMCC_LEAKY4(a.low, slopes);
    a.high = MMCC_LEAKY4(a.high, slopes);
    return a;
}

#else

typedef struct {
    float v0, v1, v2, v3, v4, v5, v6, v7;
} mmcc_float8;

MMCC_INLINE mmcc_float8 mmcc_set8(float value)
{
    const mmcc_float8 a = {value, value, value, value, value, value, value, value};
    return a;
}

MMCC_INLINE mmcc_float8 mmcc_load8(const float *from)
{
    const mmcc_float8 a = {from[0], from[1], from[2], from[3], from[4], from[5], from[6], from[7]};
    return a;
}

MMCC_INLINE void mmcc_store8(float *to, mmcc_float8 a)
{
    to[0] = a.v0;
    to[1] = a.v1;
    to[2] = a.v2;
    to[3] = a.v3;
    to[4] = a.v4;
    to[5] = a.v5;
    to[6] = a.v6;
    to[7] = a.v7;
}

MMCC_INLINE mmcc_float8 mmcc_add8(mmcc_float8 a, mmcc_float8 b)
{
    const mmcc_float8 sum = {a.v0 + b.v0, a.v1 + b.v1, a.v2 + b.v2, a.v3 + b.v3,
                             a.v4 + b.v4, a.v5 + b.v5, a.v6 + b.v6, a.v7 + b.v7};
    return sum;
}

MMCC_INLINE mmcc_float8 mmcc_sub8(mmcc_float8 a, mmcc_float8 b)
{
    const mmcc_float8 less = {a.v0 - b.v0, a.v1 - b.v1, a.v2 - b.v2, a.v3 - b.v3,
                              a.v4 - b.v4, a.v5 - b.v5, a.v6 - b.v6, a.v7 - b.v7};
    return less;
}

MMCC_INLINE mmcc_float8 mmcc_fma8(mmcc_float8 a, mmcc_float8 b, mmcc_float8 c)
{
    c.v0 = mmcc_fma(a.v0, b.v0, c.v0);
    c.v1 = mmcc_fma(a.v1, b.v1, c.v1);
    c.v2 = mmcc_fma(a.v2, b.v2, c.v2);
    c.v3 = mmcc_fma(a.v3, b.v3, c.v3);
    c.v4 = mmcc_fma(a.v4, b.v4, c.v4);
    c.v5 = mmcc_fma(a.v5, b.v5, c.v5);
    c.v6 = mmcc_fma(a.v6, b.v6, c.v6);
    c.v7 = mmcc_fma(a.v7, b.v7, c.v7);
    return c;
}

MMCC_INLINE mmcc_float8 mmcc_scale8(float a, mmcc_float8 b, mmcc_float8 c)
{
    return mmcc_fma8(mmcc_set8(a), b, c);
}

MMCC_INLINE mmcc_float8 mmcc_clamp8(mmcc_float8 a, float low, float high)
{
    if (low <= -INFINITY && high >= INFINITY) {
        return a; /* most layers have no activation, and one by one this takes more than their bias */
    }
    a.v0 = mmcc_clampf(a.v0, low, high);
    a.v1 = mmcc_clampf(a.v1, low, high);
    a.v2 = mmcc_clampf(a.v2, low, high);
    a.v3 = mmcc_clampf(a.v3, low, high);
    a.v4 = mmcc_clampf(a.v4, low, high);
    a.v5 = mmcc_clampf(a.v5, low, high);
    a.v6 = mmcc_clampf(a.v6, low, high);
    a.v7 = mmcc_clampf(a.v7, low, high);
    return a;
}

MMCC_INLINE mmcc_float8 mmcc_at_least8(mmcc_float8 a, float low)
{
    return mmcc_clamp8(a, low, INFINITY);
}

MMCC_INLINE mmcc_float8 mmcc_at_most8(mmcc_float8 a, float high)
{
    return mmcc_clamp8(a, -INFINITY, high);
}

MMCC_INLINE mmcc_float8 mmcc_leaky8(mmcc_float8 a, float slope)
{
    a.v0 = mmcc_leakyf(a.v0, slope);
    a.v1 = mmcc_leakyf(a.v1, slope);
    a.v2 = mmcc_leakyf(a.v2, slope);
    a.v3 = mmcc_leakyf(a.v3, slope);
    a.v4 = mmcc_leakyf(a.v4, slope);
    a.v5 = mmcc_leakyf(a.v5, slope);
    a.v6 = mmcc_leakyf(a.v6, slope);
    a.v7 = mmcc_leakyf(a.v7, slope);
    return a;
}

#endif
#endif

/* Eight integers as floats. */
MMCC_INLINE mmcc_float8 mmcc_load8_int8(const int8_t *from)
{
#if defined(__AVX2__) && defined(__FMA__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from)));
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
    const int16x8_t wide = vmovl_s8(vld1_s8(from));
    const mmcc_float8 a = {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide)))};
    return a;
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
    const mmcc_float8 a = {vcvtq_f32_s32(vldrbq_s32(from)), vcvtq_f32_s32(vldrbq_s32(from + 4))};
    return a;
#else
    const float all[8] = {(float)from[0], (float)from[1], (float)from[2], (float)from[3],
                          (float)from[4], (float)from[5], (float)from[6], (float)from[7]};
    return mmcc_load8(all);
#endif
}

/* The first `count` of eight. */
MMCC_INLINE void mmcc_store_first(float *to, mmcc_float8 a, int32_t count)
{
    float all[8];
    mmcc_store8(all, a);
    for (int32_t k = 0; k < count; ++k) {
        to[k] = all[k];
    }
}

#endif
