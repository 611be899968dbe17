/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up as vendors' files do it, for their linker scripts: copy what has initial values, clear what has none, run.
 * RAM holds garbage before, as on a board: what nothing initializes is wrong. Names of the script come with -D. */
#include <stdint.h>

extern uint32_t STACK_TOP, DATA_LOAD, DATA_START, DATA_END, BSS_START, BSS_END;
#ifdef CODE_LOAD
extern uint32_t CODE_LOAD, CODE_START, CODE_END;
#endif

void Reset_Handler(void);
int main(void);

__attribute__((section(VECTORS), used)) void *const vectors[2] = {&STACK_TOP, (void *)Reset_Handler};

static void copy(uint32_t *to, const uint32_t *end, const uint32_t *from)
{
    while (to < end) {
        *(volatile uint32_t *)to++ = *from++;
    }
}

__attribute__((noreturn)) static void leave(int code)
{
    uint32_t block[2] = {0x20026, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
    register uint32_t operation __asm__("r0") = 0x20; /* SYS_EXIT_EXTENDED */
    register uint32_t *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : : "r"(operation), "r"(argument) : "memory");
    for (;;) {
    }
}

void Reset_Handler(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the floating-point unit */
    for (volatile uint32_t *at = (uint32_t *)0x20000000; at < &STACK_TOP - 256; ++at) {
        *at = 0xA5A5A5A5u;
    }
    copy(&DATA_START, &DATA_END, &DATA_LOAD);
#ifdef CODE_LOAD
    copy(&CODE_START, &CODE_END, &CODE_LOAD);
#endif
    for (volatile uint32_t *at = &BSS_START; at < &BSS_END; ++at) {
        *at = 0;
    }
    __asm__ volatile("dsb\n isb" ::: "memory");
    leave(main());
}
