/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: int8 kernels on vectors. Sixteen sums of 32 bits lie side by side; one step adds to each the products of
 * four values and four weights, which is one instruction on AVX-512 VNNI and four on Arm's dot product. The same
 * bits come from AVX-VNNI, AVX2, plain NEON, RISC-V's and WebAssembly's vectors and plain C: what the compiler is
 * told of the processor decides.
 *
 * x86 multiplies unsigned by signed bytes: there, values are raised by 128, and sums begin with a bias from which
 * 128 times the weights was taken. A block of 16 outputs has 64 numbers: 16 biases, 16 such biases, 16
 * multipliers, and 16 shifts to the right, negative. */
#ifndef MMCC_SIMD_H
#define MMCC_SIMD_H

#include "mmcc_requantize.h"

#include <stdint.h>
#include <string.h>

/* A sum of two tensors in 32 bits: values times multipliers plus the offset, with so many bits of a fraction. */
typedef struct {
    int32_t a_multiplier, b_multiplier, offset, bits, low, high;
} mmcc_adder;

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)

#include <immintrin.h>
#define MMCC_SIMD_PIXELS 5 /* of a tile */
#define MMCC_SIMD_BLOCKS 2 /* of 16 filters, of a tile */
typedef __m512i mmcc_sums;
typedef __m512i mmcc_quads;     /* 16 times four bytes */
typedef const int8_t *mmcc_run; /* 16 values of a pixel */
typedef __m128i mmcc_bytes;     /* 16 of them */
typedef struct {
    __m512i multiplier, odd, right;
} mmcc_scale;
typedef struct {
    __m512i twice;
    __m128i low, high;
} mmcc_end;
#define MMCC_LOAD_RUN(from) (from)
#define MMCC_LOAD_QUAD(from) (from)
#define MMCC_DOT(sums, run, quad, weights) _mm512_dpbusd_epi32(sums, mmcc_spread((run) + 4 * (quad)), weights)

MMCC_INLINE __m512i mmcc_spread(const int8_t *from)
{
    int32_t quad;
    memcpy(&quad, from, 4);
    return _mm512_xor_si512(_mm512_set1_epi32(quad), _mm512_set1_epi8(-128));
}

MMCC_INLINE mmcc_sums mmcc_load_sums(const int32_t *block)
{
    return _mm512_loadu_si512(block + 16);
}

MMCC_INLINE mmcc_quads mmcc_load_quads(const int8_t *from)
{
    return _mm512_loadu_si512(from);
}

MMCC_INLINE mmcc_sums mmcc_dot_quads(mmcc_sums sums, mmcc_quads values, mmcc_quads weights)
{
    return _mm512_dpbusd_epi32(sums, values, weights);
}

MMCC_INLINE mmcc_quads mmcc_weave3(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c)
{
    const __m512i second = _mm512_slli_epi32(_mm512_cvtepu8_epi32(b), 8);
    const __m512i third = _mm512_slli_epi32(_mm512_cvtepu8_epi32(c), 16);
    const __m512i all = _mm512_ternarylogic_epi32(_mm512_cvtepu8_epi32(a), second, third, 0xFE);
    return _mm512_xor_si512(all, _mm512_set1_epi8(-128));
}

MMCC_INLINE mmcc_quads mmcc_weave4(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c, mmcc_bytes d)
{
    const __m512i fourth = _mm512_slli_epi32(_mm512_cvtepu8_epi32(d), 24);
    return _mm512_xor_si512(mmcc_weave3(a, b, c), fourth);
}

MMCC_INLINE mmcc_sums mmcc_shift_left(mmcc_sums sums, int32_t left)
{
    return _mm512_sll_epi32(sums, _mm_cvtsi32_si128(left));
}

MMCC_INLINE mmcc_scale mmcc_load_scale(const int32_t *block)
{
    const __m512i multiplier = _mm512_loadu_si512(block + 32);
    const __m512i right = _mm512_sub_epi32(_mm512_set1_epi32(-2), _mm512_loadu_si512(block + 48));
    const mmcc_scale scale = {multiplier, _mm512_srli_epi64(multiplier, 32), right};
    return scale;
}

MMCC_INLINE mmcc_end mmcc_end_of(int32_t zero, int32_t low, int32_t high)
{
    const mmcc_end end = {_mm512_set1_epi32(2 * zero + 1), _mm_set1_epi8((char)low), _mm_set1_epi8((char)high)};
    return end;
}

MMCC_INLINE mmcc_bytes mmcc_scaled(mmcc_sums sums, mmcc_scale scale, mmcc_end end)
{
    const __m512i even = _mm512_mul_epi32(sums, scale.multiplier);
    const __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(sums, 32), scale.odd);
    const __m512i high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xAAAA, odd);
    const __m512i doubled = _mm512_add_epi32(_mm512_srav_epi32(high, scale.right), end.twice);
    const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_srai_epi32(doubled, 1));
    return _mm_min_epi8(_mm_max_epi8(bytes, end.low), end.high);
}

MMCC_INLINE void mmcc_get_sums(int32_t *to, mmcc_sums sums)
{
    _mm512_storeu_si512(to, sums);
}

MMCC_INLINE mmcc_sums mmcc_set_sums(int32_t value)
{
    return _mm512_set1_epi32(value);
}

MMCC_INLINE mmcc_sums mmcc_add_bytes(mmcc_sums sums, mmcc_bytes bytes)
{
    return _mm512_add_epi32(sums, _mm512_cvtepi8_epi32(bytes));
}

MMCC_INLINE mmcc_bytes mmcc_added(mmcc_bytes a, mmcc_bytes b, mmcc_adder add)
{
    const __m512i x = _mm512_mullo_epi32(_mm512_cvtepi8_epi32(a), _mm512_set1_epi32(add.a_multiplier));
    const __m512i y = _mm512_mullo_epi32(_mm512_cvtepi8_epi32(b), _mm512_set1_epi32(add.b_multiplier));
    const __m512i sums = _mm512_add_epi32(_mm512_add_epi32(x, y), _mm512_set1_epi32(add.offset));
    const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_sra_epi32(sums, _mm_cvtsi32_si128(add.bits)));
    return _mm_min_epi8(_mm_max_epi8(bytes, _mm_set1_epi8((char)add.low)), _mm_set1_epi8((char)add.high));
}

#elif defined(__AVX2__)

#include <immintrin.h>
#define MMCC_SIMD_BLOCKS 1
typedef struct {
    __m256i low, high;
} mmcc_sums;
typedef mmcc_sums mmcc_quads;
typedef const int8_t *mmcc_run;
typedef __m128i mmcc_bytes;
typedef struct {
    mmcc_sums multiplier, right;
} mmcc_scale;
typedef struct {
    __m256i twice;
    __m128i low, high;
} mmcc_end;
#define MMCC_LOAD_RUN(from) (from)
#define MMCC_LOAD_QUAD(from) (from)
#define MMCC_DOT(sums, run, quad, weights) mmcc_dot_quads(sums, mmcc_spread((run) + 4 * (quad)), weights)

#if defined(__AVXVNNI__)

