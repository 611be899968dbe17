/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the calls that tape.bin lists, each after filling in what it lists, and writes what the arena then holds to
 * replies.bin. See qemu_bench.py. */
#include <string.h>

#include "port.h"

enum { POISON = 0xA5 };

typedef struct {
    int32_t node, low, size, fresh, row_begin, row_end, window[9], runs;
} call_head;

extern uint8_t bench_arena[];
void bench_kernel(uint8_t *arena, int32_t node, int32_t begin, int32_t end, const int32_t *c);

static call_head head;

static int32_t make_call(void)
{
    bench_kernel(bench_arena, head.node, head.row_begin, head.row_end, head.window);
    return 0;
}

static void check(int32_t failed)
{
    if (failed != 0) {
        mmcc_port_print("FAILED tape.bin or replies.bin\n");
        mmcc_port_exit(MMCC_EXIT_IO);
    }
}

static int32_t serve(void)
{
    const int32_t tape = mmcc_port_open_read("tape.bin"), replies = mmcc_port_open_write("replies.bin");
    check(tape < 0 || replies < 0);
    for (uint32_t left = mmcc_port_file_size(tape); left > 0;) {
        check(mmcc_port_read(tape, &head, sizeof head));
        left -= (uint32_t)sizeof head;
        uint8_t *const region = bench_arena + head.low;
        if (head.fresh != 0) {
            memset(region, POISON, (size_t)head.size);
        }
        for (int32_t run = 0; run < head.runs; ++run) {
            int32_t span[2]; /* begin, bytes */
            check(mmcc_port_read(tape, span, sizeof span));
            check(mmcc_port_read(tape, region + span[0], (uint32_t)span[1]));
            left -= (uint32_t)sizeof span + (uint32_t)span[1];
        }
        mmcc_port_stack_paint();
        (void)mmcc_port_call_on_model_stack(make_call);
        if (mmcc_port_stack_used() > mmcc_port_stack_bytes()) {
            mmcc_port_print("STACK OVERFLOW\n");
            mmcc_port_exit(MMCC_EXIT_STACK);
        }
        check(mmcc_port_write(replies, region, (uint32_t)head.size));
    }
    mmcc_port_close(replies);
    mmcc_port_close(tape);
    mmcc_port_exit(MMCC_EXIT_OK);
}

int main(void)
{
    return (int)mmcc_port_call_on_io_stack(serve);
}
