/* SPDX-License-Identifier: Apache-2.0 */
/* Reset, faults and memory protection of every Cortex-M. Thread code runs on the process stack, handlers on a stack
 * of their own: an overflow of the model's stack can still be reported. */
#include "board.h"
#include "port.h"

#define CPACR (*(volatile uint32_t *)0xE000ED88U)
#define SHCSR (*(volatile uint32_t *)0xE000ED24U)
#define CFSR (*(volatile uint32_t *)0xE000ED28U)
#define MMFAR (*(volatile uint32_t *)0xE000ED34U)
#define BFAR (*(volatile uint32_t *)0xE000ED38U)
#define MPU_CTRL (*(volatile uint32_t *)0xE000ED94U)
#define MPU_RNR (*(volatile uint32_t *)0xE000ED98U)
#define MPU_RBAR (*(volatile uint32_t *)0xE000ED9CU)
#define MPU_RASR (*(volatile uint32_t *)0xE000EDA0U) /* v7-M */
#define MPU_RLAR (*(volatile uint32_t *)0xE000EDA0U) /* v8-M */
#define MPU_MAIR0 (*(volatile uint32_t *)0xE000EDC0U)

#define BARRIER() __asm__ volatile("dsb\n isb" ::: "memory")

#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
#define MMCC_V8M 1
#elif defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__)
#define MMCC_V7M 1
#endif

#define CALL_ON(name, before, after)                                \
    ".section .text." name ",\"ax\"\n"                             \
    ".thumb_func\n.global " name "\n.type " name ", %function\n" \
    name ":\n"                                                      \
    "    push {r4, lr}\n"                                           \
    "    mov r4, sp\n"                                              \
    "    mov sp, r1\n" before                                       \
    "    blx r0\n" after                                            \
    "    mov sp, r4\n"                                              \
    "    pop {r4, pc}\n"

/* clang-format off */
__asm__(".syntax unified\n"
        CALL_ON("mmcc_board_call_on", "", "")
        CALL_ON("mmcc_board_run_on", MMCC_MARK_TEXT(MMCC_MARK_BEGIN), MMCC_MARK_TEXT(MMCC_MARK_END))
        ".section .text.mmcc_board_semihost,\"ax\"\n"
        ".thumb_func\n.global mmcc_board_semihost\n.type mmcc_board_semihost, %function\n"
        "mmcc_board_semihost:\n"
        "    bkpt 0xab\n"
        "    bx lr\n"
        ".section .text.mmcc_board_fault,\"ax\"\n"
        ".thumb_func\n.global mmcc_board_fault\n.type mmcc_board_fault, %function\n"
        "mmcc_board_fault:\n"
        "    mrs r0, psp\n"
        "    ldr r1, =mmcc_board_report_fault\n"
        "    bx r1\n"
        "    .ltorg\n"
        ".text\n");
/* clang-format on */

extern void mmcc_board_fault(void);
void mmcc_board_report_fault(const uint32_t *frame);
void mmcc_port_reset(void);

static uint32_t inside(const uint32_t *frame, const uint32_t *lo, const uint32_t *hi)
{
    return frame >= lo && frame + 8 <= hi;
}