#define MMCC_SIMD_PIXELS 5
#define MMCC_SIMD_RAISED 128

MMCC_INLINE __m256i mmcc_dot8(__m256i sums, __m256i values, __m256i weights)
{
    return _mm256_dpbusd_avx_epi32(sums, values, weights);
}

#else

#define MMCC_SIMD_PIXELS 2
#define MMCC_SIMD_RAISED 0

/* Bytes as halfwords, even ones and odd ones: products of two are added in one instruction. */
MMCC_INLINE __m256i mmcc_dot8(__m256i sums, __m256i values, __m256i weights)
{
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(values, 8), 8), odd = _mm256_srai_epi16(values, 8);
    const __m256i even_w = _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8), odd_w = _mm256_srai_epi16(weights, 8);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(even, even_w));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(odd, odd_w));
}

#endif

MMCC_INLINE __m256i mmcc_load_half(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

MMCC_INLINE mmcc_sums mmcc_pair(__m256i low, __m256i high)
{
    const mmcc_sums pair = {low, high};
    return pair;
}

MMCC_INLINE mmcc_quads mmcc_spread(const int8_t *from)
{
    int32_t quad;
    memcpy(&quad, from, 4);
    const __m256i all = _mm256_xor_si256(_mm256_set1_epi32(quad), _mm256_set1_epi8((char)-MMCC_SIMD_RAISED));
    return mmcc_pair(all, all);
}

MMCC_INLINE mmcc_sums mmcc_load_sums(const int32_t *block)
{
    const int32_t *from = block + (MMCC_SIMD_RAISED != 0 ? 16 : 0);
    return mmcc_pair(mmcc_load_half(from), mmcc_load_half(from + 8));
}

MMCC_INLINE mmcc_quads mmcc_load_quads(const int8_t *from)
{
    return mmcc_pair(mmcc_load_half(from), mmcc_load_half(from + 32));
}

MMCC_INLINE mmcc_sums mmcc_dot_quads(mmcc_sums sums, mmcc_quads values, mmcc_quads weights)
{
    sums.low = mmcc_dot8(sums.low, values.low, weights.low);
    sums.high = mmcc_dot8(sums.high, values.high, weights.high);
    return sums;
}

MMCC_INLINE mmcc_quads mmcc_weave4(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c, mmcc_bytes d)
{
    const __m128i raise = _mm_set1_epi8((char)-MMCC_SIMD_RAISED);
    const __m128i low = _mm_xor_si128(_mm_unpacklo_epi8(a, b), raise);
    const __m128i high = _mm_xor_si128(_mm_unpackhi_epi8(a, b), raise);
    const __m128i low2 = _mm_xor_si128(_mm_unpacklo_epi8(c, d), raise);
    const __m128i high2 = _mm_xor_si128(_mm_unpackhi_epi8(c, d), raise);
    return mmcc_pair(_mm256_set_m128i(_mm_unpackhi_epi16(low, low2), _mm_unpacklo_epi16(low, low2)),
                     _mm256_set_m128i(_mm_unpackhi_epi16(high, high2), _mm_unpacklo_epi16(high, high2)));
}

MMCC_INLINE mmcc_quads mmcc_weave3(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c)
{
    return mmcc_weave4(a, b, c, c);
}

MMCC_INLINE mmcc_sums mmcc_shift_left(mmcc_sums sums, int32_t left)
{
    const __m128i count = _mm_cvtsi32_si128(left);
    return mmcc_pair(_mm256_sll_epi32(sums.low, count), _mm256_sll_epi32(sums.high, count));
}

MMCC_INLINE mmcc_scale mmcc_load_scale(const int32_t *block)
{
    const __m256i two = _mm256_set1_epi32(-2);
    const mmcc_scale scale = {
        mmcc_pair(mmcc_load_half(block + 32), mmcc_load_half(block + 40)),
        mmcc_pair(_mm256_sub_epi32(two, mmcc_load_half(block + 48)), _mm256_sub_epi32(two, mmcc_load_half(block + 56))),
    };
    return scale;
}

MMCC_INLINE mmcc_end mmcc_end_of(int32_t zero, int32_t low, int32_t high)
{
    const mmcc_end end = {_mm256_set1_epi32(2 * zero + 1), _mm_set1_epi8((char)low), _mm_set1_epi8((char)high)};
    return end;
}

MMCC_INLINE __m256i mmcc_scaled8(__m256i sums, __m256i multiplier, __m256i right, __m256i twice)
{
    const __m256i even = _mm256_mul_epi32(sums, multiplier);
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(sums, 32), _mm256_srli_epi64(multiplier, 32));
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    return _mm256_srai_epi32(_mm256_add_epi32(_mm256_srav_epi32(high, right), twice), 1);
}

MMCC_INLINE mmcc_bytes mmcc_scaled(mmcc_sums sums, mmcc_scale scale, mmcc_end end)
{
    const __m256i low = mmcc_scaled8(sums.low, scale.multiplier.low, scale.right.low, end.twice);
    const __m256i high = mmcc_scaled8(sums.high, scale.multiplier.high, scale.right.high, end.twice);
    const __m256i halves = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    return _mm_min_epi8(_mm_max_epi8(bytes, end.low), end.high);
}

MMCC_INLINE void mmcc_get_sums(int32_t *to, mmcc_sums sums)
{
    _mm256_storeu_si256((__m256i *)(void *)to, sums.low);
    _mm256_storeu_si256((__m256i *)(void *)(to + 8), sums.high);
}

MMCC_INLINE mmcc_sums mmcc_set_sums(int32_t value)
{
    return mmcc_pair(_mm256_set1_epi32(value), _mm256_set1_epi32(value));
}

MMCC_INLINE mmcc_sums mmcc_add_bytes(mmcc_sums sums, mmcc_bytes bytes)
{
    return mmcc_pair(_mm256_add_epi32(sums.low, _mm256_cvtepi8_epi32(bytes)),
                     _mm256_add_epi32(sums.high, _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))));
}

MMCC_INLINE __m256i mmcc_added8(__m128i a, __m128i b, mmcc_adder add)
{
    const __m256i x = _mm256_mullo_epi32(_mm256_cvtepi8_epi32(a), _mm256_set1_epi32(add.a_multiplier));
    const __m256i y = _mm256_mullo_epi32(_mm256_cvtepi8_epi32(b), _mm256_set1_epi32(add.b_multiplier));
    const __m256i sums = _mm256_add_epi32(_mm256_add_epi32(x, y), _mm256_set1_epi32(add.offset));
    return _mm256_sra_epi32(sums, _mm_cvtsi32_si128(add.bits));
}

MMCC_INLINE mmcc_bytes mmcc_added(mmcc_bytes a, mmcc_bytes b, mmcc_adder add)
{
    const __m256i low = mmcc_added8(a, b, add), high = mmcc_added8(_mm_srli_si128(a, 8), _mm_srli_si128(b, 8), add);
    const __m256i halves = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    return _mm_min_epi8(_mm_max_epi8(bytes, _mm_set1_epi8((char)add.low)), _mm_set1_epi8((char)add.high));
}

