# SPDX-License-Identifier: Apache-2.0
"""C of many plans of one model, built for this machine and timed: what does not change is compiled once.

The same flags and C as `mmcc verify --on host` builds; what is left out is CMake, which takes longer than the
compiler here. A library is closed before the next is loaded, so that hundreds can be measured in one process.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower
from mmcc.codegen.render import render
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.resources import data_dir
from mmcc.target import load_target
from mmcc.toolchain import CODE_FLAGS
from mmcc.toolchain.host import CDEF

NAME = "net"


class Loaded:
    """A model in this process that can be timed."""

    def __init__(self, ffi: Any, library: Any, graph: Graph) -> None:
        self._ffi, self._library, self._graph = ffi, library, graph
        status = library.mmcc_adapter_init()
        if status:
            raise RuntimeError(f"the model's init returned status {status}")

    def run(self, inputs: Sequence[np.ndarray]) -> list[bytes]:
        """One inference; arrays as the C code takes them, outputs as bytes."""
        library = self._library
        for k, array in enumerate(inputs):
            self._ffi.memmove(library.mmcc_adapter_input(k), array.tobytes(), array.nbytes)
        self.run_only()
        sizes = library.mmcc_adapter_output_bytes
        outputs = range(len(self._graph.outputs))
        return [bytes(self._ffi.buffer(library.mmcc_adapter_output(k), sizes[k])) for k in outputs]

    def run_only(self) -> None:
        status = self._library.mmcc_adapter_run()
        if status:
            raise RuntimeError(f"the model's run returned status {status}")

    def milliseconds(self) -> float:
        """Processor time of one inference on whatever the inputs hold."""
        began = time.process_time()
        self.run_only()
        return (time.process_time() - began) * 1e3


class Workshop:
    """Builds plans of one graph in a folder."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph, self._folder = graph, folder
        self._target = load_target("host")
        self._objects: dict[str, Path] = {}
        flags = [flag for flag in self._target.flags if flag.startswith(("-O", "-m"))]
        self._compiler = [self._target.compiler, "-std=c99", "-fPIC", *flags, *CODE_FLAGS]
        self._built = 0

    @property
    def compiled(self) -> int:
        """Objects compiled so far."""
        return len(self._objects)

    def build(self, plan: Plan) -> Path:
        """A shared library of the model under this plan, its arena in it."""
        self._built += 1
        folder = self._folder / f"plan{self._built}"
        folder.mkdir()
        options = EmitOptions(NAME, weights_in_c=False)
        generated = emit(
            Module.of(self.graph),
            lower(Module.of(self.graph), MemoryPlan.of(plan), NAME, self._target),
            options,
            self._target,
        )
        for name, text in generated.files.items():
            (folder / name).write_text(text)
        weights = generated.weights_file()
        (folder / f"{NAME}_weights.bin").write_bytes(weights)
        adapter = folder / f"{NAME}_adapter.c"
        adapter.write_text(render("adapter.c.j2", on_heap=False, **generated.values))
        firmware = data_dir("runtime_c") / "firmware"
        sources = [
            p for p in sorted(folder.iterdir()) if p.suffix in (".c", ".S") and "selftest" not in p.name
        ]
        objects = [
            self._object(source, [f"-I{folder}", f"-I{firmware}"], weights if source.suffix == ".S" else b"")
            for source in sources
        ]
        library = folder / f"lib{NAME}.so"
        _run([self._target.compiler, "-shared", *map(str, objects), "-lm", "-o", str(library)])
        (folder / f"{NAME}_weights.bin").unlink()
        return library

    @contextmanager
    def loaded(self, library: Path) -> Iterator[Loaded]:
        """The library, loaded; closed and deleted afterwards."""
        from cffi import FFI

        ffi = FFI()
        ffi.cdef(CDEF)
        opened: Any = ffi.dlopen(str(library))
        try:
            yield Loaded(ffi, opened, self.graph)
        finally:
            ffi.dlclose(opened)

    def _object(self, source: Path, includes: list[str], data: bytes) -> Path:
        """The object of a file; the same text after the preprocessor, and data, is compiled once."""
        text = _run([*self._compiler, *includes, "-E", "-P", str(source)])
        key = hashlib.sha256(text.encode() + data).hexdigest()
        if key not in self._objects:
            made = self._folder / f"{key}.o"
            _run([*self._compiler, *includes, "-c", str(source), "-o", str(made)])
            self._objects[key] = made
        return self._objects[key]


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout
