/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: sums of int8 products as they are, for outputs in float, on cores with Arm's DSP instructions. */
#ifndef MMCC_ARM_DSP_SUMS_H
#define MMCC_ARM_DSP_SUMS_H

#include "mmcc_arm_dsp.h"

#include <stdint.h>
#include <string.h>

/* As mmcc_dsp_scaled8 and mmcc_dsp_plain4, but y are int32, and scale has biases only. */
MMCC_DSP_ASSEMBLY static void mmcc_dsp_scaled_sums(__attribute__((unused)) const mmcc_dsp_pixels *pixels)
{
    MMCC_DSP_BLOCKS("r0-r7",
                    MMCC_DSP_X_SCALED MMCC_DSP_SCALED(r0, r1) MMCC_DSP_SCALED(r2, r3) MMCC_DSP_SCALED(r4, r5)
                        MMCC_DSP_SCALED(r6, r7),
                    "", " stm r8!, {r0-r7}\n");
}

MMCC_DSP_ASSEMBLY static void mmcc_dsp_plain_sums(__attribute__((unused)) const mmcc_dsp_pixels *pixels)
{
    MMCC_DSP_BLOCKS("r0-r3", MMCC_DSP_X_PLAIN MMCC_DSP_PLAIN(r0, r1) MMCC_DSP_PLAIN(r2, r3), "",
                    " stm r8!, {r0-r3}\n");
}

/* All filters of one pixel; weights are in blocks of 8, which are scaled, or of 4. Alters its argument. */
MMCC_CODE_ATTRIBUTE __attribute__((unused)) static void
mmcc_dsp_pixel_sums(mmcc_dsp_pixels *pixel, bool scaled, int32_t filters, int32_t taps)
{
    const int32_t rest = filters & (scaled ? 7 : 3), whole = filters - rest;
    pixel->blocks = mmcc_shift_right(filters, scaled ? 3 : 2);
    if (pixel->blocks > 0) {
        if (scaled) {
            mmcc_dsp_scaled_sums(pixel);
        } else {
            mmcc_dsp_plain_sums(pixel);
        }
        pixel->weights += whole * taps;
        pixel->scale += whole;
        pixel->y += 4 * whole;
    }
    if (rest > 0) { /* a block is made beside and copied */
        int32_t spare[8];
        int8_t *const y = pixel->y;
        pixel->y = (int8_t *)spare;
        pixel->blocks = 1;
        if (scaled) {
            mmcc_dsp_scaled_sums(pixel);
        } else {
            mmcc_dsp_plain_sums(pixel);
        }
        memcpy(y, spare, (size_t)(4 * rest));
    }
}

#endif
