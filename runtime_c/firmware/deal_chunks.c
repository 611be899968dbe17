/* SPDX-License-Identifier: Apache-2.0 */
/* In place of main.c: how evenly a model's chunks are dealt to threads, by processor time, and how fast real threads
 * are.
 *
 *     deal_chunks THREADS RUNS
 *
 * Chunks are made by one thread, each timed, and go to the thread that has least so far, as a pool's would. What no
 * chunk is made of, and the longest share of each layer, is what the model takes. A line for each run, in seconds but
 * for the third: one thread, busiest of the threads, part of the time spent in chunks, one thread and all by the wall
 * clock. */
#define _POSIX_C_SOURCE 200809L /* NOLINT(bugprone-reserved-identifier): what the C library asks for */
#include "adapter.h"
#include "mmcc_threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_THREADS = 64 };

#if MMCC_SERIAL /* a model for one thread is only timed */
static void parallel_with(mmcc_parallel parallel)
{
    (void)parallel;
}
#else
void mmcc_adapter_parallel_with(mmcc_parallel parallel, void *user);

static void parallel_with(mmcc_parallel parallel)
{
    mmcc_adapter_parallel_with(parallel, NULL);
}
#endif

static double seconds(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int threads;
static double in_chunks, longest; /* of one run */

/* Makes chunks one by one, and deals them by the time that each took. */
static void deal(void *user, mmcc_task task, void *work, int32_t chunks)
{
    double shares[MOST_THREADS] = {0};
    double most = 0;
    (void)user;
    for (int32_t k = 0; k < chunks; ++k) {
        int least = 0;
        const double began = seconds(CLOCK_THREAD_CPUTIME_ID);
        task(work, k);
        const double took = seconds(CLOCK_THREAD_CPUTIME_ID) - began;
        for (int t = 1; t < threads; ++t) {
            least = shares[t] < shares[least] ? t : least;
        }
        shares[least] += took;
        in_chunks += took;
        most = shares[least] > most ? shares[least] : most;
    }
    longest += most;
    if (getenv("MMCC_DEAL_LAYERS") != NULL) {
        double all = 0;
        for (int t = 0; t < threads; ++t) {
            all += shares[t];
        }
        (void)fprintf(stderr, "%4d chunks %9.4f ms, %5.2f threads\n", chunks, all * 1e3, all / most);
    }
}

static pthread_barrier_t begin, end;
static struct {
    mmcc_task task;
    void *work;
    int32_t chunks;
    atomic_int next;
} pool;

static void make_chunks(void)
{
    for (int32_t k = atomic_fetch_add(&pool.next, 1); k < pool.chunks; k = atomic_fetch_add(&pool.next, 1)) {
        pool.task(pool.work, k);
    }
}

static void *worker(void *user)
{
    for (;; (void)pthread_barrier_wait(&end)) {
        (void)pthread_barrier_wait(&begin);
        make_chunks();
    }
    return user;
}

static void together(void *user, mmcc_task task, void *work, int32_t chunks)
{
    (void)user;
    pool.task = task;
    pool.work = work;
    pool.chunks = chunks;
    atomic_store(&pool.next, 0);
    (void)pthread_barrier_wait(&begin);
    make_chunks();
    (void)pthread_barrier_wait(&end);
}

/* Seconds of one run. */
static double timed(clockid_t clock, mmcc_parallel parallel)
{
    parallel_with(parallel);
    const double began = seconds(clock);
    if (mmcc_adapter_run() != 0) {
        exit(3);
    }
    return seconds(clock) - began;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    threads = argc == 3 ? atoi(argv[1]) : 0;
    if (threads < 1 || threads > MOST_THREADS || mmcc_adapter_init() != 0) {
        return 2;
    }
    (void)pthread_barrier_init(&begin, NULL, (unsigned)threads);
    (void)pthread_barrier_init(&end, NULL, (unsigned)threads);
    for (int k = 1; k < threads; ++k) {
        if (pthread_create(&thread, NULL, worker, NULL) != 0) {
            return 2;
        }
    }
    (void)timed(CLOCK_THREAD_CPUTIME_ID, NULL);
    for (int k = atoi(argv[2]); k > 0; --k) {
        const double serial = timed(CLOCK_THREAD_CPUTIME_ID, NULL);
        in_chunks = 0;
        longest = 0;
        const double whole = timed(CLOCK_THREAD_CPUTIME_ID, deal);
        const double alone = timed(CLOCK_MONOTONIC, NULL);
        const double all = timed(CLOCK_MONOTONIC, together);
        (void)printf("%.9f %.9f %.9f %.9f %.9f\n", serial, whole - in_chunks + longest, in_chunks / whole, alone,
                     all);
    }
    return 0;
}
