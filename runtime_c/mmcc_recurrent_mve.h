/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sums of recurrent layers on Armv8.1-M vectors (Helium). */
#ifndef MMCC_RECURRENT_MVE_H
#define MMCC_RECURRENT_MVE_H

#include "mmcc_recurrent.h"
#include "mmcc_runtime.h"

#include <arm_mve.h>
#include <stdint.h>

/* A function that is assembly as a whole: compilers must not change how it is called. */
#if defined(__clang__)
#define MMCC_MVE_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noinline, unused))
#else
#define MMCC_MVE_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noipa, unused))
#endif

/* What sums of a few gates are made of: of each gate four numbers that sums over x begin with, and four rows of weights
 * for x and four for h. The assembly below knows where the members are. */
typedef struct {
    const int8_t *w;
    const int8_t *x;
    int32_t channels; /* of x */
    const int16_t *h;
    int32_t units;
    int32_t *sums; /* of each gate four over x, then four over h */
    int32_t gates;
} mmcc_mve_gates;

/* Four rows at `row`, one behind the other, times r2 values at r1; what is behind the rows goes to `next`. What is
 * widened is loaded through one of the first eight registers. */
#define MMCC_MVE_FOUR_ROWS(row, next, begin, lanes, load_values, load_weights, weights_step, type)             \
    " add r5, " row ", r2\n add r7, r5, r2\n add r0, r7, r2\n add " next ", r0, r2\n" begin                     \
    " wlstp." lanes " lr, r2, 2f\n"                                                                            \
    "1: " load_values " q0, [r1], #16\n"                                                                       \
    " " load_weights " q1, [" row "], #" weights_step "\n vmladava." type " r4, q0, q1\n"                     \
    " " load_weights " q2, [r5], #" weights_step "\n vmladava." type " r6, q0, q2\n"                          \
    " " load_weights " q1, [r7], #" weights_step "\n vmladava." type " r8, q0, q1\n"                          \
    " " load_weights " q2, [r0], #" weights_step "\n vmladava." type " r10, q0, q2\n letp lr, 1b\n"           \
    "2: strd r4, r6, [r11], #8\n strd r8, r10, [r11], #8\n"

/* The sums of a block of four units; where the weights go on. On the stack is where the sums end. */
MMCC_MVE_ASSEMBLY static const int8_t *mmcc_mve_sums(__attribute__((unused)) const mmcc_mve_gates *gates)
{
    /* clang-format off */
    __asm__ volatile("push {r4-r11, lr}\n sub sp, sp, #4\n mov r12, r0\n ldr r9, [r12]\n ldrd r11, r1, [r12, #20]\n"
                     " add r1, r11, r1, lsl #5\n str r1, [sp]\n"
                     "3: ldrd r4, r6, [r9], #8\n ldrd r8, r10, [r9], #8\n ldrd r1, r2, [r12, #4]\n"
                     MMCC_MVE_FOUR_ROWS("r9", "r3", "", "8", "vldrb.u8", "vldrb.u8", "16", "s8")
                     " ldrd r1, r2, [r12, #12]\n"
                     MMCC_MVE_FOUR_ROWS("r3", "r9", " mov r4, #0\n mov r6, #0\n mov r8, #0\n mov r10, #0\n",
                                        "16", "vldrh.u16", "vldrb.s16", "8", "s16")
                     " ldr r1, [sp]\n cmp r11, r1\n bne 3b\n mov r0, r9\n add sp, sp, #4\n"
                     " pop {r4-r11, pc}\n" ::: "memory");
    /* clang-format on */
}

/* What mmcc_recurrent.h has, of four units. `numbers` are four scales of x, four of h and four biases. */
MMCC_INLINE int32x4_t mmcc_mve_sum_of_x(const int32_t *sums, int32_t left)
{
    return vmulq_n_s32(vldrwq_s32(sums), left);
}

MMCC_INLINE int32x4_t mmcc_mve_gate_part(int32x4_t sum, const int32_t *scale, const int32_t *bias)
{
    return vaddq_s32(vmulhq_s32(sum, vldrwq_s32(scale)), vldrwq_s32(bias));
}

/* High words, and one where the low ones add up to more than a word. That is the upper bit of half of what they add up
 * to: compilers move predicates about. */
