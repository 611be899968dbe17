# SPDX-License-Identifier: Apache-2.0
"""Which build systems and ecosystems a package can be at home in, and by which files."""

from __future__ import annotations

from collections.abc import Mapping

# path in the package -> template below templates/ecosystems
FILES: Mapping[str, Mapping[str, str]] = {
    "cmake": {
        "examples/cmake/CMakeLists.txt": "cmake_example.j2",
        "examples/cmake/main.c": "main.c.j2",
    },
    "zephyr": {
        "zephyr/module.yml": "module.yml.j2",
        "zephyr/CMakeLists.txt": "zephyr.cmake.j2",
        "zephyr/Kconfig": "Kconfig.j2",
        "examples/zephyr/CMakeLists.txt": "zephyr_example.cmake.j2",
        "examples/zephyr/prj.conf": "prj.conf.j2",
        "examples/zephyr/src/main.c": "main.c.j2",
    },
    "arduino": {
        "library.properties": "library.properties.j2",
        "examples/{p}_check/{p}_check.ino": "sketch.ino.j2",
    },
    "platformio": {
        "library.json": "library.json.j2",
        "examples/platformio/platformio.ini": "platformio.ini.j2",
        "examples/platformio/src/main.c": "main.c.j2",
    },
    "esp-idf": {
        "idf_component.yml": "idf_component.yml.j2",
        "examples/esp-idf/CMakeLists.txt": "idf_project.cmake.j2",
        "examples/esp-idf/main/CMakeLists.txt": "idf_main.cmake.j2",
        "examples/esp-idf/main/main.c": "app_main.c.j2",
    },
    "cmsis-pack": {"mmcc.{p}.pdsc": "pdsc.j2", "examples/cmsis-pack/main.c": "main.c.j2"},
    "meson": {"meson.build": "meson.build.j2", "examples/meson/main.c": "main.c.j2"},
    "make": {
        "{p}.mk": "package.mk.j2",
        "examples/make/Makefile": "Makefile.j2",
        "examples/make/main.c": "main.c.j2",
    },
    "stm32cube": {"stm32cube/.extSettings": "extSettings.j2", "examples/stm32cube/app_{p}.c": "main.c.j2"},
    "serial": {
        "examples/serial/CMakeLists.txt": "serial.cmake.j2",
        "examples/serial/main.c": "serial_main.c.j2",
    },
    "rust": {
        "rust/Cargo.toml": "Cargo.toml.j2",
        "rust/build.rs": "build.rs.j2",
        "rust/src/lib.rs": "lib.rs.j2",
        "rust/examples/check.rs": "check.rs.j2",
    },
}
KINDS = tuple(FILES)
