/* SPDX-License-Identifier: Apache-2.0 */
/* What the test bench (main.c) needs of a model; generated beside the model. */
#ifndef MMCC_ADAPTER_H
#define MMCC_ADAPTER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

extern const uint32_t mmcc_adapter_inputs;         /* how many */
extern const uint32_t mmcc_adapter_outputs;        /* how many */
extern const uint32_t mmcc_adapter_input_bytes[];  /* one entry an input */
extern const uint32_t mmcc_adapter_output_bytes[]; /* one entry an output */

/* Prepares the model once. 0 is success. */
int32_t mmcc_adapter_init(void);

/* Where input k must be written before a run. */
void *mmcc_adapter_input(uint32_t k);

/* Output k, valid after a run until the next one begins. */
const void *mmcc_adapter_output(uint32_t k);

/* One inference. 0 is success. */
int32_t mmcc_adapter_run(void);

/* A model of several entries numbers the inputs of all of them through, and the outputs; those of entry k begin at
 * number mmcc_adapter_first_input(k) and end where those of entry k + 1 begin. A model that defines none of these
 * three functions has one entry. */
uint32_t mmcc_adapter_first_input(uint32_t entry);
uint32_t mmcc_adapter_first_output(uint32_t entry);
int32_t mmcc_adapter_call(uint32_t entry); /* as mmcc_adapter_run, which calls entry 0 */

/* The model's states are as after init. A model that does not define it has none. */
int32_t mmcc_adapter_reset(void);

/* A model built with MMCC_HOOKS calls this as the work of node `node` begins, as often as it likes: what is
 * executed until the next call counts as that node's. Defined by main.c; costs the same at every call. */
void mmcc_adapter_step(uint32_t node);

/* All that the hook does for two nodes, one after the other, so that its cost can be measured and taken off. To be
 * defined by a model whose hook is more than one call of mmcc_adapter_step a node. */
void mmcc_adapter_rehearse(void);

/* For the serial loop (serial/mmcc_serial.c): the name of the model and the digest of its file; how many nodes are
 * counted, none if the adapter is built without the model's hooks, and a place for a number of each. */
extern const char mmcc_adapter_model[];
extern const uint32_t mmcc_adapter_nodes;
extern uint32_t mmcc_adapter_spent[];

#ifdef __cplusplus
}
#endif

#endif
