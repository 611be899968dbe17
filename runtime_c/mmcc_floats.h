/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sixteen floats side by side, for convolutions on large vectors. A run is some values of a pixel; one of
 * them at a time is multiplied by the weights of sixteen filters. */
#ifndef MMCC_FLOATS_H
#define MMCC_FLOATS_H

#include "mmcc_math.h"

#if defined(__AVX512F__) && defined(__FMA__)

#define MMCC_FLOAT_PIXELS 6 /* of a tile */
#define MMCC_FLOAT_WIDTH 4  /* of a tile: blocks of 16 filters whose sums registers hold at once, at most */
typedef __m512 mmcc_float16;

MMCC_INLINE mmcc_float16 mmcc_load16(const float *from)
{
    return _mm512_loadu_ps(from);
}

MMCC_INLINE void mmcc_store16(float *to, mmcc_float16 a)
{
    _mm512_storeu_ps(to, a);
}

MMCC_INLINE mmcc_float16 mmcc_fma16(mmcc_float16 a, mmcc_float16 b, mmcc_float16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

MMCC_INLINE mmcc_float16 mmcc_scale16(float a, mmcc_float16 b, mmcc_float16 c)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(a), b, c);
}

MMCC_INLINE mmcc_float16 mmcc_at_least16(mmcc_float16 a, float low)
{
    return _mm512_max_ps(_mm512_set1_ps(low), a);
}

MMCC_INLINE mmcc_float16 mmcc_at_most16(mmcc_float16 a, float high)
{
    return _mm512_min_ps(_mm512_set1_ps(high), a);
}

MMCC_INLINE mmcc_float16 mmcc_leaky16(mmcc_float16 a, float slope)
{
    const __mmask16 negative = _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NGE_UQ);
    return _mm512_mask_mul_ps(a, negative, a, _mm512_set1_ps(slope));
}

/* The first `count` of 16. */
MMCC_INLINE void mmcc_store_some16(float *to, mmcc_float16 a, int32_t count)
{
    _mm512_mask_storeu_ps(to, (__mmask16)(count >= 16 ? 0xffffU : (1U << count) - 1U), a);
}

#else

#define MMCC_FLOAT_WIDTH 1
typedef struct {
    mmcc_float8 low, high;
} mmcc_float16;

MMCC_INLINE mmcc_float16 mmcc_load16(const float *from)
{
#if defined(__aarch64__) && defined(__ARM_NEON) && defined(MMCC_SET4)
    const float32x4x4_t all = vld1q_f32_x4(from); /* one instruction */
    const mmcc_float16 a = {{all.val[0], all.val[1]}, {all.val[2], all.val[3]}};
#else
    const mmcc_float16 a = {mmcc_load8(from), mmcc_load8(from + 8)};
#endif
    return a;
}

MMCC_INLINE void mmcc_store16(float *to, mmcc_float16 a)
{
    mmcc_store8(to, a.low);
    mmcc_store8(to + 8, a.high);
}

MMCC_INLINE mmcc_float16 mmcc_fma16(mmcc_float16 a, mmcc_float16 b, mmcc_float16 c)
{
    const mmcc_float16 sum = {mmcc_fma8(a.low, b.low, c.low), mmcc_fma8(a.high, b.high, c.high)};
    return sum;
}

MMCC_INLINE mmcc_float16 mmcc_scale16(float a, mmcc_float16 b, mmcc_float16 c)
{
    const mmcc_float16 sum = {mmcc_scale8(a, b.low, c.low), mmcc_scale8(a, b.high, c.high)};
    return sum;
}

MMCC_INLINE mmcc_float16 mmcc_at_least16(mmcc_float16 a, float low)
{
    const mmcc_float16 limited = {mmcc_at_least8(a.low, low), mmcc_at_least8(a.high, low)};
    return limited;
}

MMCC_INLINE mmcc_float16 mmcc_at_most16(mmcc_float16 a, float high)
{
    const mmcc_float16 limited = {mmcc_at_most8(a.low, high), mmcc_at_most8(a.high, high)};
    return limited;
}

