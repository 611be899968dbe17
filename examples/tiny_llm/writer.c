/* SPDX-License-Identifier: Apache-2.0 */
/* Firmware that writes stories with a language model: what `make demo-llm` runs on an emulated board.
 *
 * prompts.bin is what somebody types: 32-bit numbers, first how many stories, then for each a seed, the temperature in
 * thousandths (0: always the likeliest word), the count of its first words, and these. The model has a word a call, and
 * keeps keys and values of those before in its states. Model, states, arena and stack lie in the RAM that the linker
 * is given; what was typed lies beside it. */
#include "port.h"
#include "tiny_llm.h"
#include "words.h" /* WORDS, POSITIONS */

#include <math.h>
#include <string.h>

#define MOST 16 /* stories */

static TINY_LLM_ARENA(arena);
static TINY_LLM_STATES(states);
static tiny_llm_context model;

static MMCC_IO uint32_t typed[1 + MOST * (3 + POSITIONS)];
static MMCC_IO uint32_t seed;

/* What runs on the model's stack. */
static int32_t start(void)
{
    return tiny_llm_init(&model, arena, sizeof arena, states, sizeof states);
}

static int32_t again(void)
{
    return tiny_llm_reset(&model);
}

static int32_t next_word(void)
{
    return tiny_llm_run(&model);
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

/* From 0 to 1. */
static float random_number(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f;
}

static uint32_t chosen(const float *logits, float temperature)
{
    uint32_t best = 0;
    for (uint32_t k = 1; k < TINY_LLM_OUTPUT_0_ELEMENTS; ++k) {
        best = logits[k] > logits[best] ? k : best;
    }
    if (temperature <= 0.0f) {
        return best;
    }
    float total = 0.0f;
    for (uint32_t k = 0; k < TINY_LLM_OUTPUT_0_ELEMENTS; ++k) {
        total += expf((logits[k] - logits[best]) / temperature);
    }
    float left = random_number() * total;
    for (uint32_t k = 0; k < TINY_LLM_OUTPUT_0_ELEMENTS; ++k) {
        left -= expf((logits[k] - logits[best]) / temperature);
        if (left < 0.0f) {
            return k;
        }
    }
    return best;
}

/* One story: its first words are read, then words follow until one ends it. Returns where the next one's begin. */
static const uint32_t *write_story(const uint32_t *from)
{
    seed = from[0];
    const float temperature = (float)from[1] / 1000.0f;
    const uint32_t given = from[2];
    const uint32_t *const first = from + 3;
    must(mmcc_port_call_on_model_stack(again));
    uint32_t word = first[0];
    for (uint32_t position = 0; word != 0 && position < POSITIONS; ++position) {
        mmcc_port_print(WORDS[word]);
        mmcc_port_print(" ");
        *tiny_llm_input_0(&model) = (int64_t)word;
        *tiny_llm_input_1(&model) = (int64_t)position;
        must(mmcc_port_run_on_model_stack(next_word));
        word = position + 1 < given ? first[position + 1] : chosen(tiny_llm_output_0(&model), temperature);
    }
    mmcc_port_print(word == 0 ? WORDS[0] : "");
    mmcc_port_print("\n");
    return first + given;
}

static int32_t program(void)
{
    mmcc_port_stack_paint();
    const int32_t file = mmcc_port_open_read("prompts.bin");
    const uint32_t bytes = file < 0 ? 0 : mmcc_port_file_size(file);
    if (bytes < sizeof typed[0] || bytes > sizeof typed || mmcc_port_read(file, typed, bytes) != 0) {
        mmcc_port_exit(MMCC_EXIT_IO);
    }
    mmcc_port_close(file);
    must(mmcc_port_call_on_model_stack(start));
    const uint32_t *from = typed + 1;
    for (uint32_t story = 0; story < typed[0] && story < MOST; ++story) {
        from = write_story(from);
    }
    mmcc_port_print("stack ");
    mmcc_port_print_u32(mmcc_port_stack_used());
    mmcc_port_print("\n");
    mmcc_port_exit(MMCC_EXIT_OK); /* main's own frame is gone: the model's stack lay there */
}

int main(void)
{
    return (int)mmcc_port_call_on_io_stack(program);
}
