/* SPDX-License-Identifier: Apache-2.0 */
/* port.h in an engine of WebAssembly: the stack that compilers keep in a module's memory. port_stdio.c has the rest.
 *
 * The linker puts that stack first (--stack-first): it grows down to address 0, and what goes on from there is beyond
 * the memory and stops the module. The model's is its upper end; below are pages that only an overflow reaches.
 * Locals and return addresses that the engine keeps elsewhere cannot be seen from inside, nor be limited. */
#include "port.h"

#include <stddef.h>

#ifndef MMCC_STACK_BYTES
#define MMCC_STACK_BYTES 65536
#endif

#define PAINT 0xA5C35A3CU

enum { IO_STACK_BYTES = 65536 };

static MMCC_IO char io_stack[IO_STACK_BYTES] __attribute__((aligned(16)));
extern char __global_base; /* NOLINT(bugprone-reserved-identifier): the linker's name of where the stack ends */

__asm__(".globaltype __stack_pointer, i32\n");

static char *stack_pointer(void)
{
    char *at;
    __asm__ volatile("global.get __stack_pointer\n\tlocal.set %0" : "=r"(at));
    return at;
}

static void set_stack_pointer(char *at)
{
    __asm__ volatile("local.get %0\n\tglobal.set __stack_pointer" ::"r"(at) : "memory");
}

static __attribute__((noinline)) int32_t call_on(int32_t (*function)(void), char *top)
{
    char *const before = stack_pointer();
    set_stack_pointer(top);
    const int32_t result = function();
    set_stack_pointer(before);
    return result;
}

int32_t mmcc_port_call_on_io_stack(int32_t (*function)(void))
{
    return call_on(function, io_stack + sizeof io_stack);
}

int32_t mmcc_port_call_on_model_stack(int32_t (*function)(void))
{
    return call_on(function, &__global_base);
}

int32_t mmcc_port_run_on_model_stack(int32_t (*function)(void))
{
    return call_on(function, &__global_base);
}

void mmcc_port_stack_paint(void)
{
    for (volatile uint32_t *at = NULL; (char *)(uintptr_t)at < &__global_base; ++at) {
        *at = PAINT;
    }
}

/* From address 0 on: what is below the model's stack is painted, too, so that going beyond it shows. */
uint32_t mmcc_port_stack_used(void)
{
    const volatile uint32_t *at = NULL;
    while ((const char *)(uintptr_t)at < &__global_base && *at == PAINT) {
        ++at;
    }
    return (uint32_t)(uintptr_t)&__global_base - (uint32_t)(uintptr_t)at;
}

uint32_t mmcc_port_stack_bytes(void)
{
    return (uint32_t)MMCC_STACK_BYTES;
}
