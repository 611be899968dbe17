/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters that were trained, kept in two slots of memory that does not forget: what the firmware writes for that,
 * and how it is used. */
#ifndef MMCC_PARAMETERS_H
#define MMCC_PARAMETERS_H

#include "mmcc_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MMCC_HELPER MMCC_CODE_ATTRIBUTE __attribute__((unused)) static

/* Slots are 0 and 1, each of <NAME>_PARAMETERS_SAVED + MMCC_PARAMETERS_MARK bytes. Both functions return 0, or another
 * number if they fail. Reading a slot that was never written may give anything. A save writes one slot from its first
 * byte to its last, in order, in pieces of a multiple of 4 bytes: flash is erased when `offset` is 0. */
typedef int32_t (*mmcc_read_parameters)(void *user, uint32_t slot, uint32_t offset, void *to, uint32_t bytes);
typedef int32_t (*mmcc_write_parameters)(void *user, uint32_t slot, uint32_t offset, const void *from, uint32_t bytes);

/* What lies in a slot behind the parameters, and is written last. */
typedef struct {
    uint32_t layout;   /* which parameters lie where: another model's are not taken */
    uint32_t sequence; /* 1 more than that of the set before */
    uint32_t crc;      /* of the parameters and the two numbers above */
} mmcc_saved_parameters;

#define MMCC_PARAMETERS_MARK 12u /* bytes of that */

/* The parameters of a model. */
typedef struct {
    uint32_t bytes, layout;
} mmcc_parameters_layout;

MMCC_HELPER uint32_t mmcc_crc32(uint32_t crc, const void *data, uint32_t bytes)
{
    const uint8_t *const from = (const uint8_t *)data;
    crc = ~crc;
    for (uint32_t i = 0; i < bytes; ++i) {
        crc ^= from[i];
        for (int32_t bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

/* The sum over the parameters, that `crc` is of, and what identifies them. */
MMCC_HELPER uint32_t mmcc_parameters_sum(uint32_t crc, const mmcc_saved_parameters *mark)
{
    const uint32_t numbers[2] = {mark->layout, mark->sequence};
    return mmcc_crc32(crc, numbers, (uint32_t)sizeof numbers);
}

/* Reads the mark of a slot; false if what is there is no whole set of these parameters. */
MMCC_HELPER bool mmcc_whole_parameters(const mmcc_parameters_layout *layout, mmcc_read_parameters read,
                                       void *user, uint32_t slot, mmcc_saved_parameters *mark)
{
    uint32_t piece[16];
    uint32_t crc = 0;
    if (read(user, slot, layout->bytes, mark, (uint32_t)sizeof *mark) != 0 || mark->layout != layout->layout) {
        return false;
    }
    for (uint32_t at = 0; at < layout->bytes; at += (uint32_t)sizeof piece) {
        const uint32_t left = layout->bytes - at;
        const uint32_t bytes = left < sizeof piece ? left : (uint32_t)sizeof piece;
        if (read(user, slot, at, piece, bytes) != 0) {
            return false;
        }
        crc = mmcc_crc32(crc, piece, bytes);
    }
    return mmcc_parameters_sum(crc, mark) == mark->crc;
}

/* The slot of the newest whole set, or -1. */
MMCC_HELPER int32_t mmcc_newest_parameters(const mmcc_parameters_layout *layout, mmcc_read_parameters read,
                                           void *user, mmcc_saved_parameters *newest)
{
    int32_t found = -1;
    for (uint32_t slot = 0; slot < 2; ++slot) {
        mmcc_saved_parameters mark;
        if (mmcc_whole_parameters(layout, read, user, slot, &mark)
            && (found < 0 || (int32_t)(mark.sequence - newest->sequence) > 0)) {
            *newest = mark;
            found = (int32_t)slot;
        }
    }
    return found;
}

/* Writes to the slot that the newest whole set is not in; the mark comes last. */
MMCC_HELPER bool mmcc_save_parameters(const mmcc_parameters_layout *layout, const void *from,
                                      mmcc_read_parameters read, mmcc_write_parameters write, void *user)
{
    mmcc_saved_parameters newest;
    const int32_t known = mmcc_newest_parameters(layout, read, user, &newest);
    const uint32_t slot = known == 0 ? 1u : 0u;
    mmcc_saved_parameters mark = {layout->layout, known < 0 ? 1u : newest.sequence + 1u, 0u};
    mark.crc = mmcc_parameters_sum(mmcc_crc32(0u, from, layout->bytes), &mark);
    return write(user, slot, 0u, from, layout->bytes) == 0
        && write(user, slot, layout->bytes, &mark, (uint32_t)sizeof mark) == 0;
}

/* Reads a slot that was whole; false if what comes is not what its mark is of. */
MMCC_HELPER bool mmcc_load_parameters(const mmcc_parameters_layout *layout, void *to, uint32_t slot,
                                      const mmcc_saved_parameters *mark, mmcc_read_parameters read, void *user)
{
    return read(user, slot, 0u, to, layout->bytes) == 0
        && mmcc_parameters_sum(mmcc_crc32(0u, to, layout->bytes), mark) == mark->crc;
}

#ifdef __cplusplus
}
#endif

#endif
