/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sums of recurrent layers on Armv8.1-M vectors (Helium). */
#ifndef MMCC_RECURRENT_MVE_H
#define MMCC_RECURRENT_MVE_H

#include "mmcc_mve_assembly.h"
#include "mmcc_recurrent.h"
#include "mmcc_runtime.h"

#include <arm_mve.h>
#include <stdint.h>

/* What sums of a few gates are made of. The assembly below knows where the members are. Of each gate lie four numbers
 * that sums over x begin with and four rows of weights for x, one behind the other; then the same for h, but of the
 * rows sixteen weights of each in turn, then the rest of each. */
typedef struct {
    const int8_t *w;
    const int8_t *x;
    int32_t channels; /* of x */
    const int8_t *h_low;
    const int8_t *h_high;
    int32_t units;
    int32_t *sums; /* of each gate four over x, then four over h */
    int32_t *end;
} mmcc_mve_gates;

/* h is its high byte times 256, its low one less 128, and 128. The bytes lie apart: so products take bytes as they do
 * of x, and only what sums over h begin with knows of the 128. */
MMCC_INLINE void mmcc_mve_split(int32x4_t value, int8_t *low, int32_t apart)
{
    vstrbq_s32(low, vaddq_n_s32(value, 128));
    vstrbq_s32(low + apart, vshrq_n_s32(value, 8));
}

MMCC_INLINE int32x4_t mmcc_mve_joined(const int8_t *low, int32_t apart)
{
    return vaddq_s32(vshlq_n_s32(vldrbq_s32(low + apart), 8), vaddq_n_s32(vldrbq_s32(low), 128));
}

MMCC_INLINE void mmcc_mve_split_all(const int16_t *values, int32_t units, int8_t *low, int32_t apart)
{
    for (int32_t unit = 0; unit < units; unit += 4) {
        mmcc_mve_split(vldrhq_z_s32(values + unit, vctp32q((uint32_t)(units - unit))), low + unit, apart);
    }
}

MMCC_INLINE void mmcc_mve_join_all(int16_t *values, int32_t units, const int8_t *low, int32_t apart)
{
    for (int32_t unit = 0; unit < units; unit += 4) {
        vstrhq_p_s32(values + unit, mmcc_mve_joined(low + unit, apart), vctp32q((uint32_t)(units - unit)));
    }
}

/* Sixteen weights of a row times values of x in q0, or, of one at r9, of h in q0 and q3. */
#define MMCC_MVE_ROW(row, sum, step) " vldrb.u8 q1, [" row "]" step "\n vmladava.s8 " sum ", q0, q1\n"
#define MMCC_MVE_ROW_OF_H(low, high, step) MMCC_MVE_ROW("r9", low, step) " vmladava.s8 " high ", q3, q1\n"
#define MMCC_MVE_SIXTEEN_OF_H                                                                                  \
    " vldrb.u8 q0, [r1], #16\n vldrb.u8 q3, [r3], #16\n" MMCC_MVE_ROW_OF_H("r0", "r8", ", #16")                \
        MMCC_MVE_ROW_OF_H("r2", "r10", ", #16") MMCC_MVE_ROW_OF_H("r4", "r12", ", #16")                        \
            MMCC_MVE_ROW_OF_H("r6", "r14", ", #16")

/* The sums of a block of four units; where the weights go on. */
MMCC_MVE_ASSEMBLY static const int8_t *mmcc_mve_sums(__attribute__((unused)) const mmcc_mve_gates *gates)
{
    /* clang-format off */
    __asm__ volatile("push {r4-r11, lr}\n mov r7, r0\n ldr r9, [r7]\n ldr r11, [r7, #24]\n"
                     /* of each gate over x */
                     "1: ldm r9!, {r0, r2, r4, r6}\n ldrd r1, r5, [r7, #4]\n"
                     " add r8, r9, r5\n add r10, r8, r5\n add r12, r10, r5\n add r3, r12, r5\n wlstp.8 lr, r5, 3f\n"
                     "2: vldrb.u8 q0, [r1], #16\n"
                     MMCC_MVE_ROW("r9", "r0", ", #16") MMCC_MVE_ROW("r8", "r2", ", #16")
                     MMCC_MVE_ROW("r10", "r4", ", #16") MMCC_MVE_ROW("r12", "r6", ", #16")
                     " letp lr, 2b\n"
                     "3: mov r9, r3\n stm r11!, {r0, r2, r4, r6}\n"
                     /* over h, in r0 to r6 of low bytes and in r8 to r14 of high ones, 32 units a turn */
                     " ldm r9!, {r0, r2, r4, r6}\n ldrd r1, r3, [r7, #12]\n ldr r5, [r7, #20]\n"
                     " mov r8, #0\n mov r10, #0\n mov r12, #0\n mov r14, #0\n"
                     " lsrs r5, r5, #5\n bcs 9f\n beq 7f\n"
                     "5: " MMCC_MVE_SIXTEEN_OF_H
                     "6: " MMCC_MVE_SIXTEEN_OF_H
                     " subs r5, #1\n bne 5b\n"
                     "7: ldr r5, [r7, #20]\n ands r5, r5, #15\n beq 8f\n"
                     " vctp.8 r5\n vpstt\n vldrbt.u8 q0, [r1]\n vldrbt.u8 q3, [r3]\n"
                     MMCC_MVE_ROW_OF_H("r0", "r8", "") " add r9, r5\n"
                     MMCC_MVE_ROW_OF_H("r2", "r10", "") " add r9, r5\n"
                     MMCC_MVE_ROW_OF_H("r4", "r12", "") " add r9, r5\n"
                     " vpst\n vldrbt.u8 q1, [r9]\n add r9, r5\n" /* the rows before read on, this one does not */
                     " vmladava.s8 r6, q0, q1\n vmladava.s8 r14, q3, q1\n"
                     "8: add r0, r0, r8, lsl #8\n add r2, r2, r10, lsl #8\n"
                     " add r4, r4, r12, lsl #8\n add r6, r6, r14, lsl #8\n"
                     " stm r11!, {r0, r2, r4, r6}\n"
                     " ldr r5, [r7, #28]\n cmp r11, r5\n bne 1b\n mov r0, r9\n pop {r4-r11, pc}\n"
                     "9: add r5, #1\n b 6b\n" ::: "memory");
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

/* The first `count` of four values. Compilers would make the predicate long before, and carry it about. */
MMCC_INLINE void mmcc_mve_gate_store(int8_t *y, int32x4_t values, int32_t count)
{
    __asm__("" : "+r"(count), "+w"(values)); /* the count is not known before the values are */
    vstrbq_p_s32(y, values, vctp32q((uint32_t)count));
}

#endif
