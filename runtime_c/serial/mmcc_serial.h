/* SPDX-License-Identifier: Apache-2.0 */
/* A loop that runs a model for a computer at the other end of a serial line: `mmcc verify DIR --on serial:PORT`, and
 * `mmcc bench`. Portable C99; it needs a model's adapter (NAME_adapter.c) and what stands in mmcc_serial_port. */
#ifndef MMCC_SERIAL_H
#define MMCC_SERIAL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t (*read)(void);       /* the next byte, or below 0 if there is none yet */
    void (*write)(uint8_t byte); /* waits until there is room */
    uint32_t (*cycles)(void);    /* a counter that wraps at 2^32; NULL: the core's own (DWT of Cortex-M3 and up) or none */
} mmcc_serial_port;

/* Prepares the model and answers for ever. Its stack is the model's and about 700 bytes. */
void mmcc_serial_serve(const mmcc_serial_port *port);

/* For NAME_records.c: is the run that goes on to be traced, and bytes of what a kernel just wrote. */
int32_t mmcc_serial_traces(void);
void mmcc_serial_trace(const void *bytes, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif
