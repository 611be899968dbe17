# SPDX-License-Identifier: Apache-2.0
"""NAME_CODE_ATTRIBUTE moves all that runs in an inference: nothing hot of ours stays outside its section."""

from __future__ import annotations

from pathlib import Path

import op_cases_float
import op_cases_int8
import pytest
from cmake_projects import DIGITS
from elftools.elf.elffile import ELFFile
from kernel_bench import Bench
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.toolchain import compile_objects
from toolchains import ready

SECTION = ".itcm"
EXECUTABLE = 4  # SHF_EXECINSTR
COLD = ("init", "input_0", "output_0", "stream_input_0", "stream_output_0", "stage_weights")
# Zephyr's __ramfunc is the second: helpers that it kept from being inlined would be slow, and warned of
ATTRIBUTES = {
    "section": f'section("{SECTION}")',
    "noinline": f'noinline, section("{SECTION}")',
}


def attribute(name, kind):
    return f"-D{name}_CODE_ATTRIBUTE=__attribute__(({ATTRIBUTES[kind]}))"


def outside(path: Path) -> dict[str, int]:
    """Bytes of instructions of an object by section, where that is not the one asked for."""
    with path.open("rb") as stream:
        sections = list(ELFFile(stream).iter_sections())
    code = {s.name: s["sh_size"] for s in sections if s["sh_flags"] & EXECUTABLE and s["sh_size"]}
    return {name: size for name, size in code.items() if name != SECTION}


class Compiled(Bench):
    """All kernels of some cases as objects for a board, with the attribute."""

    def _compile(self, files, runner, sanitize):
        folder = self.target_folder
        for name, text in files.items():
            (folder / name).write_text(text)
        sources = [folder / "bench_kernels.c"]
        flags = [attribute("BENCH", "section"), "-O1"]
        self.objects = compile_objects(self.target, sources, folder, include_dirs=[folder], flags=flags)
        return []

    @staticmethod
    def ways(case):
        return ("whole",)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("cortex-m0plus", op_cases_int8),
        ("cortex-m3", op_cases_int8),
        ("cortex-m4", op_cases_int8),
        ("cortex-m55", op_cases_int8),
        ("cortex-m55", op_cases_float),
    ],
    ids=["armv6m", "portable", "arm_dsp", "arm_mve", "float"],
)
def test_every_kernel_is_where_the_attribute_says(name, families, tmp_path):
    cases = [case for make in families.FAMILIES.values() for case in make()]
    Compiled.target_folder = tmp_path
    bench = Compiled(cases, ready(name))
    assert len(bench.package.kernels) > 20
    assert outside(bench.objects[0]) == {}


@pytest.mark.parametrize("kind", ATTRIBUTES)
@pytest.mark.parametrize(
    "options",
    [{}, {"io": "rows"}, {"weights": "staged"}, {"weights": "bin", "io": "external"}],
    ids=["plain", "rows", "staged", "external"],
)
@pytest.mark.parametrize("name", ["cortex-m4", "rv32imac"])
def test_only_functions_that_set_up_stay_outside(name, options, kind, tmp_path):
    """Zephyr's own attribute included, without a warning."""
    target = ready(name)
    package = tmp_path / "net"
    options = CompileOptions(name="net", target=name, stack=1024, **options)
    compile_model(DIGITS / "digits_int8.onnx", package, options)
    sources = [package / "net.c", package / "net_kernels.c"]
    objects = compile_objects(
        target, sources, tmp_path / "o", include_dirs=[package], flags=[attribute("NET", kind)]
    )
    found = {section for path in objects for section in outside(path)}
    assert found <= {f".text.net_{name}" for name in COLD}
    assert ".text.net_init" in found
