/* SPDX-License-Identifier: Apache-2.0 */
/* The power goes at every byte of a save, and at every byte of the one that follows it: what is loaded then is the
 * newest set that was written whole. Slots are erased when their first byte is written, as flash is. */
#include "mmcc_parameters.h"

#include <stdio.h>
#include <string.h>

#define BYTES 72u /* more than one piece of those that are summed at a time, and not whole ones */
#define SLOT (BYTES + (uint32_t)sizeof(mmcc_saved_parameters))

static const mmcc_parameters_layout layout = {BYTES, 0x12345678u};

typedef struct {
    uint8_t kept[2][SLOT];
    uint32_t allowed; /* bytes that may still be written before the power goes */
} flash;

static int32_t read_kept(void *user, uint32_t slot, uint32_t offset, void *to, uint32_t bytes)
{
    memcpy(to, ((const flash *)user)->kept[slot] + offset, bytes);
    return 0;
}

static int32_t write_kept(void *user, uint32_t slot, uint32_t offset, const void *from, uint32_t bytes)
{
    flash *const to = user;
    if (offset == 0u && to->allowed > 0u) {
        memset(to->kept[slot], 0xFF, SLOT);
    }
    const uint32_t written = bytes < to->allowed ? bytes : to->allowed;
    memcpy(to->kept[slot] + offset, from, written);
    to->allowed -= written;
    return written == bytes ? 0 : -1;
}

/* A set that is like no other. */
static void make_set(uint8_t *set, uint32_t number)
{
    for (uint32_t i = 0; i < BYTES; ++i) {
        set[i] = (uint8_t)(number * 37u + i * (2u * number + 1u));
    }
}

/* Saves a set; true if it says that all was written. */
static bool save_set(flash *to, uint32_t number, uint32_t allowed)
{
    uint8_t set[BYTES];
    make_set(set, number);
    to->allowed = allowed;
    return mmcc_save_parameters(&layout, set, read_kept, write_kept, to);
}

/* The number of the set that is loaded; 0 if there is none, -1 if it is none that was saved. */
static int32_t loaded(flash *from, uint32_t most)
{
    mmcc_saved_parameters mark;
    uint8_t found[BYTES];
    uint8_t set[BYTES];
    const int32_t slot = mmcc_newest_parameters(&layout, read_kept, from, &mark);
    if (slot < 0) {
        return 0;
    }
    if (!mmcc_load_parameters(&layout, found, (uint32_t)slot, &mark, read_kept, from)) {
        return -1;
    }
    for (uint32_t number = 1; number <= most; ++number) {
        make_set(set, number);
        if (memcmp(found, set, BYTES) == 0) {
            return (int32_t)number;
        }
    }
    return -1;
}

/* 1 if what is loaded is not the newest of those that were saved whole, after a line that says so. */
static int32_t check(flash *from, uint32_t wanted, uint32_t most, uint32_t first, uint32_t second)
{
    const int32_t found = loaded(from, most);
    if (found != (int32_t)wanted) {
        printf("torn at %u and %u: set %d is loaded, not %u\n", (unsigned)first, (unsigned)second, (int)found,
               (unsigned)wanted);
        return 1;
    }
    return 0;
}

int main(void)
{
    int32_t wrong = 0;
    uint32_t tried = 0;
    for (uint32_t before = 0; before <= 3u; ++before) { /* whole sets that were saved before */
        flash clean;
        memset(&clean, 0xFF, sizeof clean);
        for (uint32_t number = 1; number <= before; ++number) {
            wrong += save_set(&clean, number, SLOT) ? 0 : 1;
        }
        for (uint32_t first = 0; first <= SLOT; ++first) {
            flash once = clean;
            const bool whole = save_set(&once, before + 1u, first);
            const uint32_t newest = whole ? before + 1u : before;
            wrong += whole == (first == SLOT) ? 0 : 1;
            wrong += check(&once, newest, before + 1u, first, SLOT);
            for (uint32_t second = 0; second <= SLOT; ++second) {
                flash twice = once;
                const bool also = save_set(&twice, before + 2u, second);
                wrong += also == (second == SLOT) ? 0 : 1;
                wrong += check(&twice, also ? before + 2u : newest, before + 2u, first, second);
                ++tried;
            }
        }
    }
    printf("tried %u\n", (unsigned)tried);
    return wrong == 0 ? 0 : 1;
}
