/* SPDX-License-Identifier: Apache-2.0 */
/* Layers in chunks that several threads make: what the application writes for them. */
#ifndef MMCC_THREADS_H
#define MMCC_THREADS_H

#include "mmcc_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes one chunk. It is the model's, never returns an error, and may run in any thread beside other chunks. */
typedef void (*mmcc_task)(void *work, int32_t chunk);

/* You write this: call task(work, chunk) once for each chunk from 0 to chunks - 1, in any order and in any threads, and
 * return when all are done and what they wrote is seen by the calling thread. */
typedef void (*mmcc_parallel)(void *user, mmcc_task task, void *work, int32_t chunks);

/* How a context has chunks made, part of it. */
typedef struct {
    mmcc_parallel parallel;
    void *user;
} mmcc_threads;

#ifdef __cplusplus
}
#endif

#endif
