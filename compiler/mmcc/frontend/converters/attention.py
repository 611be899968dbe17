# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime's optimizer makes of a transformer's blocks: attention, and sums that are normalized."""

from __future__ import annotations

from math import sqrt

import numpy as np

from mmcc.frontend.broadcasting import elementwise
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.indexing import gathered, index_input
from mmcc.frontend.converters.matrix import matmul
from mmcc.frontend.converters.normalization import along_last_axis, normalized
from mmcc.frontend.converters.parts import sliced
from mmcc.frontend.converters.quantization import check_scales, dequantized
from mmcc.frontend.layouts import reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import MICROSOFT, converts
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Binary
from mmcc.ops.softmax import Softmax

EPSILON = 1e-12  # of a normalization that says none
MASKED = -10000.0  # what ONNX Runtime adds to a score that does not count


@converts("SkipLayerNormalization", domain=MICROSOFT, notes="constant scale and bias")
@converts("SkipSimplifiedLayerNormalization", domain=MICROSOFT, notes="constant scale")
def convert_skip_layer_normalization(call: Call) -> tuple[Value, ...]:
    """A residual sum, and what it is normalized."""
    if any(call.is_read(k) for k in (1, 2)):
        raise unsupported("the mean and deviation of a normalization are read")
    build, centred = call.build, call.node.op_type == "SkipLayerNormalization"
    total = elementwise(build, Binary("add"), call.float_input(0), call.float_input(1))
    if call.has(4 if centred else 3):
        total = elementwise(build, Binary("add"), total, call.float_input(4 if centred else 3))
    y = normalized(call, total, total.rank - 1, centred=centred, scale=2, epsilon=EPSILON)
    return y, y, y, total


@converts("EmbedLayerNormalization", domain=MICROSOFT, notes="constant tables; no mask_index")
def convert_embed_layer_normalization(call: Call) -> tuple[Value, ...]:
    """Embeddings of tokens, their places and segments, added up and normalized."""
    if call.is_read(1):
        raise unsupported("mask_index of EmbedLayerNormalization is read")
    call.integer("mask_index_type", 0)
    build, ids = call.build, index_input(call, 0)
    if any(call.float_input(k).rank != 2 for k in (2, 3, 4) if call.has(k)):
        raise bad_model("MM104", "a table of embeddings that is no matrix")
    total = gathered(build, call.float_input(2), 0, ids)
    places = call.float_input(3)
    if call.has(8):
        places = gathered(build, places, 0, index_input(call, 8))
    elif ids.rank == 2 and ids.shape[1] <= places.shape[0]:
        places = sliced(build, places, {0: (0, 1, ids.shape[1])})
    else:
        raise bad_model("MM104", f"{list(places.shape)} places for tokens {list(ids.shape)}")
    total = elementwise(build, Binary("add"), total, places)
    if call.has(1) and call.has(4):
        segments = gathered(build, call.float_input(4), 0, index_input(call, 1))
        total = elementwise(build, Binary("add"), total, segments)
    y = normalized(call, total, total.rank - 1, centred=True, scale=5, epsilon=EPSILON)
    return y, y, total


@converts("MultiHeadAttention", domain=MICROSOFT, notes="queries, keys and values apart or packed; no past")
def convert_multi_head_attention(call: Call) -> Value:
    """Softmax of scaled products of queries and keys, times the values, head by head."""
    _no_more_outputs(call)
    for k, what in ((4, "key_padding_mask"), (6, "a past"), (7, "a past"), (8, "a past"), (9, "beams")):
        if call.has(k):
            raise unsupported(f"MultiHeadAttention with {what}")
    build, heads, query = call.build, call.integer("num_heads"), call.float_input(0)
    if query.rank == 5 and query.shape[3] == 3:  # [batch, tokens, heads, 3, channels]
        parts = [sliced(build, query, {3: (k, 1, 1)}).without([3]) for k in range(3)]
        parts = [x.transposed((0, 2, 1, 3)) for x in parts]
        return _attention(call, parts, 5)
    if not call.has(1) or not call.has(2):
        raise unsupported("MultiHeadAttention with packed keys and values")
    parts = [query, call.float_input(1), call.float_input(2)]
    if any(x.rank != 3 for x in parts):
        raise unsupported("MultiHeadAttention of keys and values that are split into heads")
    if call.has(3):
        parts = _biased(call, parts, 3)
    return _attention(call, [_split(build, x, heads) for x in parts], 5)


def _biased(call: Call, parts: list[Value], k: int) -> list[Value]:
    """Each of the parts with its share of a vector added."""
    build, bias, first = call.build, call.float_input(k), 0
    if bias.shape != (sum(x.shape[2] for x in parts),):
        raise bad_model("MM104", f"a bias of {list(bias.shape)} for {[list(x.shape) for x in parts]}")
    done: list[Value] = []
    for x in parts:
        mine = sliced(build, bias, {0: (first, 1, x.shape[2])})
        done.append(elementwise(build, Binary("add"), x, mine))
        first += x.shape[2]
    return done


