/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sixteen sums of float16 side by side, for layers whose input, weights and output are float16. Where the
 * compiler may use arithmetic of float16 (FEAT_FP16 of AArch64), each product is added and rounded to float16 in one
 * instruction; elsewhere sums are float32, and rounded once. */
#ifndef MMCC_FP16_H
#define MMCC_FP16_H

#include "mmcc_floats.h"
#include "mmcc_halves.h"
#include "mmcc_math.h"
#include "mmcc_narrow.h"

#include <stdint.h>
#include <string.h>

#define MMCC_FP16_WIDTH 1  /* of a tile, in blocks of 16 filters */
/* Channels of a depthwise tile, and what it does with them: as MMCC_LANES of mmcc_floats.h. */
#define MMCC_FP16_LANES 16
#define MMCC_FP16_LANES_LOAD mmcc_load_fp16
#define MMCC_FP16_LANES_STORE mmcc_store_fp16
#define MMCC_FP16_LANES_FMA mmcc_fma_fp16
#define MMCC_FP16_LANES_CLAMP mmcc_clamp_fp16
#define MMCC_FP16_LANES_LEAKY mmcc_leaky_fp16

#if defined(__aarch64__) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC) && !defined(__AARCH64EB__)

#define MMCC_FP16_PIXELS 8 /* of a tile: 16 vectors of sums, 8 of values, 2 of weights */
typedef struct {
    float16x8_t low, high;
} mmcc_fp16;
typedef float16x8_t mmcc_fp16_run; /* eight values of a pixel */
#define MMCC_FP16_RUN(from) vreinterpretq_f16_u16(vld1q_u16(from))
/* As text: gcc spreads the value over a vector first. It may be in the lower half of registers only. */
#define MMCC_FP16_TIMES(run, k, weights, sums)                  \
    __asm__("fmla %0.8h, %2.8h, %4.h[" #k "]\n\t"               \
            "fmla %1.8h, %3.8h, %4.h[" #k "]"                   \
            : "+&w"((sums).low), "+w"((sums).high)              \
            : "w"((weights).low), "w"((weights).high), "x"(run))

MMCC_INLINE mmcc_fp16 mmcc_both_fp16(float16x8_t low, float16x8_t high)
{
    const mmcc_fp16 both = {low, high};
    return both;
}

MMCC_INLINE mmcc_fp16 mmcc_load_fp16(const uint16_t *from)
{
    const uint16x8x2_t codes = vld1q_u16_x2(from); /* one instruction */
    return mmcc_both_fp16(vreinterpretq_f16_u16(codes.val[0]), vreinterpretq_f16_u16(codes.val[1]));
}

MMCC_INLINE mmcc_fp16 mmcc_fma_fp16(mmcc_fp16 a, mmcc_fp16 b, mmcc_fp16 c)
{
    return mmcc_both_fp16(vfmaq_f16(c.low, a.low, b.low), vfmaq_f16(c.high, a.high, b.high));
}

/* A value, as its code, by sixteen weights. */
MMCC_INLINE mmcc_fp16 mmcc_scale_fp16(uint16_t a, mmcc_fp16 b, mmcc_fp16 c)
{
    const float16x8_t all = vreinterpretq_f16_u16(vdupq_n_u16(a));
    return mmcc_both_fp16(vfmaq_f16(c.low, all, b.low), vfmaq_f16(c.high, all, b.high));
}

MMCC_INLINE mmcc_fp16 mmcc_at_least_fp16(mmcc_fp16 a, float low)
{
    const float16x8_t all = vdupq_n_f16((float16_t)low);
    return mmcc_both_fp16(vbslq_f16(vcgtq_f16(all, a.low), all, a.low), vbslq_f16(vcgtq_f16(all, a.high), all, a.high));
}

MMCC_INLINE mmcc_fp16 mmcc_at_most_fp16(mmcc_fp16 a, float high)
{
    const float16x8_t all = vdupq_n_f16((float16_t)high);
    return mmcc_both_fp16(vminq_f16(a.low, all), vminq_f16(a.high, all));
}

MMCC_INLINE mmcc_fp16 mmcc_leaky_fp16(mmcc_fp16 a, float slope)
{
    const float16x8_t times = vdupq_n_f16((float16_t)slope), zero = vdupq_n_f16((float16_t)0.0f);
    return mmcc_both_fp16(vbslq_f16(vcgeq_f16(a.low, zero), a.low, vmulq_f16(a.low, times)),
                          vbslq_f16(vcgeq_f16(a.high, zero), a.high, vmulq_f16(a.high, times)));
}

MMCC_INLINE void mmcc_store_fp16(uint16_t *to, mmcc_fp16 a)
{
    vst1q_u16(to, vreinterpretq_u16_f16(a.low));
    vst1q_u16(to + 8, vreinterpretq_u16_f16(a.high));
}

#else

#define MMCC_FP16_PIXELS MMCC_FLOAT_PIXELS
typedef mmcc_float16 mmcc_fp16; /* sums in float32 */
typedef struct {
    float values[8];
} mmcc_fp16_run;
#define MMCC_FP16_RUN(from) mmcc_run_of_halves(from)
#define MMCC_FP16_TIMES(run, k, weights, sums) sums = mmcc_scale16((run).values[k], weights, sums)

MMCC_INLINE mmcc_fp16_run mmcc_run_of_halves(const uint16_t *from)
{
    mmcc_fp16_run run = {{0.0f}}; /* cppcheck sees no store by vectors */
    mmcc_store8(run.values, mmcc_load8_half(from));
    return run;
}

MMCC_INLINE mmcc_fp16 mmcc_load_fp16(const uint16_t *from)
{
    return mmcc_load16_half(from);
}

MMCC_INLINE mmcc_fp16 mmcc_fma_fp16(mmcc_fp16 a, mmcc_fp16 b, mmcc_fp16 c)
{
    return mmcc_fma16(a, b, c);
}

MMCC_INLINE mmcc_fp16 mmcc_scale_fp16(uint16_t a, mmcc_fp16 b, mmcc_fp16 c)
{
    return mmcc_scale16(mmcc_of_half(a), b, c);
}

MMCC_INLINE mmcc_fp16 mmcc_at_least_fp16(mmcc_fp16 a, float low)
{
    return mmcc_at_least16(a, low);
}

MMCC_INLINE mmcc_fp16 mmcc_at_most_fp16(mmcc_fp16 a, float high)
{
    return mmcc_at_most16(a, high);
}

MMCC_INLINE mmcc_fp16 mmcc_leaky_fp16(mmcc_fp16 a, float slope)
{
    return mmcc_leaky16(a, slope);
}

MMCC_INLINE void mmcc_store_fp16(uint16_t *to, mmcc_fp16 a)
{
    float values[16];
    mmcc_store16(values, a);
    mmcc_store8_half(to, mmcc_load8(values));
    mmcc_store8_half(to + 8, mmcc_load8(values + 8));
}

#endif

/* The first `count` of 16. */
MMCC_INLINE void mmcc_store_some_fp16(uint16_t *to, mmcc_fp16 a, int32_t count)
{
    if (count >= 16) {
        mmcc_store_fp16(to, a);
    } else {
        uint16_t all[16];
        mmcc_store_fp16(all, a);
        for (int32_t k = 0; k < count; ++k) {
            to[k] = all[k];
        }
    }
}

/* min(max(a, low), high); NaN stays. */
MMCC_INLINE mmcc_fp16 mmcc_clamp_fp16(mmcc_fp16 a, float low, float high)
{
    return mmcc_at_most_fp16(mmcc_at_least_fp16(a, low), high);
}

#endif