MMCC_INLINE int32x4_t mmcc_mve_gate_sum(int32x4_t over_x, const int32_t *sums, const int32_t *numbers)
{
    const int32x4_t of_x = vldrwq_s32(numbers), of_h = vldrwq_s32(numbers + 4), over_h = vldrwq_s32(sums);
    const uint32x4_t low_x = vreinterpretq_u32_s32(vmulq_s32(over_x, of_x));
    const uint32x4_t half = vhaddq_u32(low_x, vreinterpretq_u32_s32(vmulq_s32(over_h, of_h)));
    const int32x4_t high = vaddq_s32(vmulhq_s32(over_x, of_x), vmulhq_s32(over_h, of_h));
    const int32x4_t carry = vreinterpretq_s32_u32(vshrq_n_u32(half, 31));
    return vaddq_s32(vaddq_s32(high, vldrwq_s32(numbers + 8)), carry);
}

/* Clamps are saturating shifts, and masks shifts, since constants in vectors would take registers. Here the upper ten
 * bits of `place` are a line of the table, the others places on one, of which `bits` count. */
#define MMCC_MVE_LINE(result, table, place, bits)                                                              \
    do {                                                                                                       \
        const uint32x4_t at = vshrq_n_u32(place, 22);                                                          \
        const uint32x4_t part = vshrq_n_u32(vshlq_n_u32(place, 10), 32 - (bits));                              \
        const uint32x4_t from = vldrhq_gather_shifted_offset_u32(table, at);                                   \
        const uint32x4_t rise = vsubq_u32(vldrhq_gather_shifted_offset_u32((table) + 1, at), from);            \
        (result) = vreinterpretq_s32_u32(vaddq_u32(vshlq_n_u32(from, bits), vmulq_u32(rise, part)));           \
        __asm__ volatile("" ::: "memory"); /* or too much is held in registers at once */                      \
    } while (0)

MMCC_INLINE int32x4_t mmcc_mve_gate_sigmoid(const uint16_t *table, int32x4_t value)
{
    const uint32x4_t place = vqshluq_n_s32(vaddq_n_s32(value, 1 << 20), 11);
    int32x4_t found;
    MMCC_MVE_LINE(found, table, place, 11);
    return vrshrq_n_s32(found, 12);
}

MMCC_INLINE int32x4_t mmcc_mve_gate_tanh(const uint16_t *table, int32x4_t value)
{
    const uint32x4_t place = vqshluq_n_s32(vaddq_n_s32(value, 1 << 19), 12);
    int32x4_t found;
    MMCC_MVE_LINE(found, table, place, 10);
    return vrshrq_n_s32(vsubq_n_s32(found, 1 << 25), 10);
}

/* The lower bits of each. */
#define MMCC_MVE_LOW(value, bits)                                                                              \
    vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(vshlq_n_s32(value, 32 - (bits))), 32 - (bits)))

/* In two parts, of 15 bits of c and of 10 of fresh, and what is above these. */
MMCC_INLINE int32x4_t mmcc_mve_gate_cell(int32x4_t forget, int32x4_t c, int32x4_t fresh)
{
    const int32x4_t below = vmulq_s32(forget, MMCC_MVE_LOW(c, 15));
    const int32x4_t rest = vshlq_n_s32(MMCC_MVE_LOW(fresh, 10), 5);
    int32x4_t after = vaddq_s32(vmulq_s32(forget, vshrq_n_s32(c, 15)), vshrq_n_s32(fresh, 10));
    after = vaddq_s32(after, vrshrq_n_s32(vaddq_s32(below, rest), 15));
    return vshrq_n_s32(vqshlq_n_s32(after, 1), 1);
}

/* r times what h alone makes, of any size, in two parts. */
MMCC_INLINE int32x4_t mmcc_mve_gate_times(int32x4_t gate, int32x4_t value)
{
    const int32x4_t below = vrshrq_n_s32(vmulq_s32(gate, MMCC_MVE_LOW(value, 15)), 15);
    return vaddq_s32(vmulq_s32(gate, vshrq_n_s32(value, 15)), below);
}

MMCC_INLINE int32x4_t mmcc_mve_gate_h(int32x4_t exact)
{
    return vshrq_n_s32(vqshlq_n_s32(vrshrq_n_s32(exact, 15), 16), 16);
}

/* As mmcc_requantize_high; 128 too high. */
MMCC_INLINE int32x4_t mmcc_mve_gate_out(int32x4_t exact, int32_t multiplier, int32_t right, int32_t zero)
{
    const int32x4_t value = vshlq_r_s32(vmulhq_s32(exact, vdupq_n_s32(multiplier)), -right);
    return vshrq_n_s32(vaddq_n_s32(value, zero), 1);
}

/* From 0 to 255, as an int8 that is 128 less. */
MMCC_INLINE int32x4_t mmcc_mve_gate_narrow(int32x4_t value)
{
    const uint32x4_t narrow = vshrq_n_u32(vqshluq_n_s32(value, 24), 24);
    return vsubq_n_s32(vreinterpretq_s32_u32(narrow), 128);
}

#endif
