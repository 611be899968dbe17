/* SPDX-License-Identifier: Apache-2.0 */
/* How evenly a network's chunks are dealt to threads, by processor time, and how fast real threads are.
 *
 * Chunks are made by one thread, each timed, and go to the thread that has least so far, as a pool's would. What no
 * chunk is made of, and the longest share of each layer, is what the network takes. */
#include NETWORK_HEADER

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MOST_THREADS 64

#if SERIAL /* a network for one thread is only timed */
#include "mmcc_threads.h"
#undef network_parallel_with
#define network_parallel_with(model, parallel, user) ((void)(parallel))
#endif

static NETWORK(ARENA)(arena);
static network_context model;

/* Seconds of a clock. */
static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int threads;
static double in_chunks, longest; /* of one run */

/* Makes chunks one by one, and deals them by the time that each took. */
static void deal(void *user, mmcc_task task, void *work, int32_t chunks)
{
    double shares[MOST_THREADS] = {0}, most = 0;
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
    if (getenv("DEALT_LAYERS") != NULL) {
        double all = 0;
        for (int t = 0; t < threads; ++t) {
            all += shares[t];
        }
        fprintf(stderr, "%4d chunks %9.4f ms, %5.2f threads\n", chunks, all * 1e3, all / most);
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
    for (int32_t k; (k = atomic_fetch_add(&pool.next, 1)) < pool.chunks;) {
        pool.task(pool.work, k);
    }
}

static void *worker(void *user)
{
    for (;; pthread_barrier_wait(&end)) {
        pthread_barrier_wait(&begin);
        make_chunks();
    }
    return user;
}

static void together(void *user, mmcc_task task, void *work, int32_t chunks)
{
    (void)user;
    pool.task = task, pool.work = work, pool.chunks = chunks;
    atomic_store(&pool.next, 0);
    pthread_barrier_wait(&begin);
    make_chunks();
    pthread_barrier_wait(&end);
}

/* Seconds of one run. */
static double timed(clockid_t clock, mmcc_parallel parallel)
{
    network_parallel_with(&model, parallel, NULL);
    const double began = seconds(clock);
    if (network_run(&model) != MMCC_OK) {
        exit(3);
    }
    return seconds(clock) - began;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc < 3 || (threads = atoi(argv[1])) < 1 || threads > MOST_THREADS || network_init(&model, arena, sizeof arena) != MMCC_OK) {
        return 2;
    }
    pthread_barrier_init(&begin, NULL, (unsigned)threads);
    pthread_barrier_init(&end, NULL, (unsigned)threads);
    for (int k = 1; k < threads; ++k) {
        pthread_create(&thread, NULL, worker, NULL);
    }
    (void)timed(CLOCK_THREAD_CPUTIME_ID, NULL);
    for (int k = atoi(argv[2]); k > 0; --k) { /* serial, dealt, in chunks, wall of one thread and of all */
        const double serial = timed(CLOCK_THREAD_CPUTIME_ID, NULL);
        in_chunks = longest = 0;
        const double whole = timed(CLOCK_THREAD_CPUTIME_ID, deal);
        const double alone = timed(CLOCK_MONOTONIC, NULL), all = timed(CLOCK_MONOTONIC, together);
        printf("%.9f %.9f %.9f %.9f %.9f\n", serial, whole - in_chunks + longest, in_chunks / whole, alone, all);
    }
    return 0;
}
