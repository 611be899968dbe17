/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc runtime: what compilers are told of loops. */
#ifndef MMCC_LOOPS_H
#define MMCC_LOOPS_H

/* Before a loop of few turns that compares floats: gcc at -O3 writes its turns out before it looks for vectors, and
 * then jumps for each element. Others find the vectors by themselves; a pragma that they, or gcc before 8, do not know
 * would be a warning. */
#if defined(__GNUC__) && __GNUC__ >= 8 && !defined(__clang__) && !defined(__INTEL_COMPILER)
#define MMCC_KEEP_LOOP _Pragma("GCC unroll 1")
#else
#define MMCC_KEEP_LOOP
#endif

#endif
