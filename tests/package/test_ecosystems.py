# SPDX-License-Identifier: Apache-2.0
"""Packages in build systems: built and run where the tool is here, else what the tool reads is checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from cli_runs import run
from doc_pages import DIGITS
from mmcc.package.kinds import FILES, KINDS

MODEL = DIGITS / "digits_int8.onnx"
RIGHT = "digits: 0 of the checked outputs are wrong"
CRATES = Path("/usr/share/cargo/registry")  # of Debian's librust-cc-dev


def compiled(out, *kinds, args=()):
    packages = [word for kind in kinds for word in ("--package", kind)]
    options = ("-t", "cortex-m3", "--stack", "1K", "--name", "digits", "--no-self-check")
    result = run("compile", MODEL, *options, *args, *packages, "-o", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """One that is at home everywhere; its kernels are portable C."""
    return compiled(tmp_path_factory.mktemp("ecosystems") / "digits_c", *KINDS)


def output(*command, cwd, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"there is no {tool} here")


@needs("make")
def test_make(package, tmp_path):
    shutil.copytree(package, tmp_path / "p")
    folder = tmp_path / "p" / "examples" / "make"
    output("make", "CFLAGS=-Wall -Werror", cwd=folder)
    assert RIGHT in output(folder / "digits_check", cwd=folder)
    assert "up to date" in output("make", cwd=folder)


@needs("meson")
def test_meson_alone_and_as_a_subproject(package, tmp_path):
    output("meson", "setup", tmp_path / "b", package, cwd=tmp_path)
    output("meson", "compile", "-C", tmp_path / "b", "digits_check", cwd=tmp_path)
    assert RIGHT in output(tmp_path / "b" / "digits_check", cwd=tmp_path)
    shutil.copytree(package, tmp_path / "main" / "subprojects" / "digits")
    (tmp_path / "main" / "meson.build").write_text(
        "project('main', 'c')\nd = subproject('digits').get_variable('digits_dep')\n"
        "executable('main', 'main.c', dependencies: d)\n"
    )
    (tmp_path / "main" / "main.c").write_text(
        '#include "digits.h"\nint main(void) { return DIGITS_NODES == 0; }\n'
    )
    output("meson", "setup", "build", cwd=tmp_path / "main")
    output("meson", "compile", "-C", "build", cwd=tmp_path / "main")


@needs("cmake")
def test_cmake_example(package, tmp_path):
    output("cmake", "-S", package / "examples" / "cmake", "-B", tmp_path, cwd=tmp_path)
    output("cmake", "--build", tmp_path, cwd=tmp_path)
    assert RIGHT in output(tmp_path / "digits_example", cwd=tmp_path)


@pytest.mark.skipif(
    shutil.which("cargo") is None or not list(CRATES.glob("cc-*")), reason="no cargo, or no librust-cc-dev"
)
def test_rust(package, tmp_path):
    """The crate builds the C and calls it; the crate cc is Debian's."""
    shutil.copytree(package, tmp_path / "p")
    debian = ["--config", 'source.crates-io.replace-with="debian"']
    debian += ["--config", f'source.debian.directory="{CRATES}"']
    command = ("cargo", "run", "--offline", "--example", "check", *debian)
    assert RIGHT in output(*command, cwd=tmp_path / "p" / "rust", CARGO_TARGET_DIR=tmp_path / "target")


# what the real ones do, as far as these files need it
ZEPHYR = """
function(zephyr_include_directories)
  include_directories(${ARGN})
endfunction()
function(zephyr_library_named name)
  add_library(${name} STATIC)
  set(CURRENT ${name} PARENT_SCOPE)
endfunction()
function(zephyr_library_sources)
  target_sources(${CURRENT} PRIVATE ${ARGN})
endfunction()
function(zephyr_library_sources_ifdef flag)
  if(${flag})
    target_sources(${CURRENT} PRIVATE ${ARGN})
  endif()
endfunction()
function(zephyr_library_compile_options)
  target_compile_options(${CURRENT} PRIVATE ${ARGN})
endfunction()
"""
IDF = """
function(idf_component_register)
  cmake_parse_arguments(A "" "" "SRCS;INCLUDE_DIRS;REQUIRES" ${ARGN})
  get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  add_library(${name} STATIC ${A_SRCS})
  target_include_directories(${name} PUBLIC ${A_INCLUDE_DIRS})
  target_link_libraries(${name} PUBLIC ${A_REQUIRES})
  set(COMPONENT_LIB ${name} PARENT_SCOPE)
endfunction()
"""


@needs("cmake")
def test_zephyr_module(package, tmp_path):
    """Its CMake, with functions in place of Zephyr's; Zephyr itself was not run."""
    module = (package / "zephyr" / "module.yml").read_text()
    assert re.search(r"^  cmake: zephyr$", module, re.MULTILINE)
    assert re.search(r"^  kconfig: zephyr/Kconfig$", module, re.MULTILINE)
    symbols = set(re.findall(r"^config (\w+)", (package / "zephyr" / "Kconfig").read_text(), re.MULTILINE))
    settings = dict(
        line.split("=")
        for line in (package / "examples" / "zephyr" / "prj.conf").read_text().split()
        if "=" in line
    )
    assert {f"CONFIG_{name}" for name in symbols} <= set(settings)
    flags = "\n".join(f"set({name} {value})" for name, value in settings.items())
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.20)\nproject(app C)\n{ZEPHYR}\n{flags}\n"
        f"add_executable(app {package}/examples/zephyr/src/main.c)\n"
        f"add_subdirectory({package}/zephyr module)\n"
        f"target_include_directories(app PRIVATE {package})\ntarget_link_libraries(app mmcc_digits)\n"
    )
    output("cmake", "-S", ".", "-B", "b", cwd=tmp_path)
    output("cmake", "--build", "b", cwd=tmp_path)
    assert RIGHT in output(tmp_path / "b" / "app", cwd=tmp_path)


