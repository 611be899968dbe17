/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between regions of memory that go on while a model computes: what the firmware writes for them. */
#ifndef MMCC_MOVES_H
#define MMCC_MOVES_H

#include "mmcc_runtime.h"

#ifdef MMCC_PORT_HEADER
#include MMCC_PORT_HEADER /* defines what follows, where a data cache is between the processor and a memory */
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Of bytes in memories whose [[memory]] has a cache_line; they begin and end where lines do. The first writes back what
 * the processor has changed in its cache: the source of a copy, before it starts. The second drops lines from the
 * cache, changed or not: those of the target, before the copy starts and again when it is complete. Without a
 * definition the cache is off, or the callbacks do that. CMSIS has SCB_CleanDCache_by_Addr and
 * SCB_InvalidateDCache_by_Addr. */
#ifndef MMCC_CACHE_CLEAN
#define MMCC_CACHE_CLEAN(address, bytes) ((void)0)
#endif
#ifndef MMCC_CACHE_INVALIDATE
#define MMCC_CACHE_INVALIDATE(address, bytes) ((void)0)
#endif

/* The first begins to copy `bytes` bytes and returns, so that a DMA can go on while the model computes. `move` is
 * below <NAME>_MOVES; each move has one copy in a run, and copies of several may go on at once. The second returns
 * when the copy of that move is complete, and the processor sees it; NULL if the first returns no sooner. Both return
 * 0, or another number to end the run. */
typedef int32_t (*mmcc_start_move)(void *user, uint32_t move, void *to, const void *from, uint32_t bytes);
typedef int32_t (*mmcc_wait_move)(void *user, uint32_t move);

/* How a context copies, part of it. */
typedef struct {
    mmcc_start_move start;
    mmcc_wait_move wait;
    void *user;
} mmcc_mover;

#ifdef __cplusplus
}
#endif

#endif
