/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: int8 convolutions for Armv6-M, which multiplies 32x32->32 and has no other help: two pixels in one
 * multiplication. A word holds the values of both, x0 + 65536 * x1, so its product with a weight holds both products.
 * Two such words are added up, p = s0 + 65536 * s1, and as no two weights side by side are both -128, s0 and s1 fit 16
 * bits: s1 is (p + 32768) >> 16. What is left of the sum of all p is the sum of all s0, however much
 * wraps on the way. */
#ifndef MMCC_ARMV6M_H
#define MMCC_ARMV6M_H

#include "mmcc_runtime.h"

#include <stdint.h>

/* A function that is assembly as a whole: compilers must not change how it is called. */
#if defined(__clang__)
#define MMCC_ARMV6M_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noinline, unused))
#else
#define MMCC_ARMV6M_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noipa, unused))
#endif

/* clang-format off */
/* The next values of two pixels side by side, a word each; returns what follows in `to`. */
MMCC_ARMV6M_ASSEMBLY static uint32_t *mmcc_pair_values(__attribute__((unused)) const int8_t *x0,
                                                       __attribute__((unused)) const int8_t *x1,
                                                       __attribute__((unused)) uint32_t *to,
                                                       __attribute__((unused)) int32_t count)
{
    __asm__ volatile(".syntax unified\n push {r4-r7, lr}\n movs r4, #0\n lsls r5, r3, #31\n beq 2f\n"
                     " ldrsb r5, [r0, r4]\n ldrsb r6, [r1, r4]\n movs r4, #1\n lsls r6, r6, #16\n adds r5, r5, r6\n"
                     " stmia r2!, {r5}\n b 2f\n"
                     "1: ldrsb r5, [r0, r4]\n ldrsb r6, [r1, r4]\n adds r4, r4, #1\n lsls r6, r6, #16\n"
                     " adds r5, r5, r6\n ldrsb r6, [r0, r4]\n ldrsb r7, [r1, r4]\n adds r4, r4, #1\n"
                     " lsls r7, r7, #16\n adds r6, r6, r7\n stmia r2!, {r5, r6}\n"
                     "2: cmp r4, r3\n blt 1b\n movs r0, r2\n pop {r4-r7, pc}\n" ::: "memory");
}

/* Two weights, in r6 and `b`, times words of values, r2 and r3: p in r6, and what is added to both sums of a filter. */
#define MMCC_PAIRS_PRODUCTS(b, sum, high)                                                                      \
    " muls r6, r2, r6\n muls " #b ", r3, " #b "\n adds r6, r6, " #b "\n add r6, r12\n add " #sum ", r6\n"       \
    " asrs r6, r6, #16\n add " #high ", r6\n"

/* The sums of four filters for the words of values up to `end`, a multiple of four: of each filter that of the first
 * pixel and that of the second. Weights lie as they are read: two filters, of each in turn a word of four weights. */
MMCC_ARMV6M_ASSEMBLY static void mmcc_pairs_products(__attribute__((unused)) const uint32_t *values,
                                                     __attribute__((unused)) const uint32_t *end,
                                                     __attribute__((unused)) const int8_t *weights,
                                                     __attribute__((unused)) int32_t *sums)
{
    __asm__ volatile(".syntax unified\n push {r4-r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
                     " push {r4-r7}\n mov lr, r1\n subs r4, r0, r1\n lsls r4, r4, #12\n" /* -32768 for every p */
                     " movs r5, #128\n lsls r5, r5, #8\n mov r12, r5\n movs r5, #2\n push {r0, r3, r4, r5}\n"
                     " movs r1, r2\n"
                     "1: ldr r0, [sp]\n ldr r4, [sp, #8]\n mov r8, r4\n mov r10, r4\n movs r4, #0\n mov r9, r4\n"
                     " mov r11, r4\n"
                     "2: ldmia r1!, {r4, r5}\n ldmia r0!, {r2, r3}\n"
                     " sxtb r6, r4\n lsls r7, r4, #16\n asrs r7, r7, #24\n" MMCC_PAIRS_PRODUCTS(r7, r8, r9)
                     " sxtb r6, r5\n lsls r7, r5, #16\n asrs r7, r7, #24\n" MMCC_PAIRS_PRODUCTS(r7, r10, r11)
                     " ldmia r0!, {r2, r3}\n"
                     " lsls r6, r4, #8\n asrs r6, r6, #24\n asrs r4, r4, #24\n" MMCC_PAIRS_PRODUCTS(r4, r8, r9)
                     " lsls r6, r5, #8\n asrs r6, r6, #24\n asrs r5, r5, #24\n" MMCC_PAIRS_PRODUCTS(r5, r10, r11)
                     " cmp r0, lr\n bcc 2b\n"
                     " ldr r2, [sp, #4]\n mov r4, r8\n mov r5, r9\n lsls r3, r5, #16\n subs r4, r4, r3\n mov r6, r10\n"
                     " mov r7, r11\n lsls r3, r7, #16\n subs r6, r6, r3\n stmia r2!, {r4-r7}\n str r2, [sp, #4]\n"
                     " ldr r5, [sp, #12]\n subs r5, r5, #1\n str r5, [sp, #12]\n bne 1b\n"
                     " add sp, #16\n pop {r4-r7}\n mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n"
                     " pop {r4-r7, pc}\n" ::: "memory");
}
/* clang-format on */

#endif
