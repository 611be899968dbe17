/* SPDX-License-Identifier: Apache-2.0 */
/* In place of main.c: how evenly a model's chunks are dealt to threads, by processor time, and how fast real threads
 * are.
 *
 *     deal_chunks THREADS RUNS
 *
 * Chunks are made by one thread, each timed, and go to the thread that has least so far, as a pool's would. What no
 * chunk is made of, and the longest share of each layer, is what the model takes; what reading the clock takes is
 * measured first, and left out. A line for each run, in seconds but for the third: one thread, busiest of the threads,
 * part of the time spent in chunks, one thread and all by the wall clock, for which there is the pool that
 * docs/threads.md shows. */
#define _POSIX_C_SOURCE 200809L /* NOLINT(bugprone-reserved-identifier): what the C library asks for */
#include "adapter.h"
#include "mmcc_threads.h"

#include <pthread.h>
#include <sched.h>
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
static double clock_read;         /* what asking for the time takes */
static int clock_reads;           /* of one run */

/* Makes chunks one by one, and deals them by the time that each took. */
static void deal(void *user, mmcc_task task, void *work, int32_t chunks)
{
    double shares[MOST_THREADS] = {0};
    double most = 0;
    (void)user;
    clock_reads += 2 * chunks;
    for (int32_t k = 0; k < chunks; ++k) {
        int least = 0;
        const double began = seconds(CLOCK_THREAD_CPUTIME_ID);
        task(work, k);
        const double took = seconds(CLOCK_THREAD_CPUTIME_ID) - began - clock_read;
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

enum { PATIENCE = 20000 }; /* looks for work before a thread sleeps */

static struct {
    atomic_uintptr_t task, work;
    /* Chunks nobody has begun: first, end (16 bits each), and above them the number of the layer, so that a thread that
     * is late takes no chunk of a later one. */
    atomic_ullong left;
    atomic_int unfinished, asleep;
    pthread_mutex_t lock;
    pthread_cond_t more;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static int any(unsigned long long left)
{
    return (left & 0xffffu) < (left >> 16 & 0xffffu);
}

/* The thread that runs the model begins with the first chunk, others with the last: so each finds most of what it reads
 * where it wrote it, in its own cache. */
static void make_chunks(int others)
{
    unsigned long long left = atomic_load(&pool.left);
    while (any(left)) {
        const mmcc_task task = (mmcc_task)atomic_load(&pool.task);
        void *const work = (void *)atomic_load(&pool.work);
        const int32_t chunk = (int32_t)(others ? (left >> 16 & 0xffffu) - 1 : left & 0xffffu);
        if (atomic_compare_exchange_weak(&pool.left, &left, others ? left - 0x10000u : left + 1)) {
            task(work, chunk); /* of one layer: `left` was as before when they had been read */
            (void)atomic_fetch_sub(&pool.unfinished, 1);
            left = atomic_load(&pool.left);
        }
    }
}

static void *worker(void *user)
{
    for (int idle = 0;; ++idle) {
        if (any(atomic_load(&pool.left))) {
            make_chunks(1);
            idle = 0;
        } else if (idle >= PATIENCE) {
            (void)pthread_mutex_lock(&pool.lock);
            (void)atomic_fetch_add(&pool.asleep, 1);
            while (!any(atomic_load(&pool.left))) {
                (void)pthread_cond_wait(&pool.more, &pool.lock);
            }
            (void)atomic_fetch_sub(&pool.asleep, 1);
            (void)pthread_mutex_unlock(&pool.lock);
            idle = 0;
        }
    }
    return user;
}

static void together(void *user, mmcc_task task, void *work, int32_t chunks)
{
    const unsigned long long layer = (atomic_load(&pool.left) >> 32) + 1;
    (void)user;
    atomic_store(&pool.task, (uintptr_t)task);
    atomic_store(&pool.work, (uintptr_t)work);
    atomic_store(&pool.unfinished, chunks);
    atomic_store(&pool.left, layer << 32 | (unsigned)chunks << 16);
    if (atomic_load(&pool.asleep) > 0) {
        (void)pthread_mutex_lock(&pool.lock);
        (void)pthread_cond_broadcast(&pool.more);
        (void)pthread_mutex_unlock(&pool.lock);
    }
    make_chunks(0);
    for (int looks = 0; atomic_load(&pool.unfinished) > 0; ++looks) {
        if (looks >= PATIENCE) { /* another thread that has a chunk may be waiting for this processor */
            (void)sched_yield();
        }
    }
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

static double seconds_of_a_clock_read(void)
{
    enum { READS = 2000 };
    const double began = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (int k = 1; k < READS; ++k) {
        (void)seconds(CLOCK_THREAD_CPUTIME_ID);
    }
    return (seconds(CLOCK_THREAD_CPUTIME_ID) - began) / READS;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    threads = argc == 3 ? atoi(argv[1]) : 0;
    if (threads < 1 || threads > MOST_THREADS || mmcc_adapter_init() != 0) {
        return 2;
    }
    clock_read = seconds_of_a_clock_read();
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
        clock_reads = 0;
        const double dealt = timed(CLOCK_THREAD_CPUTIME_ID, deal);
        const double unread = dealt - clock_read * clock_reads; /* by what a read took before: it may differ */
        const double whole = unread > in_chunks ? unread : in_chunks;
        const double alone = timed(CLOCK_MONOTONIC, NULL);
        const double all = timed(CLOCK_MONOTONIC, together);
        (void)printf("%.9f %.9f %.9f %.9f %.9f\n", serial, whole - in_chunks + longest, in_chunks / whole, alone,
                     all);
    }
    return 0;
}
