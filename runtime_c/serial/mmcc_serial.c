/* SPDX-License-Identifier: Apache-2.0 */
/* A frame is COBS(kind, number, body, CRC-32 of all these, low byte first) and a zero. The computer asks; each
 * question has a number, and one that comes again (its answer was lost) gets the answer without being done twice.
 *
 *   'H'                            -> protocol, inputs, outputs, nodes in 32 bits, status of init, name and digest of the model
 *   'B' u8 0 or 1, u8 which        -> bytes of an input or of an output
 *   'W' u8 input, u32 at, data     -> status
 *   'R' u8 entry, u8 traced        -> status, cycles, bytes traced; while it runs, if traced: 'T' u32 at, data, unasked
 *   'O' u8 output, u32 at, u8 n    -> data
 *   'N' u32 first                  -> cycles of nodes from there on, 32 bits each, of the last run
 *   'Z'                            -> status: states are as after init */
#include "mmcc_serial.h"

#include <stddef.h>

#include "adapter.h"

enum {
    PROTOCOL = 1,
    MOST = 240, /* bytes of data in a frame: its COBS has one group */
    HEAD = 8,   /* kind, number and what else stands before the data */
    TRACE_HEAD = 6,
    CRC = 4,
    UNKNOWN = -1, /* status of a question that makes no sense */
};

static const mmcc_serial_port *port;
static int32_t prepared;           /* what the model's init returned */
static uint8_t asked[HEAD + MOST]; /* a question */
static uint32_t asked_bytes;
static uint8_t answer[HEAD + MOST + CRC];
static uint32_t answer_bytes;
static uint32_t traced, trace_on; /* bytes so far */
static uint32_t node_now, node_began, counts_nodes;

/* ---- cycles ---- */

#if defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
#define DEMCR (*(volatile uint32_t *)0xE000EDFCu)
#define DWT_CTRL (*(volatile uint32_t *)0xE0001000u)
#define DWT_CYCCNT (*(volatile uint32_t *)0xE0001004u)

static void start_counter(void)
{
    DEMCR |= 1u << 24; /* TRCENA */
    DWT_CTRL |= 1u;    /* CYCCNTENA */
}

static uint32_t core_cycles(void)
{
    return DWT_CYCCNT;
}
#else
static void start_counter(void) {}

static uint32_t core_cycles(void)
{
    return 0;
}
#endif

static uint32_t now(void)
{
    return port->cycles != NULL ? port->cycles() : core_cycles();
}

/* A model built with its hooks calls this as the work of a node begins. */
void mmcc_adapter_step(uint32_t node)
{
    const uint32_t at = now();
    if (counts_nodes != 0 && node < mmcc_adapter_nodes) {
        if (node_now < mmcc_adapter_nodes) {
            mmcc_adapter_spent[node_now] += at - node_began;
        }
        node_now = node;
        node_began = now();
    }
}

/* ---- frames ---- */

static uint32_t crc_of(const uint8_t *bytes, uint32_t count)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < count; ++i) {
        crc ^= bytes[i];
        for (uint32_t bit = 0; bit < 8u; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xEDB88320u : 0u);
        }
    }
    return ~crc;
}

static uint32_t get32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put8(uint32_t value)
{
    answer[answer_bytes++] = (uint8_t)value;
}

static void put32(uint32_t value)
{
    for (uint32_t k = 0; k < 4u; ++k) {
        put8((value >> (8u * k)) & 0xFFu);
    }
}

/* Bytes up to the next zero, a count of them first. All frames are shorter than a group of COBS. */
static void send(void)
{
    put32(crc_of(answer, answer_bytes));
    uint32_t from = 0;
    for (uint32_t at = 0; at <= answer_bytes; ++at) {
        if (at == answer_bytes || answer[at] == 0) {
            port->write((uint8_t)(at - from + 1u));
            for (; from < at; ++from) {
                port->write(answer[from]);
            }
            from = at + 1u;
        }
    }
    port->write(0);
    answer_bytes -= CRC;
}

/* The next whole frame into `asked`; what is damaged is passed over, since it will be sent again. */
static void receive(void)
{
    for (;;) {
        uint8_t frame[sizeof asked + CRC];
        uint32_t count = 0, left = 0, zero = 0, sound = 1;
        for (;;) {
            const int32_t byte = port->read();
            if (byte < 0) {
                continue;
            }
            if (byte == 0) {
                break;
            }
            if (left == 0) { /* a group begins: after all but the first and the longest there is a zero */
                if (zero != 0 && count < sizeof frame) {
                    frame[count++] = 0;
                }
                left = (uint32_t)byte;
                zero = byte < 0xFF;
            } else if (count < sizeof frame) {
                frame[count++] = (uint8_t)byte;
            } else {
                sound = 0;
            }
            --left;
        }
        if (sound != 0 && left == 0 && count >= 2u + CRC && crc_of(frame, count - CRC) == get32(frame + count - CRC)) {
            asked_bytes = count - CRC;
            for (uint32_t i = 0; i < asked_bytes; ++i) {
                asked[i] = frame[i];
            }
            return;
        }
    }
}

