/* SPDX-License-Identifier: Apache-2.0 */
/* A model whose run is one of the shapes that make a stack hard to bound; CASE chooses it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"

#define APART __attribute__((noinline))

const uint32_t mmcc_adapter_inputs = 1;
const uint32_t mmcc_adapter_outputs = 1;
const uint32_t mmcc_adapter_input_bytes[] = {8};
const uint32_t mmcc_adapter_output_bytes[] = {8};

static int32_t in[2];
static int32_t out[2];

int32_t mmcc_adapter_init(void)
{
    return 0;
}

void *mmcc_adapter_input(uint32_t k)
{
    (void)k;
    return in;
}

const void *mmcc_adapter_output(uint32_t k)
{
    (void)k;
    return out;
}

#if CASE == 1 /* a frame beyond what an immediate holds */
static APART int32_t use(volatile uint8_t *bytes, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) {
        bytes[i] = (uint8_t)i;
    }
    return bytes[n - 1];
}

static APART int32_t shape(int32_t x)
{
    volatile uint8_t frame[5000];
    return use(frame, 5000) + x;
}
#elif CASE == 2 /* a table of jumps between calls, each with a frame */
static APART int32_t leaf(volatile int32_t *p)
{
    return p[0] * 3;
}

static APART int32_t shape(int32_t x)
{
    volatile int32_t a[24] = {0};
    a[0] = x;
    switch (x & 7) {
    case 0: return leaf(a) + 5;
    case 1: a[3] = 7; return leaf(a + 3) - 1;
    case 2: return x * 77;
    case 3:
        a[4] = x;
        a[5] = 9;
        return leaf(a + 4) * leaf(a + 5);
    case 4: return (int32_t)abs(x) << 2;
    case 5: return leaf(a + 9) ^ 0x55;
    case 6: return x / 3;
    default: return x - 9;
    }
}
#elif CASE == 3 /* many arguments, many live values, helper calls for 64 bits and double precision */
static APART int64_t many(int64_t a, int64_t b, double c, double d, int32_t e, int32_t f, int64_t g, double h)
{
    return (a / (b | 1)) + (int64_t)(c * d + h) + e % (f | 1) + (g * a) % (b | 3);
}

static APART int32_t shape(int32_t x)
{
    return (int32_t)many(x, x + 1, (double)x * 0.5, (double)x / 3.0, x, x - 3, (int64_t)x << 20, (double)x);
}
#elif CASE == 4 /* library functions with frames of their own */
static APART int32_t shape(int32_t x)
{
    const float t = (float)x * 1.0e6F;
    return (int32_t)(100.0F * (sinf(t) + expf(-fabsf(t)) + powf(2.5F, t * 1e-7F) + sqrtf(fabsf(t)) + erff(t)));
}
#elif CASE == 5 /* calls that leave the frame before they happen */
static APART int32_t last(int32_t x)
{
    volatile int32_t a[40];
    a[x & 31] = x;
    return a[x & 31];
}

static APART int32_t middle(int32_t x)
{
    volatile int32_t a[60];
    a[x & 31] = x + 1;
    return last(a[x & 31]);
}

static APART int32_t shape(int32_t x)
{
    return middle(x + 1);
}
#elif CASE == 6
static APART int32_t shape(int32_t x)
{
    return x > 1 ? shape(x - 1) * x + shape(x - 2) : 1;
}
#elif CASE == 7
static APART int32_t shape(int32_t x)
{
    volatile uint8_t *bytes = __builtin_alloca((size_t)(x & 1023) + 1U);
    bytes[x & 1023] = 1;
    return bytes[x & 1023];
}
#elif CASE == 8
extern int32_t (*volatile callback)(int32_t);
int32_t (*volatile callback)(int32_t);

static APART int32_t shape(int32_t x)
{
    return callback(x) + 1;
}
#elif CASE == 9 /* writes where it must not */
static APART int32_t shape(int32_t x)
{
    volatile uintptr_t address = WILD_ADDRESS;
    *(volatile int32_t *)address = x;
    return x;
}
#elif CASE == 10
static APART int32_t shape(int32_t x)
{
    volatile uint8_t frame[20000];
    memset((void *)(uintptr_t)frame, x, sizeof frame);
    __asm__ volatile("" ::"r"(frame) : "memory"); /* all of it is needed */
    return frame[3];
}
#elif CASE == 11
static APART int32_t shape(int32_t x)
{
    for (volatile int32_t i = 1; i != 0; i = 1) {
    }
    return x;
}
#endif

int32_t mmcc_adapter_run(void)
{
#if CASE == 12
    return 7;
#else
    out[0] = shape(in[0]);
    out[1] = shape(in[1]);
    return 0;
#endif
}
