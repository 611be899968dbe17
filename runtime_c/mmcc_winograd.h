/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: tiles of Winograd's F(2x2, 3x3) in floats. Outputs of 2x2 pixels take 16 products for each channel and
 * filter, where windows one by one take 36. A position is one of the 16. The two axes are gone over one by one. */
#ifndef MMCC_WINOGRAD_H
#define MMCC_WINOGRAD_H

#include "mmcc_floats.h"

#define MMCC_WINOGRAD_DEPTH 16 /* channels of a piece, whose values lie on the stack at a time */
#define MMCC_WINOGRAD_BLOCKS 4 /* of 16 filters, whose sums lie there */
#define MMCC_WINOGRAD_SUMS (16 * MMCC_WINOGRAD_BLOCKS)

/* Channels side by side: 16 values of a tile stay in registers. */
#if defined(MMCC_SET4)
#define MMCC_PART 4
typedef mmcc_float4 mmcc_part;
#define MMCC_PART_LOAD MMCC_LOAD4
#define MMCC_PART_STORE MMCC_STORE4
#define MMCC_PART_ADD MMCC_ADD4
#if defined(__ARM_NEON)
#define MMCC_PART_SUB vsubq_f32
#else
#define MMCC_PART_SUB(a, b) MMCC_FMA4(MMCC_SET4(-1.0f), (b), (a)) /* the product is exact */
#endif
#define MMCC_PART_CLAMP(a, low, high) MMCC_HIGH4(MMCC_LOW4(a, MMCC_SET4(low)), MMCC_SET4(high))
#define MMCC_PART_LEAKY(a, slope) MMCC_LEAKY4(a, MMCC_SET4(slope))
#elif defined(__AVX512F__) && defined(__FMA__)
#define MMCC_PART 16
typedef mmcc_float16 mmcc_part;
#define MMCC_PART_LOAD mmcc_load16
#define MMCC_PART_STORE mmcc_store16
#define MMCC_PART_ADD _mm512_add_ps
#define MMCC_PART_SUB _mm512_sub_ps
#define MMCC_PART_CLAMP mmcc_clamp16
#define MMCC_PART_LEAKY mmcc_leaky16
#else
#define MMCC_PART 8
typedef mmcc_float8 mmcc_part;
#define MMCC_PART_LOAD mmcc_load8
#define MMCC_PART_STORE mmcc_store8
#define MMCC_PART_ADD mmcc_add8
#define MMCC_PART_SUB mmcc_sub8
#define MMCC_PART_CLAMP mmcc_clamp8
#define MMCC_PART_LEAKY mmcc_leaky8
#endif

/* Sums, in registers that need not follow each other. */
MMCC_INLINE mmcc_float16 mmcc_winograd_load(const float *from)
{
#if defined(__AVX512F__) && defined(__FMA__)
    return mmcc_load16(from);
#else
    const mmcc_float16 sums = {mmcc_load8(from), mmcc_load8(from + 8)};
    return sums;
#endif
}

/* Both outputs of an axis, from the sums of its four positions: the first three, or the last three. */
MMCC_INLINE mmcc_part mmcc_winograd_first(mmcc_part a, mmcc_part b, mmcc_part c)
{
    return MMCC_PART_ADD(MMCC_PART_ADD(a, b), c);
}

MMCC_INLINE mmcc_part mmcc_winograd_second(mmcc_part b, mmcc_part c, mmcc_part d)
{
    return MMCC_PART_SUB(MMCC_PART_SUB(b, c), d);
}

/* The first `count` channels. */
MMCC_INLINE void mmcc_winograd_store(float *to, mmcc_part a, int32_t count)
{
    if (count >= MMCC_PART) {
        MMCC_PART_STORE(to, a);
    } else {
        float all[MMCC_PART];
        MMCC_PART_STORE(all, a);
        for (int32_t k = 0; k < count; ++k) {
            to[k] = all[k];
        }
    }
}

#endif