/* `frame` is where the processor put r0 to r3, r12, lr, pc and xPSR, if it could. */
void mmcc_board_report_fault(const uint32_t *frame)
{
    uint32_t stacked = 1;
#if defined(MMCC_V7M) || defined(MMCC_V8M)
    stacked = (CFSR & (1U << 4 | 1U << 12 | 1U << 20)) == 0U; /* MSTKERR, STKERR, STKOF */
#endif
    const uint32_t on_model_stack = inside(frame, __stack_lo, __stack_hi);
    const uint32_t on_io_stack = inside(frame, __io_stack_lo, __io_stack_hi);
    if (!stacked || (!on_model_stack && !on_io_stack)) {
        mmcc_port_print("STACK OVERFLOW sp ");
        mmcc_port_print_hex((uint32_t)(uintptr_t)frame);
        mmcc_port_print("\n");
        mmcc_port_exit(MMCC_EXIT_STACK);
    }
    mmcc_port_print("FAULT pc ");
    mmcc_port_print_hex(frame[6]);
    mmcc_port_print(" lr ");
    mmcc_port_print_hex(frame[5]);
#if defined(MMCC_V7M) || defined(MMCC_V8M)
    mmcc_port_print(" cfsr ");
    mmcc_port_print_hex(CFSR);
    if ((CFSR & (1U << 7)) != 0U) {
        mmcc_port_print(" address ");
        mmcc_port_print_hex(MMFAR);
    } else if ((CFSR & (1U << 15)) != 0U) {
        mmcc_port_print(" address ");
        mmcc_port_print_hex(BFAR);
    }
#endif
    mmcc_port_print("\n");
    mmcc_port_exit(MMCC_EXIT_FAULT);
}

#if defined(MMCC_V7M)

enum {
    NO_ACCESS = 0,
    READ_WRITE = 3,
    READ_ONLY = 6,
};

/* `size` is a power of two and divides `base`; the sub-regions (eighths) in `off` do not belong to it. */
static void mpu_region(uint32_t number, uint32_t base, uint32_t size, uint32_t off, uint32_t access)
{
    uint32_t log2 = 0;
    while ((1U << log2) < size) {
        ++log2;
    }
    MPU_RNR = number;
    MPU_RBAR = base;
    MPU_RASR = (access << 24) | (off << 8) | ((log2 - 1U) << 1) | 1U;
}

enum { LAST_REGION = 7 };

/* The arena of each region with a window, rounded up to an eighth of the power of two that holds it. */
static uint32_t open_windows(uint32_t number)
{
    for (const struct mmcc_window *window = __windows_lo; window < __windows_hi; ++window) {
        uint32_t size = 256U;
        while (size < window->hi - window->lo) {
            size *= 2U;
        }
        const uint32_t eighth = size / 8U;
        const uint32_t used = (window->hi - window->lo + eighth - 1U) / eighth;
        if (used > 0U) {
            mpu_region(number++, window->lo, size, 0xFFU & (0xFFU << used), READ_WRITE);
        }
    }
    return number;
}

/* All of the first gigabyte is closed, then what the program may use is opened again: its code to read, the external
 * memory, arenas in windows of their own, and exactly --ram bytes of the RAM (rounded up to 128, or more where the
 * last region of the unit must do for the rest). Later regions win over earlier ones. */
static void protect(void)
{
    const uint32_t code = (uint32_t)(uintptr_t)__code_lo;
    const uint32_t external = (uint32_t)(uintptr_t)__constants_lo;
    uint32_t base = (uint32_t)(uintptr_t)__ram_lo;
    uint32_t size = (uint32_t)(uintptr_t)__board_ram_hi - base;
    uint32_t left = (uint32_t)(uintptr_t)__ram_hi - base;
    mpu_region(0, 0, 1U << 30, 0, NO_ACCESS);
    mpu_region(1, code, (uint32_t)(uintptr_t)__code_hi - code, 0, READ_ONLY);
    mpu_region(2, external, (uint32_t)(uintptr_t)__io_region_hi - external, 0, READ_WRITE);
    for (uint32_t number = open_windows(3); left > 0U; size /= 8U) {
        const uint32_t eighth = size / 8U;
        const uint32_t exact = size > 1024U && (number < LAST_REGION || left < eighth);
        const uint32_t used = exact ? left / eighth : (left + eighth - 1U) / eighth;
        if (used > 0U) {
            mpu_region(number++, base, size, 0xFFU & (0xFFU << used), READ_WRITE);
            base += used * eighth;
            left -= used * eighth < left ? used * eighth : left;
        }
    }
    MPU_CTRL = 5; /* on; elsewhere the default map holds */
    BARRIER();
}

#elif defined(MMCC_V8M)

enum {
    READ_WRITE = 0U << 1,
    READ_ONLY = 2U << 1,
    NO_EXECUTE = 1U,
};

