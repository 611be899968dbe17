# SPDX-License-Identifier: Apache-2.0
"""What cppcheck's MISRA addon and clang-tidy say of generated packages, counted by rule.

python tests/support/c_quality.py        writes the table of tests/codegen/test_c_quality.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from int8_models import FloatModel
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.target import load_target

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).parent / "c_quality.csv"
DIGITS = ROOT / "examples" / "digits"
LENT = {"ram": 65536, "flash": 10**6}  # kernels work in what these leave; flash has to be measured
CONVS = "convs"  # 3x3, as Winograd's kernel has them
PACKAGES: dict[str, tuple[str, str, dict[str, int]]] = {
    "int8 cortex-m4": ("digits_int8.onnx", "cortex-m4", {"stack": 1024}),
    "int8 cortex-m55": ("digits_int8.onnx", "cortex-m55", {"stack": 1024}),
    "float cortex-m4": ("digits_fp32.onnx", "cortex-m4", {"stack": 1024}),
    "int8 cortex-m4 lent": ("digits_int8.onnx", "cortex-m4", LENT),
    "int8 cortex-m4 winograd": (CONVS, "cortex-m4", LENT),
}
MACROS = ("__GNUC__=12", "__ORDER_LITTLE_ENDIAN__=1234", "__BYTE_ORDER__=1234")
ARM = ("__ARM_FEATURE_DSP=1", "__ARM_FEATURE_SIMD32=1", "__ARM_ARCH_7EM__=1")
HELIUM = ("__ARM_FEATURE_DSP=1", "__ARM_FEATURE_SIMD32=1", "__ARM_FEATURE_MVE=3")
SHIFTS = "mmcc_requantize.h"  # where signed numbers are shifted: docs/misra.md
TEMPLATE = "{file}:{line}:{id}"


def make(package: str, folder: Path) -> Path:
    """Compile one of PACKAGES."""
    model, target, sizes = PACKAGES[package]
    options = CompileOptions(target=target, name="digits", self_check=False, **sizes)
    compile_model(convs(folder) if model == CONVS else DIGITS / model, folder / "digits", options)
    return folder / "digits"


def convs(folder: Path, depth: int = 16, layers: int = 3) -> Path:
    """A model of 3x3 convolutions, and a sum, so that rows are made backward where that saves bytes."""
    m = FloatModel(np.random.default_rng(4))
    q, scale = m.float_input(1, depth, 8, 16)
    y = m.real(q, float(scale))
    for k in range(layers):
        z = m.requantized(m.conv(y, scale, (depth, depth, 3, 3), pads=[1, 1, 1, 1]), float(scale))
        y = m.requantized(m.op("Add", y, z), float(scale)) if k == 1 else z
    m.save(y, folder / "convs.onnx")
    return folder / "convs.onnx"


def unbroken(folder: Path) -> None:
    """Put each statement on one line.

    cppcheck names a line only once for a rule; counts would change with the places where lines are broken.
    """
    style = (ROOT / ".clang-format").read_text()
    (folder / ".clang-format").write_text(style.replace("ColumnLimit: 0", "ColumnLimit: 100000"))
    program = Path(sys.executable).parent / "clang-format"
    sources = [path for path in sorted(folder.iterdir()) if path.suffix in (".c", ".h")]
    subprocess.run([program, "-i", "--style=file", *sources], check=True)


def misra(package: str, folder: Path) -> Counter[str]:
    """Findings by rule, those aside that docs/misra.md says are none."""
    target = PACKAGES[package][1]
    macros = [f"-D{m}" for m in (*MACROS, *(HELIUM if target == "cortex-m55" else ARM))]
    options = ["--addon=misra", "--std=c99", "--platform=arm32-wchar_t4", "-q", f"--template={TEMPLATE}"]
    sources = sorted(str(p) for p in folder.glob("*.c"))
    done = subprocess.run(
        ["cppcheck", *options, *macros, "-I", str(folder), *sources],
        capture_output=True,
        text=True,
        check=True,
    )
    found: Counter[str] = Counter()
    for line in sorted(set(done.stderr.splitlines())):
        at = re.fullmatch(r"(.*):(\d+):misra-c2012-(\d+\.\d+)", line)
        if at and not _aside(Path(at[1]), int(at[2]), at[3]):
            found[f"MISRA {at[3]}"] += 1
    return found


def _aside(path: Path, line: int, rule: str) -> bool:
    if rule == "10.1":
        return path.name == SHIFTS
    if rule != "10.3":
        return False
    # cppcheck 2 takes `pointer += integer` for an assignment of an integer
    text = path.read_text()
    changed = re.findall(r"(\w+) [+-]= ", text.splitlines()[line - 1])
    return bool(changed) and all(re.search(rf"\*\s*(?:const\s+)?{name}\b", text) for name in changed)


def tidy(package: str, folder: Path) -> Counter[str]:
    """Findings of clang-tidy by check."""
    target = load_target(PACKAGES[package][1])
    flags = [f for f in target.flags if f.startswith(("-mcpu", "-mfpu", "-mfloat", "-mthumb"))]
    newlib = subprocess.run(
        ["arm-none-eabi-gcc", "-print-sysroot"], capture_output=True, text=True, check=True
    ).stdout.strip()
    system = [
        f"-isystem{path}" for path in (f"{newlib}/include", "/usr/include/newlib") if Path(path).is_dir()
    ]
    sources = sorted(str(p) for p in folder.glob("*.c") if not p.name.endswith("_weights.c"))
    machine = ["--target=arm-none-eabi", "-std=c99", "-Wno-unknown-warning-option", *flags, *system]
    command = [
        "clang-tidy",
        f"--config-file={ROOT / '.clang-tidy'}",
        "--quiet",
        "--header-filter=.*",
        *sources,
        "--",
    ]
    done = subprocess.run([*command, *machine, f"-I{folder}"], capture_output=True, text=True, check=False)
    lines = {line for line in done.stdout.splitlines() if re.search(r": (warning|error): ", line)}
    return Counter(re.findall(r"\[([^\]]+)\]$", line)[0].split(",")[0] for line in lines)


def count(package: str) -> dict[str, int]:
    """All findings of one package by rule."""
    with tempfile.TemporaryDirectory() as folder:
        made = make(package, Path(folder))
        tidied = tidy(package, made)
        unbroken(made)
        return {**misra(package, made), **tidied}


def load() -> dict[tuple[str, str], int]:
    """The table: (package, rule) and count."""
    rows = (line.rsplit(",", 2) for line in TABLE.read_text().splitlines()[1:])
    return {(package, rule): int(number) for package, rule, number in rows}


def main() -> int:
    lines = ["package,rule,findings"]
    for package in PACKAGES:
        found = count(package)
        lines += [f"{package},{rule},{found[rule]}" for rule in sorted(found)]
        print(f"{package}: {sum(found.values())}")
    TABLE.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