#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)

#include <arm_neon.h>
#define MMCC_SIMD_BLOCKS 1
typedef struct {
    int32x4_t v0, v1, v2, v3;
} mmcc_sums;
typedef struct {
    int8x16_t v0, v1, v2, v3;
} mmcc_quads;
typedef int8x16_t mmcc_run;
typedef int8x16_t mmcc_bytes;
typedef struct {
    mmcc_sums multiplier, right;
} mmcc_scale;
typedef struct {
    int16x8_t zero;
    int8x16_t low, high;
} mmcc_end;
/* gcc loads far ahead, and spills for it; and it adds up addresses anew where a load could step on. */
#define MMCC_SIMD_FENCE(at) __asm__ volatile("" : "+r"(at)::"memory")
#define MMCC_LOAD_RUN(from) vld1q_s8(from)
#define MMCC_LOAD_QUAD(from) mmcc_load_quad(from)

/* Dot products (FEAT_DotProd) and products of matrices (FEAT_I8MM), where all code may use them, or in functions of
 * their own, which are called if the processor says that it has them. MMCC_SIMD_FIXED: no such functions.
 * MMCC_HAS_DOTPROD, MMCC_HAS_I8MM: expressions that ask where it is not Linux that answers; how to ask Apple's and
 * other systems is in no standard. Functions of their own have these instructions as text: gcc's intrinsics can be
 * inlined only where all else of Armv8.2 may be used, too. GNU as wants to be told of Armv8.2; gcc tells it before the
 * next function what may be there. Where the compiler has Armv8.3 (which complex numbers tell), it has been told, and
 * what ends the function may need more: RETAA. */
#if defined(MMCC_SIMD_FIXED) || defined(__ARM_FEATURE_SVE)
/* nothing is asked: what has SVE has more than this, or is told */
#elif defined(__clang__) && __clang_major__ >= 16
#define MMCC_SIMD_WITH(name) __attribute__((target(name)))
#define MMCC_SIMD_TEXT(name, text) text
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 10
#define MMCC_SIMD_WITH(name) __attribute__((target("+" name)))
#if defined(__ARM_FEATURE_COMPLEX)
#define MMCC_SIMD_TEXT(name, text) text
#else
#define MMCC_SIMD_TEXT(name, text) ".arch armv8.2-a+" name "\n\t" text
#endif
#endif
#if defined(MMCC_SIMD_WITH) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define MMCC_SIMD_MATRICES __attribute__((noinline)) /* in larger functions, gcc keeps sums in memory */
#undef MMCC_HAS_I8MM
#define MMCC_HAS_I8MM true
#elif defined(MMCC_SIMD_WITH) && (defined(__linux__) || defined(MMCC_HAS_I8MM))
#define MMCC_SIMD_MATRICES MMCC_SIMD_WITH("i8mm")
#if !defined(MMCC_HAS_I8MM)
#define MMCC_HAS_I8MM ((getauxval(26) >> 13 & 1U) != 0) /* AT_HWCAP2, HWCAP2_I8MM: old headers lack them */
#endif
#endif
#if !defined(__ARM_FEATURE_DOTPROD) && defined(MMCC_SIMD_WITH) && (defined(__linux__) || defined(MMCC_HAS_DOTPROD))
#define MMCC_SIMD_DOTS MMCC_SIMD_WITH("dotprod")
#if !defined(MMCC_HAS_DOTPROD)
#define MMCC_HAS_DOTPROD ((getauxval(16) >> 20 & 1U) != 0) /* AT_HWCAP, HWCAP_ASIMDDP */
#endif
#endif

#if defined(__ARM_FEATURE_DOTPROD)

#define MMCC_SIMD_PIXELS 5
#define MMCC_DOT(sums, run, quad, weights)                                                             \
    mmcc_four(vdotq_laneq_s32((sums).v0, (weights).v0, run, quad),                                     \
              vdotq_laneq_s32((sums).v1, (weights).v1, run, quad),                                     \
              vdotq_laneq_s32((sums).v2, (weights).v2, run, quad),                                     \
              vdotq_laneq_s32((sums).v3, (weights).v3, run, quad))

MMCC_INLINE int32x4_t mmcc_dot4(int32x4_t sums, int8x16_t values, int8x16_t weights)
{
    return vdotq_s32(sums, values, weights);
}

#else

#define MMCC_SIMD_PIXELS 3
#define MMCC_DOT(sums, run, quad, weights) \
    mmcc_dot_spread(sums, vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(run), quad)), weights)

MMCC_INLINE int32x4_t mmcc_dot4(int32x4_t sums, int8x16_t values, int8x16_t weights)
{
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(values), vget_low_s8(weights)));
    const int32x4_t high = vpaddlq_s16(vmull_high_s8(values, weights));
    return vaddq_s32(sums, vpaddq_s32(low, high));
}

MMCC_INLINE mmcc_sums mmcc_dot_spread(mmcc_sums sums, int8x16_t values, mmcc_quads weights)
{
    sums.v0 = mmcc_dot4(sums.v0, values, weights.v0);
    sums.v1 = mmcc_dot4(sums.v1, values, weights.v1);
    sums.v2 = mmcc_dot4(sums.v2, values, weights.v2);
    sums.v3 = mmcc_dot4(sums.v3, values, weights.v3);
    return sums;
}

#endif

MMCC_INLINE mmcc_sums mmcc_four(int32x4_t v0, int32x4_t v1, int32x4_t v2, int32x4_t v3)
{
    const mmcc_sums four = {v0, v1, v2, v3};
    return four;
}

MMCC_INLINE int8x16_t mmcc_load_quad(const int8_t *from)
{
    int32_t quad;
    memcpy(&quad, from, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(quad));
}

MMCC_INLINE mmcc_sums mmcc_load_words(const int32_t *from)
{
    return mmcc_four(vld1q_s32(from), vld1q_s32(from + 4), vld1q_s32(from + 8), vld1q_s32(from + 12));
}

MMCC_INLINE mmcc_sums mmcc_load_sums(const int32_t *block)
{
    return mmcc_load_words(block);
}

MMCC_INLINE mmcc_quads mmcc_load_quads(const int8_t *from)
{
    const int8x16x4_t all = vld1q_s8_x4(from); /* one instruction */
    const mmcc_quads quads = {all.val[0], all.val[1], all.val[2], all.val[3]};
    return quads;
}

MMCC_INLINE mmcc_sums mmcc_dot_quads(mmcc_sums sums, mmcc_quads values, mmcc_quads weights)
{
    sums.v0 = mmcc_dot4(sums.v0, values.v0, weights.v0);
    sums.v1 = mmcc_dot4(sums.v1, values.v1, weights.v1);
    sums.v2 = mmcc_dot4(sums.v2, values.v2, weights.v2);
    sums.v3 = mmcc_dot4(sums.v3, values.v3, weights.v3);
    return sums;
}

#if defined(MMCC_SIMD_DOTS)

