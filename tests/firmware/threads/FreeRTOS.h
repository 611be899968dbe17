/* SPDX-License-Identifier: Apache-2.0 */
/* The part of FreeRTOS that docs/threads.md uses: tasks are threads, notifications semaphores. */
#ifndef FREERTOS_STAND_IN_H
#define FREERTOS_STAND_IN_H

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>

#define pdTRUE 1
#define portMAX_DELAY 0xffffffffu

typedef sem_t *TaskHandle_t;

typedef struct {
    void (*function)(void *);
    TaskHandle_t handle;
} started_task;

static _Thread_local TaskHandle_t own;

static inline TaskHandle_t xTaskGetCurrentTaskHandle(void)
{
    if (own == NULL) {
        own = malloc(sizeof *own);
        sem_init(own, 0, 0);
    }
    return own;
}

static inline void xTaskNotifyGive(TaskHandle_t task)
{
    sem_post(task);
}

static inline uint32_t ulTaskNotifyTake(int clear, uint32_t ticks)
{
    (void)clear;
    (void)ticks;
    return (uint32_t)sem_wait(xTaskGetCurrentTaskHandle());
}

static inline void *run_task(void *user)
{
    const started_task *task = user;
    own = task->handle;
    task->function(NULL);
    return NULL;
}

static inline TaskHandle_t started(void (*function)(void *))
{
    pthread_t thread;
    started_task *task = malloc(sizeof *task);
    task->function = function;
    task->handle = malloc(sizeof *task->handle);
    sem_init(task->handle, 0, 0);
    pthread_create(&thread, NULL, run_task, task);
    return task->handle;
}

#endif
