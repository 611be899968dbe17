/* SPDX-License-Identifier: Apache-2.0 */
/* The least time that each node of a network takes, of some runs, in cycles of the time stamp counter. */
#include NETWORK_HEADER

#include <stdio.h>
#include <stdlib.h>
#include <x86intrin.h>

#define MOST_NODES 4096

static NETWORK(ARENA)(arena);
static network_context model;
static unsigned long long began, spent[MOST_NODES], least[MOST_NODES];

void network_before_node(const network_context *context, uint32_t node)
{
    (void)context;
    (void)node;
    began = __rdtsc();
}

void network_after_node(const network_context *context, uint32_t node)
{
    (void)context;
    spent[node] += __rdtsc() - began;
}

int main(int argc, char **argv)
{
    const int runs = argc > 1 ? atoi(argv[1]) : 10;
    if (network_init(&model, arena, sizeof arena) != MMCC_OK) {
        return 1;
    }
    for (int run = 0; run <= runs; ++run) { /* the first warms up */
        for (int k = 0; k < MOST_NODES; ++k) {
            spent[k] = 0;
        }
        if (network_run(&model) != MMCC_OK) {
            return 1;
        }
        for (int k = 0; k < MOST_NODES; ++k) {
            least[k] = run < 2 || spent[k] < least[k] ? spent[k] : least[k];
        }
    }
    for (int k = 0; k < MOST_NODES; ++k) {
        if (least[k] != 0) {
            printf("%d %llu\n", k, least[k]);
        }
    }
    return 0;
}
