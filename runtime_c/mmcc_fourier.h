/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: stages of fast Fourier transforms, float; compiler/mmcc/ops/fourier.py has them in numpy. Complex numbers are
 * two floats side by side. A stage joins transforms of `before` numbers; `turns` has for each place in them what all
 * numbers but the first are multiplied by, and is NULL where that is 1. */
#ifndef MMCC_FOURIER_H
#define MMCC_FOURIER_H

#include "mmcc_math.h"

typedef struct {
    float re, im;
} mmcc_complex;

MMCC_INLINE mmcc_complex mmcc_complex_at(const float *z)
{
    const mmcc_complex a = {z[0], z[1]};
    return a;
}

MMCC_INLINE void mmcc_complex_to(float *z, mmcc_complex a)
{
    z[0] = a.re;
    z[1] = a.im;
}

MMCC_INLINE mmcc_complex mmcc_complex_plus(mmcc_complex a, mmcc_complex b)
{
    const mmcc_complex sum = {a.re + b.re, a.im + b.im};
    return sum;
}

MMCC_INLINE mmcc_complex mmcc_complex_minus(mmcc_complex a, mmcc_complex b)
{
    const mmcc_complex difference = {a.re - b.re, a.im - b.im};
    return difference;
}

/* a + factor * b */
MMCC_INLINE mmcc_complex mmcc_complex_more(mmcc_complex a, float factor, mmcc_complex b)
{
    const mmcc_complex sum = {mmcc_fma(factor, b.re, a.re), mmcc_fma(factor, b.im, a.im)};
    return sum;
}

/* a + i * b */
MMCC_INLINE mmcc_complex mmcc_complex_left(mmcc_complex a, mmcc_complex b)
{
    const mmcc_complex sum = {a.re - b.im, a.im + b.re};
    return sum;
}

/* a - i * b */
MMCC_INLINE mmcc_complex mmcc_complex_right(mmcc_complex a, mmcc_complex b)
{
    const mmcc_complex sum = {a.re + b.im, a.im - b.re};
    return sum;
}

MMCC_INLINE mmcc_complex mmcc_complex_times(mmcc_complex a, mmcc_complex b)
{
    const mmcc_complex product = {mmcc_fma(-a.im, b.im, a.re * b.re), mmcc_fma(a.im, b.re, a.re * b.im)};
    return product;
}

/* Number k of a butterfly: those of a stage are `before` numbers apart. */
MMCC_INLINE mmcc_complex mmcc_fourier_read(const float *z, int32_t apart, const float *turn)
{
    const mmcc_complex a = mmcc_complex_at(z + apart);
    return turn == NULL ? a : mmcc_complex_times(a, mmcc_complex_at(turn));
}

MMCC_INLINE void mmcc_fourier_stage2(float *z, int32_t before, int32_t blocks, const float *turns)
{
    const int32_t apart = 2 * before;
    for (int32_t place = 0; place < before; ++place) {
        const float *turn = turns == NULL ? NULL : turns + 2 * place;
        float *at = z + 2 * place;
        for (int32_t block = 0; block < blocks; ++block) {
            const mmcc_complex a = mmcc_complex_at(at);
            const mmcc_complex b = mmcc_fourier_read(at, apart, turn);
            mmcc_complex_to(at, mmcc_complex_plus(a, b));
            mmcc_complex_to(at + apart, mmcc_complex_minus(a, b));
            at += 2 * apart;
        }
    }
}

MMCC_INLINE void mmcc_fourier_stage3(float *z, int32_t before, int32_t blocks, const float *turns)
{
    const int32_t apart = 2 * before;
    const mmcc_complex zero = {0.0f, 0.0f};
    for (int32_t place = 0; place < before; ++place) {
        const float *turn = turns == NULL ? NULL : turns + 4 * place;
        float *at = z + 2 * place;
        for (int32_t block = 0; block < blocks; ++block) {
            const mmcc_complex a = mmcc_complex_at(at);
            const mmcc_complex b = mmcc_fourier_read(at, apart, turn);
            const mmcc_complex c = mmcc_fourier_read(at, 2 * apart, turn == NULL ? NULL : turn + 2);
            const mmcc_complex both = mmcc_complex_plus(b, c);
            const mmcc_complex middle = mmcc_complex_more(a, -0.5f, both);
            const mmcc_complex turned = mmcc_complex_more(zero, 0.866025404f, mmcc_complex_minus(b, c));
            mmcc_complex_to(at, mmcc_complex_plus(a, both));
            mmcc_complex_to(at + apart, mmcc_complex_right(middle, turned));
            mmcc_complex_to(at + 2 * apart, mmcc_complex_left(middle, turned));
            at += 3 * apart;
        }
    }
}

