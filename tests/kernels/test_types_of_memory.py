# SPDX-License-Identifier: Apache-2.0
"""Kernels read memory by the types that others write it by.

To C, a float and a `uint32_t` never lie in one place. A compiler that sees one kernel write the one and the
next read the other may exchange the two. With link-time optimization, or where a project includes all sources
in one, results were wrong.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import kernel_bench
import numpy as np
import onnx
import pytest
from kernel_bench import Bench
from mmcc.codegen.render import render_kernel
from mmcc.codegen.structs import package_kernels
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import host_adapter
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.host import HostModel
from onnx import TensorProto, helper, numpy_helper
from op_cases_float import FAMILIES as FLOAT
from op_cases_int8 import FAMILIES as INT8

READ = re.compile(r"\((?:const )?(\w+) \*\)\s*\w+_row\(memory, &layer->(\w+)")
# of four bytes, which alone may be integers or floats; characters and mmcc_word lie over everything
LIKE = {"float": {"float"}, "int32_t": {"int32_t", "uint32_t"}, "uint32_t": {"int32_t", "uint32_t"}}


class Text(Bench):
    """The C of kernels, which nobody runs."""

    def ways(self, case):
        return ("whole",)

    def _build(self, sanitize):
        program = self._lowered()
        kernels, _ = package_kernels(program, "bench")
        self.kernels = {render_kernel(k, self.target.kernels): k.users for k in kernels}
        self.indices = {node.label: node.index for node in program.nodes}


@pytest.mark.parametrize("name", ["host", "cortex-m55"])
@pytest.mark.parametrize("families", [FLOAT, INT8], ids=["float", "int8"])
def test_kernels_use_the_types_of_their_tensors(families, name, monkeypatch):
    monkeypatch.setattr(kernel_bench, "over_inputs", lambda *_, **__: {})
    seen = set()
    for family in families.values():
        bench = Text(family(), load_target(name))
        for text, users in bench.kernels.items():
            used = {ctype for ctype, view in READ.findall(text) if view != "work"} & set(LIKE)
            for label in set(users) & set(bench.indices):
                node = bench.graph.nodes[bench.indices[label]]
                held = {bench.graph.tensors[t].dtype.ctype for t in (*node.inputs, *node.outputs)}
                assert used <= {like for ctype in held for like in LIKE.get(ctype, ())}, (node.op, used, held)
            seen |= used
    assert "float" in seen or "int32_t" in seen


def chain() -> onnx.ModelProto:
    """Every second element, added to itself, of which every second is an output."""
    numbers = {"begin": [5], "end": [11], "axis": [1], "step": [2], "zero": [0], "far": [99]}
    nodes = [
        helper.make_node("Slice", ["x", "begin", "end", "axis", "step"], ["a"]),
        helper.make_node("Add", ["a", "a"], ["b"]),
        helper.make_node("Slice", ["b", "zero", "far", "axis", "step"], ["c"]),
        helper.make_node("Div", ["a", "d"], ["e"]),
    ]
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
    constants.append(numpy_helper.from_array(np.linspace(1, 2, 3, dtype=np.float32), "d"))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 27])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k]) for n, k in (("c", 2), ("e", 3))],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_all_sources_in_one_give_the_same(compiler, tmp_path: Path):
    """What link-time optimization makes of kernels: each is part of what calls it."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    onnx.save(chain(), tmp_path / "chain.onnx")
    options = CompileOptions(name="net", stack=1024, io="external", self_check=False)
    compile_model(tmp_path / "chain.onnx", tmp_path / "net", options)
    package = load_package(tmp_path / "net")
    (tmp_path / "adapter.c").write_text(host_adapter(tmp_path / "net", package))
    sources = [str(tmp_path / "net" / f"net{end}.c") for end in ("", "_kernels", "_weights")]
    lines = [f'#include "{path}"' for path in (*sources, tmp_path / "adapter.c")]
    (tmp_path / "all.c").write_text("#define _POSIX_C_SOURCE 200112L\n" + "\n".join(lines))
    include = [f"-I{tmp_path / 'net'}", f"-I{Path(__file__).resolve().parents[2] / 'runtime_c/firmware'}"]
    library = tmp_path / "all.so"
    command = [
        compiler,
        "-O3",
        "-std=c99",
        "-fPIC",
        "-fno-semantic-interposition",
        "-shared",
        *include,
        str(tmp_path / "all.c"),
    ]
    subprocess.run([*command, "-o", str(library), "-lm"], check=True)
    x = np.random.default_rng(0).standard_normal((1, 27)).astype(np.float32)
    dtypes = [[np.dtype(np.float32)] * 2]
    c, e = HostModel(library, *dtypes).run([x.ravel()], package.entry)
    a = x.ravel()[5:11:2]
    np.testing.assert_array_equal(c, (a + a)[::2])
    np.testing.assert_allclose(e, a / np.linspace(1, 2, 3, dtype=np.float32), rtol=1e-6)