#define MMCC_DOTS_PIXELS 5 /* of a tile of a function that may use dot products */
#define MMCC_DOTS_LANE(sums, values, run, quad) \
    __asm__(MMCC_SIMD_TEXT("dotprod", "sdot %0.4s, %1.16b, %2.4b[" #quad "]") : "+w"(sums) : "w"(values), "w"(run))
#define MMCC_DOTS_FOUR(sums, values, weights) \
    __asm__(MMCC_SIMD_TEXT("dotprod", "sdot %0.4s, %1.16b, %2.16b") : "+w"(sums) : "w"(values), "w"(weights))
/* Sixteen sums and a quad of a run by sixteen quads of weights; then one by one. */
#define MMCC_DOTS(sums, run, quad, weights)              \
    do {                                                 \
        MMCC_DOTS_LANE((sums).v0, (weights).v0, run, quad); \
        MMCC_DOTS_LANE((sums).v1, (weights).v1, run, quad); \
        MMCC_DOTS_LANE((sums).v2, (weights).v2, run, quad); \
        MMCC_DOTS_LANE((sums).v3, (weights).v3, run, quad); \
    } while (0)
#define MMCC_DOTS_QUADS(sums, values, weights)                   \
    do {                                                         \
        MMCC_DOTS_FOUR((sums).v0, (values).v0, (weights).v0); \
        MMCC_DOTS_FOUR((sums).v1, (values).v1, (weights).v1); \
        MMCC_DOTS_FOUR((sums).v2, (values).v2, (weights).v2); \
        MMCC_DOTS_FOUR((sums).v3, (values).v3, (weights).v3); \
    } while (0)

#endif

#if defined(MMCC_SIMD_MATRICES)

#define MMCC_PAIRED_PIXELS 6 /* of a tile that goes two pixels by two */

/* Sums of two pixels by sixteen filters: two of a pixel, then the same two of the other. */
typedef struct {
    int32x4_t v0, v1, v2, v3, v4, v5, v6, v7;
} mmcc_pair_sums;
/* Eight values of each of eight filters: two filters in a vector. */
typedef struct {
    int8x16_t v0, v1, v2, v3;
} mmcc_octets;
/* Loads of weights stay where they are used: gcc loads far ahead, and spills for it. */
#define MMCC_PAIR_FENCE() __asm__ volatile("" ::: "memory")
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define MMCC_MATRIX(sums, pair, filters) sums = vmmlaq_s32(sums, pair, filters)
#else
#define MMCC_MATRIX(sums, pair, filters) \
    __asm__(MMCC_SIMD_TEXT("i8mm", "smmla %0.4s, %1.16b, %2.16b") : "+w"(sums) : "w"(pair), "w"(filters))
#endif

MMCC_INLINE int32x4_t mmcc_lower(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

MMCC_INLINE int32x4_t mmcc_upper(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

MMCC_INLINE mmcc_pair_sums mmcc_load_pair_sums(const int32_t *block)
{
    const mmcc_sums all = mmcc_load_words(block);
    const mmcc_pair_sums sums = {
        mmcc_lower(all.v0, all.v0),
        mmcc_upper(all.v0, all.v0),
        mmcc_lower(all.v1, all.v1),
        mmcc_upper(all.v1, all.v1),
        mmcc_lower(all.v2, all.v2),
        mmcc_upper(all.v2, all.v2),
        mmcc_lower(all.v3, all.v3),
        mmcc_upper(all.v3, all.v3),
    };
    return sums;
}

/* The next eight values of two pixels. Compilers add up addresses anew where loads can step on. */
#define MMCC_LOAD_PAIR(pair, a, b)                                          \
    __asm__ volatile("ldr %d0, [%1], #8\n\tld1 {%0.d}[1], [%2], #8"         \
                     : "=&w"(pair), "+r"(a), "+r"(b)                        \
                     :                                                      \
                     : "memory")

/* Four values of two pixels, and zeros behind. */
MMCC_INLINE int8x16_t mmcc_load_pair_of_quads(const int8_t *a, const int8_t *b)
{
    int32_t quad_a, quad_b;
    memcpy(&quad_a, a, 4);
    memcpy(&quad_b, b, 4);
    const int32x4_t first = vsetq_lane_s32(quad_a, vdupq_n_s32(0), 0);
    return vreinterpretq_s8_s32(vsetq_lane_s32(quad_b, first, 2));
}

MMCC_INLINE mmcc_octets mmcc_octets_of(int8x16_t first0, int8x16_t first1, int8x16_t second0, int8x16_t second1)
{
    const int32x4_t a0 = vreinterpretq_s32_s8(first0), a1 = vreinterpretq_s32_s8(first1);
    const int32x4_t b0 = vreinterpretq_s32_s8(second0), b1 = vreinterpretq_s32_s8(second1);
    const mmcc_octets octets = {vreinterpretq_s8_s32(vzip1q_s32(a0, b0)), vreinterpretq_s8_s32(vzip2q_s32(a0, b0)),
                                vreinterpretq_s8_s32(vzip1q_s32(a1, b1)), vreinterpretq_s8_s32(vzip2q_s32(a1, b1))};
    return octets;
}

/* Of eight filters: a quad of each, and behind those of all sixteen the next quads. */
MMCC_INLINE mmcc_octets mmcc_load_octets(const int8_t *from)
{
    return mmcc_octets_of(vld1q_s8(from), vld1q_s8(from + 16), vld1q_s8(from + 64), vld1q_s8(from + 80));
}

/* Of eight filters the last quad, and zeros behind. */
MMCC_INLINE mmcc_octets mmcc_load_last_octets(const int8_t *from)
{
    return mmcc_octets_of(vld1q_s8(from), vld1q_s8(from + 16), vdupq_n_s8(0), vdupq_n_s8(0));
}

/* All sums of the first pixel, or of the second. */
MMCC_INLINE mmcc_sums mmcc_first_of_pair(mmcc_pair_sums sums)
{
    return mmcc_four(mmcc_lower(sums.v0, sums.v1), mmcc_lower(sums.v2, sums.v3), mmcc_lower(sums.v4, sums.v5),
                     mmcc_lower(sums.v6, sums.v7));
}

MMCC_INLINE mmcc_sums mmcc_second_of_pair(mmcc_pair_sums sums)
{
    return mmcc_four(mmcc_upper(sums.v0, sums.v1), mmcc_upper(sums.v2, sums.v3), mmcc_upper(sums.v4, sums.v5),
                     mmcc_upper(sums.v6, sums.v7));
}

#endif

MMCC_INLINE mmcc_quads mmcc_weave4(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c, mmcc_bytes d)
{
    const int16x8_t low = vreinterpretq_s16_s8(vzip1q_s8(a, b)), high = vreinterpretq_s16_s8(vzip2q_s8(a, b));
    const int16x8_t low2 = vreinterpretq_s16_s8(vzip1q_s8(c, d)), high2 = vreinterpretq_s16_s8(vzip2q_s8(c, d));
    const mmcc_quads quads = {
        vreinterpretq_s8_s16(vzip1q_s16(low, low2)),
        vreinterpretq_s8_s16(vzip2q_s16(low, low2)),
        vreinterpretq_s8_s16(vzip1q_s16(high, high2)),
        vreinterpretq_s8_s16(vzip2q_s16(high, high2)),
    };
    return quads;
}

MMCC_INLINE mmcc_quads mmcc_weave3(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c)
{
    return mmcc_weave4(a, b, c, c);
}

MMCC_INLINE mmcc_sums mmcc_shift_left(mmcc_sums sums, int32_t left)
{
    const int32x4_t count = vdupq_n_s32(left);
    return mmcc_four(vshlq_s32(sums.v0, count), vshlq_s32(sums.v1, count), vshlq_s32(sums.v2, count),
                     vshlq_s32(sums.v3, count));
}

MMCC_INLINE mmcc_scale mmcc_load_scale(const int32_t *block)
{
    const mmcc_scale scale = {mmcc_load_words(block + 32), mmcc_load_words(block + 48)};
    return scale;
}

MMCC_INLINE mmcc_end mmcc_end_of(int32_t zero, int32_t low, int32_t high)
{
    const mmcc_end end = {vdupq_n_s16((int16_t)zero), vdupq_n_s8((int8_t)low), vdupq_n_s8((int8_t)high)};
    return end;
}

/* The product in units of 2^31, and a shift that rounds half up: shifts are 2 at least, so that it is one rounding. */
MMCC_INLINE int16x4_t mmcc_scaled4(int32x4_t sums, int32x4_t multiplier, int32x4_t right)
{
    return vqmovn_s32(vrshlq_s32(vqdmulhq_s32(sums, multiplier), right));
}

MMCC_INLINE mmcc_bytes mmcc_scaled(mmcc_sums sums, mmcc_scale scale, mmcc_end end)
{
    const int16x4_t v0 = mmcc_scaled4(sums.v0, scale.multiplier.v0, scale.right.v0);
    const int16x8_t low = vqmovn_high_s32(v0, vrshlq_s32(vqdmulhq_s32(sums.v1, scale.multiplier.v1), scale.right.v1));
    const int16x4_t v2 = mmcc_scaled4(sums.v2, scale.multiplier.v2, scale.right.v2);
    const int16x8_t high = vqmovn_high_s32(v2, vrshlq_s32(vqdmulhq_s32(sums.v3, scale.multiplier.v3), scale.right.v3));
    const int8x8_t first = vqmovn_s16(vqaddq_s16(low, end.zero));
    const int8x16_t bytes = vqmovn_high_s16(first, vqaddq_s16(high, end.zero));
    return vminq_s8(vmaxq_s8(bytes, end.low), end.high);
}

MMCC_INLINE void mmcc_get_sums(int32_t *to, mmcc_sums sums)
{
    vst1q_s32(to, sums.v0);
    vst1q_s32(to + 4, sums.v1);
    vst1q_s32(to + 8, sums.v2);
    vst1q_s32(to + 12, sums.v3);
}

MMCC_INLINE mmcc_sums mmcc_set_sums(int32_t value)
{
    const int32x4_t all = vdupq_n_s32(value);
    return mmcc_four(all, all, all, all);
}

MMCC_INLINE mmcc_sums mmcc_add_bytes(mmcc_sums sums, mmcc_bytes bytes)
{
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    return mmcc_four(vaddw_s16(sums.v0, vget_low_s16(low)), vaddw_high_s16(sums.v1, low),
                     vaddw_s16(sums.v2, vget_low_s16(high)), vaddw_high_s16(sums.v3, high));
}

MMCC_INLINE int16x4_t mmcc_added4(int16x4_t a, int16x4_t b, mmcc_adder add)
{
    const int32x4_t first = vmlaq_n_s32(vdupq_n_s32(add.offset), vmovl_s16(a), add.a_multiplier);
    const int32x4_t sums = vmlaq_n_s32(first, vmovl_s16(b), add.b_multiplier);
    return vqmovn_s32(vshlq_s32(sums, vdupq_n_s32(-add.bits)));
}

MMCC_INLINE int8x8_t mmcc_added8(int8x8_t a, int8x8_t b, mmcc_adder add)
{
    const int16x8_t x = vmovl_s8(a), y = vmovl_s8(b);
    const int16x4_t low = mmcc_added4(vget_low_s16(x), vget_low_s16(y), add);
    return vqmovn_s16(vcombine_s16(low, mmcc_added4(vget_high_s16(x), vget_high_s16(y), add)));
}

MMCC_INLINE mmcc_bytes mmcc_added(mmcc_bytes a, mmcc_bytes b, mmcc_adder add)
{
    const int8x8_t low = mmcc_added8(vget_low_s8(a), vget_low_s8(b), add);
    const int8x16_t bytes = vcombine_s8(low, mmcc_added8(vget_high_s8(a), vget_high_s8(b), add));
    return vminq_s8(vmaxq_s8(bytes, vdupq_n_s8((int8_t)add.low)), vdupq_n_s8((int8_t)add.high));
}

#elif defined(__wasm_simd128__)

#include <wasm_simd128.h>
#define MMCC_SIMD_PIXELS 4
#define MMCC_SIMD_BLOCKS 1
typedef struct {
    v128_t v0, v1, v2, v3;
} mmcc_sums;
typedef mmcc_sums mmcc_quads;
typedef const int8_t *mmcc_run;
typedef v128_t mmcc_bytes;
typedef struct {
    mmcc_sums multiplier, power, whole;
} mmcc_scale;
typedef struct {
    v128_t twice, low, high;
} mmcc_end;
#define MMCC_LOAD_RUN(from) (from)
#define MMCC_LOAD_QUAD(from) (from)
#define MMCC_DOT(sums, run, quad, weights) mmcc_dot_spread(sums, wasm_v128_load32_splat((run) + 4 * (quad)), weights)

MMCC_INLINE mmcc_sums mmcc_four(v128_t v0, v128_t v1, v128_t v2, v128_t v3)
{
    const mmcc_sums four = {v0, v1, v2, v3};
    return four;
}

MMCC_INLINE v128_t mmcc_even(v128_t bytes)
{
    return wasm_i16x8_shr(wasm_i16x8_shl(bytes, 8), 8);
}

MMCC_INLINE v128_t mmcc_odd(v128_t bytes)
{
    return wasm_i16x8_shr(bytes, 8);
}

/* Bytes as halfwords, even ones and odd ones: products of two are added in one instruction. */
MMCC_INLINE v128_t mmcc_dot4(v128_t sums, v128_t even, v128_t odd, v128_t weights)
{
    sums = wasm_i32x4_add(sums, wasm_i32x4_dot_i16x8(even, mmcc_even(weights)));
    return wasm_i32x4_add(sums, wasm_i32x4_dot_i16x8(odd, mmcc_odd(weights)));
}

MMCC_INLINE mmcc_sums mmcc_dot_spread(mmcc_sums sums, v128_t values, mmcc_quads weights)
{
    const v128_t even = mmcc_even(values), odd = mmcc_odd(values);
    return mmcc_four(mmcc_dot4(sums.v0, even, odd, weights.v0), mmcc_dot4(sums.v1, even, odd, weights.v1),
                     mmcc_dot4(sums.v2, even, odd, weights.v2), mmcc_dot4(sums.v3, even, odd, weights.v3));
}

MMCC_INLINE mmcc_sums mmcc_load_words(const int32_t *from)
{
    return mmcc_four(wasm_v128_load(from), wasm_v128_load(from + 4), wasm_v128_load(from + 8),
                     wasm_v128_load(from + 12));
}

MMCC_INLINE mmcc_sums mmcc_load_sums(const int32_t *block)
{
    return mmcc_load_words(block);
}

MMCC_INLINE mmcc_quads mmcc_load_quads(const int8_t *from)
{
    return mmcc_four(wasm_v128_load(from), wasm_v128_load(from + 16), wasm_v128_load(from + 32),
                     wasm_v128_load(from + 48));
}

MMCC_INLINE v128_t mmcc_dot_both(v128_t sums, v128_t values, v128_t weights)
{
    return mmcc_dot4(sums, mmcc_even(values), mmcc_odd(values), weights);
}

MMCC_INLINE mmcc_sums mmcc_dot_quads(mmcc_sums sums, mmcc_quads values, mmcc_quads weights)
{
    return mmcc_four(mmcc_dot_both(sums.v0, values.v0, weights.v0), mmcc_dot_both(sums.v1, values.v1, weights.v1),
                     mmcc_dot_both(sums.v2, values.v2, weights.v2), mmcc_dot_both(sums.v3, values.v3, weights.v3));
}

MMCC_INLINE v128_t mmcc_zip_low(v128_t a, v128_t b)
{
    return wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

MMCC_INLINE v128_t mmcc_zip_high(v128_t a, v128_t b)
{
    return wasm_i8x16_shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

MMCC_INLINE mmcc_quads mmcc_weave4(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c, mmcc_bytes d)
{
    const v128_t low = mmcc_zip_low(a, b), high = mmcc_zip_high(a, b);
    const v128_t low2 = mmcc_zip_low(c, d), high2 = mmcc_zip_high(c, d);
    return mmcc_four(wasm_i16x8_shuffle(low, low2, 0, 8, 1, 9, 2, 10, 3, 11),
                     wasm_i16x8_shuffle(low, low2, 4, 12, 5, 13, 6, 14, 7, 15),
                     wasm_i16x8_shuffle(high, high2, 0, 8, 1, 9, 2, 10, 3, 11),
                     wasm_i16x8_shuffle(high, high2, 4, 12, 5, 13, 6, 14, 7, 15));
}

MMCC_INLINE mmcc_quads mmcc_weave3(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c)
{
    return mmcc_weave4(a, b, c, c);
}

MMCC_INLINE mmcc_sums mmcc_shift_left(mmcc_sums sums, int32_t left)
{
    const uint32_t count = (uint32_t)left;
    return mmcc_four(wasm_i32x4_shl(sums.v0, count), wasm_i32x4_shl(sums.v1, count), wasm_i32x4_shl(sums.v2, count),
                     wasm_i32x4_shl(sums.v3, count));
}

/* 2^(32 - right) for a negative shift of -2 - right, by the exponent of a float; 0 where right is 0. */
MMCC_INLINE v128_t mmcc_power(v128_t shifts)
{
    const v128_t exponent = wasm_i32x4_add(shifts, wasm_i32x4_const_splat(127 + 32 + 2));
    const v128_t power = wasm_u32x4_trunc_sat_f32x4(wasm_i32x4_shl(exponent, 23));
    return wasm_v128_and(power, wasm_i32x4_lt(shifts, wasm_i32x4_const_splat(-2)));
}

/* All bits where right is 0 or 1. */
MMCC_INLINE v128_t mmcc_whole(v128_t shifts)
{
    return wasm_i32x4_gt(shifts, wasm_i32x4_const_splat(-4));
}

MMCC_INLINE mmcc_scale mmcc_load_scale(const int32_t *block)
{
    const mmcc_sums shifts = mmcc_load_words(block + 48);
    const mmcc_scale scale = {
        mmcc_load_words(block + 32),
        mmcc_four(mmcc_power(shifts.v0), mmcc_power(shifts.v1), mmcc_power(shifts.v2), mmcc_power(shifts.v3)),
        mmcc_four(mmcc_whole(shifts.v0), mmcc_whole(shifts.v1), mmcc_whole(shifts.v2), mmcc_whole(shifts.v3)),
    };
    return scale;
}

MMCC_INLINE mmcc_end mmcc_end_of(int32_t zero, int32_t low, int32_t high)
{
    const mmcc_end end = {
        wasm_i32x4_splat(2 * zero + 1),
        wasm_i8x16_splat((int8_t)low),
        wasm_i8x16_splat((int8_t)high),
    };
    return end;
}

/* The high words of products. */
MMCC_INLINE v128_t mmcc_high4(v128_t a, v128_t b)
{
    const v128_t low = wasm_i64x2_extmul_low_i32x4(a, b), high = wasm_i64x2_extmul_high_i32x4(a, b);
    return wasm_i32x4_shuffle(low, high, 1, 3, 5, 7);
}

/* There is no shift by another count in each lane: the high word of a product with 2^(32 - right) is one. As a signed
 * number that power is 2^32 too low where right is 1; where right is 0 it is not there: the value itself is added. */
MMCC_INLINE v128_t mmcc_scaled4(v128_t sums, v128_t multiplier, v128_t power, v128_t whole, v128_t twice)
{
    const v128_t high = mmcc_high4(sums, multiplier);
    const v128_t shifted = wasm_i32x4_add(mmcc_high4(high, power), wasm_v128_and(high, whole));
    return wasm_i32x4_shr(wasm_i32x4_add(shifted, twice), 1);
}

MMCC_INLINE mmcc_bytes mmcc_scaled(mmcc_sums sums, mmcc_scale scale, mmcc_end end)
{
    const v128_t v0 = mmcc_scaled4(sums.v0, scale.multiplier.v0, scale.power.v0, scale.whole.v0, end.twice);
    const v128_t v1 = mmcc_scaled4(sums.v1, scale.multiplier.v1, scale.power.v1, scale.whole.v1, end.twice);
    const v128_t v2 = mmcc_scaled4(sums.v2, scale.multiplier.v2, scale.power.v2, scale.whole.v2, end.twice);
    const v128_t v3 = mmcc_scaled4(sums.v3, scale.multiplier.v3, scale.power.v3, scale.whole.v3, end.twice);
    const v128_t bytes = wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(v0, v1), wasm_i16x8_narrow_i32x4(v2, v3));
    return wasm_i8x16_min(wasm_i8x16_max(bytes, end.low), end.high);
}

MMCC_INLINE void mmcc_get_sums(int32_t *to, mmcc_sums sums)
{
    wasm_v128_store(to, sums.v0);
    wasm_v128_store(to + 4, sums.v1);
    wasm_v128_store(to + 8, sums.v2);
    wasm_v128_store(to + 12, sums.v3);
}

MMCC_INLINE mmcc_sums mmcc_set_sums(int32_t value)
{
    const v128_t all = wasm_i32x4_splat(value);
    return mmcc_four(all, all, all, all);
}

/* Sixteen bytes as words. */
MMCC_INLINE mmcc_sums mmcc_widened(mmcc_bytes bytes)
{
    const v128_t low = wasm_i16x8_extend_low_i8x16(bytes), high = wasm_i16x8_extend_high_i8x16(bytes);
    return mmcc_four(wasm_i32x4_extend_low_i16x8(low), wasm_i32x4_extend_high_i16x8(low),
                     wasm_i32x4_extend_low_i16x8(high), wasm_i32x4_extend_high_i16x8(high));
}

MMCC_INLINE mmcc_sums mmcc_add_bytes(mmcc_sums sums, mmcc_bytes bytes)
{
    const mmcc_sums more = mmcc_widened(bytes);
    return mmcc_four(wasm_i32x4_add(sums.v0, more.v0), wasm_i32x4_add(sums.v1, more.v1),
                     wasm_i32x4_add(sums.v2, more.v2), wasm_i32x4_add(sums.v3, more.v3));
}

MMCC_INLINE v128_t mmcc_added4(v128_t a, v128_t b, mmcc_adder add)
{
    const v128_t x = wasm_i32x4_mul(a, wasm_i32x4_splat(add.a_multiplier));
    const v128_t y = wasm_i32x4_mul(b, wasm_i32x4_splat(add.b_multiplier));
    return wasm_i32x4_shr(wasm_i32x4_add(wasm_i32x4_add(x, y), wasm_i32x4_splat(add.offset)), (uint32_t)add.bits);
}

MMCC_INLINE mmcc_bytes mmcc_added(mmcc_bytes a, mmcc_bytes b, mmcc_adder add)
{
    const mmcc_sums x = mmcc_widened(a), y = mmcc_widened(b);
    const v128_t low = wasm_i16x8_narrow_i32x4(mmcc_added4(x.v0, y.v0, add), mmcc_added4(x.v1, y.v1, add));
    const v128_t high = wasm_i16x8_narrow_i32x4(mmcc_added4(x.v2, y.v2, add), mmcc_added4(x.v3, y.v3, add));
    const v128_t bytes = wasm_i8x16_narrow_i16x8(low, high);
    return wasm_i8x16_min(wasm_i8x16_max(bytes, wasm_i8x16_splat((int8_t)add.low)), wasm_i8x16_splat((int8_t)add.high));
}

#elif defined(__riscv_vector) && defined(__clang__)

/* Vectors of a fixed length: clang makes code of them for processors with 128 bits a register and more, groups of
 * registers and loads of interleaved fields included. Four values of a pixel are multiplied one by one. */
#define MMCC_SIMD_PIXELS 2
#define MMCC_SIMD_BLOCKS 1
typedef int32_t mmcc_sums __attribute__((vector_size(64)));
typedef int64_t mmcc_wide __attribute__((vector_size(128)));
typedef int16_t mmcc_halves __attribute__((vector_size(32)));
typedef int8_t mmcc_bytes __attribute__((vector_size(16)));
typedef int8_t mmcc_bytes64 __attribute__((vector_size(64)));
typedef struct {
    mmcc_halves v0, v1, v2, v3; /* the first of four for sixteen sums, the second, ... */
} mmcc_quads;
typedef const int8_t *mmcc_run;
typedef struct {
    mmcc_sums multiplier, right;
} mmcc_scale;
typedef struct {
    int32_t twice, low, high;
} mmcc_end;
#define MMCC_SIMD_FENCE(at) __asm__ volatile("" : "+r"(at)::"memory") /* loads far ahead would be spilled */
#define MMCC_LOAD_RUN(from) (from)
#define MMCC_LOAD_QUAD(from) (from)
#define MMCC_DOT(sums, run, quad, weights) mmcc_dot_quad(sums, (run) + 4 * (quad), weights)
#define MMCC_WORDS(some) __builtin_convertvector(some, mmcc_sums)
#define MMCC_EACH_FOURTH(all, k)                                                                                     \
    __builtin_convertvector(__builtin_shufflevector(all, all, k, (k) + 4, (k) + 8, (k) + 12, (k) + 16, (k) + 20,     \
                                                    (k) + 24, (k) + 28, (k) + 32, (k) + 36, (k) + 40,                \
                                                    (k) + 44, (k) + 48, (k) + 52, (k) + 56, (k) + 60),               \
                            mmcc_halves)

MMCC_INLINE mmcc_sums mmcc_dot_quad(mmcc_sums sums, const int8_t *x, mmcc_quads weights)
{
    sums += MMCC_WORDS(weights.v0) * x[0];
    sums += MMCC_WORDS(weights.v1) * x[1];
    sums += MMCC_WORDS(weights.v2) * x[2];
    sums += MMCC_WORDS(weights.v3) * x[3];
    return sums;
}

MMCC_INLINE mmcc_sums mmcc_load_sums(const int32_t *block)
{
    mmcc_sums sums;
    memcpy(&sums, block, sizeof sums);
    return sums;
}

MMCC_INLINE mmcc_quads mmcc_load_quads(const int8_t *from)
{
    mmcc_bytes64 all;
    memcpy(&all, from, sizeof all);
    const mmcc_quads quads = {MMCC_EACH_FOURTH(all, 0), MMCC_EACH_FOURTH(all, 1), MMCC_EACH_FOURTH(all, 2),
                              MMCC_EACH_FOURTH(all, 3)};
    return quads;
}

MMCC_INLINE mmcc_sums mmcc_dot_quads(mmcc_sums sums, mmcc_quads values, mmcc_quads weights)
{
    sums += MMCC_WORDS(values.v0) * MMCC_WORDS(weights.v0);
    sums += MMCC_WORDS(values.v1) * MMCC_WORDS(weights.v1);
    sums += MMCC_WORDS(values.v2) * MMCC_WORDS(weights.v2);
    sums += MMCC_WORDS(values.v3) * MMCC_WORDS(weights.v3);
    return sums;
}

MMCC_INLINE mmcc_quads mmcc_weave4(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c, mmcc_bytes d)
{
    const mmcc_quads quads = {
        __builtin_convertvector(a, mmcc_halves),
        __builtin_convertvector(b, mmcc_halves),
        __builtin_convertvector(c, mmcc_halves),
        __builtin_convertvector(d, mmcc_halves),
    };
    return quads;
}

MMCC_INLINE mmcc_quads mmcc_weave3(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c)
{
    return mmcc_weave4(a, b, c, c);
}

MMCC_INLINE mmcc_sums mmcc_shift_left(mmcc_sums sums, int32_t left)
{
    return sums << left;
}

MMCC_INLINE mmcc_sums mmcc_set_sums(int32_t value)
{
    const mmcc_sums none = {0};
    return none + value;
}

MMCC_INLINE mmcc_scale mmcc_load_scale(const int32_t *block)
{
    const mmcc_scale scale = {mmcc_load_sums(block + 32), -2 - mmcc_load_sums(block + 48)};
    return scale;
}

MMCC_INLINE mmcc_end mmcc_end_of(int32_t zero, int32_t low, int32_t high)
{
    const mmcc_end end = {2 * zero + 1, low, high};
    return end;
}

MMCC_INLINE mmcc_bytes mmcc_between(mmcc_sums sums, int32_t low, int32_t high)
{
    sums = __builtin_elementwise_max(sums, mmcc_set_sums(low));
    return __builtin_convertvector(__builtin_elementwise_min(sums, mmcc_set_sums(high)), mmcc_bytes);
}

MMCC_INLINE mmcc_bytes mmcc_scaled(mmcc_sums sums, mmcc_scale scale, mmcc_end end)
{
    const mmcc_wide multiplier = __builtin_convertvector(scale.multiplier, mmcc_wide);
    const mmcc_wide product = __builtin_convertvector(sums, mmcc_wide) * multiplier;
    const mmcc_sums high = MMCC_WORDS(product >> 32);
    return mmcc_between(((high >> scale.right) + end.twice) >> 1, end.low, end.high);
}

MMCC_INLINE void mmcc_get_sums(int32_t *to, mmcc_sums sums)
{
    memcpy(to, &sums, sizeof sums);
}

MMCC_INLINE mmcc_sums mmcc_add_bytes(mmcc_sums sums, mmcc_bytes bytes)
{
    return sums + MMCC_WORDS(bytes);
}

MMCC_INLINE mmcc_bytes mmcc_added(mmcc_bytes a, mmcc_bytes b, mmcc_adder add)
{
    const mmcc_sums sums = MMCC_WORDS(a) * add.a_multiplier + MMCC_WORDS(b) * add.b_multiplier + add.offset;
    return mmcc_between(sums >> add.bits, add.low, add.high);
}

#else

#define MMCC_SIMD_PIXELS 1
#define MMCC_SIMD_BLOCKS 1
typedef struct {
    int32_t v[16];
} mmcc_sums;
typedef struct {
    int8_t v[64];
} mmcc_quads;
typedef const int8_t *mmcc_run;
typedef struct {
    int8_t v[16];
} mmcc_bytes;
typedef const int32_t *mmcc_scale;
typedef struct {
    int32_t zero, low, high;
} mmcc_end;
#define MMCC_LOAD_RUN(from) (from)
#define MMCC_LOAD_QUAD(from) (from)
#define MMCC_DOT(sums, run, quad, weights) mmcc_dot_quad(sums, (run) + 4 * (quad), weights)

MMCC_INLINE mmcc_sums mmcc_dot_quad(mmcc_sums sums, const int8_t *x, mmcc_quads weights)
{
    for (int32_t k = 0; k < 16; ++k) {
        const int8_t *w = weights.v + 4 * k;
        sums.v[k] += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
    }
    return sums;
}

MMCC_INLINE mmcc_sums mmcc_load_sums(const int32_t *block)
{
    mmcc_sums sums;
    memcpy(sums.v, block, sizeof sums.v);
    return sums;
}

MMCC_INLINE mmcc_quads mmcc_load_quads(const int8_t *from)
{
    mmcc_quads quads;
    memcpy(quads.v, from, sizeof quads.v);
    return quads;
}

MMCC_INLINE mmcc_sums mmcc_dot_quads(mmcc_sums sums, mmcc_quads values, mmcc_quads weights)
{
    for (int32_t k = 0; k < 64; ++k) {
        sums.v[k / 4] += values.v[k] * weights.v[k];
    }
    return sums;
}

MMCC_INLINE mmcc_quads mmcc_weave4(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c, mmcc_bytes d)
{
    mmcc_quads quads;
    for (int32_t k = 0; k < 16; ++k) {
        quads.v[4 * k] = a.v[k];
        quads.v[4 * k + 1] = b.v[k];
        quads.v[4 * k + 2] = c.v[k];
        quads.v[4 * k + 3] = d.v[k];
    }
    return quads;
}

MMCC_INLINE mmcc_quads mmcc_weave3(mmcc_bytes a, mmcc_bytes b, mmcc_bytes c)
{
    return mmcc_weave4(a, b, c, c);
}

MMCC_INLINE mmcc_sums mmcc_shift_left(mmcc_sums sums, int32_t left)
{
    for (int32_t k = 0; k < 16; ++k) {
        sums.v[k] *= (int32_t)1 << left;
    }
    return sums;
}

MMCC_INLINE mmcc_scale mmcc_load_scale(const int32_t *block)
{
    return block + 32;
}

MMCC_INLINE mmcc_end mmcc_end_of(int32_t zero, int32_t low, int32_t high)
{
    const mmcc_end end = {zero, low, high};
    return end;
}

MMCC_INLINE mmcc_bytes mmcc_scaled(mmcc_sums sums, mmcc_scale scale, mmcc_end end)
{
    mmcc_bytes bytes;
    for (int32_t k = 0; k < 16; ++k) {
        const int32_t value = mmcc_requantize_high(sums.v[k], scale[k], -2 - scale[k + 16], 2 * end.zero + 1);
        bytes.v[k] = (int8_t)mmcc_clamp(value, end.low, end.high);
    }
    return bytes;
}

MMCC_INLINE void mmcc_get_sums(int32_t *to, mmcc_sums sums)
{
    memcpy(to, sums.v, sizeof sums.v);
}

MMCC_INLINE mmcc_sums mmcc_set_sums(int32_t value)
{
    mmcc_sums sums;
    for (int32_t k = 0; k < 16; ++k) {
        sums.v[k] = value;
    }
    return sums;
}

MMCC_INLINE mmcc_sums mmcc_add_bytes(mmcc_sums sums, mmcc_bytes bytes)
{
    for (int32_t k = 0; k < 16; ++k) {
        sums.v[k] += bytes.v[k];
    }
    return sums;
}

MMCC_INLINE mmcc_bytes mmcc_added(mmcc_bytes a, mmcc_bytes b, mmcc_adder add)
{
    for (int32_t k = 0; k < 16; ++k) {
        const int32_t sum = add.offset + a.v[k] * add.a_multiplier + b.v[k] * add.b_multiplier;
        a.v[k] = (int8_t)mmcc_clamp(sum >> add.bits, add.low, add.high);
    }
    return a;
}

#endif

#if !defined(MMCC_SIMD_FENCE)
#define MMCC_SIMD_FENCE(at)
#endif

/* The first `count` of 16 bytes; zeros behind them. */
MMCC_INLINE mmcc_bytes mmcc_load_bytes(const int8_t *from, int32_t count)
{
    int8_t some[16] = {0};
    mmcc_bytes bytes;
    memcpy(some, from, (size_t)count);
    memcpy(&bytes, some, 16);
    return bytes;
}

MMCC_INLINE mmcc_bytes mmcc_load_16(const int8_t *from)
{
    mmcc_bytes bytes;
    memcpy(&bytes, from, 16);
    return bytes;
}

MMCC_INLINE void mmcc_store_bytes(int8_t *to, mmcc_bytes bytes, int32_t count)
{
    if (count >= 16) {
        memcpy(to, &bytes, 16);
    } else {
        int8_t all[16];
        memcpy(all, &bytes, 16);
        memcpy(to, all, (size_t)count);
    }
}

#endif
