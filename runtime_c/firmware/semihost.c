/* SPDX-License-Identifier: Apache-2.0 */
/* port.h on a bare board: semihosting for files and output, the painted stack. */
#include "port.h"

#include "board.h"

enum {
    SYS_OPEN = 1,
    SYS_CLOSE = 2,
    SYS_WRITE0 = 4,
    SYS_WRITE = 5,
    SYS_READ = 6,
    SYS_FLEN = 12,
    SYS_EXIT = 0x20,
};
/* "rb", "wb" */
enum {
    MODE_READ = 1,
    MODE_WRITE = 5,
};
enum { APPLICATION_EXIT = 0x20026 };

void mmcc_port_print(const char *text)
{
    union {
        const char *text;
        void *argument;
    } string = {text};
    (void)mmcc_board_semihost(SYS_WRITE0, string.argument);
}

void mmcc_port_print_u32(uint32_t value)
{
    char text[11];
    char *digit = &text[10];
    *digit = '\0';
    do {
        *--digit = (char)('0' + value % 10U);
        value /= 10U;
    } while (value != 0U);
    mmcc_port_print(digit);
}

void mmcc_port_print_hex(uint32_t value)
{
    char text[11] = "0x";
    for (uint32_t i = 0; i < 8U; ++i) {
        text[2U + i] = "0123456789abcdef"[(value >> (28U - 4U * i)) & 15U];
    }
    text[10] = '\0';
    mmcc_port_print(text);
}

void mmcc_port_exit(int32_t code)
{
    uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    for (;;) {
        (void)mmcc_board_semihost(SYS_EXIT, block);
    }
}

static int32_t open_file(const char *name, uint32_t mode)
{
    uint32_t length = 0;
    while (name[length] != '\0') {
        ++length;
    }
    uint32_t block[3] = {(uint32_t)(uintptr_t)name, mode, length};
    return mmcc_board_semihost(SYS_OPEN, block);
}

int32_t mmcc_port_open_read(const char *name)
{
    return open_file(name, MODE_READ);
}

int32_t mmcc_port_open_write(const char *name)
{
    return open_file(name, MODE_WRITE);
}

uint32_t mmcc_port_file_size(int32_t file)
{
    uint32_t block[1] = {(uint32_t)file};
    return (uint32_t)mmcc_board_semihost(SYS_FLEN, block);
}

int32_t mmcc_port_read(int32_t file, void *bytes, uint32_t count)
{
    uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)bytes, count};
    return count == 0U ? 0 : mmcc_board_semihost(SYS_READ, block); /* what was not transferred */
}

int32_t mmcc_port_write(int32_t file, const void *bytes, uint32_t count)
{
    uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)bytes, count};
    return count == 0U ? 0 : mmcc_board_semihost(SYS_WRITE, block);
}

void mmcc_port_close(int32_t file)
{
    uint32_t block[1] = {(uint32_t)file};
    (void)mmcc_board_semihost(SYS_CLOSE, block);
}

int32_t mmcc_port_call_on_io_stack(int32_t (*function)(void))
{
    return function();
}

void mmcc_port_stack_paint(void)
{
    uint32_t here[1];
    const uintptr_t self = (uintptr_t)here;
    const uintptr_t margin = 64; /* this function's own frame */
    uintptr_t end = (uintptr_t)__stack_hi;
    if (self >= (uintptr_t)__stack_lo && self < end) {
        end = self - margin;
    }
    for (volatile uint32_t *p = __stack_lo - MMCC_GUARD_WORDS; (uintptr_t)p < end; ++p) {
        *p = MMCC_PAINT;
    }
}

uint32_t mmcc_port_stack_used(void)
{
    const volatile uint32_t *p = __stack_lo - MMCC_GUARD_WORDS;
    while ((uintptr_t)p < (uintptr_t)__stack_hi && *p == MMCC_PAINT) {
        ++p;
    }
    return (uint32_t)((uintptr_t)__stack_hi - (uintptr_t)p);
}

uint32_t mmcc_port_stack_bytes(void)
{
    return (uint32_t)((uintptr_t)__stack_hi - (uintptr_t)__stack_lo);
}

static void clear(uint32_t *from, const uint32_t *to)
{
    for (volatile uint32_t *p = from; p < to; ++p) {
        *p = 0;
    }
}

void mmcc_board_memory(void)
{
    const uint32_t *from = __data_load;
    for (volatile uint32_t *to = __data_lo; to < __data_hi; ++to) {
        *to = *from++;
    }
    clear(__bss_lo, __bss_hi);
    clear(__io_lo, __io_hi);
}
