/* SPDX-License-Identifier: Apache-2.0 */
/* Reset, traps and memory protection of a 32-bit RISC-V core in machine mode. */
#include "board.h"
#include "port.h"

/* gcc's rv32imac no longer includes these instructions. */
#define WITH_CSRS(code) " .option push\n .option arch, +zicsr\n " code "\n .option pop\n"
#define WRITE_CSR(csr, value) __asm__ volatile(WITH_CSRS("csrw " csr ", %0")::"r"(value))

#define CALL_ON(name, before, after)                 \
    ".section .text." name ",\"ax\"\n"              \
    ".global " name "\n.type " name ", @function\n" \
    name ":\n"                                       \
    "    addi sp, sp, -16\n"                         \
    "    sw ra, 0(sp)\n"                             \
    "    sw s0, 4(sp)\n"                             \
    "    mv s0, sp\n"                                \
    "    mv sp, a1\n" before                         \
    "    jalr a0\n" after                            \
    "    mv sp, s0\n"                                \
    "    lw ra, 0(sp)\n"                             \
    "    lw s0, 4(sp)\n"                             \
    "    addi sp, sp, 16\n"                          \
    "    ret\n"

/* clang-format off */
__asm__(".section .vectors,\"ax\"\n"
        ".global mmcc_port_reset\n.type mmcc_port_reset, @function\n"
        "mmcc_port_reset:\n"
        "    .option push\n"
        "    .option norelax\n"
        "    la gp, __global_pointer$\n"
        "    .option pop\n"
        "    la tp, __tls_lo\n" /* errno of the C library */
        "    la sp, __io_stack_hi\n"
        "    la t0, mmcc_board_trap\n"
        WITH_CSRS("csrw mtvec, t0")
        "    call mmcc_board_start\n"
        "    .balign 4\n" /* mtvec ignores the last two bits */
        "mmcc_board_trap:\n"
        "    la sp, __trap_stack_hi\n"
        WITH_CSRS("csrr a0, mcause\n csrr a1, mepc\n csrr a2, mtval")
        "    j mmcc_board_report_trap\n"
        CALL_ON("mmcc_board_call_on", "", "")
        CALL_ON("mmcc_board_run_on", MMCC_MARK_TEXT(MMCC_MARK_BEGIN), MMCC_MARK_TEXT(MMCC_MARK_END))
        ".section .text.mmcc_board_semihost,\"ax\"\n"
        ".global mmcc_board_semihost\n.type mmcc_board_semihost, @function\n"
        ".balign 16\n" /* the three instructions must lie in one page */
        "mmcc_board_semihost:\n"
        "    .option push\n"
        "    .option norvc\n"
        "    slli x0, x0, 0x1f\n"
        "    ebreak\n"
        "    srai x0, x0, 7\n"
        "    .option pop\n"
        "    ret\n"
        ".text\n");
/* clang-format on */

enum {
    LOAD_FAULT = 5,
    STORE_FAULT = 7,
};
/* of one pmpcfg byte */
enum {
    READ = 1,
    WRITE = 2,
    EXECUTE = 4,
    TO_HERE = 1 << 3,
    LOCKED = 1 << 7,
};

void mmcc_board_report_trap(uint32_t cause, uint32_t pc, uint32_t value);
void mmcc_board_start(void);

void mmcc_board_report_trap(uint32_t cause, uint32_t pc, uint32_t value)
{
    const uint32_t stack = (uint32_t)(uintptr_t)__stack_lo;
    const uint32_t is_access = cause == LOAD_FAULT || cause == STORE_FAULT;
    if (is_access && value < stack && stack - value <= 0x100000U) {
        mmcc_port_print("STACK OVERFLOW address ");
        mmcc_port_print_hex(value);
        mmcc_port_print("\n");
        mmcc_port_exit(MMCC_EXIT_STACK);
    }
    mmcc_port_print("FAULT pc ");
    mmcc_port_print_hex(pc);
    mmcc_port_print(" mcause ");
    mmcc_port_print_hex(cause);
    mmcc_port_print(" address ");
    mmcc_port_print_hex(value);
    mmcc_port_print("\n");
    mmcc_port_exit(MMCC_EXIT_FAULT);
}

enum { ENTRIES = 12 }; /* of 16: up to three regions with windows */

static void write_address(uint32_t entry, uint32_t address)
{
    switch (entry) {
    case 0: WRITE_CSR("pmpaddr0", address); break;
    case 1: WRITE_CSR("pmpaddr1", address); break;
    case 2: WRITE_CSR("pmpaddr2", address); break;
    case 3: WRITE_CSR("pmpaddr3", address); break;
    case 4: WRITE_CSR("pmpaddr4", address); break;
    case 5: WRITE_CSR("pmpaddr5", address); break;
    case 6: WRITE_CSR("pmpaddr6", address); break;
    case 7: WRITE_CSR("pmpaddr7", address); break;
    case 8: WRITE_CSR("pmpaddr8", address); break;
    case 9: WRITE_CSR("pmpaddr9", address); break;
    case 10: WRITE_CSR("pmpaddr10", address); break;
    default: WRITE_CSR("pmpaddr11", address); break;
    }
}

/* Four entries of `access` as one register has them. */
static uint32_t four(const uint8_t *access)
{
    return access[0] | (uint32_t)access[1] << 8 | (uint32_t)access[2] << 16 | (uint32_t)access[3] << 24;
}

/* Each entry reaches from the one before it to its own address, and is locked, so that it holds in machine mode. */
static void protect(void)
{
    const uint8_t closed = TO_HERE | LOCKED;
    const uint8_t writable = TO_HERE | LOCKED | READ | WRITE;
    uint8_t access[ENTRIES] = {closed, TO_HERE | LOCKED | READ | EXECUTE, writable};
    uint32_t entry = 3;
    write_address(0, (uint32_t)(uintptr_t)__code_lo >> 2);
    write_address(1, (uint32_t)(uintptr_t)__ram_lo >> 2);
    write_address(2, (uint32_t)(uintptr_t)__ram_hi >> 2);
    for (const struct mmcc_window *window = __windows_lo; window < __windows_hi; ++window) {
        access[entry] = closed;
        write_address(entry++, window->lo >> 2);
        access[entry] = writable;
        write_address(entry++, window->hi >> 2);
    }
    access[entry] = closed;
    write_address(entry++, (uint32_t)(uintptr_t)__io_region_lo >> 2);
    access[entry] = writable;
    write_address(entry, (uint32_t)(uintptr_t)__io_region_hi >> 2);
    WRITE_CSR("pmpcfg2", four(access + 8));
    WRITE_CSR("pmpcfg1", four(access + 4));
    WRITE_CSR("pmpcfg0", four(access));
}

int32_t mmcc_port_call_on_model_stack(int32_t (*function)(void))
{
    return mmcc_board_call_on(function, __stack_hi);
}

int32_t mmcc_port_run_on_model_stack(int32_t (*function)(void))
{
    return mmcc_board_run_on(function, __stack_hi);
}

void mmcc_board_start(void)
{
    mmcc_board_memory();
    mmcc_port_stack_paint();
    protect();
    mmcc_port_exit(main()); /* still on the I/O stack */
}
