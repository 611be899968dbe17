/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc runtime: what functions that compute a node of the model (mmcc compile --handoff) are given. */
#ifndef MMCC_HANDOFF_H
#define MMCC_HANDOFF_H

#include "mmcc_runtime.h"

/* A tensor, channels innermost: its first element, its size, bytes from row to row, elements from pixel to pixel.
 * Row r begins row_stride * (r modulo rows_held) bytes behind the first element: what is not whole is a ring. */
typedef struct {
    void *data;
    int32_t rows, columns, channels;
    int32_t row_stride, column_stride;
    int32_t rows_held;
} mmcc_tensor;

/* The first element of a row. */
MMCC_INLINE void *mmcc_tensor_row(const mmcc_tensor *tensor, int32_t row)
{
    const size_t down = (size_t)(row % tensor->rows_held) * (size_t)tensor->row_stride;
    return (uint8_t *)tensor->data + down;
}

#endif