/* ---- what is asked ---- */

int32_t mmcc_serial_traces(void)
{
    return (int32_t)trace_on;
}

/* What is in `answer` of a trace: while the model runs there is no other answer. */
static void flush_trace(void)
{
    if (answer_bytes > TRACE_HEAD) {
        traced += answer_bytes - TRACE_HEAD;
        send();
    }
    answer_bytes = 0;
    put8('T');
    put8(asked[1]);
    put32(traced);
}

void mmcc_serial_trace(const void *bytes, uint32_t count)
{
    const uint8_t *from = bytes;
    for (uint32_t i = 0; i < count; ++i) {
        put8(from[i]);
        if (answer_bytes == TRACE_HEAD + MOST) {
            flush_trace();
        }
    }
}

static void say_hello(void)
{
    put8(PROTOCOL);
    put8(mmcc_adapter_inputs);
    put8(mmcc_adapter_outputs);
    put32(mmcc_adapter_nodes);
    put32((uint32_t)prepared);
    for (const char *text = mmcc_adapter_model; *text != '\0' && answer_bytes < HEAD + MOST; ++text) {
        put8((uint8_t)*text);
    }
}

static void say_bytes(void)
{
    const uint32_t output = asked[2], k = asked[3];
    const uint32_t count = output != 0 ? mmcc_adapter_outputs : mmcc_adapter_inputs;
    put32(k >= count ? 0u : output != 0 ? mmcc_adapter_output_bytes[k]
                                        : mmcc_adapter_input_bytes[k]);
}

static int32_t take_input(void)
{
    const uint32_t k = asked[2], at = get32(asked + 3), count = asked_bytes - 7u;
    if (prepared != 0 || k >= mmcc_adapter_inputs || at > mmcc_adapter_input_bytes[k] || count > mmcc_adapter_input_bytes[k] - at) {
        return UNKNOWN;
    }
    uint8_t *to = (uint8_t *)mmcc_adapter_input(k) + at;
    for (uint32_t i = 0; i < count; ++i) {
        to[i] = asked[7u + i];
    }
    return 0;
}

static void run(void)
{
    traced = 0;
    trace_on = asked[3];
    counts_nodes = trace_on == 0;
    node_now = mmcc_adapter_nodes;
    for (uint32_t node = 0; node < mmcc_adapter_nodes; ++node) {
        mmcc_adapter_spent[node] = 0;
    }
    answer_bytes = 0;
    flush_trace();
    const uint32_t began = now();
    const int32_t status = prepared != 0 ? prepared : mmcc_adapter_call(asked[2]);
    const uint32_t ended = now();
    if (counts_nodes != 0 && node_now < mmcc_adapter_nodes) {
        mmcc_adapter_spent[node_now] += ended - node_began;
    }
    if (trace_on != 0) {
        flush_trace();
    }
    counts_nodes = trace_on = 0;
    answer_bytes = 0;
    put8('R');
    put8(asked[1]);
    put32((uint32_t)status);
    put32(ended - began);
    put32(traced);
}

static void give_output(void)
{
    const uint32_t k = asked[2], at = get32(asked + 3), count = asked[7];
    const uint8_t *from = k < mmcc_adapter_outputs && prepared == 0 ? mmcc_adapter_output(k) : NULL;
    if (from != NULL && count <= MOST && at <= mmcc_adapter_output_bytes[k] && count <= mmcc_adapter_output_bytes[k] - at) {
        for (uint32_t i = 0; i < count; ++i) {
            put8(from[at + i]);
        }
    }
}

static void give_cycles(void)
{
    for (uint32_t node = get32(asked + 2); node < mmcc_adapter_nodes && answer_bytes + 4u <= MOST; ++node) {
        put32(mmcc_adapter_spent[node]);
    }
}

/* How long a question must be at least: fields behind its kind and number are read without another look. */
static uint32_t least_bytes(uint8_t kind)
{
    switch (kind) {
    case 'B':
    case 'R': return 4u;
    case 'N': return 6u;
    case 'W': return 7u;
    case 'O': return 8u;
    default: return 2u;
    }
}

static void answer_question(void)
{
    answer_bytes = 0;
    put8(asked[0]);
    put8(asked[1]);
    if (asked_bytes < least_bytes(asked[0])) {
        return;
    }
    switch (asked[0]) {
    case 'H': say_hello(); break;
    case 'B': say_bytes(); break;
    case 'W': put32((uint32_t)take_input()); break;
    case 'R': run(); break;
    case 'O': give_output(); break;
    case 'N': give_cycles(); break;
    case 'Z': put32((uint32_t)mmcc_adapter_reset()); break;
    default: break;
    }
}

void mmcc_serial_serve(const mmcc_serial_port *given)
{
    port = given;
    start_counter();
    prepared = mmcc_adapter_init();
    for (;;) {
        receive();
        /* 'H' begins a conversation: its number may be that of one before */
        if (asked[0] == 'H' || answer_bytes == 0 || asked[0] != answer[0] || asked[1] != answer[1]) {
            answer_question();
        }
        send();
    }
}