MMCC_INLINE mmcc_float16 mmcc_leaky16(mmcc_float16 a, float slope)
{
    const mmcc_float16 leaky = {mmcc_leaky8(a.low, slope), mmcc_leaky8(a.high, slope)};
    return leaky;
}

/* The first `count` of 16. */
MMCC_INLINE void mmcc_store_some16(float *to, mmcc_float16 a, int32_t count)
{
    if (count >= 16) {
        mmcc_store16(to, a);
    } else {
        float all[16];
        mmcc_store16(all, a);
        for (int32_t k = 0; k < count; ++k) {
            to[k] = all[k];
        }
    }
}

#endif

/* min(max(a, low), high); NaN stays. */
MMCC_INLINE mmcc_float16 mmcc_clamp16(mmcc_float16 a, float low, float high)
{
    return mmcc_at_most16(mmcc_at_least16(a, low), high);
}

#define MMCC_FLOAT_BLOCKS 4 /* of 16 filters that a list of pixels is made for, at most */

/* Channels of a depthwise tile: sums of five pixels, and the weights of a row, fit in registers. */
#if defined(__AVX512F__) && defined(__FMA__)
#define MMCC_LANES 16
typedef mmcc_float16 mmcc_float_lanes;
#define MMCC_LANES_LOAD mmcc_load16
#define MMCC_LANES_LOAD_HALF mmcc_load16_half
#define MMCC_LANES_STORE mmcc_store16
#define MMCC_LANES_FMA mmcc_fma16
#define MMCC_LANES_CLAMP mmcc_clamp16
#define MMCC_LANES_LEAKY mmcc_leaky16
#else
#define MMCC_LANES 8
typedef mmcc_float8 mmcc_float_lanes;
#define MMCC_LANES_LOAD mmcc_load8
#define MMCC_LANES_LOAD_HALF mmcc_load8_half
#define MMCC_LANES_STORE mmcc_store8
#define MMCC_LANES_FMA mmcc_fma8
#define MMCC_LANES_CLAMP mmcc_clamp8
#define MMCC_LANES_LEAKY mmcc_leaky8
#endif

#if defined(__aarch64__) && defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)

#define MMCC_FLOAT_PIXELS 5
/* gcc loads far ahead, and spills for it; and it adds up addresses anew where a load could step on. */
#define MMCC_FLOAT_FENCE(at) __asm__ volatile("" : "+r"(at)::"memory")
typedef float32x4_t mmcc_float_run; /* four values */
#define MMCC_FLOAT_RUN(from) vld1q_f32(from)
#define MMCC_FLOAT_TIMES(run, k, weights, sums)                                             \
    mmcc_four4(vfmaq_laneq_f32((sums).low.low, (weights).low.low, run, k),                  \
               vfmaq_laneq_f32((sums).low.high, (weights).low.high, run, k),                \
               vfmaq_laneq_f32((sums).high.low, (weights).high.low, run, k),                \
               vfmaq_laneq_f32((sums).high.high, (weights).high.high, run, k))

MMCC_INLINE mmcc_float16 mmcc_four4(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d)
{
    const mmcc_float16 all = {{a, b}, {c, d}};
    return all;
}

#else

typedef const float *mmcc_float_run;
#define MMCC_FLOAT_RUN(from) (from)
#define MMCC_FLOAT_TIMES(run, k, weights, sums) mmcc_scale16((run)[k], weights, sums)
#if !defined(MMCC_FLOAT_PIXELS) && defined(__AVX__) && defined(__FMA__)
#define MMCC_FLOAT_PIXELS 6
#elif !defined(MMCC_FLOAT_PIXELS) && defined(__riscv_vector) && defined(__clang__)
#define MMCC_FLOAT_PIXELS 2
#elif !defined(MMCC_FLOAT_PIXELS)
#define MMCC_FLOAT_PIXELS 2
#endif

#endif

/* What a tile's results are written over comes from a cache further off meanwhile. */
#if defined(__AVX__)
#define MMCC_FLOAT_AHEAD(at) __builtin_prefetch(at, 1)
#else
#define MMCC_FLOAT_AHEAD(at)
#endif

#if !defined(MMCC_FLOAT_FENCE)
#define MMCC_FLOAT_FENCE(at)
#endif

#endif
