/* SPDX-License-Identifier: Apache-2.0 */
/* The part of Grand Central Dispatch that docs/threads.md uses: a thread each, started from the last to the first. */
#ifndef DISPATCH_STAND_IN_H
#define DISPATCH_STAND_IN_H

#include <pthread.h>
#include <stddef.h>

#define DISPATCH_APPLY_AUTO NULL
#define MOST 64

typedef struct {
    void (*function)(void *, size_t);
    void *context;
    size_t index;
} applied;

static inline void *apply_one(void *user)
{
    const applied *one = user;
    one->function(one->context, one->index);
    return NULL;
}

static inline void dispatch_apply_f(size_t count, void *queue, void *context, void (*function)(void *, size_t))
{
    pthread_t threads[MOST];
    applied each[MOST];
    (void)queue;
    for (size_t k = count; k-- > 0;) {
        each[k] = (applied){function, context, k};
        pthread_create(&threads[k], NULL, apply_one, &each[k]);
    }
    for (size_t k = 0; k < count; ++k) {
        pthread_join(threads[k], NULL);
    }
}

#endif
