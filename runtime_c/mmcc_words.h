/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc runtime: what kernels move elements of four bytes by, floats and integers alike. */
#ifndef MMCC_WORDS_H
#define MMCC_WORDS_H

#include <stdint.h>

/* To C a float is no uint32_t: where a compiler sees one kernel write the one and the next read the other, as with
 * link-time optimization, it may exchange them. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((may_alias)) mmcc_word;
#else
typedef uint32_t mmcc_word; /* a compiler that goes by types must be told not to */
#endif

#endif
