# SPDX-License-Identifier: Apache-2.0
"""A package's C on this machine: which files, and how they are built and run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmcc.package.record import FOLDER, Package, bench_files, generated_files, load_package
from mmcc.toolchain.host import HostModel, build_shared

HOST_TWIN = "host_twin"


def run_on_host(
    folder: Path, arrays: Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]], entry: str = ""
) -> list[NDArray[Any]]:
    """Build the package in `folder` if needed, and run one sample in ONNX's shapes and types.

    `arrays` are those of the package's inputs, by name or in their order: inputs without elements, or bound
    to a value, are none of these. `entry` is one of linked models, or the first. ValueError if arrays are
    missing, or too many.
    """
    package = next(iter(load_package(folder).looked_at(entry).values()))
    names = [port.onnx_name for port in package.inputs]
    if isinstance(arrays, Mapping):
        ordered = [arrays[name] for name in names if name in arrays]
    else:
        ordered = list(arrays)
    if len(ordered) != len(names):
        raise ValueError(f"{len(arrays)} arrays for the inputs of the package: {', '.join(names)}")
    model = host_model(folder, package)
    inputs = [p.to_c(a, package.tensors[p.tensor]) for p, a in zip(package.inputs, ordered, strict=True)]
    outputs = model.run(inputs, package.entry)
    return [p.from_c(a, package.tensors[p.tensor]) for p, a in zip(package.outputs, outputs, strict=True)]


def host_model(folder: Path, package: Package) -> HostModel:
    """The package as a library of this machine."""
    work = folder / FOLDER / "host"
    adapter = host_adapter(folder, package)
    library = build_shared(host_sources(folder), adapter, package.name, work)
    dtypes = [[e.tensors[port.tensor].dtype.numpy for port in e.outputs] for e in package.entries]
    return HostModel(library, *dtypes)


def host_adapter(folder: Path, package: Package) -> str:
    """C text of the test bench's side of a package; staged weights are read from the package's file."""
    return adapter_text(bench_files(folder), host_sources(folder), package.name, staged=package.staged)


def adapter_text(bench: Path, sources: Path, name: str, *, staged: bool) -> str:
    """The adapter kept in `bench`; where weights are staged, it reads them from the file in `sources`."""
    text = (bench / "adapter_host.c").read_text()
    path = json.dumps(str((sources / f"{name}_weights.bin").resolve()), ensure_ascii=False)
    return f"#define MMCC_WEIGHTS_FILE {path}\n{text}" if staged else text


def host_sources(folder: Path) -> Path:
    """Where the package's C for this machine is: the same plan, with this machine's kernels."""
    twin = bench_files(folder) / HOST_TWIN
    return twin if twin.is_dir() else folder


def package_sources(folder: Path) -> list[Path]:
    """The files of a package to compile: not the self-test, and none that somebody else put there."""
    ours = generated_files(folder)
    sources = [path for path in sorted(folder.iterdir()) if path.suffix in (".c", ".S")]
    sources = [path for path in sources if ours is None or path.name in ours]
    return [path for path in sources if not path.name.endswith("_selftest.c")]
