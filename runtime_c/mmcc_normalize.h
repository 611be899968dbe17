/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: reciprocal square roots in integers, the same on every core. compiler/mmcc/ops/layer_norm.py has them in
 * numpy. */
#ifndef MMCC_NORMALIZE_H
#define MMCC_NORMALIZE_H

#include "mmcc_runtime.h"

#include <stdint.h>

/* Shift *value, which is not 0, left by an even number until one of its upper two bits is set; that number. */
MMCC_INLINE int32_t mmcc_normalize(uint64_t *value)
{
    int32_t up = (*value >> 32) == 0 ? 32 : 0;
    uint32_t high = (uint32_t)(*value >> (32 - up));
#if defined(__ARM_FEATURE_CLZ)
    up += __builtin_clz(high) & 30;
#else
    for (int32_t step = 16; step > 1; step /= 2) {
        if (high >> (32 - step) == 0) {
            high <<= step;
            up += step;
        }
    }
#endif
    *value <<= up;
    return up;
}

MMCC_INLINE uint32_t mmcc_newton_step(uint32_t y, uint32_t t)
{
    const uint32_t square = (uint32_t)(((uint64_t)y * y) >> 31);
    const uint32_t left = (3u << 29) - (uint32_t)(((uint64_t)square * t) >> 32);
    return (uint32_t)(((uint64_t)y * left) >> 30);
}

/* 1 / sqrt(t / 2^32) in units of 2^-30, below 2^31, of 2^30 <= t: a line, then four steps of Newton's. */
MMCC_INLINE int32_t mmcc_reciprocal_root(uint32_t t)
{
    uint32_t y = 2362232012u - (uint32_t)(((uint64_t)1395864371u * t) >> 32);
    y = mmcc_newton_step(mmcc_newton_step(mmcc_newton_step(mmcc_newton_step(y, t), t), t), t);
    return (int32_t)(y < 0x7FFFFFFFu ? y : 0x7FFFFFFFu);
}

#endif
