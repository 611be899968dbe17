/* SPDX-License-Identifier: Apache-2.0 */
/* What firmware finds below itself: output, files of the machine that runs QEMU, two stacks, markers.
 *
 * A program has a model stack, in the model's RAM and painted, and an I/O stack in memory that is the test bench's
 * own. main starts on the I/O stack (on an operating system: the process's; in a module of WebAssembly: the model's). */
#ifndef MMCC_PORT_H
#define MMCC_PORT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Variables of the test bench itself: kept out of the model's RAM. They start as zero. */
#define MMCC_IO __attribute__((section(".bss.mmcc_io")))

enum {
    MMCC_EXIT_OK = 0,
    MMCC_EXIT_IO = 91,
    MMCC_EXIT_STACK = 97,
    MMCC_EXIT_FAULT = 99,
};

void mmcc_port_print(const char *text);
void mmcc_port_print_u32(uint32_t value);
void mmcc_port_print_hex(uint32_t value);
void mmcc_port_exit(int32_t code) __attribute__((noreturn));

/* Files in the folder the program was started in. A handle is negative when the file cannot be opened. */
int32_t mmcc_port_open_read(const char *name);
int32_t mmcc_port_open_write(const char *name);
uint32_t mmcc_port_file_size(int32_t file);
int32_t mmcc_port_read(int32_t file, void *bytes, uint32_t count);        /* 0 when all of it was read */
int32_t mmcc_port_write(int32_t file, const void *bytes, uint32_t count); /* 0 when all of it was written */
void mmcc_port_close(int32_t file);

/* The function finds the whole model stack free. Run is call between a begin and an end marker. */
int32_t mmcc_port_call_on_model_stack(int32_t (*function)(void));
int32_t mmcc_port_run_on_model_stack(int32_t (*function)(void));
int32_t mmcc_port_call_on_io_stack(int32_t (*function)(void)); /* from main, which may be on the other one */
void mmcc_port_stack_paint(void);     /* paints what is not in use */
uint32_t mmcc_port_stack_used(void);  /* most bytes in use since it was painted; more than the size: overflow */
uint32_t mmcc_port_stack_bytes(void); /* its size */

/* An instruction that does nothing but that the counting plugin sees. */
#define MMCC_MARK_BEGIN 5
#define MMCC_MARK_END 6
#define MMCC_MARK_LAP 7
#define MMCC_MARK_CALIBRATE 8

#define MMCC_TEXT_(x) #x
#define MMCC_TEXT(x) MMCC_TEXT_(x)
#if defined(__arm__)
#define MMCC_MARK_TEXT(k) " .inst.n 0xbf00 + (" MMCC_TEXT(k) " << 4)\n"
#elif defined(__aarch64__)
#define MMCC_MARK_TEXT(k) " hint #(0x60 + " MMCC_TEXT(k) ")\n"
#elif defined(__riscv)
#define MMCC_MARK_TEXT(k) " .word ((0x700 + " MMCC_TEXT(k) ") << 20) | 0x2013\n"
#else
#define MMCC_MARK_TEXT(k) ""
#endif
#define MMCC_MARK(k) __asm__ volatile(MMCC_MARK_TEXT(k)::: "memory")

#ifdef __cplusplus
}
#endif

#endif
