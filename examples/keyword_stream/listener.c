/* SPDX-License-Identifier: Apache-2.0 */
/* Firmware that listens: what `make demo-stream` runs on an emulated board.
 *
 * heard.wav is its microphone: 16-bit samples, mono, read a hop at a time. The network takes a hop and gives a score for
 * each sound and for nothing. A sound that has the largest in three hops running is said, once until there was
 * nothing. Network, states, arena and stack lie in the RAM that the linker is given; the file's bytes lie beside it. */
#include "keyword_stream.h"
#include "names.h" /* NAMES, RATE */
#include "port.h"

#include <string.h>

#define HOP KEYWORD_STREAM_STEP_INPUT_0_ELEMENTS /* samples */
#define SURE 3                                   /* hops */

static KEYWORD_STREAM_ARENA(arena);
static KEYWORD_STREAM_STATES(states);
static keyword_stream_context network;

static MMCC_IO int16_t samples[HOP];

/* What runs on the model's stack. */
static int32_t start(void)
{
    return keyword_stream_init(&network, arena, sizeof arena, states, sizeof states);
}

static int32_t step(void)
{
    return keyword_stream_step(&network);
}

/* ---- */

static void must(int32_t status)
{
    if (status != MMCC_OK) {
        mmcc_port_print("STATUS ");
        mmcc_port_print_u32((uint32_t)status);
        mmcc_port_print("\n");
        mmcc_port_exit(MMCC_EXIT_IO);
    }
}

static uint32_t number_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Bytes of samples in a WAV file, which is read up to them; 0 if it has none. */
static uint32_t wav_bytes(int32_t file)
{
    uint8_t head[16];
    if (mmcc_port_read(file, head, 12) != 0 || memcmp(head, "RIFF", 4) != 0 || memcmp(head + 8, "WAVE", 4) != 0) {
        return 0;
    }
    while (mmcc_port_read(file, head, 8) == 0) {
        uint32_t bytes = number_at(head + 4);
        if (memcmp(head, "data", 4) == 0) {
            return bytes;
        }
        for (; bytes > 0; bytes -= bytes < sizeof head ? bytes : (uint32_t)sizeof head) {
            if (mmcc_port_read(file, head, bytes < sizeof head ? bytes : (uint32_t)sizeof head) != 0) {
                return 0;
            }
        }
    }
    return 0;
}

static uint32_t largest(const float *scores)
{
    uint32_t best = 0;
    for (uint32_t k = 1; k < KEYWORD_STREAM_STEP_OUTPUT_0_ELEMENTS; ++k) {
        best = scores[k] > scores[best] ? k : best;
    }
    return best;
}

static void say(uint32_t sound, uint32_t hop)
{
    mmcc_port_print_u32((hop + 1) * HOP * 1000u / RATE);
    mmcc_port_print(" ms: ");
    mmcc_port_print(NAMES[sound]);
    mmcc_port_print("\n");
}

static int32_t program(void)
{
    mmcc_port_stack_paint();
    const int32_t file = mmcc_port_open_read("heard.wav");
    const uint32_t hops = file < 0 ? 0 : wav_bytes(file) / (uint32_t)sizeof samples;
    must(mmcc_port_call_on_model_stack(start));
    uint32_t last = 0, running = 0, said = 0;
    for (uint32_t hop = 0; hop < hops; ++hop) {
        if (mmcc_port_read(file, samples, (uint32_t)sizeof samples) != 0) {
            mmcc_port_exit(MMCC_EXIT_IO);
        }
        for (uint32_t k = 0; k < HOP; ++k) {
            keyword_stream_step_input_0(&network)[k] = (float)samples[k] / 32768.0f;
        }
        must(mmcc_port_run_on_model_stack(step));
        const uint32_t now = largest(keyword_stream_step_output_0(&network));
        running = now == last ? running + 1 : 1;
        last = now;
        if (running == SURE) {
            if (now != 0 && said == 0) {
                say(now, hop);
            }
            said = now;
        }
    }
    mmcc_port_print("stack ");
    mmcc_port_print_u32(mmcc_port_stack_used());
    mmcc_port_print("\n");
    mmcc_port_exit(hops > 0 ? MMCC_EXIT_OK : MMCC_EXIT_IO); /* main's own frame is gone: the model's stack lay there */
}

int main(void)
{
    return (int)mmcc_port_call_on_io_stack(program);
}
