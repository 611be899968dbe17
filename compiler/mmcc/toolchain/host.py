# SPDX-License-Identifier: Apache-2.0
"""Build a package for this machine through CMake, load it, and run it on arrays."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit, printable
from mmcc.resources import data_dir
from mmcc.scratch import ScratchFolder
from mmcc.target import load_target
from mmcc.toolchain.build import raise_if_disk_full

CDEF = """
extern uint32_t mmcc_adapter_inputs, mmcc_adapter_outputs;
extern uint32_t mmcc_adapter_input_bytes[], mmcc_adapter_output_bytes[];
int32_t mmcc_adapter_init(void);
void *mmcc_adapter_input(uint32_t k);
const void *mmcc_adapter_output(uint32_t k);
int32_t mmcc_adapter_run(void);
uint32_t mmcc_adapter_first_input(uint32_t entry);
uint32_t mmcc_adapter_first_output(uint32_t entry);
int32_t mmcc_adapter_call(uint32_t entry);
int32_t mmcc_adapter_reset(void);
void mmcc_adapter_forget(void);
uint64_t mmcc_adapter_weights_read(void);
uint64_t mmcc_adapter_paged(void);
"""


def build_shared(package: Path, adapter: str, name: str, work: Path) -> Path:
    """Build `package` and its adapter (C text) into one shared library in `work`, unless it is there already.

    The build itself is in a temporary folder. CompileError if a tool is missing or the C does not build.
    """
    for tool in ("cmake", "cc"):
        if shutil.which(tool) is None:
            debian = "cmake" if tool == "cmake" else "gcc"
            message = f"{tool} is not installed; the check on this machine needs it"
            raise CompileError("MM801", message, exit=Exit.TOOL_MISSING, hint=f"apt-get install {debian}")
    flags = [flag for flag in load_target("host").flags if flag.startswith("-m")]
    library, known = work / f"lib{name}.so", work / "built-from"
    key = _build_key(package, adapter, flags)
    if library.is_file() and known.is_file() and known.read_text() == key:
        return library
    work.mkdir(parents=True, exist_ok=True)
    with ScratchFolder("mmcc-") as scratch:
        build = Path(scratch) / "build"
        build.mkdir()
        (build / f"{name}_adapter.c").write_text(adapter)
        (Path(scratch) / name).symlink_to(package.resolve())  # whatever signs the path to the package has
        ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
        definitions = {
            "CMAKE_BUILD_TYPE": "None",
            "MMCC_PACKAGES": str(Path(scratch) / name),
            "MMCC_SHARED": "ON",
            "MMCC_FLAGS": " ".join(flags),
        }
        options = [f"-D{key}={value}" for key, value in definitions.items()]
        _cmake(["-S", str(data_dir("runtime_c").parent), "-B", str(build), *ninja, *options])
        _cmake(["--build", str(build), "--parallel", str(os.cpu_count() or 1)])
        known.unlink(missing_ok=True)
        shutil.copy(build / library.name, library)
    known.write_text(key)
    return library


def _build_key(package: Path, adapter: str, flags: Sequence[str]) -> str:
    """Differs where the library would."""
    digest = hashlib.sha256("\0".join([adapter, *flags]).encode("utf-8", "surrogateescape"))
    for path in sorted(p for p in package.iterdir() if p.suffix in (".c", ".h", ".S", ".bin", ".txt")):
        digest.update(f"\0{path.name}\0".encode("utf-8", "surrogateescape"))
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cmake(arguments: Sequence[str]) -> None:
    done = subprocess.run(
        ["cmake", *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise_if_disk_full(done.stdout + done.stderr)
        output = (done.stdout + done.stderr).splitlines()
        lines = [line for line in output if "error" in line.lower()] or output[-8:]
        shown = "\n    ".join(printable(line, 300) for line in lines[:8])
        message = f"the generated C does not build on this machine:\n    {shown}"
        raise CompileError(
            "MM802", message, exit=Exit.INTERNAL, hint="report this with the model and options"
        )


class HostModel:
    """A package loaded into this process. Arrays go in and out in the C layout, one sample at a time."""

    def __init__(
        self, library: Path, dtypes: Sequence[np.dtype[Any]], *others: Sequence[np.dtype[Any]]
    ) -> None:
        """`dtypes` are the element types of the outputs, in order; `others` those of other entries."""
        from cffi import FFI

        self._ffi = FFI()
        self._ffi.cdef(CDEF)
        with ScratchFolder("mmcc-") as folder:
            # under a name of its own: what was loaded from the same path before would be taken for this
            own = shutil.copy(library, folder)
            self._lib: Any = self._ffi.dlopen(str(own))
        self._dtypes = [tuple(dtypes), *map(tuple, others)]
        status = self._lib.mmcc_adapter_init()
        if status:
            message = f"the model's init returned status {status} on this machine"
            raise CompileError("MM803", message, exit=Exit.INTERNAL)

    def run(self, inputs: Sequence[NDArray[Any]], entry: int = 0) -> list[NDArray[Any]]:
        """One call of an entry; inputs are contiguous arrays of exactly the C types and sizes."""
        lib, first_in, first_out = self._lib, 0, 0
        if len(self._dtypes) > 1:
            first_in, first_out = lib.mmcc_adapter_first_input(entry), lib.mmcc_adapter_first_output(entry)
        for k, array in enumerate(inputs, first_in):
            size = self._lib.mmcc_adapter_input_bytes[k]
            assert array.nbytes == size, f"input {k}: {array.nbytes} bytes for {size}"
            self._ffi.memmove(self._lib.mmcc_adapter_input(k), np.ascontiguousarray(array).tobytes(), size)
        status = lib.mmcc_adapter_call(entry) if len(self._dtypes) > 1 else lib.mmcc_adapter_run()
        if status:
            raise CompileError("MM803", f"the model's run returned status {status}", exit=Exit.INTERNAL)
        return [self._output(k, dtype) for k, dtype in enumerate(self._dtypes[entry], first_out)]

    def reset(self) -> None:
        """States as they were before the first call; only of a package that has some."""
        status = self._lib.mmcc_adapter_reset()
        assert status == 0, f"the model's reset returned status {status}"

    def forget(self) -> None:
        """Overwrite all that does not live from call to call; only of a package that has states."""
        self._lib.mmcc_adapter_forget()

    def run_only(self, entry: int = 0) -> None:
        """One inference on whatever the inputs hold, for timing."""
        if entry:
            self._lib.mmcc_adapter_call(entry)
        else:
            self._lib.mmcc_adapter_run()

    def weights_read(self) -> int:
        """Bytes of staged weights that all runs so far have read; only where weights are staged."""
        return int(self._lib.mmcc_adapter_weights_read())

    def bytes_paged(self) -> int:
        """Bytes that all calls so far have copied to slow memory and back; only where values are paged."""
        return int(self._lib.mmcc_adapter_paged())

    def _output(self, k: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        size = self._lib.mmcc_adapter_output_bytes[k]
        raw = bytes(self._ffi.buffer(self._lib.mmcc_adapter_output(k), size))
        return np.frombuffer(raw, dtype).copy()
