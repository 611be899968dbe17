/* SPDX-License-Identifier: Apache-2.0 */
/* What the linker script says of the board, and what start-up code and semihost.c need of each other. */
#ifndef MMCC_BOARD_H
#define MMCC_BOARD_H

#include <stdint.h>

#define MMCC_PAINT 0xA5C35A3CU

/* Without a memory protection unit an overflow is seen by painting this much below the stack as well. */
#if defined(__ARM_ARCH_6M__)
#define MMCC_GUARD_WORDS 64U
#else
#define MMCC_GUARD_WORDS 0U
#endif

extern uint32_t __stack_lo[], __stack_hi[], __data_load[], __data_lo[], __data_hi[], __bss_lo[], __bss_hi[];
extern uint32_t __io_lo[], __io_hi[], __io_stack_lo[], __io_stack_hi[], __trap_stack_hi[];
extern char __code_lo[], __code_hi[], __constants_lo[], __ram_lo[], __ram_hi[], __board_ram_hi[];
extern char __io_region_lo[], __io_region_hi[];

/* A region of memory with a window of its own: [lo, hi) is its arena, and nothing else up to `end` is the model's. */
struct mmcc_window {
    uint32_t lo, hi, end;
};

/* Those of this firmware, in the order of their addresses, all between RAM and what the test bench needs. */
extern const struct mmcc_window __windows_lo[], __windows_hi[];

extern int main(void);

/* Calls the function with the stack pointer at `top`; in assembly, in the start-up file. */
int32_t mmcc_board_call_on(int32_t (*function)(void), uint32_t *top);

/* The same between a begin and an end marker: exactly the function and its call are counted. */
int32_t mmcc_board_run_on(int32_t (*function)(void), uint32_t *top);

/* One semihosting request; in assembly, in the start-up file. */
int32_t mmcc_board_semihost(int32_t operation, void *argument);

/* Copies .data, clears .bss, paints the stack. Must not be inlined where vector registers are still off. */
void mmcc_board_memory(void);

#endif
