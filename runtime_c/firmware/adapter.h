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

/* A model built with MMCC_HOOKS calls this as the work of node `node` begins, as often as it likes: what is
 * executed until the next call counts as that node's. Defined by main.c; costs the same at every call. */
void mmcc_adapter_step(uint32_t node);

/* All that the hook does for two nodes, one after the other, so that its cost can be measured and taken off. To be
 * defined by a model whose hook is more than one call of mmcc_adapter_step a node. */
void mmcc_adapter_rehearse(void);

#ifdef __cplusplus
}
#endif

#endif
