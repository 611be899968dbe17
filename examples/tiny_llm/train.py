# SPDX-License-Identifier: Apache-2.0
"""Train and export the tiny language model: `python examples/tiny_llm/train.py`.

A decoder as large ones are built (RMSNorm, rotary embedding, grouped queries, SwiGLU, tied embedding), with
gradients written out in numpy, on stories that a grammar makes (stories.py). It is exported to run one word
a call over a key-value cache of fixed size. Two runs on one machine write the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from stories import LENGTH, story, vocabulary
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
SEED = 5
LAYERS, WIDTH, HEADS, SHARED, HEAD, HIDDEN = 2, 48, 4, 2, 12, 96
STEPS, BATCH, PEAK_RATE, WARM_UP = 700, 24, 6e-3, 40
EPSILON = 1e-5

Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]
Weights = dict[str, Floats]


def initial_weights(rng: np.random.Generator, words: int) -> Weights:
    """Normal, narrower by the square root of what is summed; the sums into the stream by depth, too."""
    shapes = {"embedding": (words, WIDTH)}
    for n in range(LAYERS):
        shapes |= {
            f"q{n}": (WIDTH, HEADS * HEAD),
            f"k{n}": (WIDTH, SHARED * HEAD),
            f"v{n}": (WIDTH, SHARED * HEAD),
            f"o{n}": (HEADS * HEAD, WIDTH),
            f"gate{n}": (WIDTH, HIDDEN),
            f"up{n}": (WIDTH, HIDDEN),
            f"down{n}": (HIDDEN, WIDTH),
        }
    weights: Weights = {}
    for name, shape in shapes.items():
        deep = (2 * LAYERS) ** -0.5 if name[:-1] in ("o", "down") else 1.0
        weights[name] = (rng.normal(0, deep * shape[0] ** -0.5, shape)).astype(np.float32)
    weights["embedding"] *= np.float32(0.5)
    for name in ("last", *(f"{kind}{n}" for n in range(LAYERS) for kind in ("before", "between"))):
        weights[name] = np.ones(WIDTH, np.float32)
    return weights


def rotation() -> tuple[Floats, Floats]:
    """Cosines and sines [position, half of a head's channels]."""
    half = HEAD // 2
    angle = np.arange(LENGTH)[:, None] * 100.0 ** (-np.arange(half) / half)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


# --- the parts of a layer: value, and the gradient of their operands from that of the value -----------------


def _normalized(x: Floats, g: Floats) -> tuple[Floats, Floats]:
    scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
    return x * scale * g, scale


def _normalized_back(dy: Floats, x: Floats, g: Floats, scale: Floats) -> tuple[Floats, Floats]:
    hat = x * scale
    inner = dy * g
    dx = scale * (inner - hat * (inner * hat).mean(-1, keepdims=True))
    return dx, (dy * hat).sum(tuple(range(x.ndim - 1)))


def _turned(x: Floats, sign: int) -> Floats:
    """Rotary embedding of [batch, position, head, channel]; sign -1 turns back."""
    cos, sin = (table[: x.shape[1], None, :] for table in rotation())
    a, b = np.split(x, 2, -1)
    return np.concatenate([a * cos - sign * b * sin, b * cos + sign * a * sin], -1)


def _silu(x: Floats) -> tuple[Floats, Floats]:
    gate = 1 / (1 + np.exp(-x))
    return x * gate, gate


@dataclass
class _Attention:
    """What the way back needs of one layer's attention."""

    q: Floats  # [batch, shared, group, position, channel]
    k: Floats  # [batch, shared, position, channel]
    v: Floats
    p: Floats  # [batch, shared, group, query, key]


def _attended(h: Floats, w: Weights, n: int) -> tuple[Floats, _Attention]:
    b, t, _ = h.shape
    q = _turned((h @ w[f"q{n}"]).reshape(b, t, HEADS, HEAD), 1)
    k = _turned((h @ w[f"k{n}"]).reshape(b, t, SHARED, HEAD), 1).transpose(0, 2, 1, 3)
    v = (h @ w[f"v{n}"]).reshape(b, t, SHARED, HEAD).transpose(0, 2, 1, 3)
    q = q.transpose(0, 2, 1, 3).reshape(b, SHARED, HEADS // SHARED, t, HEAD)
    scores = np.einsum("bsgqc,bskc->bsgqk", q, k, optimize=True) / np.float32(HEAD**0.5)
    scores = np.where(np.tri(t, dtype=bool), scores, np.float32(-1e9))
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    y = np.einsum("bsgqk,bskc->bsgqc", p, v, optimize=True)
    return y.reshape(b, HEADS, t, HEAD).transpose(0, 2, 1, 3).reshape(b, t, -1), _Attention(q, k, v, p)


def _attended_back(dy: Floats, h: Floats, w: Weights, n: int, a: _Attention) -> tuple[Floats, Weights]:
    b, t, _ = h.shape
    dy = dy.reshape(b, t, HEADS, HEAD).transpose(0, 2, 1, 3).reshape(a.q.shape)
    dv = np.einsum("bsgqk,bsgqc->bskc", a.p, dy, optimize=True)
    dp = np.einsum("bsgqc,bskc->bsgqk", dy, a.v, optimize=True)
    ds = a.p * (dp - (dp * a.p).sum(-1, keepdims=True)) / np.float32(HEAD**0.5)
    dq = np.einsum("bsgqk,bskc->bsgqc", ds, a.k, optimize=True).reshape(b, HEADS, t, HEAD)
    dk = np.einsum("bsgqk,bsgqc->bskc", ds, a.q, optimize=True)
    parts = {
        "q": _turned(dq.transpose(0, 2, 1, 3), -1),
        "k": _turned(dk.transpose(0, 2, 1, 3), -1),
        "v": dv.transpose(0, 2, 1, 3),
    }
    dh, found = np.zeros_like(h), {}
    for name, part in parts.items():
        flat = part.reshape(b, t, -1)
        found[f"{name}{n}"] = np.tensordot(h, flat, ((0, 1), (0, 1)))
        dh += flat @ w[f"{name}{n}"].T
    return dh, found


def gradients(w: Weights, tokens: Tokens, counts: Floats) -> tuple[float, Weights]:
    """The mean cross-entropy of each next word, and its gradient; `counts` [batch, position] has weights."""
    x, kept = w["embedding"][tokens[:, :-1]], []
    for n in range(LAYERS):
        h, scale = _normalized(x, w[f"before{n}"])
        y, attention = _attended(h, w, n)
        middle = x + y @ w[f"o{n}"]
        h2, scale2 = _normalized(middle, w[f"between{n}"])
        gate, up = h2 @ w[f"gate{n}"], h2 @ w[f"up{n}"]
        silu, sigmoid = _silu(gate)
        kept.append((x, scale, h, attention, y, middle, scale2, h2, gate, up, silu, sigmoid))
        x = middle + (silu * up) @ w[f"down{n}"]
    last, scale = _normalized(x, w["last"])
    logits = last @ w["embedding"].T
    logits -= logits.max(-1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(-1, keepdims=True)
    wanted = np.take_along_axis(chances, tokens[:, 1:, None], -1)[..., 0]
    share = counts / counts.sum()
    loss = float(-(np.log(wanted + 1e-20) * share).sum())
    chances[np.arange(len(tokens))[:, None], np.arange(tokens.shape[1] - 1), tokens[:, 1:]] -= 1
    d = chances * share[..., None]
    found: Weights = {"embedding": np.tensordot(d, last, ((0, 1), (0, 1)))}
    dx, found["last"] = _normalized_back(d @ w["embedding"], x, w["last"], scale)
    for n in reversed(range(LAYERS)):
        dx = _layer_back(dx, w, n, kept[n], found)
    np.add.at(found["embedding"], tokens[:, :-1], dx)
    return loss, found


def _layer_back(dx: Floats, w: Weights, n: int, kept: tuple, found: Weights) -> Floats:
    x, scale, h, attention, y, middle, scale2, h2, gate, up, silu, sigmoid = kept
    found[f"down{n}"] = np.tensordot(silu * up, dx, ((0, 1), (0, 1)))
    inner = dx @ w[f"down{n}"].T
    d_gate = inner * up * (sigmoid * (1 + gate * (1 - sigmoid)))
    d_up = inner * silu
    found[f"gate{n}"] = np.tensordot(h2, d_gate, ((0, 1), (0, 1)))
    found[f"up{n}"] = np.tensordot(h2, d_up, ((0, 1), (0, 1)))
    dh = d_gate @ w[f"gate{n}"].T + d_up @ w[f"up{n}"].T
    d_middle, found[f"between{n}"] = _normalized_back(dh, middle, w[f"between{n}"], scale2)
    d_middle += dx
    found[f"o{n}"] = np.tensordot(y, d_middle, ((0, 1), (0, 1)))
    dh, more = _attended_back(d_middle @ w[f"o{n}"].T, h, w, n, attention)
    found.update(more)
    dx, found[f"before{n}"] = _normalized_back(dh, x, w[f"before{n}"], scale)
    return dx + d_middle


# --- training -----------------------------------------------------------------------------------------------


def batch(rng: np.random.Generator, number: dict[str, int]) -> tuple[Tokens, Floats]:
    """Stories, filled up with ends that do not count."""
    told = [[number[word] for word in story(rng)] for _ in range(BATCH)]
    longest = max(map(len, told))
    tokens, counts = np.zeros((BATCH, longest), np.int64), np.zeros((BATCH, longest - 1), np.float32)
    for k, words in enumerate(told):
        tokens[k, : len(words)], counts[k, : len(words) - 1] = words, 1
    return tokens, counts


def trained(rng: np.random.Generator, words: list[str]) -> Weights:
    """Adam, with a rate that warms up and falls as a cosine."""
    w, number = initial_weights(rng, len(words)), {word: k for k, word in enumerate(words)}
    first = {name: np.zeros_like(array) for name, array in w.items()}
    second = {name: np.zeros_like(array) for name, array in w.items()}
    for step in range(1, STEPS + 1):
        loss, found = gradients(w, *batch(rng, number))
        rate = PEAK_RATE * min(step / WARM_UP, 0.5 + 0.5 * np.cos(np.pi * step / STEPS))
        for name, g in found.items():
            first[name] += 0.1 * (g - first[name])
            second[name] += 0.02 * (g * g - second[name])
            down = np.sqrt(second[name] / (1 - 0.98**step)) + 1e-8
            w[name] -= np.float32(rate) * (first[name] / (1 - 0.9**step) / down).astype(np.float32)
        if step % 100 == 0:
            print(f"step {step}: {loss:.3f} nats a word", flush=True)
    return w


# --- export -------------------------------------------------------------------------------------------------


class Export:
    """Nodes and constants of an ONNX graph, named one by one."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def shape(self, *extents: int) -> str:
        return self.constant("shape_" + "_".join(map(str, extents)), np.array(extents, np.int64))

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output


def _norm(e: Export, x: str, scale: Floats, name: str) -> str:
    two, tiny = e.constant("two", np.float32(2)), e.constant("epsilon", np.float32(EPSILON))
    square = e.add("Pow", [x, two], f"{name}_square")
    mean = e.add("ReduceMean", [square, e.constant("last_axis", np.array([-1]))], f"{name}_mean", keepdims=1)
    root = e.add("Sqrt", [e.add("Add", [mean, tiny], f"{name}_sum")], f"{name}_root")
    unit = e.add("Div", [x, root], f"{name}_unit")
    return e.add("Mul", [unit, e.constant(f"{name}_scale", scale)], name)


def _rotary(e: Export, x: str, name: str) -> str:
    halves = [f"{name}_a", f"{name}_b"]
    e.nodes.append(helper.make_node("Split", [x], halves, name=f"{name}_halves", axis=-1, num_outputs=2))
    a, b = halves
    real = [e.add("Mul", [a, "cos"], f"{name}_ac"), e.add("Mul", [b, "sin"], f"{name}_bs")]
    other = [e.add("Mul", [b, "cos"], f"{name}_bc"), e.add("Mul", [a, "sin"], f"{name}_as")]
    parts = [e.add("Sub", real, f"{name}_real"), e.add("Add", other, f"{name}_imaginary")]
    return e.add("Concat", parts, name, axis=-1)


def _cached(e: Export, new: str, n: int, which: int, name: str) -> str:
    """The layer's keys or values of all positions, with the new ones in their line."""
    layer = e.constant(f"slice{2 * n + which}", np.array(2 * n + which))
    old = e.add("Gather", ["cache", layer], f"{name}_old", axis=0)
    return e.add("ScatterElements", [old, "line", new], name, axis=1)


def _attention(e: Export, h: str, w: Weights, n: int) -> str:
    def product(name: str, heads: int) -> str:
        y = e.add("MatMul", [h, e.constant(f"w_{name}{n}", w[f"{name}{n}"])], f"{name}{n}")
        return e.add("Reshape", [y, e.shape(heads, 1, HEAD)], f"{name}{n}_heads")

    q = _rotary(e, product("q", HEADS), f"q{n}_turned")
    k = _cached(e, _rotary(e, product("k", SHARED), f"k{n}_turned"), n, 0, f"keys{n}")
    v = _cached(e, product("v", SHARED), n, 1, f"values{n}")
    group = HEADS // SHARED
    q = e.add("Reshape", [q, e.shape(SHARED, group, HEAD)], f"q{n}_grouped")
    turned = e.add("Transpose", [k], f"keys{n}_turned", perm=[0, 2, 1])
    scores = e.add("MatMul", [q, turned], f"scores{n}")
    scale = e.constant("scale", np.float32(HEAD**-0.5))
    scaled = e.add("Mul", [scores, scale], f"scaled{n}")
    shown = e.add("Where", ["seen", scaled, e.constant("never", np.float32(-1e9))], f"masked{n}")
    chances = e.add("Softmax", [shown], f"chances{n}", axis=-1)
    y = e.add("MatMul", [chances, v], f"attended{n}")
    flat = e.add("Reshape", [y, e.shape(1, HEADS * HEAD)], f"attended{n}_flat")
    return e.add("MatMul", [flat, e.constant(f"w_o{n}", w[f"o{n}"])], f"o{n}")


def exported(w: Weights) -> onnx.ModelProto:
    """One word a call: `token` and `position` [1], the cache [2 * layers, heads, positions, channels]."""
    e, cache = Export(), [2 * LAYERS, SHARED, LENGTH, HEAD]
    x = e.add("Gather", [e.constant("embedding", w["embedding"]), "token"], "x")
    for name, table in zip(("cos", "sin"), rotation(), strict=True):
        e.add("Gather", [e.constant(f"{name}_table", table), "position"], name)
    places = e.constant("places", np.arange(LENGTH))
    e.add("LessOrEqual", [places, "position"], "seen")
    e.add(
        "Expand", [e.add("Reshape", ["position", e.shape(1, 1, 1)], "at"), e.shape(SHARED, 1, HEAD)], "line"
    )
    for n in range(LAYERS):
        h = _norm(e, x, w[f"before{n}"], f"before{n}")
        middle = e.add("Add", [x, _attention(e, h, w, n)], f"middle{n}")
        h = _norm(e, middle, w[f"between{n}"], f"between{n}")
        gate, up = (
            e.add("MatMul", [h, e.constant(f"w_{name}", w[name])], name) for name in (f"gate{n}", f"up{n}")
        )
        silu = e.add("Mul", [gate, e.add("Sigmoid", [gate], f"sigmoid{n}")], f"silu{n}")
        hidden = e.add("Mul", [silu, up], f"hidden{n}")
        down = e.add("MatMul", [hidden, e.constant(f"w_down{n}", w[f"down{n}"])], f"down{n}")
        x = e.add("Add", [middle, down], f"x{n}")
    turned = e.add("Transpose", ["embedding"], "embedding_turned", perm=[1, 0])
    e.add("MatMul", [_norm(e, x, w["last"], "last"), turned], "logits")
    layers = [f"{kind}{n}" for n in range(LAYERS) for kind in ("keys", "values")]
    axes = e.constant("first_axis", np.array([0]))
    e.add("Concat", [e.add("Unsqueeze", [name, axes], f"{name}_1") for name in layers], "cache_out", axis=0)
    one, words = [1], len(w["embedding"])
    graph = helper.make_graph(
        e.nodes,
        "tiny_llm",
        [helper.make_tensor_value_info(name, TensorProto.INT64, one) for name in ("token", "position")]
        + [helper.make_tensor_value_info("cache", TensorProto.FLOAT, cache)],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, words]),
            helper.make_tensor_value_info("cache_out", TensorProto.FLOAT, cache),
        ],
        list(e.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.producer_name = "mmcc examples/tiny_llm"
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, and write the model beside this file."""
    words = vocabulary()
    with threadpool_limits(1):
        weights = trained(np.random.default_rng(SEED), words)
    onnx.save(exported(weights), HERE / "tiny_llm.onnx")
    print(f"{sum(array.size for array in weights.values()):,} parameters, {len(words)} words")


if __name__ == "__main__":
    main()
