/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: weights in float16 (IEEE binary16), which are widened where they are used, and tensors that are converted.
 * float32 has every value of float16, so whichever instruction widens one, it has the same bits. Rounding modes and
 * flushing of denormal numbers of float32 do not matter: what is subnormal in float16 is normal in float32. */
#ifndef MMCC_HALVES_H
#define MMCC_HALVES_H

#include "mmcc_math.h"
#include "mmcc_narrow.h"

#include <stdint.h>
#include <string.h>

/* VFPv4 has FMA and conversions from half precision: Cortex-M4F, M33 and M7. GCC's __ARM_FP does not say so. */
#if defined(__thumb2__) && defined(__ARM_FEATURE_FMA) && !defined(MMCC_SET4)
#define MMCC_HALVES_VCVT
#endif

#if defined(__AVX__) && defined(__FMA__) && defined(__F16C__)

MMCC_INLINE mmcc_float8 mmcc_load8_half(const uint16_t *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

#define MMCC_STORE8_HALF
MMCC_INLINE void mmcc_store8_half(uint16_t *to, mmcc_float8 a)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(__aarch64__) && defined(__ARM_NEON) && defined(MMCC_SET4)

MMCC_INLINE mmcc_float8 mmcc_load8_half(const uint16_t *from)
{
    const float16x8_t codes = vreinterpretq_f16_u16(vld1q_u16(from));
    const mmcc_float8 a = {vcvt_f32_f16(vget_low_f16(codes)), vcvt_high_f32_f16(codes)};
    return a;
}

#define MMCC_STORE8_HALF
MMCC_INLINE void mmcc_store8_half(uint16_t *to, mmcc_float8 a)
{
    vst1q_u16(to, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.low), a.high)));
}

#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2) && defined(MMCC_SET4)

/* VCVTB.F32.F16 q7, q7 as a number: GNU as 2.40 encodes other vectors than q0 wrongly, those of intrinsics, too. */
#define MMCC_WIDEN_Q7 ".inst.w 0xfe3fee0f\n"

/* The low half of each word is the code of a lane. */
MMCC_INLINE float32x4_t mmcc_widen4(uint32x4_t codes)
{
    float32x4_t values;
    __asm__("vmov q7, %q1\n" MMCC_WIDEN_Q7 "vmov %q0, q7" : "=w"(values) : "w"(codes) : "q7");
    return values;
}

MMCC_INLINE mmcc_float8 mmcc_load8_half(const uint16_t *from)
{
    mmcc_float8 a;
    __asm__("vldrh.u32 q7, [%2]\n" MMCC_WIDEN_Q7 "vmov %q0, q7\n"
            "vldrh.u32 q7, [%2, #8]\n" MMCC_WIDEN_Q7 "vmov %q1, q7"
            : "=&w"(a.low), "=w"(a.high)
            : "l"(from), "m"(*(const uint16_t (*)[8])from)
            : "q7");
    return a;
}

#elif defined(MMCC_HALVES_VCVT)

/* Both float16 of the word at an address, the first from its low half. */
MMCC_INLINE void mmcc_load2_half(const uint16_t *from, float *low, float *high)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    __asm__("vcvtb.f32.f16 %0, %2\n vcvtt.f32.f16 %1, %2" : "=&t"(*low), "=t"(*high) : "t"(word));
}

MMCC_INLINE mmcc_float8 mmcc_load8_half(const uint16_t *from)
{
    mmcc_float8 a;
    mmcc_load2_half(from, &a.v0, &a.v1);
    mmcc_load2_half(from + 2, &a.v2, &a.v3);
    mmcc_load2_half(from + 4, &a.v4, &a.v5);
    mmcc_load2_half(from + 6, &a.v6, &a.v7);
    return a;
}

#define MMCC_LOAD8_HALF_ALIGNED
/* Of an address that is a multiple of 4, as that of every eight weights side by side is. */
MMCC_INLINE mmcc_float8 mmcc_load8_half_aligned(const uint16_t *from)
{
    mmcc_float8 a;
    __asm__("vldmia %8, {s28-s31}\n"
            " vcvtb.f32.f16 %0, s28\n vcvtt.f32.f16 %1, s28\n vcvtb.f32.f16 %2, s29\n vcvtt.f32.f16 %3, s29\n"
            " vcvtb.f32.f16 %4, s30\n vcvtt.f32.f16 %5, s30\n vcvtb.f32.f16 %6, s31\n vcvtt.f32.f16 %7, s31"
            : "=t"(a.v0), "=t"(a.v1), "=t"(a.v2), "=t"(a.v3), "=t"(a.v4), "=t"(a.v5), "=t"(a.v6), "=t"(a.v7)
            : "r"(from), "m"(*(const uint16_t (*)[8])from)
            : "s28", "s29", "s30", "s31");
    return a;
}

#else

MMCC_INLINE mmcc_float8 mmcc_load8_half(const uint16_t *from)
{
    float values[8];
    for (int32_t i = 0; i < 8; ++i) {
        values[i] = mmcc_of_half(from[i]);
    }
    return mmcc_load8(values);
}

#endif

#if !defined(MMCC_LOAD8_HALF_ALIGNED)
MMCC_INLINE mmcc_float8 mmcc_load8_half_aligned(const uint16_t *from)
{
    return mmcc_load8_half(from);
}
#endif

#if !defined(MMCC_STORE8_HALF)
/* The nearest float16 of each, ties to even. */
MMCC_INLINE void mmcc_store8_half(uint16_t *to, mmcc_float8 a)
{
    float values[8];
    mmcc_store8(values, a);
    for (int32_t i = 0; i < 8; ++i) {
        to[i] = mmcc_to_half(values[i]);
    }
}
#endif

#if defined(MMCC_FLOATS_H) /* which kernels on large vectors include before */
MMCC_INLINE mmcc_float16 mmcc_load16_half(const uint16_t *from)
{
#if defined(__AVX512F__) && defined(__FMA__)
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
#else
    const mmcc_float16 a = {mmcc_load8_half(from), mmcc_load8_half(from + 8)};
    return a;
#endif
}
#endif

#endif
