/* SPDX-License-Identifier: Apache-2.0 */
/* The test bench: feeds the samples of inputs.bin to a model, writes outputs.bin, measures each run.
 *
 * inputs.bin holds, sample after sample, all inputs in order; outputs.bin the same of the outputs. If there is a
 * calls.bin, it says for each sample, in one byte, which entry of the model is called; or RESET. Built with hooks,
 * steps.bin gets the node of each lap of the first sample, 16 bits each. Instructions are counted by the plugin. */
#include "adapter.h"
#include "port.h"

enum { STEPS = 1 << 18,
       CALLS = 1 << 12,
       RESET = 0xFF };

static MMCC_IO uint32_t steps_seen;
static MMCC_IO uint16_t steps[STEPS];
static MMCC_IO uint8_t calls[CALLS];
static MMCC_IO uint32_t entry; /* that is called now */

__attribute__((noinline)) void mmcc_adapter_step(uint32_t node)
{
    MMCC_MARK(MMCC_MARK_LAP);
    if (steps_seen < STEPS) {
        steps[steps_seen] = (uint16_t)node;
    }
    ++steps_seen;
}

__attribute__((weak, noinline)) void mmcc_adapter_rehearse(void)
{
    mmcc_adapter_step(0);
    mmcc_adapter_step(1);
}

__attribute__((weak, noinline)) uint32_t mmcc_adapter_first_input(uint32_t number)
{
    return number == 0 ? 0 : mmcc_adapter_inputs;
}

__attribute__((weak, noinline)) uint32_t mmcc_adapter_first_output(uint32_t number)
{
    return number == 0 ? 0 : mmcc_adapter_outputs;
}

__attribute__((weak, noinline)) int32_t mmcc_adapter_call(uint32_t number)
{
    (void)number;
    return mmcc_adapter_run();
}

__attribute__((weak, noinline)) int32_t mmcc_adapter_reset(void)
{
    return 0;
}

static int32_t call_entry(void)
{
    return mmcc_adapter_call(entry);
}

static void fail(const char *what, int32_t code)
{
    mmcc_port_print("FAILED ");
    mmcc_port_print(what);
    mmcc_port_print("\n");
    mmcc_port_exit(code);
}

static void check(int32_t status, const char *what)
{
    if (mmcc_port_stack_used() > mmcc_port_stack_bytes()) {
        mmcc_port_print("STACK OVERFLOW\n");
        mmcc_port_exit(MMCC_EXIT_STACK);
    }
    if (status != 0) {
        mmcc_port_print("STATUS ");
        mmcc_port_print_hex((uint32_t)status);
        mmcc_port_print("\n");
        fail(what, MMCC_EXIT_IO);
    }
}

static void read_inputs(int32_t file)
{
    for (uint32_t k = mmcc_adapter_first_input(entry); k < mmcc_adapter_first_input(entry + 1); ++k) {
        if (mmcc_port_read(file, mmcc_adapter_input(k), mmcc_adapter_input_bytes[k]) != 0) {
            fail("reading inputs.bin", MMCC_EXIT_IO);
        }
    }
}

static void write_outputs(int32_t file)
{
    for (uint32_t k = mmcc_adapter_first_output(entry); k < mmcc_adapter_first_output(entry + 1); ++k) {
        if (mmcc_port_write(file, mmcc_adapter_output(k), mmcc_adapter_output_bytes[k]) != 0) {
            fail("writing outputs.bin", MMCC_EXIT_IO);
        }
    }
}

static void write_steps(void)
{
    if (steps_seen > STEPS) {
        fail("more laps than the log holds", MMCC_EXIT_IO);
    }
    const int32_t file = mmcc_port_open_write("steps.bin");
    if (file < 0 || mmcc_port_write(file, steps, steps_seen * 2U) != 0) {
        fail("writing steps.bin", MMCC_EXIT_IO);
    }
    mmcc_port_close(file);
}

/* Of the first entry, which is run where nothing else is said; a model without inputs is run once. */
static uint32_t sample_count(int32_t file)
{
    uint32_t bytes = 0;
    for (uint32_t k = mmcc_adapter_first_input(0); k < mmcc_adapter_first_input(1); ++k) {
        bytes += mmcc_adapter_input_bytes[k];
    }
    if (bytes == 0) {
        return 1;
    }
    const uint32_t size = mmcc_port_file_size(file);
    if (size % bytes != 0) {
        fail("inputs.bin is no whole number of samples", MMCC_EXIT_IO);
    }
    return size / bytes;
}

/* How many calls.bin has; 0 if there is none. */
static uint32_t read_calls(void)
{
    const int32_t file = mmcc_port_open_read("calls.bin");
    if (file < 0) {
        return 0;
    }
    const uint32_t count = mmcc_port_file_size(file);
    if (count > CALLS || mmcc_port_read(file, calls, count) != 0) {
        fail("reading calls.bin", MMCC_EXIT_IO);
    }
    mmcc_port_close(file);
    return count;
}

static int32_t serve(void)
{
    const int32_t inputs = mmcc_port_open_read("inputs.bin");
    const int32_t outputs = mmcc_port_open_write("outputs.bin");
    if (inputs < 0 || outputs < 0) {
        fail("opening inputs.bin and outputs.bin", MMCC_EXIT_IO);
    }
    mmcc_port_stack_paint();
    check(mmcc_port_call_on_model_stack(mmcc_adapter_init), "mmcc_adapter_init");
    uint32_t most = mmcc_port_stack_used();
    MMCC_MARK(MMCC_MARK_CALIBRATE);
    mmcc_adapter_rehearse();
    const uint32_t called = read_calls();
    const uint32_t count = called != 0 ? called : sample_count(inputs);
    for (uint32_t i = 0; i < count; ++i) {
        if (called != 0 && calls[i] == RESET) {
            check(mmcc_port_call_on_model_stack(mmcc_adapter_reset), "mmcc_adapter_reset");
            continue;
        }
        entry = called != 0 ? calls[i] : 0;
        read_inputs(inputs);
        steps_seen = 0;
        mmcc_port_stack_paint();
        check(mmcc_port_run_on_model_stack(entry != 0 ? call_entry : mmcc_adapter_run), "mmcc_adapter_run");
        const uint32_t used = mmcc_port_stack_used();
        most = used > most ? used : most;
        write_outputs(outputs);
        if (i == 0) {
            write_steps();
        }
    }
    mmcc_port_close(outputs);
    mmcc_port_close(inputs);
    mmcc_port_print("stack ");
    mmcc_port_print_u32(most);
    mmcc_port_print("\n");
    mmcc_port_exit(MMCC_EXIT_OK); /* main's own frame may be gone, where the model's stack lay there */
}

int main(void)
{
    return (int)mmcc_port_call_on_io_stack(serve);
}
