/* SPDX-License-Identifier: Apache-2.0 */
/* Firmware that fine-tunes its own model: what `make demo-train` runs on an emulated board.
 *
 * samples.bin is the sensor: four numbers of 32 bits (samples to learn from, samples to test with, epochs, rate in
 * millionths), then for each sample 64 floats and its label. kept.bin is the flash that parameters are kept in. With
 * no epochs, the board loads what it kept and is tested. The model, its arena, parameters and stack lie in the RAM that
 * the linker is given; samples and the flash lie beside it. */
#include "digits.h"
#include "port.h"

#include <string.h>

#define MOST 512 /* samples */
#define SLOT (DIGITS_PARAMETERS_SAVED + MMCC_PARAMETERS_MARK)

typedef struct {
    float image[64];
    int32_t label;
} sample;

static DIGITS_ARENA(arena);
static DIGITS_PARAMETERS(parameters);
static digits_context model;

static MMCC_IO struct {
    uint32_t learn, test, epochs, millionths;
    sample samples[MOST];
} sensor;
static MMCC_IO uint8_t flash[2][SLOT];
static MMCC_IO uint32_t order[MOST];
static MMCC_IO uint32_t seed;
static MMCC_IO float rate, loss;

static int32_t read_flash(void *user, uint32_t slot, uint32_t offset, void *to, uint32_t bytes)
{
    (void)user;
    memcpy(to, flash[slot] + offset, bytes);
    return 0;
}

static int32_t write_flash(void *user, uint32_t slot, uint32_t offset, const void *from, uint32_t bytes)
{
    (void)user;
    if (offset == 0) {
        memset(flash[slot], 0xFF, SLOT); /* erase */
    }
    memcpy(flash[slot] + offset, from, bytes);
    return 0;
}

/* What runs on the model's stack. */
static int32_t start(void)
{
    return digits_init(&model, arena, sizeof arena, parameters, sizeof parameters);
}

static int32_t infer(void)
{
    return digits_run(&model);
}

static int32_t learn(void)
{
    return digits_train_step(&model, rate, &loss);
}

static int32_t save(void)
{
    return digits_parameters_save(&model, read_flash, write_flash, NULL);
}

static int32_t load(void)
{
    return digits_parameters_load(&model, read_flash, NULL);
}

/* ---- */

static void on_model_stack(int32_t (*function)(void))
{
    const int32_t status = mmcc_port_call_on_model_stack(function);
    if (status != MMCC_OK) {
        mmcc_port_print("status ");
        mmcc_port_print_u32((uint32_t)status);
        mmcc_port_print("\n");
        mmcc_port_exit(MMCC_EXIT_IO);
    }
}

static void say(const char *name, uint32_t value)
{
    mmcc_port_print(name);
    mmcc_port_print(" ");
    mmcc_port_print_u32(value);
    mmcc_port_print("\n");
}

static void test(void)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < sensor.test; ++i) {
        const sample *const one = &sensor.samples[sensor.learn + i];
        memcpy(digits_input_0(&model), one->image, sizeof one->image);
        on_model_stack(infer);
        const float *const logits = digits_output_0(&model);
        int32_t best = 0;
        for (int32_t k = 1; k < (int32_t)DIGITS_OUTPUT_0_ELEMENTS; ++k) {
            best = logits[k] > logits[best] ? k : best;
        }
        right += best == one->label ? 1u : 0u;
    }
    say("right", right);
}

/* All samples once, in another order each time. */
static void epoch(uint32_t number)
{
    float total = 0.0f;
    rate = (float)sensor.millionths * 1e-6f * (float)(sensor.epochs - number) / (float)sensor.epochs;
    for (uint32_t i = sensor.learn; i > 1; --i) {
        seed = seed * 1664525u + 1013904223u;
        const uint32_t other = (seed >> 8) % i;
        const uint32_t held = order[i - 1];
        order[i - 1] = order[other];
        order[other] = held;
    }
    for (uint32_t i = 0; i < sensor.learn; ++i) {
        const sample *const one = &sensor.samples[order[i]];
        memcpy(digits_train_step_input_0(&model), one->image, sizeof one->image);
        digits_label_0(&model)[0] = one->label;
        on_model_stack(learn);
        total += loss;
    }
    say("loss", (uint32_t)(total / (float)sensor.learn * 1000.0f));
}

static void read_file(const char *name, void *to, uint32_t most)
{
    const int32_t file = mmcc_port_open_read(name);
    if (file >= 0) {
        const uint32_t bytes = mmcc_port_file_size(file);
        (void)mmcc_port_read(file, to, bytes < most ? bytes : most);
        mmcc_port_close(file);
    }
}

static void keep(void)
{
    on_model_stack(save);
    const int32_t file = mmcc_port_open_write("kept.bin");
    if (file < 0 || mmcc_port_write(file, flash, (uint32_t)sizeof flash) != 0) {
        mmcc_port_exit(MMCC_EXIT_IO);
    }
    mmcc_port_close(file);
}

static int32_t program(void)
{
    mmcc_port_stack_paint();
    memset(flash, 0xFF, sizeof flash);
    read_file("samples.bin", &sensor, (uint32_t)sizeof sensor);
    read_file("kept.bin", flash, (uint32_t)sizeof flash);
    on_model_stack(start);
    if (sensor.epochs == 0) {
        on_model_stack(load);
    }
    test();
    for (uint32_t i = 0; i < sensor.learn; ++i) {
        order[i] = i;
    }
    for (uint32_t number = 0; number < sensor.epochs; ++number) {
        epoch(number);
        test();
    }
    if (sensor.epochs > 0) {
        keep();
    }
    say("stack", mmcc_port_stack_used());
    mmcc_port_exit(MMCC_EXIT_OK); /* main's own frame is gone: the model's stack lay there */
}

int main(void)
{
    return (int)mmcc_port_call_on_io_stack(program);
}