@needs("cmake")
def test_esp_idf_component(package, tmp_path):
    """The same for ESP-IDF: the component and the sample's, without IDF itself."""
    main = package / "examples" / "esp-idf" / "main"
    (tmp_path / "start.c").write_text("void app_main(void);\nint main(void) { app_main(); return 0; }\n")
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.16)\nproject(app C)\n{IDF}\nset(ESP_PLATFORM 1)\n"
        f"add_subdirectory({package} component)\nadd_subdirectory({main} main)\n"
        "add_executable(app start.c)\ntarget_link_libraries(app main)\n"
    )
    output("cmake", "-S", ".", "-B", "b", cwd=tmp_path)
    output("cmake", "--build", "b", cwd=tmp_path)
    assert RIGHT in output(tmp_path / "b" / "app", cwd=tmp_path)


ARDUINO = """
#include <cstdio>
struct Port {
    void begin(long) {}
    void print(const char *text) { std::fputs(text, stdout); }
    void println(long number) { std::printf("%ld\\n", number); }
    void println(const char *text) { std::puts(text); }
} Serial;
"""


@needs("g++")
@pytest.mark.quick
def test_arduino_library(package, tmp_path):
    """By Arduino's specification of libraries 1.5; the sketch as C++ over a stand-in for the core."""
    lines = (package / "library.properties").read_text().splitlines()
    keys = dict(line.split("=", 1) for line in lines)
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"} <= set(
        keys
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+", keys["version"])
    assert not (package / "src").exists()  # it would hide the sources that are beside library.properties
    sketch = package / "examples" / "digits_check" / "digits_check.ino"
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    (tmp_path / "main.cpp").write_text(
        '#include "Arduino.h"\n' + sketch.read_text() + "\nint main() { setup(); }\n"
    )
    sources = package.glob("*.c")
    output("gcc", "-c", "-O1", *sources, cwd=tmp_path)
    output(
        "g++", f"-I{package}", "-Wall", "-Werror", "main.cpp", *tmp_path.glob("*.o"), "-o", "m", cwd=tmp_path
    )
    assert output(tmp_path / "m", cwd=tmp_path) == "digits: wrong outputs: 0\n"


@pytest.mark.quick
def test_what_other_tools_read(package):
    """PlatformIO's library.json, a CMSIS pack's description, CubeMX's .extSettings, Cargo.toml."""
    library = json.loads((package / "library.json").read_text())
    chosen = {name[2:-1] for name in library["build"]["srcFilter"] if name.startswith("+<")}
    assert chosen == {p.name for p in package.glob("*.c")}
    assert (package / library["headers"]).is_file()
    described = ET.parse(package / "mmcc.digits.pdsc").getroot()
    assert {"vendor", "name", "description", "url", "license", "releases", "components"} == {
        c.tag for c in described
    }
    files = [f.get("name", "") for f in described.iter("file")]
    assert all((package / name).exists() for name in files)
    assert {p.name for p in (*package.glob("*.c"), *package.glob("*.h"))} <= set(files)
    settings = (package / "stm32cube" / ".extSettings").read_text()
    named = re.findall(r"\.\./Middlewares/digits/([\w.]+)", settings)
    assert named
    assert all((package / name).is_file() for name in named)
    crate = tomllib.loads((package / "rust" / "Cargo.toml").read_text())
    assert crate["package"]["links"] == "mmcc_digits"
    template = {path.format(p="digits") for files in FILES.values() for path in files}
    assert all((package / path).is_file() for path in template)


@pytest.mark.quick
def test_files_of_others_in_its_folders_stay_and_kinds_can_change(tmp_path):
    out = compiled(tmp_path / "p", "make", "zephyr")
    mine = [
        out / "examples" / "make" / "mine.c",
        out / "examples" / "own" / "x.c",
        out / "zephyr" / "notes.txt",
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    before = (out / "digits.mk").stat().st_mtime_ns
    compiled(out, "make")
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert not (out / "zephyr" / "module.yml").exists()
    assert (out / "digits.mk").stat().st_mtime_ns == before
    (out / "zephyr" / "module.yml").write_text("mine")
    result = run("compile", MODEL, "-t", "cortex-m3", "--stack", "1K", "--package", "zephyr", "-o", out)
    assert result.exit_code == 2
    assert "zephyr/module.yml is not a file that mmcc wrote" in " ".join(result.output.split())
    assert (out / "examples" / "make" / "mine.c").read_text() == "mine"


def test_packages_that_need_the_callers_memory_or_weights_as_a_file(tmp_path):
    out = compiled(tmp_path / "e", "make", "rust", args=("--io", "rows", "--weights", "bin"))
    output("make", cwd=out / "examples" / "make")
    assert "sha256" not in (out / "rust" / "src" / "lib.rs").read_text()
    assert "digits_run" not in (out / "rust" / "src" / "lib.rs").read_text()
