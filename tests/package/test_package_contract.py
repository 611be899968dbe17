# SPDX-License-Identifier: Apache-2.0
"""What a package says of itself, and what its functions do with a context or weights that are not right."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess

import mmcc
import pytest
from cmake_projects import DIGITS
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from toolchains import ready

MODEL = DIGITS / "digits_int8.onnx"
HEAD = """
#include "net.h"
#include <stdio.h>
#include <string.h>
static NET_ARENA(arena);
static net_context model;
"""
UNUSABLE = (
    HEAD
    + """
int main(void)
{
    if (net_input_0(NULL) != NULL || net_output_0(NULL) != NULL) return 1;
    if (net_input_0(&model) != NULL || net_output_0(&model) != NULL) return 2;
    for (int round = 0; round < 4; ++round) {
        if (net_init(&model, arena, sizeof arena) != MMCC_OK || net_input_0(&model) == NULL) return 3;
        memset(arena, 0, sizeof arena);
        if (net_run(&model) != MMCC_OK || net_output_0(&model) == NULL) return 4;
        const mmcc_status failed = round == 0 ? net_init(&model, NULL, sizeof arena)
                                 : round == 1 ? net_init(&model, arena, sizeof arena - 1)
                                 : round == 2 ? net_init(&model, arena + 1, sizeof arena)
                                 : net_init(NULL, arena, sizeof arena);
        if (failed == MMCC_OK) return 5;
        if (round < 3 && net_run(&model) != MMCC_ERROR_NOT_INITIALIZED) return 6;
        if (round < 3 && (net_input_0(&model) != NULL || net_output_0(&model) != NULL)) return 7;
    }
    return 0;
}
"""
)
LINKED = (
    HEAD
    + """
int main(void)
{
    const mmcc_status status = net_init(&model, arena, sizeof arena);
    if (status != MMCC_OK && net_run(&model) != MMCC_ERROR_NOT_INITIALIZED) return 100;
    return status;
}
"""
)
STAGED = (
    HEAD
    + """
static FILE *file;
static int32_t read_weights(void *user, void *to, uint32_t offset, uint32_t bytes)
{
    (void)user;
    memset(to, 0, bytes);
    if (fseek(file, (long)offset, SEEK_SET) != 0) return 1;
    (void)!fread(to, 1, bytes, file);
    return 0;
}
int main(int count, char **names)
{
    file = fopen(names[count - 1], "rb");
    if (file == NULL || net_init(&model, arena, sizeof arena) != MMCC_OK) return 101;
    const mmcc_status status = net_stage_weights(&model, read_weights, NULL, NULL);
    const mmcc_status run = net_run(&model);
    if (run != (status == MMCC_OK ? MMCC_OK : MMCC_ERROR_WEIGHTS)) return 102;
    return status;
}
"""
)


def compiled(folder, **options):
    return compile_model(MODEL, folder, CompileOptions(name="net", **options))


def program(package, text, folder):
    """The package and one file of C as a program of this machine."""
    ready("host")
    (folder / "main.c").write_text(text)
    sources = [p for p in sorted(package.iterdir()) if p.suffix in (".c", ".S") and "selftest" not in p.name]
    command = ["cc", "-std=c99", "-O1", f"-I{package}", folder / "main.c", *sources, "-lm", "-o"]
    subprocess.run([*command, folder / "program"], check=True)
    return folder / "program"


def status_of(*command):
    return subprocess.run(command, check=False).returncode


def test_a_header_says_what_it_was_made_from(tmp_path):
    made = compiled(tmp_path / "net", target="cortex-m4", stack=1000)
    header = (tmp_path / "net" / "net.h").read_text()
    macros = dict(re.findall(r"^#define NET_(\w+) (\S+)", header, re.MULTILINE))
    assert macros["MODEL_SHA256"] == f'"{hashlib.sha256(MODEL.read_bytes()).hexdigest()}"'
    assert macros["MMCC_VERSION"] == f'"{mmcc.__version__}"'
    assert macros["STACK_SIZE"] == "1000u"
    report = json.loads((tmp_path / "net" / "report.json").read_text())
    assert int(macros["NODES"]) == 1 + max(node["index"] for node in report["nodes"])
    assert made.report == report


def test_a_context_that_init_refused_does_not_run(tmp_path):
    compiled(tmp_path / "net")
    assert status_of(program(tmp_path / "net", UNUSABLE, tmp_path)) == 0


def spoiled(path):
    """Another model's weights, a file that was not written to its end, one without an end."""
    raw = path.read_bytes()
    yield raw[:-1] + bytes([raw[-1] ^ 1])
    yield raw[:-16] + bytes(16)
    yield raw[: len(raw) // 2].ljust(len(raw), b"\xff")


def test_weights_that_are_linked_or_mapped_are_known_by_their_stamp(tmp_path):
    package = tmp_path / "net"
    compiled(package, weights="bin")
    file = package / "net_weights.bin"
    assert hashlib.sha256(file.read_bytes()[:-16]).digest()[:16] == file.read_bytes()[-16:]
    assert status_of(program(package, LINKED, tmp_path)) == 0
    for text in spoiled(file):
        file.write_bytes(text)
        assert status_of(program(package, LINKED, tmp_path)) == 7


@pytest.mark.parametrize("ram", [0, 12_000])
def test_weights_that_are_staged_are_known_by_their_stamp(ram, tmp_path):
    package = tmp_path / "net"
    compiled(package, weights="staged", ram=ram, target="host", stack=4096)
    file = package / "net_weights.bin"
    built = program(package, STAGED, tmp_path)
    assert status_of(built, file) == 0
    for text in (*spoiled(file), file.read_bytes()[:100]):
        (tmp_path / "other.bin").write_bytes(text)
        assert status_of(built, tmp_path / "other.bin") == 7
