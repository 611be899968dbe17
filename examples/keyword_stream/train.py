# SPDX-License-Identifier: Apache-2.0
"""Train and export the listening network: `python examples/keyword_stream/train.py`.

Causal from the samples on: a spectrum of two hops and bands of its energy, which are fixed, then four
convolutions over time that are trained in numpy, and a class for each hop. It is exported for 100 hops at
once; `mmcc compile --stream` makes it take one. Two runs on one machine write the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sounds import HOP, RATE, SOUNDS, Heard, recording
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
SEED = 3
BINS, BANDS, WIDTH = 40, 20, 24
DILATIONS = (1, 2, 4, 8)
TAPS = 3
FRAMES = 100  # hops of the model as it is exported
RECORDINGS, SECONDS, EPOCHS, BATCH, PEAK_RATE = 1200, 6.0, 24, 16, 4e-3
FLOOR, CENTRE, SPREAD = 1e-5, -7.0, 3.0  # of a band's energy; what its logarithm is about

Floats = NDArray[np.float32]
Weights = dict[str, Floats]


# --- what is fixed ------------------------------------------------------------------------------------------


def spectrum() -> Floats:
    """[2 * BINS, HOP, 2]: cosine and sine of each bin over two hops, windowed, by channel and tap."""
    window = np.hanning(2 * HOP + 1)[:-1]
    pitch = 100.0 * 36 ** (np.arange(BINS) / (BINS - 1))  # 100 to 3,600 Hz
    phase = 2 * np.pi * pitch[:, None] * np.arange(2 * HOP) / RATE
    both = np.concatenate([np.cos(phase), np.sin(phase)]) * window / HOP
    return both.reshape(2 * BINS, 2, HOP).transpose(0, 2, 1).astype(np.float32)


def bands() -> Floats:
    """[BANDS, 2 * BINS, 1]: triangles over the bins, the same for cosines and sines."""
    at, centre = np.arange(BINS), (np.arange(BANDS) + 0.5) * BINS / BANDS - 0.5
    weights = np.maximum(0, 1 - np.abs(at - centre[:, None]) / 2)
    return np.concatenate([weights, weights], 1)[:, :, None].astype(np.float32)


def features(audio: Floats) -> Floats:
    """[hops, BANDS] of samples, as the exported model computes them."""
    hops = audio.reshape(-1, HOP)
    before = np.concatenate([np.zeros((1, HOP), np.float32), hops[:-1]])
    table = spectrum()
    parts = before @ table[:, :, 0].T + hops @ table[:, :, 1].T
    energy = (parts * parts) @ bands()[:, :, 0].T
    return ((np.log(energy + np.float32(FLOOR)) - CENTRE) / SPREAD).astype(np.float32)


def targets(heard: list[Heard], hops: int) -> tuple[NDArray[np.int64], Floats]:
    """The class of each hop, 0 for nothing, and what it counts: less where both are half right."""
    classes, counts = np.zeros(hops, np.int64), np.ones(hops, np.float32)
    for sound in heard:
        length = sound.end - sound.begin
        known, end = (sound.begin + 3 * length // 4) // HOP, sound.end // HOP + 1
        counts[(sound.begin + length // 4) // HOP : known] = 0.3
        classes[known : end + 4] = 1 + list(SOUNDS).index(sound.name)
        counts[end + 4 : end + 9] = 0
    return classes, counts


# --- what is trained ----------------------------------------------------------------------------------------


def initial_weights(rng: np.random.Generator) -> Weights:
    """He's; biases begin at 0."""
    weights: Weights = {}
    inputs = BANDS
    for n in range(len(DILATIONS)):
        weights[f"w{n}"] = rng.normal(0, (2 / inputs / TAPS) ** 0.5, (TAPS, inputs, WIDTH)).astype(np.float32)
        weights[f"b{n}"] = np.zeros(WIDTH, np.float32)
        inputs = WIDTH
    weights["w"] = rng.normal(0, WIDTH**-0.5, (WIDTH, 1 + len(SOUNDS))).astype(np.float32)
    weights["b"] = np.zeros(1 + len(SOUNDS), np.float32)
    return weights


def _late(x: Floats, hops: int) -> Floats:
    """Moved to later hops, with zeros before the first."""
    return x if hops == 0 else np.pad(x, ((0, 0), (hops, 0), (0, 0)))[:, :-hops]


def _early(x: Floats, hops: int) -> Floats:
    return x if hops == 0 else np.pad(x, ((0, 0), (0, hops), (0, 0)))[:, hops:]


