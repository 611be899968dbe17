# SPDX-License-Identifier: Apache-2.0
"""One inference of another runtime between markers that the counting plugin sees, in the emulated Python.

python3.11 peers_run.py litert|ncnn|ncnn-float16 MODEL MARKS.so
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


def litert(model: str) -> Callable[[], object]:
    """LiteRT with its default delegate (XNNPACK) and one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    port = interpreter.get_input_details()[0]
    rng = np.random.default_rng(1)
    shape, kind = port["shape"], port["dtype"]
    values = rng.integers(-128, 128, shape) if kind is np.int8 else rng.standard_normal(shape)
    interpreter.set_tensor(port["index"], values.astype(kind))
    return interpreter.invoke


def ncnn(model: str, halves: bool) -> Callable[[], object]:
    """ncnn with one thread; float16 and bfloat16 only if asked for."""
    import ncnn as runtime

    net = runtime.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, name, halves)
    net.opt.use_bf16_storage = False
    for read, end in ((net.load_param, ".param"), (net.load_model, ".bin")):
        if read(model + end):
            raise SystemExit(f"ncnn cannot read {model}{end}")
    sizes = dict(
        word.split("=") for word in Path(model + ".param").read_text().splitlines()[2].split() if "=" in word
    )
    shape = [int(sizes[key]) for key in ("2", "1", "0")]  # channels, rows, columns
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)

    def run() -> object:
        extractor = net.create_extractor()
        extractor.input("in0", runtime.Mat(values))
        status, output = extractor.extract("out0")
        assert status == 0
        return output

    return run


def main() -> None:
    kind, model, marks = sys.argv[1:]
    library = ctypes.CDLL(marks)
    run = litert(model) if kind == "litert" else ncnn(model, kind == "ncnn-float16")
    run()  # the first may pack weights, and takes memory
    library.begin()
    run()
    library.end()


if __name__ == "__main__":
    main()