MMCC_INLINE void mmcc_fourier_stage4(float *z, int32_t before, int32_t blocks, const float *turns)
{
    const int32_t apart = 2 * before;
    for (int32_t place = 0; place < before; ++place) {
        const float *turn = turns == NULL ? NULL : turns + 6 * place;
        float *at = z + 2 * place;
        for (int32_t block = 0; block < blocks; ++block) {
            const mmcc_complex a = mmcc_complex_at(at);
            const mmcc_complex b = mmcc_fourier_read(at, apart, turn);
            const mmcc_complex c = mmcc_fourier_read(at, 2 * apart, turn == NULL ? NULL : turn + 2);
            const mmcc_complex d = mmcc_fourier_read(at, 3 * apart, turn == NULL ? NULL : turn + 4);
            const mmcc_complex even = mmcc_complex_plus(a, c);
            const mmcc_complex odd = mmcc_complex_plus(b, d);
            const mmcc_complex even_apart = mmcc_complex_minus(a, c);
            const mmcc_complex odd_apart = mmcc_complex_minus(b, d);
            mmcc_complex_to(at, mmcc_complex_plus(even, odd));
            mmcc_complex_to(at + apart, mmcc_complex_right(even_apart, odd_apart));
            mmcc_complex_to(at + 2 * apart, mmcc_complex_minus(even, odd));
            mmcc_complex_to(at + 3 * apart, mmcc_complex_left(even_apart, odd_apart));
            at += 4 * apart;
        }
    }
}

MMCC_INLINE void mmcc_fourier_stage5(float *z, int32_t before, int32_t blocks, const float *turns)
{
    const int32_t apart = 2 * before;
    const mmcc_complex zero = {0.0f, 0.0f};
    const float cos1 = 0.309016994f;
    const float cos2 = -0.809016994f;
    const float sin1 = 0.951056516f;
    const float sin2 = 0.587785252f;
    for (int32_t place = 0; place < before; ++place) {
        const float *turn = turns == NULL ? NULL : turns + 8 * place;
        float *at = z + 2 * place;
        for (int32_t block = 0; block < blocks; ++block) {
            const mmcc_complex a = mmcc_complex_at(at);
            const mmcc_complex b = mmcc_fourier_read(at, apart, turn);
            const mmcc_complex c = mmcc_fourier_read(at, 2 * apart, turn == NULL ? NULL : turn + 2);
            const mmcc_complex d = mmcc_fourier_read(at, 3 * apart, turn == NULL ? NULL : turn + 4);
            const mmcc_complex e = mmcc_fourier_read(at, 4 * apart, turn == NULL ? NULL : turn + 6);
            const mmcc_complex near = mmcc_complex_plus(b, e);
            const mmcc_complex far = mmcc_complex_plus(c, d);
            const mmcc_complex near_apart = mmcc_complex_minus(b, e);
            const mmcc_complex far_apart = mmcc_complex_minus(c, d);
            const mmcc_complex first = mmcc_complex_more(mmcc_complex_more(a, cos1, near), cos2, far);
            const mmcc_complex second = mmcc_complex_more(mmcc_complex_more(a, cos2, near), cos1, far);
            const mmcc_complex turned =
                mmcc_complex_more(mmcc_complex_more(zero, sin1, near_apart), sin2, far_apart);
            const mmcc_complex turned2 =
                mmcc_complex_more(mmcc_complex_more(zero, sin2, near_apart), -sin1, far_apart);
            mmcc_complex_to(at, mmcc_complex_plus(a, mmcc_complex_plus(near, far)));
            mmcc_complex_to(at + apart, mmcc_complex_right(first, turned));
            mmcc_complex_to(at + 2 * apart, mmcc_complex_right(second, turned2));
            mmcc_complex_to(at + 3 * apart, mmcc_complex_left(second, turned2));
            mmcc_complex_to(at + 4 * apart, mmcc_complex_left(first, turned));
            at += 5 * apart;
        }
    }
}

/* A pair of numbers, k from the ends of a transform of real numbers taken by two: half of their sum, and what is to
 * be added for the one and taken off for the other, which is conjugated. */
MMCC_INLINE void mmcc_fourier_pair(mmcc_complex a, mmcc_complex b, float half, const float *turn, mmcc_complex *one,
                                   mmcc_complex *other)
{
    const mmcc_complex even = {half * (a.re + b.re), half * (a.im - b.im)};
    const mmcc_complex apart = {a.re - b.re, a.im + b.im};
    const mmcc_complex odd = mmcc_complex_times(apart, mmcc_complex_at(turn));
    *one = mmcc_complex_plus(even, odd);
    other->re = even.re - odd.re;
    other->im = odd.im - even.im;
}

#endif