def gradients(w: Weights, x: Floats, classes: NDArray[np.int64], counts: Floats) -> tuple[float, Weights]:
    """The weighted mean cross-entropy of [batch, hop], and its gradient."""
    kept = [x]
    for n, step in enumerate(DILATIONS):
        sums = sum(_late(kept[-1], step * (TAPS - 1 - k)) @ w[f"w{n}"][k] for k in range(TAPS))
        kept.append(np.maximum(sums + w[f"b{n}"], 0))
    logits = kept[-1] @ w["w"] + w["b"]
    logits -= logits.max(-1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(-1, keepdims=True)
    share = counts / counts.sum()
    loss = float(-(np.log(np.take_along_axis(chances, classes[..., None], -1)[..., 0]) * share).sum())
    chances[np.arange(len(x))[:, None], np.arange(x.shape[1]), classes] -= 1
    d = chances * share[..., None]
    found: Weights = {"w": np.tensordot(kept[-1], d, ((0, 1), (0, 1))), "b": d.sum((0, 1))}
    d = d @ w["w"].T
    for n, step in reversed(list(enumerate(DILATIONS))):
        d = d * (kept[n + 1] > 0)
        moved = [step * (TAPS - 1 - k) for k in range(TAPS)]
        found[f"w{n}"] = np.stack([np.tensordot(_late(kept[n], m), d, ((0, 1), (0, 1))) for m in moved])
        found[f"b{n}"] = d.sum((0, 1))
        d = sum(_early(d @ w[f"w{n}"][k].T, m) for k, m in enumerate(moved))
    return loss, found


def trained(rng: np.random.Generator) -> Weights:
    """Adam over recordings in another order each epoch, with a rate that falls as a cosine."""
    made = [recording(rng, SECONDS) for _ in range(RECORDINGS)]
    x = np.stack([features(audio) for audio, _ in made])
    classes, counts = (
        np.stack(a) for a in zip(*(targets(heard, x.shape[1]) for _, heard in made), strict=True)
    )
    w, steps, step = initial_weights(rng), EPOCHS * (RECORDINGS // BATCH), 0
    first = {name: np.zeros_like(array) for name, array in w.items()}
    second = {name: np.zeros_like(array) for name, array in w.items()}
    for epoch in range(1, EPOCHS + 1):
        for chosen in rng.permutation(RECORDINGS).reshape(-1, BATCH):
            step += 1
            loss, found = gradients(w, x[chosen], classes[chosen], counts[chosen])
            rate = np.float32(PEAK_RATE * (0.5 + 0.5 * np.cos(np.pi * step / steps)))
            for name, g in found.items():
                first[name] += 0.1 * (g - first[name])
                second[name] += 0.01 * (g * g - second[name])
                down = np.sqrt(second[name] / (1 - 0.99**step)) + 1e-8
                w[name] -= rate * (first[name] / (1 - 0.9**step) / down).astype(np.float32)
        if epoch % 4 == 0:
            print(f"epoch {epoch}: {loss:.4f}", flush=True)
    return w


# --- export -------------------------------------------------------------------------------------------------


def exported(w: Weights) -> onnx.ModelProto:
    """`audio` [1, HOP, FRAMES], samples of a hop as channels; `logits` [1, classes, FRAMES]."""
    constants: dict[str, NDArray[np.generic]] = {
        "spectrum": spectrum(),
        "bands": bands(),
        "floor": np.float32(FLOOR),
        "centre": np.float32(CENTRE),
        "spread": np.float32(SPREAD),
        "out": w["w"].T[:, :, None],
        "out_bias": w["b"],
    }
    nodes = [
        helper.make_node("Conv", ["audio", "spectrum"], ["parts"], name="spectrum", pads=[1, 0]),
        helper.make_node("Mul", ["parts", "parts"], ["squares"], name="squares"),
        helper.make_node("Conv", ["squares", "bands"], ["energy"], name="bands"),
        helper.make_node("Add", ["energy", "floor"], ["floored"], name="floored"),
        helper.make_node("Log", ["floored"], ["log"], name="log"),
        helper.make_node("Sub", ["log", "centre"], ["centred"], name="centred"),
        helper.make_node("Div", ["centred", "spread"], ["x"], name="features"),
    ]
    x = "x"
    for n, step in enumerate(DILATIONS):
        constants |= {f"w{n}": w[f"w{n}"].transpose(2, 1, 0), f"b{n}": w[f"b{n}"]}
        pads, dilations = [step * (TAPS - 1), 0], [step]
        inputs = [x, f"w{n}", f"b{n}"]
        nodes.append(
            helper.make_node("Conv", inputs, [f"sum{n}"], name=f"conv{n}", pads=pads, dilations=dilations)
        )
        nodes.append(helper.make_node("Relu", [f"sum{n}"], [f"x{n}"], name=f"relu{n}"))
        x = f"x{n}"
    nodes.append(helper.make_node("Conv", [x, "out", "out_bias"], ["logits"], name="logits"))
    graph = helper.make_graph(
        nodes,
        "keyword_stream",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, HOP, FRAMES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1 + len(SOUNDS), FRAMES])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "mmcc examples/keyword_stream"
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, and write the model beside this file."""
    with threadpool_limits(1):
        weights = trained(np.random.default_rng(SEED))
    onnx.save(exported(weights), HERE / "keyword_stream.onnx")
    print(f"{sum(array.size for array in weights.values()):,} trained parameters")


if __name__ == "__main__":
    main()