@converts("Attention", domain=MICROSOFT, notes="constant weights; no mask_index, no past")
def convert_attention(call: Call) -> Value:
    """A product with the weights of queries, keys and values, and then attention."""
    if call.has(3) or call.has(4) or call.has(6):
        raise unsupported("Attention with a mask_index or a past")
    sizes = call.integers("qkv_hidden_sizes")
    return _self_attention(call, call.float_input(0), call.float_input(1), 2, sizes, 5)


@converts("QAttention", domain=MICROSOFT, notes="int8 and uint8 of one scale; no mask_index, no past")
def convert_q_attention(call: Call) -> Value:
    """The same of a quantized input and weights; the result is float."""
    if call.has(5) or call.has(8):
        raise unsupported("QAttention with a mask_index or a past")
    pair: list[Value] = []
    for k in (0, 1):
        x, scale = call.input(k), call.needed(3 + k, "the scale")
        zeros = check_scales(scale, call.constant(6 + k, "the zero point"), x.dtype)
        if scale.size != 1 and (k == 0 or scale.shape != x.shape[1:]):
            raise bad_model("MM107", f"{list(scale.shape)} scales for {list(x.shape)}")
        axis = None if scale.size == 1 else 1
        pair.append(dequantized(call.build, x, scale.reshape(-1), zeros.reshape(-1), axis))
    return _self_attention(call, pair[0], pair[1], 2, None, None)


def _self_attention(
    call: Call, x: Value, w: Value, bias: int, sizes: list[int] | None, added: int | None
) -> Value:
    """Queries, keys and values of one product [batch, tokens, channels]."""
    _no_more_outputs(call)
    if call.integer("do_rotary", 0) or call.integer("past_present_share_buffer", 0):
        raise unsupported("attention with rotary embedding, or a past")
    call.without_effect("rotary_embedding_dim")
    build, heads = call.build, call.integer("num_heads")
    if x.rank != 3 or w.rank != 2:
        raise bad_model("MM104", f"attention of {list(x.shape)} with weights {list(w.shape)}")
    y = matmul(build, x, w)
    if call.has(bias):
        y = elementwise(build, Binary("add"), y, call.float_input(bias))
    sizes = sizes or [w.shape[1] // 3] * 3
    if len(sizes) != 3 or sum(sizes) != w.shape[1] or min(sizes) < 1:
        raise bad_model("MM104", f"{w.shape[1]} channels of queries, keys and values: {sizes}")
    first = (0, sizes[0], sizes[0] + sizes[1])
    parts = [sliced(build, y, {2: (first[k], 1, sizes[k])}) for k in range(3)]
    return _attention(call, [_split(build, part, heads) for part in parts], added)


def _no_more_outputs(call: Call) -> None:
    if any(call.is_read(k) for k in range(1, len(call.node.output))):
        raise unsupported(f"{call.node.op_type} with keys and values of its past as outputs")


def _split(build: Builder, x: Value, heads: int) -> Value:
    """[batch, tokens, channels] as [batch, heads, tokens, channels of a head]."""
    if heads < 1 or x.shape[2] % heads:
        raise bad_model("MM104", f"{heads} heads of {x.shape[2]} channels")
    cut = reshaped(build, x, (*x.shape[:2], heads, x.shape[2] // heads))
    return cut.transposed((0, 2, 1, 3))


def _attention(call: Call, parts: list[Value], added: int | None) -> Value:
    """[batch, tokens, channels] of queries, keys and values [batch, heads, tokens, channels of a head].

    Operand `added` of the call, if it is given, is added to scores.
    """
    build, (q, k, v) = call.build, parts
    if q.shape[3] != k.shape[3] or k.shape[2] != v.shape[2] or q.shape[:2] != k.shape[:2]:
        raise bad_model("MM104", f"queries, keys and values {[list(x.shape) for x in parts]}")
    scale = call.finite("scale", 0.0) or 1 / sqrt(q.shape[3])
    scores = matmul(build, q, k.transposed((0, 1, 3, 2)))
    scores = elementwise(build, Binary("mul"), scores, build.constant(np.array(scale, np.float32)))
    masked = call.finite("mask_filter_value", MASKED)
    if added is not None and call.has(added):
        scores = elementwise(build, Binary("add"), scores, call.float_input(added))
    if call.integer("unidirectional", 0):
        later = np.triu(np.full((q.shape[2], k.shape[2]), masked, np.float32), 1)
        scores = elementwise(build, Binary("add"), scores, build.constant(later))
    y = matmul(build, along_last_axis(build, Softmax(), scores, [3]), v).transposed((0, 2, 1, 3))
    return reshaped(build, y, (*y.shape[:2], y.shape[2] * y.shape[3]))
