# SPDX-License-Identifier: Apache-2.0
"""Is the generated C the same as at another commit? For changes that must not change it.

    python bench/compare_c.py COMMIT FOLDER [NAME ...] [--rename OLD=NEW ...]

FOLDER has one folder a network, with its model.onnx. Every network is compiled for every target, layer by
layer and with the least RAM, and on the host in the ways of bench_least.py besides (inputs and outputs
outside, row by row, staged), by the code of the commit and by the code here. Every file of the packages but
the reports must be the same, after the renames given; the plan in report.json must be, too. Exit code 1 if
something differs. The seconds that both took are printed at the end: a move of files must not slow the
compiler.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    *("ad_autoenc_int8_qdq", "digits_cnn_fp32", "digits_cnn_int8_qop_u8s8", "digits_mb32_int8_qdq"),
    *("hello_world_int8_qdq", "ic_resnet8_fp32", "ic_resnet8_int8_qdq", "kws_dscnn_int8_qdq"),
    *(
        "mcunet_vww_int8_qdq",
        "micro_speech_int8_qdq",
        "emx_micro_kws_m_static_qoperator",
        "vww_mbv1_int8_qdq",
    ),
)
EVERYWHERE = {"layers": {}, "min": {"ram": "min"}}
ON_THE_HOST = {
    "external": {"ram": "min", "io": "external"},
    "rows": {"ram": "min", "io": "rows"},
    "again": {"ram": "min", "io": "rows-again", "recompute": 1.3},
    "staged": {"weights": "staged"},
}
# Runs in a process of its own, with the code of one commit. --stack: no cross compiler, no measuring.
COMPILE = """
import json, sys, time
import mmcc
for line in sys.stdin:
    model, out, options = json.loads(line)
    start = time.process_time()
    try:
        mmcc.compile_model(model, out, stack=4096, self_check=False, **options)
        wrong = ""
    except mmcc.CompileError as error:
        wrong = str(error)
    print(json.dumps([wrong, time.process_time() - start]), flush=True)
"""
REPORTS = {"report.json", "report.txt", "report.html"}


def targets() -> list[str]:
    return sorted(path.stem for path in (ROOT / "targets").glob("*.toml"))


def jobs(folder: Path, names: list[str]) -> Iterator[tuple[str, Path, dict[str, object]]]:
    """(label, model, options of mmcc.compile_model)."""
    for name in names:
        model = folder / name / "model.onnx"
        for target in targets():
            for kind, options in EVERYWHERE.items():
                yield f"{name}-{target}-{kind}", model, {"target": target, **options}
        for kind, options in ON_THE_HOST.items():
            yield f"{name}-host-{kind}", model, {"target": "host", **options}


class Compiler:
    """The compiler of one source tree, in a process that stays."""

    def __init__(self, tree: Path) -> None:
        command = [sys.executable, "-c", COMPILE]
        environment = {"PYTHONPATH": str(tree / "compiler"), "PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.seconds = 0.0

    def __call__(self, model: Path, out: Path, options: dict[str, object]) -> str:
        """The error, or nothing."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([str(model), str(out), options]), file=self.process.stdin, flush=True)
        wrong, seconds = json.loads(self.process.stdout.readline())
        self.seconds += seconds
        return wrong


def contents(out: Path) -> dict[str, bytes]:
    """What is compared of a package, by the file's name."""
    files = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in REPORTS and ".mmcc" not in path.parts
    }
    report = json.loads((out / "report.json").read_text())
    report["plan"].pop("seconds", None)
    files["plan in report.json"] = json.dumps(report["plan"], indent=1).encode()
    return files


def first_difference(old: bytes, new: bytes) -> str:
    for k, (a, b) in enumerate(zip(old.split(b"\n"), new.split(b"\n"), strict=False), 1):
        if a != b:
            return f"line {k}: {a[:100]!r} is now {b[:100]!r}"
    return "one is longer"


def differences(old: dict[str, bytes], new: dict[str, bytes], renames: list[tuple[str, str]]) -> list[str]:
    for name, data in old.items():
        for before, after in renames:
            data = data.replace(before.encode(), after.encode())
        old[name] = data
    wrong = [f"{name} is only in one of the packages" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            wrong.append(f"{name}: {first_difference(old[name], new[name])}")
    return wrong


def unpack(commit: str, folder: Path) -> Path:
    """The files of a commit, in a new folder."""
    folder.mkdir()
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("commit")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    given = parser.parse_args(arguments)
    renames = [(old, new) for old, _, new in (text.partition("=") for text in given.rename)]
    failed = count = 0
    with tempfile.TemporaryDirectory() as scratch:
        old, new = Compiler(unpack(given.commit, Path(scratch) / "commit")), Compiler(ROOT)
        for label, model, options in jobs(given.folder.resolve(), list(given.names)):
            count += 1
            outs = Path(scratch) / "old", Path(scratch) / "new"
            errors = old(model, outs[0], options), new(model, outs[1], options)
            if any(errors):
                wrong = [] if errors[0] == errors[1] else [f"error {errors[0]!r} is now {errors[1]!r}"]
            else:
                wrong = differences(contents(outs[0]), contents(outs[1]), renames)
            failed += bool(wrong)
            print("\n  ".join([f"{'differs' if wrong else 'same':8}{label}", *wrong]), flush=True)
    print(f"{count} packages, {failed} differ")
    print(f"compiled in {old.seconds:.0f} CPU s before, {new.seconds:.0f} now")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
