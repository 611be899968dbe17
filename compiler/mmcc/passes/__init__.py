# SPDX-License-Identifier: Apache-2.0
"""Graph -> Graph. One file a pass; the order is here, but for what follows the options (`driver/`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.passes.absorb_transpose import absorb_into_dense, sink_transpose
from mmcc.passes.bodies import with_optimized_bodies
from mmcc.passes.border import quantize_ports
from mmcc.passes.costs import costs
from mmcc.passes.dead_channels import drop_dead_channels
from mmcc.passes.expand_broadcasts import expand_broadcasts
from mmcc.passes.float_results import give_float_results
from mmcc.passes.fold import fold_constants, fold_dequantized
from mmcc.passes.fold_batchnorm import fold_batchnorm
from mmcc.passes.fold_pad import fold_pad
from mmcc.passes.fuse_activation import fuse_activation
from mmcc.passes.fuse_gate import fuse_gate
from mmcc.passes.fuse_norm import fuse_norm
from mmcc.passes.half_layers import compute_in_halves
from mmcc.passes.integer16 import quantize_16
from mmcc.passes.keep_halves import keep_halves
from mmcc.passes.lookup import join_lookups
from mmcc.passes.move_quantize import raise_quantize, sink_dequantize
from mmcc.passes.narrow_floats import keep_narrow
from mmcc.passes.positive_zeros import positive_zeros
from mmcc.passes.quantize import quantize
from mmcc.passes.signed import make_signed
from mmcc.passes.simplify import simplify
from mmcc.passes.sink_concat import sink_concat
from mmcc.passes.split_functions import split_functions
from mmcc.passes.whole_numbers import keep_whole

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    fold_constants,
    simplify,
    split_functions,
    simplify,  # slices of what a Concat joins
    keep_narrow,
    keep_whole,
    fuse_norm,
    make_signed,
    sink_transpose,  # before activations are fused: a transposition between a layer and its Relu
    fold_batchnorm,
    fuse_activation,
    sink_dequantize,
    raise_quantize,
    fold_constants,  # constants that raise_quantize quantizes
    simplify,  # two equal Quantize of one tensor are one
    fold_pad,  # before quantizing: a float Pad by 0 between Dequantize and a layer
    quantize,
    quantize_16,
    give_float_results,
    quantize_ports,
    fold_dequantized,  # what no integer op took
    join_lookups,
    simplify,
    fuse_gate,  # not before quantizing: a table is made of the model's own float steps
    fold_pad,  # after quantizing: a Pad of integers by their zero point
    fold_batchnorm,  # islands: their weights are plain floats now
    fuse_activation,
    sink_transpose,
    absorb_into_dense,
    sink_concat,
    positive_zeros,  # behind all that changes biases
    expand_broadcasts,  # late: what is expanded is no longer seen to be a scalar or per channel
    simplify,
    drop_dead_channels,  # last: it knows the final operators only
)


def _no_node(_: Node) -> bool:
    return False


def optimize(
    graph: Graph,
    *,
    float_io: bool = False,
    fp16_math: bool = False,
    wide: Callable[[Node], bool] = _no_node,
) -> Graph:
    """Run all passes, to the form that the planner takes; `float_io` keeps float inputs and outputs float.

    With `fp16_math`, layers between tensors in float16 may have their sums in float16. Weights of nodes that
    are to be `wide` are float32, also where the file has them in float16.
    Its warnings say what became float or larger.
    """
    done = graph = with_optimized_bodies(
        graph, lambda body: optimize(body, float_io=True, fp16_math=fp16_math, wide=wide)
    )
    for step in PASSES:
        if not (float_io and step is quantize_ports):
            done = step(done)
    done = keep_halves(done, wide)  # behind all that reads weights
    if fp16_math:
        done = compute_in_halves(done, wide)
    return replace(done, warnings=done.warnings + costs(graph, done))
