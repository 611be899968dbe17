# SPDX-License-Identifier: Apache-2.0
"""A function of a user's for int8 convolutions, and the file that hands nodes to it."""

from __future__ import annotations

from pathlib import Path

CONV = """\
#include "NAME_handoff.h"
#include "mmcc_requantize.h"

void npu_conv(const npu_conv_call *c)
{
    const int32_t depth = c->x.channels / c->groups, filters = c->y.channels / c->groups;
    for (int32_t row = c->first_row; row < c->end_row; ++row) {
        int8_t *y = mmcc_tensor_row(&c->y, row);
        for (int32_t col = 0; col < c->y.columns; ++col) {
            for (int32_t o = 0; o < c->y.channels; ++o) {
                int32_t sum = c->bias[o];
                for (int32_t tap = 0; tap < c->kernel[0] * c->kernel[1]; ++tap) {
                    const int32_t i = tap / c->kernel[1], j = tap % c->kernel[1];
                    const int32_t down = row * c->strides[0] + i * c->dilations[0] - c->pads[0];
                    const int32_t right = col * c->strides[1] + j * c->dilations[1] - c->pads[1];
                    if (down < 0 || down >= c->x.rows || right < 0 || right >= c->x.columns) {
                        continue;
                    }
                    const int8_t *x = mmcc_tensor_row(&c->x, down);
                    x += right * c->x.column_stride + o / filters * depth;
                    for (int32_t k = 0; k < depth; ++k) {
                        sum += (x[k] - c->x_zero) * WEIGHT;
                    }
                }
                sum = mmcc_requantize(sum, c->multiplier[o], c->shift[o]) + c->y_zero;
                y[col * c->y.column_stride + o] = (int8_t)mmcc_clamp(sum, c->low, c->high);
            }
        }
    }
}
"""
ORDERS = {  # of the axes of the weights: where the weight of filter o, tap (i, j), channel k is
    "": "c->weights[(o * c->kernel[0] * c->kernel[1] + tap) * depth + k]",
    "HWIO": "c->weights[(tap * depth + k) * c->y.channels + o]",
}


def handed_to_npu(folder: Path, name: str, *lines: str, weights: str = "", text: str = "") -> Path:
    """The file, for all Conv nodes of the model `name`, with the function's source beside it."""
    (folder / "npu.c").write_text(text or CONV.replace("NAME", name).replace("WEIGHT", ORDERS[weights]))
    rule = ["[[handoff]]", 'operators = ["Conv"]', 'function = "npu_conv"', 'sources = ["npu.c"]']
    rule += [f'weights = "{weights}"'] if weights else []
    path = folder / "npu.toml"
    path.write_text("\n".join((*rule, *lines)) + "\n")
    return path