static void mpu_region(uint32_t number, uint32_t lo, uint32_t hi, uint32_t access)
{
    MPU_RNR = number;
    MPU_RBAR = (lo & ~31U) | access;
    MPU_RLAR = ((hi - 1U) & ~31U) | 1U;
}

/* An address in two regions faults whatever they allow. */
static uint32_t close_off(uint32_t number, uint32_t lo, uint32_t hi)
{
    lo = (lo + 31U) & ~31U;
    if (lo < hi) {
        mpu_region(number++, lo, hi, READ_WRITE | NO_EXECUTE);
        mpu_region(number++, lo, hi, READ_WRITE | NO_EXECUTE);
    }
    return number;
}

/* Code and constants are read-only. The RAM above --ram is closed, and what the arenas leave of windows of their own
 * (rounded up to 32). The stack's end has a register of its own. */
static void protect(void)
{
    const uint32_t board_hi = (uint32_t)(uintptr_t)__board_ram_hi;
    MPU_MAIR0 = 0xFF;
    mpu_region(0, (uint32_t)(uintptr_t)__code_lo, (uint32_t)(uintptr_t)__code_hi, READ_ONLY);
    mpu_region(1, (uint32_t)(uintptr_t)__constants_lo, (uint32_t)(uintptr_t)__io_region_lo, READ_ONLY | NO_EXECUTE);
    uint32_t number = close_off(2, (uint32_t)(uintptr_t)__ram_hi, board_hi);
    for (const struct mmcc_window *window = __windows_lo; window < __windows_hi; ++window) {
        number = close_off(number, window->hi, window->end);
    }
    MPU_CTRL = 5;
    BARRIER();
}

#else

static void protect(void) {}

#endif

static void limit_stack(const uint32_t *lowest)
{
#if defined(MMCC_V8M)
    __asm__ volatile("msr psplim, %0" ::"r"(lowest));
#else
    (void)lowest; /* below the stack RAM ends */
#endif
}

int32_t mmcc_port_call_on_model_stack(int32_t (*function)(void))
{
    limit_stack(__stack_lo);
    const int32_t status = mmcc_board_call_on(function, __stack_hi);
    limit_stack(0);
    return status;
}

int32_t mmcc_port_run_on_model_stack(int32_t (*function)(void))
{
    limit_stack(__stack_lo);
    const int32_t status = mmcc_board_run_on(function, __stack_hi);
    limit_stack(0);
    return status;
}

/* From here on the process stack is in use. */
static void run_main(void)
{
    mmcc_port_exit(main());
}

static __attribute__((noinline)) void start(void)
{
    mmcc_board_memory();
    mmcc_port_stack_paint();
    protect();
    __asm__ volatile("msr psp, %0\n"
                     " msr control, %1\n"
                     " isb\n"
                     " bx %2"
                     :
                     : "r"(__io_stack_hi), "r"(2), "r"(run_main)
                     : "memory");
}

void mmcc_port_reset(void)
{
#if defined(MMCC_V7M) || defined(MMCC_V8M)
    CPACR |= 0xFU << 20; /* FPU and Helium, before anything is vectorised */
    SHCSR |= 7U << 16;   /* memory, bus and usage faults have handlers */
    BARRIER();
#endif
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile("vmsr fpscr, %0" ::"r"(0x40000)); /* no tail predication outside of loops */
#endif
    start();
}

struct vectors {
    uint32_t *handler_stack;
    void (*handlers[15])(void);
};

extern const struct vectors mmcc_board_vectors;
const struct vectors mmcc_board_vectors __attribute__((section(".vectors"), used)) = {
    __trap_stack_hi,
    {mmcc_port_reset, mmcc_board_fault, mmcc_board_fault, mmcc_board_fault, mmcc_board_fault, mmcc_board_fault,
     mmcc_board_fault, 0, 0, 0, mmcc_board_fault, mmcc_board_fault, 0, mmcc_board_fault, mmcc_board_fault},
};
