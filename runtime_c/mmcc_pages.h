/* SPDX-License-Identifier: Apache-2.0 */
/* Values that leave for slow memory and come back while a model computes: what the firmware writes for that. */
#ifndef MMCC_PAGES_H
#define MMCC_PAGES_H

#include "mmcc_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first begins to copy `bytes` bytes and returns, so that a DMA can go on while the model computes: from `fast`, in
 * the arena, to byte `slow` of your slow memory if `out` is 1, and back if it is 0. `page` is below <NAME>_PAGES; of
 * each page one copy goes on at a time, and copies of several may go on at once. The second returns when the copy of
 * that page is complete; NULL if the first returns no sooner. Both return 0, or another number to end the run. What a
 * copy reads does not change before it is waited for, and nobody looks at what it writes. Where a data cache is between
 * the processor and the arena, cleaning and invalidating it is the callbacks' matter. */
typedef int32_t (*mmcc_start_page)(void *user, uint32_t page, int32_t out, void *fast, uint32_t slow, uint32_t bytes);
typedef int32_t (*mmcc_wait_page)(void *user, uint32_t page);

/* How a context pages, part of it. */
typedef struct {
    mmcc_start_page start;
    mmcc_wait_page wait;
    void *user;
    int32_t failed; /* what a callback returned, if not 0 */
} mmcc_pager;

/* Begins a copy, unless one has failed. */
MMCC_INLINE void mmcc_begin_page(mmcc_pager *pager, uint32_t page, int32_t out, void *fast, uint32_t slow,
                                 uint32_t bytes)
{
    if (pager->failed == 0) {
        pager->failed = pager->start(pager->user, page, out, fast, slow, bytes);
    }
}

/* Waits for a copy, unless one has failed. */
MMCC_INLINE void mmcc_finish_page(mmcc_pager *pager, uint32_t page)
{
    if (pager->failed == 0 && pager->wait != NULL) {
        pager->failed = pager->wait(pager->user, page);
    }
}

#ifdef __cplusplus
}
#endif

#endif
