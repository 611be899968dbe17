/* SPDX-License-Identifier: Apache-2.0 */
/* port.h on an operating system: a model stack with a closed page below it. port_stdio.c has the rest. */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): what the C library asks for */
#include "port.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MMCC_STACK_BYTES
#define MMCC_STACK_BYTES 65536
#endif

#define PAINT 0xA5C35A3CU

enum {
    GUARD_BYTES = 65536,
    SIGNAL_STACK_BYTES = 65536,
};

static char *stack_lo; /* the closed pages end here */
static char signal_stack[SIGNAL_STACK_BYTES];

/* Call the function with the stack pointer at `top`; run does it between a begin and an end marker. */
int32_t mmcc_posix_call_on(int32_t (*function)(void), void *top);
int32_t mmcc_posix_run_on(int32_t (*function)(void), void *top);

#if defined(__aarch64__)
#define CALL_ON(name, before, after)                          \
    ".global " name "\n.type " name ", %function\n" name ":\n" \
    "    stp x29, x30, [sp, #-16]!\n"                         \
    "    mov x29, sp\n"                                       \
    "    mov sp, x1\n" before                                 \
    "    blr x0\n" after                                      \
    "    mov sp, x29\n"                                       \
    "    ldp x29, x30, [sp], #16\n"                           \
    "    ret\n"
#elif defined(__riscv) && __riscv_xlen == 64
#define CALL_ON(name, before, after)                          \
    ".global " name "\n.type " name ", @function\n" name ":\n" \
    "    addi sp, sp, -16\n"                                  \
    "    sd ra, 8(sp)\n"                                      \
    "    sd s0, 0(sp)\n"                                      \
    "    mv s0, sp\n"                                         \
    "    mv sp, a1\n" before                                  \
    "    jalr a0\n" after                                     \
    "    mv sp, s0\n"                                         \
    "    ld ra, 8(sp)\n"                                      \
    "    ld s0, 0(sp)\n"                                      \
    "    addi sp, sp, 16\n"                                   \
    "    ret\n"
#elif defined(__x86_64__)
#define CALL_ON(name, before, after)                          \
    ".global " name "\n.type " name ", @function\n" name ":\n" \
    "    push %rbp\n"                                         \
    "    mov %rsp, %rbp\n"                                    \
    "    mov %rsi, %rsp\n" before                             \
    "    call *%rdi\n" after                                  \
    "    mov %rbp, %rsp\n"                                    \
    "    pop %rbp\n"                                          \
    "    ret\n"
#endif

#if defined(CALL_ON)
/* clang-format off */
__asm__(".text\n"
        CALL_ON("mmcc_posix_call_on", "", "")
        CALL_ON("mmcc_posix_run_on", MMCC_MARK_TEXT(MMCC_MARK_BEGIN), MMCC_MARK_TEXT(MMCC_MARK_END)));
/* clang-format on */
#else
/* The stack cannot be measured on this machine. */
int32_t mmcc_posix_call_on(int32_t (*function)(void), void *top)
{
    (void)top;
    return function();
}

int32_t mmcc_posix_run_on(int32_t (*function)(void), void *top)
{
    (void)top;
    return function();
}
#endif

static void on_fault(int number, siginfo_t *info, void *context)
{
    const char *address = info->si_addr;
    (void)context;
    if (stack_lo != NULL && address < stack_lo && address >= stack_lo - GUARD_BYTES) {
        (void)printf("STACK OVERFLOW address %p\n", info->si_addr);
        (void)fflush(stdout);
        _Exit(MMCC_EXIT_STACK);
    }
    (void)printf("FAULT signal %d address %p\n", number, info->si_addr);
    (void)fflush(stdout);
    _Exit(MMCC_EXIT_FAULT);
}

static void make_stack(void)
{
    const stack_t other = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
    const size_t bytes = GUARD_BYTES + (size_t)mmcc_port_stack_bytes();
    action.sa_sigaction = on_fault;
    (void)sigaltstack(&other, NULL);
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
    (void)sigaction(SIGILL, &action, NULL);
    (void)sigaction(SIGFPE, &action, NULL);
    char *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED || mprotect(block, GUARD_BYTES, PROT_NONE) != 0) {
        mmcc_port_print("FAILED making a stack\n");
        mmcc_port_exit(MMCC_EXIT_IO);
    }
    stack_lo = block + GUARD_BYTES;
}

int32_t mmcc_port_call_on_io_stack(int32_t (*function)(void))
{
    return function();
}

static void *stack_top(void)
{
    if (stack_lo == NULL) {
        make_stack();
    }
    return stack_lo + mmcc_port_stack_bytes();
}

int32_t mmcc_port_call_on_model_stack(int32_t (*function)(void))
{
    return mmcc_posix_call_on(function, stack_top());
}

int32_t mmcc_port_run_on_model_stack(int32_t (*function)(void))
{
    return mmcc_posix_run_on(function, stack_top());
}

void mmcc_port_stack_paint(void)
{
    if (stack_lo == NULL) {
        make_stack();
    }
    for (uint32_t i = 0; i < mmcc_port_stack_bytes(); i += (uint32_t)sizeof(uint32_t)) {
        *(volatile uint32_t *)(void *)(stack_lo + i) = PAINT;
    }
}

uint32_t mmcc_port_stack_used(void)
{
    uint32_t free_bytes = 0;
    while (free_bytes < mmcc_port_stack_bytes()
           && *(const volatile uint32_t *)(const void *)(stack_lo + free_bytes) == PAINT) {
        free_bytes += (uint32_t)sizeof(uint32_t);
    }
    return mmcc_port_stack_bytes() - free_bytes;
}

/* Whole pages, so that the closed ones begin right below. */
uint32_t mmcc_port_stack_bytes(void)
{
    const uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
    return ((uint32_t)MMCC_STACK_BYTES + page - 1U) / page * page;
}
