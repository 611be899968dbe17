# SPDX-License-Identifier: Apache-2.0
"""The last blocks of a MobileNetV2 learn on this machine: `finetune.py [MODEL.onnx]`.

MODEL is a float classifier of images, [1, 3, H, W] to one number a class; the first ten classes become the
digits. Without one, a MobileNetV2 of width 0.35 for 96 x 96 is written, with weights that nobody trained: its
first blocks are then random features, and stay so. The images are those of `examples/digits`, enlarged.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmcc
import numpy as np
import onnx
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parent / "digits" / "test_data.npz"
BUILD = HERE.parents[1] / "build" / "mobilenetv2"
SIDE, WIDTH, CLASSES, SUMMED = 96, 0.35, 10, 4
# expansion, channels, repeats, stride of the first: table 2 of Sandler et al. 2018
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LEARNED = 180  # images at most; the others test
LAST = 8  # layers that learn: two blocks, the convolution behind them, and the classifier

Floats = NDArray[np.float32]


class Network:
    """A graph that grows layer by layer, by weights as He et al. begin them."""

    def __init__(self, seed: int = 0) -> None:
        self.rng, self.nodes = np.random.default_rng(seed), list[onnx.NodeProto]()
        self.weights = dict[str, Floats]()

    def conv(
        self,
        x: str,
        inputs: int,
        outputs: int,
        side: int,
        stride: int = 1,
        *,
        own: bool = False,
        act: bool = True,
    ) -> str:
        """A convolution, `own` for one of each channel apart, and Relu6."""
        number = len(self.weights) // 2
        y, reads = f"layer{number}", 1 if own else inputs
        gain = np.sqrt((2 if act else 1) / (reads * side * side))
        drawn = gain * self.rng.standard_normal((outputs, reads, side, side), np.float32)
        self.weights |= {f"{y}.weight": drawn.astype(np.float32), f"{y}.bias": np.zeros(outputs, np.float32)}
        pads, groups = [side // 2] * 4, inputs if own else 1
        names = [x, f"{y}.weight", f"{y}.bias"]
        self.nodes.append(helper.make_node("Conv", names, [y], pads=pads, strides=[stride] * 2, group=groups))
        if act:
            self.nodes.append(helper.make_node("Clip", [y, "zero", "six"], [f"{y}.act"]))
        return f"{y}.act" if act else y

    def block(self, x: str, inputs: int, outputs: int, expansion: int, stride: int) -> str:
        """Expand, a convolution of each channel, project; around it a shortcut where shapes allow."""
        wide = inputs * expansion
        y = self.conv(x, inputs, wide, 1) if expansion > 1 else x
        y = self.conv(self.conv(y, wide, wide, 3, stride, own=True), wide, outputs, 1, act=False)
        if stride > 1 or inputs != outputs:
            return y
        self.nodes.append(helper.make_node("Add", [x, y], [f"{y}.sum"]))
        return f"{y}.sum"


def mobilenetv2(file: Path) -> Path:
    """MobileNetV2 of WIDTH for SIDE x SIDE, written to a file."""
    made = Network()
    channels = _scaled(32)
    x = made.conv("image", 3, channels, 3, 2)
    for expansion, full, repeats, first in BLOCKS:
        for repeat in range(repeats):
            x = made.block(x, channels, _scaled(full), expansion, first if repeat == 0 else 1)
            channels = _scaled(full)
    x = made.conv(x, channels, 1280, 1)
    made.nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"]))
    made.nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    made.nodes.append(
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], transB=1)
    )
    made.weights["head.weight"] = np.zeros((CLASSES, 1280), np.float32)
    made.weights["head.bias"] = np.zeros(CLASSES, np.float32)
    constants = {**made.weights, "zero": np.float32(0), "six": np.float32(6)}
    graph = helper.make_graph(
        made.nodes,
        "mobilenetv2",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def _scaled(channels: int) -> int:
    """Channels at WIDTH: a multiple of 8, and not below nine tenths of what was asked."""
    wanted = channels * WIDTH
    found = max(8, int(wanted + 4) // 8 * 8)
    return found if found >= 0.9 * wanted else found + 8


def digits(height: int, width: int) -> tuple[Floats, NDArray[np.int64]]:
    """[360, 3, H, W] in -1..1, and the labels, mixed; each pixel becomes a rectangle."""
    with np.load(DIGITS) as data:
        images, labels = data["input_0"], data["labels"]
    order = np.random.default_rng(1).permutation(len(images))
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    large = 2 * images[order][:, :, rows[:, None], columns[None, :]] - 1
    return np.repeat(large.astype(np.float32), 3, 1), labels[order]


class Learner:
    """The package, compiled for this machine, with what its calls read."""

    def __init__(self, model: Path, folder: Path) -> None:
        train: mmcc.TrainOptions = {"update": f"last:{LAST}", "accumulate": SUMMED, "optimizer": "adam"}
        made = mmcc.compile_training(model, folder, train, name="net", weights="bin", self_check=False)
        ram = made.report["ram"]
        print(f"RAM of the package: {ram['arena']:,} bytes of arena, {ram['state']:,} of parameters and sums")
        package = load_package(made.folder)
        self.run, self.step, self.apply = package.entries
        self.host = host_model(made.folder, package)
        self.shape = self.run.tensors[self.run.inputs[0].tensor].shape

    def right(self, images: Floats, labels: NDArray[np.int64]) -> int:
        """Of these images, those that the model as it is now classifies as their labels say."""
        outputs = (self.host.run([self._laid(image)], 0)[0].reshape(-1) for image in images)
        return sum(int(y[:CLASSES].argmax() == label) for y, label in zip(outputs, labels, strict=True))

    def learn(self, images: Floats, labels: NDArray[np.int64], rate: float) -> float:
        """An epoch; its mean loss."""
        losses: list[float] = []
        for k, (image, label) in enumerate(zip(images, labels, strict=True), 1):
            found = self.host.run([self._laid(image), np.array([label], np.int32)], 1)
            losses.append(float(found[-1].reshape(-1)[0]))
            if k % SUMMED == 0:
                self.host.run([np.array([rate], np.float32)], 2)
        return float(np.mean(losses))

    def _laid(self, image: Floats) -> Floats:
        """[3, H, W] as the C has it: channels last."""
        return np.ascontiguousarray(image.transpose(1, 2, 0)).reshape(self.shape)


def main(arguments: list[str]) -> int:
    """Accuracy before, and after each epoch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--images", type=int, default=LEARNED, help=f"that are learned, {LEARNED} at most; the other 180 test"
    )
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--folder", type=Path, default=BUILD)
    asked = parser.parse_args(arguments)
    if not SUMMED <= asked.images <= LEARNED or asked.images % SUMMED:
        parser.error(f"--images is a multiple of {SUMMED} up to {LEARNED}: a step is made of so many")
    learner = Learner(asked.model or mobilenetv2(asked.folder / "mobilenetv2.onnx"), asked.folder / "net_c")
    height, width = learner.shape[-3:-1]
    images, labels = digits(height, width)
    tested = images[LEARNED:], labels[LEARNED:]
    count = len(tested[0])
    print(f"before    {learner.right(*tested) / count:6.1%} of {count} images that it does not learn from")
    for epoch in range(1, asked.epochs + 1):
        loss = learner.learn(images[: asked.images], labels[: asked.images], asked.rate)
        print(f"epoch {epoch:<3} {learner.right(*tested) / count:6.1%}   loss {loss:.3f}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except mmcc.CompileError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(int(error.exit))
