/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc runtime: what compilers are told of loops. */
#ifndef MMCC_LOOPS_H
#define MMCC_LOOPS_H

/* Before a loop of few turns that compares floats: gcc at -O3 writes its turns out before it looks for vectors, and
 * then jumps for each element. Others find the vectors by themselves. */
#if defined(__GNUC__) && !defined(__clang__)
#define MMCC_KEEP_LOOP _Pragma("GCC unroll 1")
#else
#define MMCC_KEEP_LOOP
#endif

#endif
