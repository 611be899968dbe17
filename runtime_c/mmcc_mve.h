/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: what kernels for Armv8.1-M vectors (Helium) share. Assembly stands where a loop's tail shall cost nothing:
 * compilers do not predicate loops by themselves. */
#ifndef MMCC_MVE_H
#define MMCC_MVE_H

#ifndef __ARM_FEATURE_MVE
#error "compiled for a core with Helium (Cortex-M55): use its flags, or compile for this target"
#endif

#include "mmcc_runtime.h"

#include <arm_mve.h>
#include <stdint.h>

/* Copies `count` bytes, 16 at a time; the two do not overlap. */
MMCC_INLINE void mmcc_mve_copy(int8_t *to, const int8_t *from, int32_t count)
{
    __asm__ volatile("    wlstp.8 lr, %[count], 2f\n"
                     "1:  vldrb.8 q0, [%[from]], #16\n"
                     "    vstrb.8 q0, [%[to]], #16\n"
                     "    letp lr, 1b\n"
                     "2:\n"
                     : [to] "+r"(to), [from] "+r"(from)
                     : [count] "r"(count)
                     : "lr", "q0", "memory");
}

/* Sets `count` bytes. */
MMCC_INLINE void mmcc_mve_fill(int8_t *to, int32_t value, int32_t count)
{
    __asm__ volatile("    vdup.8 q0, %[value]\n"
                     "    wlstp.8 lr, %[count], 2f\n"
                     "1:  vstrb.8 q0, [%[to]], #16\n"
                     "    letp lr, 1b\n"
                     "2:\n"
                     : [to] "+r"(to)
                     : [count] "r"(count), [value] "r"(value)
                     : "lr", "q0", "memory");
}

#endif
